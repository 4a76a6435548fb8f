"""Curves against time, the target, and when each state of the branch reaches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ar.project.program import Program
from ar.text import one_line, quantity
from ar.views.charts.base import BLUE, DARK, WIDTH, Rows, data, domain_of, label_of, picture, scale_of
from ar.views.curves import Reach, Track, mean_curve

_HUES = {"first baseline": DARK, "on the way": "#BFDDEE", "the branch": BLUE}


def time_to_target(
    scales: Mapping[str, tuple[Sequence[Track], Sequence[Reach]]], program: Program
) -> dict[str, Any]:
    """Smoothed curves of the branch's states against time, the target, and where each reaches it; a picture
    a scale."""
    assert program.curve is not None
    axis = program.curve.against[0]
    sign = 1.0 if program.curve.direction == "minimize" else -1.0
    views = []
    for scale, (tracks, reaches) in scales.items():
        views.append(
            _race(
                scale or (program.ladder[0].name if program.ladder else ""),
                tracks,
                reaches,
                axis,
                sign,
                program,
            )
        )
    last = next(iter(scales.values()))[1][-1]
    ratio = last.ratio.get(axis)
    title = f"Time to the first baseline's last {one_line(program.curve.value)}"
    if ratio is not None and last.runs and ratio != 1.0:
        title += f": {quantity(ratio, last.error.get(axis))} of the first baseline's"
    words = "mean over runs, smoothed by local linear regression; what the code under test reported"
    return picture(title, words, vconcat=views)


def _race(
    scale: str, tracks: Sequence[Track], reaches: Sequence[Reach], axis: str, sign: float, program: Program
) -> dict[str, Any]:
    assert program.curve is not None
    rows: Rows = []
    points: Rows = []
    for place, (track, reach) in enumerate(zip(tracks, reaches, strict=True)):
        role = "first baseline" if place == 0 else "the branch" if place == len(tracks) - 1 else "on the way"
        curve = mean_curve(track)
        label = label_of(track.attempt.title)
        rows += [
            {"x": at, "y": sign * value, "role": role, "name": reach.name, "title": label}
            for at, value in list(zip(curve.axes[axis], curve.values, strict=True))[::2]
        ]
        if axis in reach.at and role != "on the way":
            ratio = f"{reach.ratio[axis]:.2f} ×" if role == "the branch" and axis in reach.ratio else ""
            text = f"{reach.at[axis]:,.4g}{f'  ({ratio})' if ratio else ''}"
            points.append({"x": reach.at[axis], "y": sign * reach.target, "role": role, "text": text})
    target = sign * reaches[0].target
    # The first fifth of a run falls steeply and tells nothing: the picture begins below it.
    tail = [row["y"] for row in rows if row["x"] >= 0.2 * max(row["x"] for row in rows)]
    domain = domain_of([*tail, target], 0.08)
    shown = [row for row in rows if domain[0] <= row["y"] <= domain[1]]
    present = {role: hue for role, hue in _HUES.items() if any(row["role"] == role for row in rows)}
    colour = {
        "field": "role",
        "type": "nominal",
        "scale": {"domain": list(present), "range": list(present.values())},
    }
    x = scale_of("x", one_line(axis), scale={"zero": False, "nice": False})
    y = scale_of("y", one_line(program.curve.value), scale={"domain": domain, "nice": False, "zero": False})
    layers = [
        {
            "data": data([{"target": target}]),
            "mark": {"type": "rule", "color": DARK, "strokeDash": [4, 3]},
            "encoding": {"y": {**y, "field": "target"}},
        },
        {
            "data": data(shown),
            "mark": {"type": "line", "strokeWidth": 1.8},
            "encoding": {
                "x": x,
                "y": y,
                "color": colour,
                "detail": {"field": "name", "type": "nominal"},
                "tooltip": [{"field": "title", "type": "nominal"}],
            },
        },
        {
            "data": data([{**point, "floor": domain[0]} for point in points]),
            "mark": {"type": "rule", "strokeWidth": 1, "opacity": 0.7},
            "encoding": {"x": x, "y": y, "y2": {"field": "floor"}, "color": colour},
        },
        {
            "data": data(points),
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour},
        },
        {
            "data": data(points),
            "mark": {"type": "text", "dy": 15, "dx": 4, "align": "left", "fontSize": 11},
            "encoding": {"x": x, "y": y, "text": {"field": "text", "type": "nominal"}},
        },
    ]
    return {"width": WIDTH, "height": 300, "title": {"text": scale, "fontSize": 12}, "layer": layers}
