"""Loss against time: every attempt, the frontier, and what would be accepted."""

from __future__ import annotations

from collections.abc import Sequence

from ar.errors import ArError
from ar.history.records import History
from ar.history.selection import EVERYTHING, Selection
from ar.project.program import Metric, Program
from ar.text import counted, one_line, quantity
from ar.views.charts import base
from ar.views.marks import BASELINE, DARK, DOTS, GREEN, MARKS, PROMOTED, Dot

_BRANCH = Dot("the branch", GREEN, "diamond")
_CONFIRMED = (_BRANCH, PROMOTED, BASELINE)


def pareto(history: History, program: Program, selection: Selection = EVERYTHING) -> base.Spec:
    """Objective against the first guard, the frontier of both, and what would be accepted: of the branch, and
    of the attempts that a selection takes.

    Raises:
        ArError: program.md has no guard, or nothing is measured.
    """
    if not program.guards:
        mend = f"name one under guards: in {program.file}"
        raise ArError("a chart of loss against time needs a guard", mend)
    cost, metric = program.guards[0], program.objective
    dots = _dots(history, cost, selection)
    if not dots:
        raise ArError("there is nothing to draw: no experiment has been measured yet", "run: ar run")
    confirmed = [dot for dot in dots if dot["kind"] in {kind.words for kind in _CONFIRMED}]
    axes = {"x": cost, "y": metric}
    domains = {
        axis: _domain([dot[axis] for dot in dots], [dot[axis] for dot in confirmed], side)
        for axis, side in axes.items()
    }
    shown = [dot for dot in dots if all(domains[a][0] <= dot[a] <= domains[a][1] for a in axes)]
    at = {axis: base.numbers(axis, base.named(side), domains[axis]) for axis, side in axes.items()}
    # The luckiest run is no frontier: it is drawn through what was confirmed.
    front = _frontier(confirmed or dots, cost, metric)
    front = front if len(front) > 1 else []
    ends = {axis: domains[axis][0 if side.direction == "minimize" else 1] for axis, side in axes.items()}
    shaded = [dot | {"x2": ends["x"], "y2": ends["y"]} for dot in confirmed if dot["kind"] == _BRANCH.words]
    step = "step-after" if cost.direction == "minimize" else "step-before"
    dashes = {"color": DARK, "strokeWidth": 1.2, "strokeDash": [4, 3], "interpolate": step}
    corner = {"x2": {"field": "x2"}, "y2": {"field": "y2"}}
    layers = [
        base.layer(shaded, "rect", {"color": GREEN, "opacity": 0.1}, **at, **corner),
        base.layer(front, "line", dashes, **at),
        *_marks(shown, confirmed, at, max(14.0, min(50.0, 4000 / len(dots)))),
    ]
    outside = len(dots) - len(shown)
    said = ["shaded: better or equal in both than the branch; what lies there beyond noise may be promoted"]
    said += ["dashed: the frontier of what was confirmed"] if front else []
    said += [f"shown: {one_line(selection.words)}"] if selection else []
    said += [f"{outside} worse by far, outside the picture"] if outside else []
    title = f"{one_line(metric.key)} against {one_line(cost.key)}, {counted(len(history.tried), 'attempt')}"
    return base.picture(title, "\n".join(said), width=base.WIDTH, height=400, layer=layers)


def _marks(shown: base.Rows, confirmed: base.Rows, at: base.Spec, small: float) -> list[base.Spec]:
    """The dots: what was confirmed is larger than `small`, and lies above the rest."""
    present = {dot["kind"] for dot in shown}
    channels = base.dots_by("kind", (kind for kind in (_BRANCH, *DOTS) if kind.words in present))
    tips = base.tooltip("name", "title", "value", "cost", "kind")
    return [
        base.layer(
            [dot for dot in shown if (dot in confirmed) is large],
            "point",
            {"filled": True, "size": 90.0 if large else small, "opacity": 1.0 if large else 0.55},
            **at,
            tooltip=tips,
            **channels,
        )
        for large in (False, True)
    ]


def _dots(history: History, cost: Metric, selection: Selection) -> base.Rows:
    dots: base.Rows = []
    for item in history.attempts:
        if item is not history.now and not selection.takes(item):
            continue
        paid = item.guards.get(str(cost))
        if item.value is None or paid is None:
            continue
        kind = _BRANCH if item is history.now else MARKS[item.outcome].dot
        name, value = one_line(item.name), quantity(item.value, item.standard_error)
        dots.append(
            {"x": paid, "y": item.value, "kind": kind.words, "title": one_line(item.title)}
            | {"name": name, "value": value, "cost": f"{paid:.5g}"}
        )
    return dots


def _domain(values: Sequence[float], kept: Sequence[float], metric: Metric) -> list[float]:
    """A domain that holds all of `kept`, and of `values` all but those that are worse than the others by more
    than three interquartile ranges."""
    ranked = sorted(map(metric.orient, values))
    low, high = ranked[len(ranked) // 4], ranked[(3 * len(ranked)) // 4]
    inside = [metric.orient(value) for value in ranked if value <= high + 3 * (high - low)]
    return base.domain_of([*inside, *kept])


def _frontier(dots: base.Rows, cost: Metric, metric: Metric) -> base.Rows:
    """The dots that no other beats in both, along the axis of the cost."""
    front: base.Rows = []
    for dot in sorted(dots, key=lambda item: (cost.orient(item["x"]), metric.orient(item["y"]))):
        if not front or metric.orient(dot["y"]) < metric.orient(front[-1]["y"]):
            front.append({"x": dot["x"], "y": dot["y"]})
    return front
