"""Charts of the history as PNG, SVG or HTML files (Altair makes the specification, vl-convert draws it)."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from ar.errors import ArError
from ar.history.records import Attempt, History, Outcome
from ar.text import one_line, quantity

if TYPE_CHECKING:
    from ar.project.program import Metric, Program

# Of the whole picture about 900 x 480: the rest is titles, axes and legend.
WIDTH, HEIGHT = 830, 370

_FORMATS = (".png", ".svg", ".html")
_SHOWN_TITLE = 34  # characters of a label
_SHOWN_LABELS = 24
_REACH = 150  # pixels a label may hang away from its dot
_CHARACTER, _LINE, _STEP = 5.7, 13, 6  # of a label's letters and places, in pixels
_MANY = 40  # attempts from which on dots shrink and only what was kept has error bars

# What a dot stands for, its colour (Okabe and Ito's palette, told apart by colour-blind readers) and shape.
_KINDS = {
    "promoted": ("#0072B2", "circle"),
    "judged better, not merged": ("#56B4E9", "square"),
    "not decided": ("#E69F00", "diamond"),
    "discarded": ("#A3A3A3", "circle"),
    "above the scale": ("#A3A3A3", "triangle-up"),
    "below the scale": ("#A3A3A3", "triangle-down"),
    "crashed": ("#D55E00", "cross"),
}
_KIND_OF = {
    "promoted": "promoted",
    "winner": "judged better, not merged",
    "stacked": "judged better, not merged",
    "lapsed": "judged better, not merged",
    "discarded": "discarded",
    "cancelled": "discarded",
    "baseline": "not decided",
    "crashed": "crashed",
    "timed out": "crashed",
    "tampered": "crashed",
}
_BEST = "#0072B2"
_BASELINE = "#4D4D4D"


def progress(history: History, program: Program, path: Path) -> None:
    """Draw every attempt in order, what was kept, and the level the branch reached, into `path`.

    Raises:
        ArError: the file's ending is unknown, or nothing is measured yet.
    """
    check_ending(path)
    save(progress_chart(history, program), path)


def save(spec: dict[str, Any], path: Path) -> None:
    """Draw a Vega-Lite specification into a file, whole or not at all.

    Raises:
        ArError: the file's ending is unknown.
    """
    ending = check_ending(path)
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    content: bytes
    if ending == ".png":
        content = vl_convert.vegalite_to_png(spec, vl_version=version, scale=2)
    elif ending == ".svg":
        content = svg(spec).encode()
    else:
        content = vl_convert.vegalite_to_html(_in_script(spec), vl_version=version, bundle=True).encode()
    write_whole(path, content)


def svg(spec: dict[str, Any]) -> str:
    """A specification drawn as SVG."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return str(vl_convert.vegalite_to_svg(spec, vl_version=version))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def _in_script(value: Any) -> Any:
    """The same specification where no text can end the page's script: an invisible joiner follows its `<`."""
    if isinstance(value, dict):
        return {key: _in_script(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_script(item) for item in value]
    return re.sub(r"<(?=[/!])", "<\u2060", value) if isinstance(value, str) else value


def check_ending(path: Path) -> str:
    """The ending of a picture file.

    Raises:
        ArError: there is no such format.
    """
    ending = path.suffix.lower()
    if ending not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise ArError(f"{path}: no chart format ends in '{path.suffix}'", f"use one of: {known}")
    return ending


# -- the progress chart -----------------------------------------------------------------------------------


@dataclass
class _Points:
    """Rows of the chart's data, in data units."""

    dots: list[dict[str, Any]] = field(default_factory=list)
    bars: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    kept: list[tuple[int, Attempt]] = field(default_factory=list)


def progress_chart(history: History, program: Program) -> dict[str, Any]:
    """The progress chart's Vega-Lite specification.

    Raises:
        ArError: nothing is measured yet.
    """
    values = [attempt.value for attempt in history.attempts if attempt.value is not None]
    if not values:
        raise ArError("there is nothing to draw: no experiment has been measured yet", "run: ar run")
    first = next((item for item in history.attempts if item.is_baseline and item.value is not None), None)
    tried = [item for item in history.attempts if item is not first]
    tried = [item for item in tried if item.value is not None or _KIND_OF.get(item.outcome) == "crashed"]
    if not tried:
        raise ArError("there is nothing to draw yet: only the baseline was measured", "run: ar run")
    last = len(tried)
    domain = _domain([first, *tried] if first else tried, program.objective)
    points = _points(tried, first, domain, program.objective)
    labels = _place(points, domain, last, program.objective)
    return _specification(history, program, first, points, labels, domain, last)


def _domain(attempts: Sequence[Attempt], metric: Metric) -> tuple[float, float]:
    """The y axis: what was kept always lies inside, one diverged run cannot flatten the rest.

    Far-out values (beyond three times the interquartile range, as Tukey draws them) are left outside.
    """
    values = sorted(item.value for item in attempts if item.value is not None)
    kept = [item for item in attempts if item.outcome in (Outcome.PROMOTED, Outcome.BASELINE, Outcome.WINNER)]
    shown = [value for item in kept for value in _interval(item)]
    if len(values) >= 4:
        lower, _, upper = quantiles(values, n=4, method="inclusive")
        reach = 3 * (upper - lower)
        shown += [value for value in values if lower - reach <= value <= upper + reach]
    else:
        shown += values
    low, high = min(shown), max(shown)
    room = (high - low) or abs(high) * 0.01 or 1.0
    # Labels hang on the better side of the dots, where few others are.
    better = 0.25 if any(item.outcome is Outcome.PROMOTED for item in attempts) else 0.06
    below, above = (better, 0.06) if metric.direction == "minimize" else (0.06, better)
    return low - below * room, high + above * room


def _interval(attempt: Attempt) -> list[float]:
    if attempt.value is None:
        return []
    error = attempt.standard_error or 0.0
    return [attempt.value - error, attempt.value + error]


def _points(
    tried: Sequence[Attempt], first: Attempt | None, domain: tuple[float, float], metric: Metric
) -> _Points:
    low, high = domain
    inset = 0.012 * (high - low)
    worst = high - inset if metric.direction == "minimize" else low + inset
    points = _Points()
    if first is not None:
        points.steps.append({"x": 0, "y": first.value})
    for number, attempt in enumerate(tried, 1):
        kind = _KIND_OF.get(attempt.outcome, "not decided")
        value = attempt.value
        dot: dict[str, Any] = {
            "x": number,
            "kind": kind,
            "title": one_line(attempt.title),
            "name": attempt.name,
            "value": "none" if value is None else quantity(value, attempt.standard_error),
        }
        if value is None or kind == "crashed":
            points.dots.append({**dot, "y": worst, "kind": "crashed"})
            continue
        if not low <= value <= high:
            edge, where = (high - inset, "above") if value > high else (low + inset, "below")
            points.dots.append(dot | {"y": edge, "kind": f"{where} the scale"})
            continue
        points.dots.append(dot | {"y": value})
        if attempt.standard_error and (kind != "discarded" or len(tried) <= _MANY):
            bottom, top = _interval(attempt)
            points.bars.append({"x": number, "kind": kind, "y": max(bottom, low), "y2": min(top, high)})
        if kind == "promoted":
            points.kept.append((number, attempt))
            points.steps.append({"x": number, "y": value})
    if points.steps:
        points.steps.append({"x": len(tried) + 0.5, "y": points.steps[-1]["y"]})
    return points


def _place(points: _Points, domain: tuple[float, float], last: int, metric: Metric) -> list[dict[str, Any]]:
    """Where the labels of what was kept go, so that none covers another, a dot, or another's leader line.

    A label hangs on the better side of its dot and ends, or else begins, at its leader: from left to right
    they form a staircase along the step line. The largest effects are labelled, where there is room.
    """
    low, high = domain
    to_x = WIDTH / (last + 1)
    to_y = HEIGHT / (high - low)
    better = 1 if metric.direction == "minimize" else -1  # pixels grow downwards

    def pixels(x: float, y: float) -> tuple[float, float]:
        return x * to_x, (high - y) * to_y

    taken: list[Box] = []
    names: list[Box] = []
    for dot in points.dots:
        x, y = pixels(dot["x"], dot["y"])
        taken.append((x - 3, y - 3, x + 3, y + 3))
    for bar in points.bars:
        (x, top), (_, bottom) = pixels(bar["x"], bar["y2"]), pixels(bar["x"], bar["y"])
        taken.append((x - 1, top, x + 1, bottom))
    largest = sorted(points.kept, key=lambda item: _gain(item[1]), reverse=True)[:_SHOWN_LABELS]
    labels = []
    for number, attempt in sorted(largest, key=lambda item: item[0]):
        assert attempt.value is not None
        x, y = pixels(number, attempt.value)
        text = _short(one_line(attempt.title))
        width = len(text) * _CHARACTER
        for left, step in itertools.product((x - width, x), range(1, _REACH // _STEP)):
            left = min(max(left, 2.0), WIDTH - width)
            level = y + better * (9 + step * _STEP)
            box = (left - 3, level - _LINE / 2, left + width + 3, level + _LINE / 2)
            if box[1] < 0 or box[3] > HEIGHT:
                continue
            edge = level - better * _LINE / 2
            leader = (x - 1, min(y + better * 7, edge), x + 1, max(y + better * 7, edge))
            if not _hits(box, taken) and not _hits(leader, names):
                taken += [box, leader]
                names.append(box)
                place = {"x": (left + width) / to_x, "y": high - level / to_y}
                line = {"at": number, "from": high - (y + better * 5) / to_y, "to": high - edge / to_y}
                labels.append({"text": text, **place, **line})
                break
    return labels


def _gain(attempt: Attempt) -> float:
    return -attempt.verdict.effect if attempt.verdict and attempt.verdict.effect is not None else 0.0


def _short(title: str) -> str:
    return title if len(title) <= _SHOWN_TITLE else title[: _SHOWN_TITLE - 1].rstrip() + "…"


Box = tuple[float, float, float, float]


def _hits(box: Box, others: Sequence[Box]) -> bool:
    left, top, right, bottom = box
    return any(left < r and x < right and top < b and y < bottom for x, y, r, b in others)


def _specification(
    history: History,
    program: Program,
    first: Attempt | None,
    points: _Points,
    labels: list[dict[str, Any]],
    domain: tuple[float, float],
    last: int,
) -> dict[str, Any]:
    import altair as alt

    metric = program.objective
    key = one_line(metric.key)
    direction = "lower" if metric.direction == "minimize" else "higher"
    size = min(60.0, max(20.0, 3000 / last)) if last else 60.0
    axis = alt.Axis(tickMinStep=1, tickCount=10, format="d", grid=False)
    x = alt.X("x:Q").title("attempt").scale(domain=[0, last + 1], nice=False).axis(axis)
    scale = alt.Scale(domain=list(domain), nice=False, zero=False)
    y = alt.Y("y:Q").title(f"{key} ({direction} is better)").scale(scale)
    present = {dot["kind"] for dot in points.dots}
    kinds = [kind for kind in _KINDS if kind in present]
    colours, shapes = zip(*(_KINDS[kind] for kind in kinds), strict=True) if kinds else ((), ())
    legend = alt.Legend(orient="bottom", direction="horizontal", title=None, symbolOpacity=1, symbolSize=70)
    colour = alt.Color("kind:N").scale(domain=kinds, range=list(colours)).legend(legend)
    shape = alt.Shape("kind:N").scale(domain=kinds, range=list(shapes)).legend(legend)

    def chart(rows: list[dict[str, Any]]) -> Any:
        return alt.Chart(alt.Data(values=rows))

    layers: list[Any] = []
    if first is not None and first.value is not None:
        interval = _interval(first)
        level = {"x": 0, "x2": last + 1, "y": first.value, "low": interval[0], "high": interval[1]}
        band = chart([level]).mark_rect(color=_BASELINE, opacity=0.12)
        layers.append(band.encode(x=x, x2="x2:Q", y=alt.Y("low:Q"), y2="high:Q"))
        rule = chart([level]).mark_rule(color=_BASELINE, strokeDash=[5, 4], strokeWidth=1.2)
        layers.append(rule.encode(x=x, x2="x2:Q", y=y))
    discarded = [dot for dot in points.dots if dot["kind"] != "promoted"]
    promoted = [dot for dot in points.dots if dot["kind"] == "promoted"]
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("name", "title", "value", "kind")]
    bars = chart(points.bars).mark_rule(strokeWidth=1.2, opacity=0.55)
    layers.append(bars.encode(x=x, y=y, y2="y2:Q", color=colour))
    for rows, factor, opacity in ((discarded, 1.0, 0.75), (promoted, 1.7, 1.0)):
        marks = chart(rows).mark_point(filled=True, size=factor * size, opacity=opacity)
        layers.append(marks.encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip))
    steps = chart(points.steps).mark_line(interpolate="step-after", color=_BEST, strokeWidth=1.8)
    layers.insert(-2, steps.encode(x=x, y=y))
    leaders = chart(labels).mark_rule(color="#999999", strokeWidth=0.6)
    layers.append(leaders.encode(x="at:Q", y="from:Q", y2="to:Q"))
    font = {"align": "right", "baseline": "middle", "fontSize": 10.5, "color": "#222222"}
    halo = {"stroke": "white", "strokeWidth": 3}
    names = [chart(labels).mark_text(**font, **more) for more in (halo, {})]
    layers += [name.encode(x=x, y=y, text="text:N") for name in names]

    title = _title(history, program, first, last)
    spec: dict[str, Any] = (
        alt.layer(*layers)
        .properties(width=WIDTH, height=HEIGHT, background="white", title=title)
        .configure_view(stroke=None)
        .configure_axis(gridColor="#EEEEEE", domainColor="#888888", tickColor="#888888", titleFontWeight=500)
        .configure_title(anchor="start", subtitleColor="#555555", fontSize=15, subtitleFontSize=11, offset=12)
        .to_dict()
    )
    return spec


def _title(history: History, program: Program, first: Attempt | None, last: int) -> dict[str, Any]:
    promoted = len(history.promoted)
    now = history.now
    heading = f"{one_line(program.objective.key)} over {last} attempt{'' if last == 1 else 's'}"
    parts = [f"{promoted} promoted"]
    if first is not None and first.value is not None:
        before = quantity(first.value, first.standard_error)
        parts.append(f"baseline {before} (dashed, with its standard error)")
        if now is not None and now is not first and now.value is not None:
            after = quantity(now.value, now.standard_error)
            parts.append(f"now {after} (step line)")
            heading += f": {before.partition(' ±')[0]} → {after.partition(' ±')[0]}"
    return {"text": heading, "subtitle": ", ".join(parts)}
