"""Loss against time: every attempt, the frontier, and what would be accepted."""

from __future__ import annotations

from typing import Any

from ar.errors import ArError
from ar.history.records import Attempt, History
from ar.project.program import Metric, Program
from ar.text import one_line, quantity
from ar.views.charts.base import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    WIDTH,
    Rows,
    better,
    data,
    picture,
    scale_of,
    trimmed,
)


def pareto(history: History, program: Program) -> dict[str, Any]:
    """Objective against the first guard, the frontier of both, and what would be accepted.

    Raises:
        ArError: program.md has no guard, or nothing is measured.
    """
    if not program.guards:
        raise ArError("a chart of loss against time needs a guard", "name one under guards: in program.md")
    cost, metric = program.guards[0], program.objective
    dots: Rows = []
    for item in history.attempts:
        paid = item.guards.get(str(cost))
        if item.value is None or paid is None:
            continue
        kind = "the branch" if item is history.now else _kind(item)
        name, value = one_line(item.name), quantity(item.value, item.standard_error)
        dots.append(
            {"x": paid, "y": item.value, "kind": kind, "title": one_line(item.title)}
            | {"name": name, "value": value, "cost": f"{paid:.5g}"}
        )
    if not dots:
        raise ArError("there is nothing to draw: no experiment has been measured yet", "run: ar run")
    kept = [dot for dot in dots if dot["kind"] in ("the branch", "promoted", "first baseline")]
    # The luckiest run is no frontier: it is drawn through what was confirmed.
    front = _frontier(kept or dots, cost, metric)
    domains = {axis: trimmed([dot[axis] for dot in dots], [dot[axis] for dot in kept]) for axis in ("x", "y")}
    shown = [dot for dot in dots if all(domains[a][0] <= dot[a] <= domains[a][1] for a in "xy")]
    x = scale_of(
        "x",
        f"{one_line(cost.key)} ({better(cost)})",
        scale={"domain": domains["x"], "nice": False, "zero": False},
    )
    y = scale_of(
        "y",
        f"{one_line(metric.key)} ({better(metric)})",
        scale={"domain": domains["y"], "nice": False, "zero": False},
    )
    layers: list[dict[str, Any]] = []
    now = next((dot for dot in kept if dot["kind"] == "the branch"), None)
    if now is not None:
        edge = {
            axis: domains[axis][0 if m.direction == "minimize" else 1]
            for axis, m in (("x", cost), ("y", metric))
        }
        box = {"x": now["x"], "y": now["y"], "x2": edge["x"], "y2": edge["y"]}
        layers.append(
            {
                "data": data([box]),
                "mark": {"type": "rect", "color": GREEN, "opacity": 0.1},
                "encoding": {"x": x, "x2": {"field": "x2"}, "y": y, "y2": {"field": "y2"}},
            }
        )
    step = "step-after" if cost.direction == "minimize" else "step-before"
    if len(front) > 1:
        layers.append(
            {
                "data": data(front),
                "mark": {
                    "type": "line",
                    "color": DARK,
                    "strokeWidth": 1.2,
                    "strokeDash": [4, 3],
                    "interpolate": step,
                },
                "encoding": {"x": x, "y": y},
            }
        )
    kinds = [kind for kind in _PARETO if any(dot["kind"] == kind for dot in shown)]
    scale = {"domain": kinds, "range": [_PARETO[kind][0] for kind in kinds]}
    shape = {"domain": kinds, "range": [_PARETO[kind][1] for kind in kinds]}
    tooltip = [{"field": name, "type": "nominal"} for name in ("name", "title", "value", "cost", "kind")]
    small = max(14.0, min(50.0, 4000 / len(dots)))
    for rows, size, opacity in (
        ([dot for dot in shown if dot not in kept], small, 0.55),
        ([dot for dot in shown if dot in kept], 90.0, 1.0),
    ):
        layers.append(
            {
                "data": data(rows),
                "mark": {"type": "point", "filled": True, "size": size, "opacity": opacity},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": {"field": "kind", "type": "nominal", "scale": scale},
                    "shape": {"field": "kind", "type": "nominal", "scale": shape},
                    "tooltip": tooltip,
                },
            }
        )
    outside = len(dots) - len(shown)
    words = "shaded: better or equal in both than the branch; what lies there beyond noise may be promoted\n"
    words += "dashed: the frontier of what was confirmed"
    words += f"; {outside} lie outside the picture" if outside else ""
    title = f"{one_line(metric.key)} against {one_line(cost.key)}, {len(dots)} attempts"
    return picture(title, words, width=WIDTH, height=400, layer=layers)


_PARETO = {
    "the branch": (BLUE, "diamond"),
    "promoted": (SKY, "circle"),
    "first baseline": (DARK, "square"),
    "judged better, not merged": (ORANGE, "circle"),
    "not decided": ("#CC79A7", "circle"),
    "discarded": (GREY, "circle"),
}


def _kind(item: Attempt) -> str:
    words = {"promoted": "promoted", "baseline": "first baseline", "winner": "judged better, not merged"}
    words |= {"discarded": "discarded", "cancelled": "discarded"}
    return words.get(item.outcome, "not decided")


def _frontier(dots: Rows, cost: Metric, metric: Metric) -> Rows:
    """The dots that no other beats in both, along the axis of the cost."""
    front: Rows = []
    for dot in sorted(dots, key=lambda item: (cost.orient(item["x"]), metric.orient(item["y"]))):
        if not front or metric.orient(dot["y"]) < metric.orient(front[-1]["y"]):
            front.append({"x": dot["x"], "y": dot["y"]})
    return front
