"""Every attempt in order, what was kept, and the level that the branch reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import quantiles
from typing import Any

from ar.errors import ArError
from ar.history.records import Attempt, History, Outcome
from ar.history.selection import EVERYTHING, Selection
from ar.project.program import Metric, Program
from ar.text import counted, one_line, quantity
from ar.views.charts import base
from ar.views.charts.labels import Box, Places
from ar.views.marks import BLUE, DARK, DISCARDED, DOTS, GREY, MARKS, PROMOTED, SUPERSEDED, Dot

# Of the whole picture about 900 x 480: the rest is titles, axes and legend.
WIDTH, HEIGHT = 830, 370

_LABEL_WIDTH = 34  # characters of a label's line
_SHOWN_LABELS = 24
_MANY = 40  # attempts from which on dots shrink and only what was kept has error bars
_ABOVE = Dot("above the scale", GREY, "triangle-up")
_BELOW = Dot("below the scale", GREY, "triangle-down")


@dataclass(frozen=True)
class _Frame:
    """The axes, and their pixels from the upper left: attempts by number, the metric from `low` to `high`."""

    metric: Metric
    count: int
    low: float
    high: float

    @property
    def x(self) -> base.Spec:
        axis = {"tickMinStep": 1, "tickCount": 10, "format": "d", "grid": False}
        return base.numbers("x", "attempt", [0, self.count + 1], axis=axis)

    @property
    def y(self) -> base.Spec:
        return base.numbers("y", base.named(self.metric), [self.low, self.high])

    @property
    def better(self) -> int:
        """1 where what is better lies further down, -1 where further up."""
        return 1 if self.metric.direction == "minimize" else -1

    @property
    def inset(self) -> float:
        """How far from the edge a dot lies whose value is not within the axis."""
        return 0.012 * (self.high - self.low)

    @property
    def worst(self) -> float:
        return self.high - self.inset if self.better > 0 else self.low + self.inset

    def across(self, place: float) -> float:
        return place * WIDTH / (self.count + 1)

    def down(self, value: float) -> float:
        return (self.high - value) * HEIGHT / (self.high - self.low)

    def place(self, pixels: float) -> float:
        return pixels * (self.count + 1) / WIDTH

    def value(self, pixels: float) -> float:
        return self.high - pixels * (self.high - self.low) / HEIGHT


@dataclass
class _Points:
    """Rows of the chart's data, in data units."""

    dots: base.Rows = field(default_factory=list)
    bars: base.Rows = field(default_factory=list)
    steps: base.Rows = field(default_factory=list)
    kept: list[tuple[float, Attempt]] = field(default_factory=list)


def progress(history: History, program: Program, selection: Selection = EVERYTHING) -> base.Spec:
    """The progress chart: the branch's level, and the attempts that a selection takes.

    Raises:
        ArError: nothing is measured yet.
    """
    if not any(attempt.value is not None for attempt in history.attempts):
        raise ArError("there is nothing to draw: no experiment has been measured yet", "run: ar run")
    first = history.first if history.first and history.first.value is not None else None
    placed = [(place, item) for place, item in places(history) if item is not first and _has_dot(item)]
    if not placed:
        raise ArError("there is nothing to draw yet: only the baseline was measured", "run: ar run")
    if selection and not any(selection.takes(item) for _, item in placed):
        raise ArError(f"there is nothing to draw: no attempt is {selection.words}", "see: ar show")
    drawn = [item for _, item in placed]
    frame = _frame([first, *drawn] if first else drawn, program.objective, len(history.tried))
    points = _points(placed, first, frame, selection)
    layers = [*_baseline(first, frame), *_attempts(points, frame), *_labels(points, frame)]
    title, said = _title(history, program, first)
    said += f"\nshown: {one_line(selection.words)}" if selection else ""
    return base.picture(title, said, width=WIDTH, height=HEIGHT, layer=layers)


def places(history: History) -> Iterator[tuple[float, Attempt]]:
    """Attempts at their numbers; baselines, and what DVC ran by itself, in between."""
    number, tried = 0, {item.name for item in history.tried}
    for item in history.attempts:
        number += item.name in tried
        yield number if item.name in tried else number + 0.5, item


def shown_range(history: History, program: Program) -> tuple[float, float] | None:
    """The ends of the metric's axis; None while nothing is measured."""
    first = history.first if history.first and history.first.value is not None else None
    drawn = [item for item in history.attempts if item is not first and _has_dot(item)]
    measured = [item for item in ([first, *drawn] if first else drawn) if item.value is not None]
    if not measured:
        return None
    frame = _frame(measured, program.objective, len(history.tried))
    return frame.low, frame.high


def _has_dot(attempt: Attempt) -> bool:
    return attempt.value is not None or not MARKS[attempt.outcome].dot.counts


def _has_bar(attempt: Attempt, count: int) -> bool:
    """Whether its standard error is drawn: in a long campaign only of what was kept."""
    dot = MARKS[attempt.outcome].dot
    is_drawn = dot.counts and (dot not in (DISCARDED, SUPERSEDED) or count <= _MANY)
    return is_drawn and bool(attempt.standard_error)


def _frame(attempts: Sequence[Attempt], metric: Metric, count: int) -> _Frame:
    """What was kept always lies inside, and one diverged run cannot flatten the rest.

    Far-out values (beyond three times the interquartile range, as Tukey draws them) are left outside.
    """
    values = [item.value for item in attempts if item.value is not None]
    lower, upper = min(values), max(values)
    if len(values) >= 4:
        first, _, third = quantiles(values, n=4, method="inclusive")
        lower, upper = first - 3 * (third - first), third + 3 * (third - first)
    shown: list[float] = []
    for item in attempts:
        is_kept = item.outcome in (Outcome.PROMOTED, Outcome.BASELINE, Outcome.WINNER)
        if item.value is not None and (is_kept or lower <= item.value <= upper):
            shown += _interval(item) if _has_bar(item, count) else [item.value]
    low, high = min(shown), max(shown)
    room = (high - low) or abs(high) * 0.01 or 1.0
    # Labels hang on the better side of the dots, where few others are.
    wide = 0.25 if any(item.outcome is Outcome.PROMOTED for item in attempts) else 0.06
    below, above = (wide, 0.06) if metric.direction == "minimize" else (0.06, wide)
    return _Frame(metric, count, low - below * room, high + above * room)


def _interval(attempt: Attempt) -> list[float]:
    """The value with its standard error on either side."""
    assert attempt.value is not None
    error = attempt.standard_error or 0.0
    return [attempt.value - error, attempt.value + error]


def _points(
    placed: Sequence[tuple[float, Attempt]], first: Attempt | None, frame: _Frame, selection: Selection
) -> _Points:
    points = _Points()
    if first is not None:
        points.steps.append({"x": 0, "y": first.value})
    for place, attempt in placed:
        shown, value = MARKS[attempt.outcome].dot, attempt.value
        if not selection.takes(attempt):
            points.steps += [{"x": place, "y": value}] if shown is PROMOTED and value is not None else []
            continue
        dot: dict[str, Any] = {
            "x": place,
            "kind": shown.words,
            "title": one_line(attempt.title),
            "name": attempt.name,
            "value": "none" if value is None else quantity(value, attempt.standard_error),
        }
        if value is None or not shown.counts:
            points.dots.append(dot | {"y": frame.worst})
            continue
        if value > frame.high:
            points.dots.append(dot | {"y": frame.high - frame.inset, "kind": _ABOVE.words})
            continue
        if value < frame.low:
            points.dots.append(dot | {"y": frame.low + frame.inset, "kind": _BELOW.words})
            continue
        points.dots.append(dot | {"y": value})
        if _has_bar(attempt, frame.count):
            bottom, top = _interval(attempt)
            bar = {"x": place, "kind": shown.words, "y": max(bottom, frame.low), "y2": min(top, frame.high)}
            points.bars.append(bar)
        if shown is PROMOTED:
            points.kept.append((place, attempt))
            points.steps.append({"x": place, "y": value})
    if points.steps:
        points.steps.append({"x": frame.count + 0.5, "y": points.steps[-1]["y"]})
    return points


def _baseline(first: Attempt | None, frame: _Frame) -> list[base.Spec]:
    """The first baseline's level, with its standard error."""
    if first is None:
        return []
    low, high = _interval(first)
    level = {"x": 0, "x2": frame.count + 1, "y": first.value, "low": low, "high": high}
    along = {"x": frame.x, "x2": {"field": "x2"}}
    ends = {"y": {**frame.y, "field": "low"}, "y2": {"field": "high"}}
    dashes = {"color": DARK, "strokeDash": [5, 4], "strokeWidth": 1.2}
    return [
        base.layer([level], "rect", {"color": DARK, "opacity": 0.12}, **along, **ends),
        base.layer([level], "rule", dashes, **along, y=frame.y),
    ]


def _attempts(points: _Points, frame: _Frame) -> list[base.Spec]:
    """Error bars, dots, and the step line below the promoted ones."""
    present = {dot["kind"] for dot in points.dots}
    channels = base.dots_by("kind", (kind for kind in (*DOTS, _ABOVE, _BELOW) if kind.words in present))
    size = min(60.0, max(20.0, 3000 / max(1, frame.count)))
    promoted = [dot for dot in points.dots if dot["kind"] == PROMOTED.words]
    others = [dot for dot in points.dots if dot["kind"] != PROMOTED.words]
    tips = base.tooltip("name", "title", "value", "kind")
    at = {"x": frame.x, "y": frame.y}

    def dots(rows: base.Rows, area: float, opacity: float) -> base.Spec:
        style = {"filled": True, "size": area, "opacity": opacity}
        return base.layer(rows, "point", style, **at, tooltip=tips, **channels)

    line = {"interpolate": "step-after", "color": BLUE, "strokeWidth": 1.8}
    thin = {"strokeWidth": 1.2, "opacity": 0.55}
    return [
        base.layer(points.bars, "rule", thin, **at, y2={"field": "y2"}, color=channels["color"]),
        base.layer(points.steps, "line", line, **at),
        dots(others, size, 0.75),
        dots(promoted, 1.7 * size, 1.0),
    ]


def _labels(points: _Points, frame: _Frame) -> list[base.Spec]:
    """Names of what was kept with their leader lines; the largest effects, where there is room."""
    places = Places(WIDTH, HEIGHT, frame.better, _taken(points, frame))
    largest = sorted(points.kept, key=lambda item: _gain(item[1]), reverse=True)[:_SHOWN_LABELS]
    rows: base.Rows = []
    for number, attempt in sorted(largest, key=lambda item: item[0]):
        assert attempt.value is not None
        level = frame.down(attempt.value)
        texts = (base.wrapped(attempt.title, _LABEL_WIDTH, lines) for lines in (3, 1))
        label = places.put(frame.across(number), level, texts)
        if label is not None:
            row = {"text": label.text, "x": frame.place(label.right), "y": frame.value(label.first)}
            leader = {"from": frame.value(level + frame.better * 5), "to": frame.value(label.leader)}
            rows.append({**row, **leader, "at": number})
    font = {"align": "right", "baseline": "middle", "fontSize": 10.5, "color": "#222222", "lineBreak": "\n"}
    font |= {"lineHeight": base.LINE}
    halo = {"stroke": "white", "strokeWidth": 3}
    ends = {"x": {**frame.x, "field": "at"}, "y": {**frame.y, "field": "from"}, "y2": {"field": "to"}}
    text = {"x": frame.x, "y": frame.y, "text": base.words("text")}
    return [
        base.layer(rows, "rule", {"color": "#999999", "strokeWidth": 0.6}, **ends),
        base.layer(rows, "text", font | halo, **text),
        base.layer(rows, "text", font, **text),
    ]


def _taken(points: _Points, frame: _Frame) -> list[Box]:
    """Where no label may lie: on dots, error bars and the step line."""
    taken: list[Box] = []
    for dot in points.dots:
        at, level = frame.across(dot["x"]), frame.down(dot["y"])
        taken.append((at - 5, level - 5, at + 5, level + 5))
    for bar in points.bars:
        at = frame.across(bar["x"])
        taken.append((at - 1, frame.down(bar["y2"]), at + 1, frame.down(bar["y"])))
    for before, after in pairwise(points.steps):
        left, right = frame.across(before["x"]), frame.across(after["x"])
        here, there = frame.down(before["y"]), frame.down(after["y"])
        taken.append((left, here - 1, right, here + 1))
        taken.append((right - 1, min(here, there), right + 1, max(here, there)))
    return taken


def _gain(attempt: Attempt) -> float:
    return -attempt.verdict.effect if attempt.verdict and attempt.verdict.effect is not None else 0.0


def _title(history: History, program: Program, first: Attempt | None) -> tuple[str, str]:
    """The heading, and the line below it."""
    now = history.now
    heading = f"{one_line(program.objective.key)} over {counted(len(history.tried), 'attempt')}"
    parts = [f"{len(history.promoted)} promoted"]
    if first is not None and first.value is not None:
        before = quantity(first.value, first.standard_error)
        parts.append(f"baseline {before} (dashed, with its standard error)")
        if now is not None and now is not first and now.value is not None:
            after = quantity(now.value, now.standard_error)
            parts.append(f"now {after} (step line)")
            heading += f": {before.partition(' ±')[0]} → {after.partition(' ±')[0]}"
    return heading, ", ".join(parts)
