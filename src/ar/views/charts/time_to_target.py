"""Curves against time, the target, and when each state of the branch reaches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ar.history.tracks import Track
from ar.judge.time_to_target import Reach, mean_curve, reaches
from ar.project.program import Program
from ar.text import one_line, quantity
from ar.views.charts.base import (
    CHARACTER,
    WIDTH,
    Rows,
    Spec,
    domain_of,
    layer,
    numbers,
    picture,
    tooltip,
    words,
)
from ar.views.marks import BLUE, DARK

_GAP = 6  # pixels between a mark and its words
_FIRST, _BETWEEN, _BRANCH = "first baseline", "on the way", "the branch"
_HUES = {_FIRST: DARK, _BETWEEN: "#BFDDEE", _BRANCH: BLUE}


def time_to_target(scales: Mapping[str, Sequence[Track]], program: Program) -> Spec:
    """Smoothed curves of the branch's states against time, the target, and where each reaches it; a picture
    a scale."""
    assert program.curve is not None
    axis = program.curve.against[0]
    base = program.ladder[0].name if program.ladder else ""
    reached = {scale: reaches(tracks) for scale, tracks in scales.items()}
    last = next(iter(reached.values()))[-1]
    ratio = last.ratio.get(axis)
    title = f"Time to the first baseline's last {one_line(program.curve.value)}"
    if ratio is not None and last.runs and ratio != 1.0:
        title += f": {quantity(ratio, last.error.get(axis))} of the first baseline's"
    said = "mean over runs, smoothed by local linear regression; what the code under test reported"
    views = [_scale(name or base, tracks, reached[name], axis, program) for name, tracks in scales.items()]
    return picture(title, said, vconcat=views)


def _scale(name: str, tracks: Sequence[Track], reached: Sequence[Reach], axis: str, program: Program) -> Spec:
    """The picture of one scale."""
    assert program.curve is not None
    sign = 1.0 if program.curve.direction == "minimize" else -1.0
    roles = [_FIRST, *(_BETWEEN for _ in tracks[2:]), *(_BRANCH for _ in tracks[1:2])]
    rows: Rows = []
    points: Rows = []
    for role, track, reach in zip(roles, tracks, reached, strict=True):
        curve = mean_curve(track)
        title = one_line(track.attempt.title)
        rows += [
            {"x": at, "y": sign * value, "role": role, "name": reach.name, "title": title}
            for at, value in list(zip(curve.axes[axis], curve.values, strict=True))[::-2]
        ]
        if axis in reach.at and role != _BETWEEN:
            ratio = f"  ({reach.ratio[axis]:.2f} ×)" if role == _BRANCH and axis in reach.ratio else ""
            text = f"{reach.at[axis]:,.4g}{ratio}"
            points.append({"x": reach.at[axis], "y": sign * reach.target, "role": role, "text": text})
    target = sign * reached[0].target
    # The first fifth of a run falls steeply and tells nothing: the picture begins below it.
    end = max(row["x"] for row in rows)
    domain = domain_of([*(row["y"] for row in rows if row["x"] >= 0.2 * end), target], 0.08)
    shown = [row for row in rows if domain[0] <= row["y"] <= domain[1]]
    present = {role: hue for role, hue in _HUES.items() if role in roles}
    colour = words("role", scale={"domain": list(present), "range": list(present.values())})
    start = min(row["x"] for row in shown)
    right = [len(point["text"]) for point in points if point["role"] == _FIRST]
    room = 2 * _GAP + CHARACTER * max(right, default=0)
    x = numbers("x", one_line(axis), [start, end + (end - start) * room / (WIDTH - room)])
    y = numbers("y", one_line(program.curve.value), domain)
    floor = {"y2": {"value": "height"}}
    curves = {"x": x, "y": y, "color": colour, "detail": words("name"), "tooltip": tooltip("title")}
    layers = [
        layer([{"y": target}], "rule", {"color": DARK, "strokeDash": [4, 3]}, y=y),
        layer(shown, "line", {"strokeWidth": 1.8}, **curves),
        layer(points, "rule", {"strokeWidth": 1, "opacity": 0.7}, x=x, y=y, color=colour, **floor),
        layer(points, "point", {"filled": True, "size": 80, "opacity": 1}, x=x, y=y, color=colour),
    ]
    # Where no curve is: before the branch's mark they are worse than the target, after the first baseline's,
    # which is the later one, better.
    for role, align, side in ((_FIRST, "left", -1), (_BRANCH, "right", 1)):
        here = [point for point in points if point["role"] == role]
        place = {"align": align, "dx": -side * _GAP, "dy": sign * side * 2.4 * _GAP, "fontSize": 11}
        layers.append(layer(here, "text", place, x=x, y=y, text=words("text")))
    return {"width": WIDTH, "height": 300, "title": {"text": name, "fontSize": 12}, "layer": layers}
