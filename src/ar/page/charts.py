"""Vega-Lite specifications that the browser draws, of the size that its window has.

Their data come apart from them, by name: the browser puts in what its filter lets through. Colours that have
to be told apart from the background are left to it, too; `kinds` says them for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ar.history.comparison import Seeded
from ar.history.curves import Curve
from ar.project.program import CurveFile, Metric
from ar.text import one_line
from ar.views.charts import base
from ar.views.charts.base import Spec
from ar.views.marks import BLUE, DARK, DOTS, GREY

PAIRS_HEIGHT = 22  # pixels a seed


def kinds() -> list[tuple[str, str, str]]:
    """Words, colour and shape of each kind of attempt, in the legend's order."""
    return [(dot.words, dot.colour, dot.shape) for dot in DOTS]


def progress(metric: Metric) -> Spec:
    """Every attempt in order, the level of the branch with its standard error, and the first baseline's."""
    x = _numbers("number", "attempt", axis={"format": "d", "tickMinStep": 1, "grid": False})
    y = _numbers("y", base.named(metric))
    ends = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    colour: Spec = {"field": "kind", "type": "nominal", "scale": {"domain": [], "range": []}, "legend": None}
    shape: Spec = {"field": "kind", "type": "nominal", "scale": {"domain": [], "range": []}, "legend": None}
    dots = {"filled": True, "clip": True, "cursor": "pointer"}
    size = {"condition": {"test": "datum.kept", "value": 90}, "value": {"expr": "dotSize"}}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "height": 340,
        "autosize": {"type": "fit", "contains": "padding"},
        "params": [
            *({"name": name, "value": 0} for name in ("low", "high", "most", "least")),
            {"name": "dotSize", "value": 40},
        ],
        "layer": [
            _layer("base", "area", {"color": DARK, "opacity": 0.1}, x=x, **ends),
            _layer("base", "line", {"color": DARK, "strokeDash": [5, 4], "strokeWidth": 1.2}, x=x, y=y),
            _layer(
                "steps", "area", {"color": BLUE, "opacity": 0.16, "interpolate": "step-after"}, x=x, **ends
            ),
            _layer("steps", "line", {"color": BLUE, "strokeWidth": 2, "interpolate": "step-after"}, x=x, y=y),
            _layer("bars", "rule", {"strokeWidth": 1.2, "opacity": 0.6}, x=x, **ends, color=colour),
            _layer("attempts", "point", dots, x=x, y=y, color=colour, shape=shape, size=size)
            | {"name": "dots"},
        ],
        "config": _CONFIG,
    }


def pairs(metric: str, runs: Sequence[Seeded], ours: str, theirs: str) -> Spec | None:
    """Each seed's runs of two attempts, joined by a line; None where there are none.

    Args:
        ours, theirs: what the hollow and the filled dots are called.
    """
    rows: base.Rows = [
        {"seed": str(run.seed), "a": run.a, "b": run.b}
        for run in runs
        if not (run.a is None and run.b is None)
    ]
    if not rows:
        return None
    y = {"field": "seed", "type": "nominal", "sort": None, "title": "seed", "axis": {"grid": True}}
    dots = [
        {"seed": row["seed"], "value": row[side], "side": name, "tip": f"{name}, seed {row['seed']}"}
        for row in rows
        for side, name in (("a", ours), ("b", theirs))
        if row[side] is not None
    ]
    thin = {"strokeWidth": 1.5, "opacity": 0.5, "color": GREY}
    both = [row for row in rows if row["a"] is not None and row["b"] is not None]
    x = {"field": "value", "type": "quantitative", "title": one_line(metric), "scale": {"zero": False}}
    colour = {
        "field": "side",
        "type": "nominal",
        "scale": {"domain": [ours, theirs], "range": [DARK, BLUE]},
        "legend": {"title": None, "orient": "top"},
    }
    shape = {
        "field": "side",
        "type": "nominal",
        "scale": {"domain": [ours, theirs], "range": ["square", "circle"]},
    }
    return {
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "height": {"step": PAIRS_HEIGHT},
        "layer": [
            base.layer(both, "rule", thin, y=y, x={**x, "field": "a"}, x2={"field": "b"}),
            base.layer(
                dots, "point", {"filled": True, "size": 80, "opacity": 1}, x=x, y=y, color=colour, shape=shape
            ),
        ],
        "config": _CONFIG,
    }


def curves(
    spec: CurveFile, band: Mapping[int, Curve], own: Mapping[str, Sequence[Sequence[float]]]
) -> Spec | None:
    """Curves of runs over the band that the incumbent's runs span; None where no run has one.

    Args:
        own: words for a run to its rows: the value, then each axis, in the file's own direction.
    """
    sign = 1.0 if spec.direction == "minimize" else -1.0
    axis = spec.against[0]
    lines = [
        {"x": row[1], "y": row[0], "run": name, "tip": name}
        for name, rows in own.items()
        for row in _thin(rows)
    ]
    area = []
    if band:
        places = zip(*(curve.axes[axis] for curve in band.values()), strict=True)
        values = zip(*(curve.values for curve in band.values()), strict=True)
        for at, here in list(zip(places, values, strict=True))[::2]:
            runs = sorted(sign * value for value in here)
            area.append(
                {"x": sum(at) / len(at), "low": runs[0], "high": runs[-1], "y": sum(runs) / len(runs)}
            )
    if not lines and not area:
        return None
    x = {"field": "x", "type": "quantitative", "title": one_line(axis), "axis": {"grid": False}}
    y = {"field": "y", "type": "quantitative", "title": one_line(spec.value), "scale": _settled(area, lines)}
    ends = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    return {
        "width": "container",
        "height": 240,
        "autosize": {"type": "fit", "contains": "padding"},
        "layer": [
            base.layer(area, "area", {"color": DARK, "opacity": 0.18, "clip": True}, x=x, **ends),
            base.layer(
                area,
                "line",
                {"color": DARK, "strokeDash": [5, 4], "strokeWidth": 1.2, "clip": True},
                x=x,
                y=y,
            ),
            base.layer(
                lines,
                "line",
                {"color": BLUE, "strokeWidth": 1.8, "opacity": 0.8, "clip": True},
                x=x,
                y=y,
                detail=base.words("run"),
            ),
        ],
        "config": _CONFIG,
    }


def two_curves(spec: CurveFile, sides: Mapping[str, Mapping[int, Curve]]) -> Spec | None:
    """The curves of two attempts' runs, a colour each; None where neither has one."""
    sign = 1.0 if spec.direction == "minimize" else -1.0
    axis = spec.against[0]
    rows = [
        {"x": at, "y": sign * value, "side": side, "run": f"{side} {seed}", "tip": f"{side}, seed {seed}"}
        for side, found in sides.items()
        for seed, curve in found.items()
        for at, value in list(zip(curve.axes[axis], curve.values, strict=True))[::2]
    ]
    if not rows:
        return None
    x = {"field": "x", "type": "quantitative", "title": one_line(axis), "axis": {"grid": False}}
    y = {"field": "y", "type": "quantitative", "title": one_line(spec.value), "scale": _settled([], rows)}
    colour = {
        "field": "side",
        "type": "nominal",
        "scale": {"domain": list(sides), "range": [DARK, BLUE]},
        "legend": {"title": None, "orient": "top"},
    }
    return {
        "width": "container",
        "height": 240,
        "autosize": {"type": "fit", "contains": "padding"},
        "layer": [
            base.layer(
                rows,
                "line",
                {"strokeWidth": 1.6, "clip": True},
                x=x,
                y=y,
                color=colour,
                detail=base.words("run"),
            )
        ],
        "config": _CONFIG,
    }


_CONFIG: Spec = {
    "view": {"stroke": None},
    "axis": {"titleFontWeight": 500, "titlePadding": 8, "labelFontSize": 11, "titleFontSize": 12},
    "legend": {"labelFontSize": 12, "symbolOpacity": 1},
}
_POINTS = 200  # of a curve that are drawn


def _numbers(field: str, title: str, **more: Any) -> Spec:
    """A channel whose ends are told when the data are."""
    ends = ("least", "most") if field == "number" else ("low", "high")
    scale = {"domain": [{"expr": ends[0]}, {"expr": ends[1]}], "nice": False, "zero": False}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, **more}


def _layer(data: str, mark: str, style: Spec, **encoding: Any) -> Spec:
    return {"data": {"name": data}, "mark": {"type": mark, **style}, "encoding": encoding}


def _thin(rows: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    """At most so many of the rows, the last one always among them."""
    every = max(1, -(-len(rows) // _POINTS))
    return rows[::-every][::-1]


def _settled(area: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]]) -> Spec:
    """A scale without the first quarter of the runs, which falls steeply and tells nothing."""
    end = max(row["x"] for row in (*area, *lines))
    late = [row for row in (*area, *lines) if row["x"] >= 0.25 * end]
    values = [row[key] for row in late for key in ("y", "low", "high") if key in row]
    return {"zero": False, "domain": base.domain_of(values, 0.05), "nice": False}
