"""What the campaign's model expects along each parameter, with the runs on it: small multiples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ar.errors import ArError
from ar.project.program import Program, Range
from ar.project.values import number
from ar.text import one_line, quantity, shorten_middle
from ar.views.charts import base
from ar.views.marks import BLUE, DARK, ORANGE

if TYPE_CHECKING:
    from ar.surrogate.importance import Curve, Place
    from ar.surrogate.surface import Surface

COLUMNS = 3
HEIGHT = 150
GUTTER = 84  # pixels between two of them, for the axis
MOST_DOTS = 200  # runs that are drawn
GOLDEN = 0.618034  # steps of this share spread evenly
NAME = 34  # characters of a parameter's name
MOST_MARKS = 6  # on an axis
BAND = 2  # standard errors on either side


def surface(model: Surface | None, program: Program) -> base.Spec:
    """Partial dependence on every searched parameter, the one that matters most first.

    Raises:
        ArError: there is no model yet.
    """
    if model is None:
        if not program.search:
            raise ArError("there is nothing to draw: no parameter is searched", "name ranges under search:")
        raise ArError("there is nothing to draw: too little is measured for a model", "run: ar run")
    from ar.surrogate.importance import curves

    metric = program.objective
    drawn = curves(model, metric)
    domain = _domain(drawn)
    columns = min(COLUMNS, len(drawn))
    said = f"one parameter moved, the others as the branch has them; band: ± {BAND} standard errors\n"
    count = len(model.measured)
    some = f"{MOST_DOTS} of {count}" if count > MOST_DOTS else str(count)
    said += f"dots: {some} runs, by the model at the branch's other values and at the mean seed; "
    said += "orange: the branch"
    return base.picture(
        f"{one_line(metric.key)} along each parameter, against the branch ({metric.better} is better)",
        said,
        columns=columns,
        spacing={"row": 26, "column": 20},
        resolve={"scale": {"xOffset": "independent"}},
        concat=[_view(curve, program, domain, number % columns == 0) for number, curve in enumerate(drawn)],
    )


def _domain(drawn: Sequence[Curve]) -> list[float]:
    """Common to all, so that what matters is seen to; of single runs far off, only that they are there."""
    ends = [
        place.change + side * BAND * place.standard_error
        for curve in drawn
        for place in curve.places
        for side in (-1, 1)
    ]
    means = [place.change for curve in drawn for place in curve.places]
    room = 0.35 * (max(means) - min(means))
    return base.domain_of([max(min(ends), min(means) - room), min(max(ends), max(means) + room)], 0.04)


def _view(curve: Curve, program: Program, domain: list[float], is_first: bool) -> base.Spec:
    """One parameter's part."""
    importance = curve.importance
    within = next(within for key, within in program.search.items() if str(key) == importance.name)
    axis = {"tickCount": 5, "format": "+~g", "labelExpr": "datum.value == 0 ? '0' : datum.label"}
    y = base.numbers("y", "", domain, axis=axis)
    y["title"] = f"Δ {one_line(program.objective.key)}" if is_first else None
    x = _x(curve, within)
    now = {"x": str(curve.now) if within.choices else curve.now, "y": 0.0}
    dots = {"color": DARK, "filled": True, "size": 12, "opacity": 0.4, "clip": True}
    diamond = {"color": ORANGE, "filled": True, "shape": "diamond", "size": 90, "opacity": 1}
    level = {"color": DARK, "strokeDash": [4, 3], "strokeWidth": 0.8}
    # Runs of one choice lie beside each other.
    beside = {"field": "beside", "type": "quantitative", "scale": {"domain": [-1, 2]}}
    side = {"xOffset": beside} if within.choices else {}
    size = quantity(importance.size, importance.standard_error)
    return {
        "width": (base.WIDTH - GUTTER) / COLUMNS,
        "height": HEIGHT,
        "title": {
            "text": shorten_middle(one_line(importance.name), NAME),
            "subtitle": f"matters {size}" if importance.is_clear else "not told apart from nothing",
            "fontSize": 12,
            "offset": 6,
        },
        "layer": [
            base.layer([{"y": 0.0}], "rule", level, y=y),
            base.layer(_dots(curve, within), "point", dots, x=x, y=y, **side),
            *_line(curve, within, x, y),
            base.layer([now], "point", diamond, x=x, y=y),
        ],
    }


def _x(curve: Curve, within: Range) -> base.Spec:
    """The channel of the parameter's values, on the range's own scale."""
    if within.choices:
        choices = [str(choice) for choice in within.choices]
        return {"field": "x", "type": "ordinal", "sort": choices, "title": None, "axis": {"labelAngle": 0}}
    values = (number(value) for value in (*(place.value for place in curve.places), curve.now))
    ends = [value for value in values if value is not None]
    low, high = min(ends), max(ends)
    marks = {"values": _round(low, high)} if within.log else {"tickCount": 4}
    # In words of our own: from few marks Vega takes it that one digit will do.
    x = base.numbers("x", "", [low, high], axis={"labelExpr": "format(datum.value, '~g')", **marks})
    x["title"] = None
    if within.log:
        x["scale"]["type"] = "log"
    return x


def _dots(curve: Curve, within: Range) -> base.Rows:
    """The runs, or an even choice of too many."""
    runs = [run for run in curve.runs if within.holds(run.value)]
    every = max(1.0, len(runs) / MOST_DOTS)
    shown = [runs[int(place * every)] for place in range(min(len(runs), MOST_DOTS))]
    return [{**_row(run, within), "beside": GOLDEN * place % 1} for place, run in enumerate(shown)]


def _line(curve: Curve, within: Range, x: base.Spec, y: base.Spec) -> list[base.Spec]:
    """What is expected, with its band; of choices a point each."""
    places = [_row(place, within) for place in curve.places]
    band = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    if within.choices:
        points = {"color": BLUE, "filled": True, "size": 60, "opacity": 1}
        return [
            base.layer(places, "rule", {"color": BLUE, "strokeWidth": 7, "opacity": 0.3}, x=x, **band),
            base.layer(places, "point", points, x=x, y=y),
        ]
    return [
        base.layer(places, "area", {"opacity": 0.18, "color": BLUE, "clip": True}, x=x, **band),
        base.layer(places, "line", {"color": BLUE, "strokeWidth": 1.8, "clip": True}, x=x, y=y),
    ]


def _round(low: float, high: float) -> list[float]:
    """A few values for the marks of a logarithmic axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{digit}e{power}") for power in powers for digit in digits]
        found = [value for value in found if low <= value <= high]
        if len(found) <= MOST_MARKS:
            break
    return found[:: math.ceil(len(found) / MOST_MARKS)]


def _row(place: Place, within: Range) -> dict[str, Any]:
    reach = BAND * place.standard_error
    x = str(place.value) if within.choices else place.value
    return {"x": x, "y": place.change, "low": place.change - reach, "high": place.change + reach}
