"""Every attempt in order, what was kept, and the level that the branch reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import quantiles
from typing import Any

from ar.errors import ArError
from ar.history.records import Attempt, History, Outcome
from ar.project.program import Metric, Program
from ar.text import counted, one_line, quantity
from ar.views.charts import base
from ar.views.charts.labels import Places
from ar.views.marks import BLUE, DARK, DISCARDED, DOTS, GREY, MARKS, PROMOTED, SUPERSEDED, Dot

# Of the whole picture about 900 x 480: the rest is titles, axes and legend.
WIDTH, HEIGHT = 830, 370

_LABEL_WIDTH = 34  # characters of a label's line
_SHOWN_LABELS = 24
_MANY = 40  # attempts from which on dots shrink and only what was kept has error bars
_ABOVE = Dot("above the scale", GREY, "triangle-up")
_BELOW = Dot("below the scale", GREY, "triangle-down")


@dataclass
class _Points:
    """Rows of the chart's data, in data units."""

    dots: base.Rows = field(default_factory=list)
    bars: base.Rows = field(default_factory=list)
    steps: base.Rows = field(default_factory=list)
    kept: list[tuple[float, Attempt]] = field(default_factory=list)


def progress(history: History, program: Program) -> base.Spec:
    """The progress chart.

    Raises:
        ArError: nothing is measured yet.
    """
    if not any(attempt.value is not None for attempt in history.attempts):
        raise ArError("there is nothing to draw: no experiment has been measured yet", "run: ar run")
    first = next((item for item in history.attempts if item.is_baseline and item.value is not None), None)
    placed = [(place, item) for place, item in _places(history) if item is not first and _has_dot(item)]
    if not placed:
        raise ArError("there is nothing to draw yet: only the baseline was measured", "run: ar run")
    metric, count = program.objective, len(history.tried)
    drawn = [item for _, item in placed]
    domain = _domain([first, *drawn] if first else drawn, metric, count)
    points = _points(placed, first, domain, metric, count)
    axis = {"tickMinStep": 1, "tickCount": 10, "format": "d", "grid": False}
    x = base.numbers("x", "attempt", [0, count + 1], axis=axis)
    y = base.numbers("y", base.named(metric), domain)
    layers = [
        *_baseline(first, count, x, y),
        *_attempts(points, count, x, y),
        *_labels(points, domain, count, metric, x, y),
    ]
    title, said = _title(history, program, first, count)
    return base.picture(title, said, width=WIDTH, height=HEIGHT, layer=layers)


def _places(history: History) -> Iterator[tuple[float, Attempt]]:
    """Attempts at their numbers; baselines, and what DVC ran by itself, in between."""
    number, tried = 0, {item.name for item in history.tried}
    for item in history.attempts:
        number += item.name in tried
        yield number if item.name in tried else number + 0.5, item


def _has_dot(attempt: Attempt) -> bool:
    return attempt.value is not None or not MARKS[attempt.outcome].dot.counts


def _has_bar(attempt: Attempt, count: int) -> bool:
    """Whether its standard error is drawn: in a long campaign only of what was kept."""
    dot = MARKS[attempt.outcome].dot
    is_drawn = dot.counts and (dot not in (DISCARDED, SUPERSEDED) or count <= _MANY)
    return is_drawn and bool(attempt.standard_error)


def _domain(attempts: Sequence[Attempt], metric: Metric, count: int) -> tuple[float, float]:
    """The y axis: what was kept always lies inside, one diverged run cannot flatten the rest.

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
    return low - below * room, high + above * room


def _interval(attempt: Attempt) -> list[float]:
    if attempt.value is None:
        return []
    error = attempt.standard_error or 0.0
    return [attempt.value - error, attempt.value + error]


def _points(
    placed: Sequence[tuple[float, Attempt]],
    first: Attempt | None,
    domain: tuple[float, float],
    metric: Metric,
    count: int,
) -> _Points:
    low, high = domain
    inset = 0.012 * (high - low)
    worst = high - inset if metric.direction == "minimize" else low + inset
    points = _Points()
    if first is not None:
        points.steps.append({"x": 0, "y": first.value})
    for place, attempt in placed:
        shown, value = MARKS[attempt.outcome].dot, attempt.value
        dot: dict[str, Any] = {
            "x": place,
            "kind": shown.words,
            "title": one_line(attempt.title),
            "name": attempt.name,
            "value": "none" if value is None else quantity(value, attempt.standard_error),
        }
        if value is None or not shown.counts:
            points.dots.append({**dot, "y": worst})
            continue
        if not low <= value <= high:
            edge, where = (high - inset, _ABOVE) if value > high else (low + inset, _BELOW)
            points.dots.append(dot | {"y": edge, "kind": where.words})
            continue
        points.dots.append(dot | {"y": value})
        if _has_bar(attempt, count):
            bottom, top = _interval(attempt)
            bar = {"x": place, "kind": shown.words, "y": max(bottom, low), "y2": min(top, high)}
            points.bars.append(bar)
        if shown is PROMOTED:
            points.kept.append((place, attempt))
            points.steps.append({"x": place, "y": value})
    if points.steps:
        points.steps.append({"x": count + 0.5, "y": points.steps[-1]["y"]})
    return points


def _baseline(first: Attempt | None, count: int, x: base.Spec, y: base.Spec) -> list[base.Spec]:
    """The first baseline's level, with its standard error."""
    if first is None:
        return []
    low, high = _interval(first)
    level = {"x": 0, "x2": count + 1, "y": first.value, "low": low, "high": high}
    x2, ends = {"field": "x2"}, {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    dashes = {"color": DARK, "strokeDash": [5, 4], "strokeWidth": 1.2}
    return [
        base.layer([level], "rect", {"color": DARK, "opacity": 0.12}, x=x, x2=x2, **ends),
        base.layer([level], "rule", dashes, x=x, x2=x2, y=y),
    ]


def _attempts(points: _Points, count: int, x: base.Spec, y: base.Spec) -> list[base.Spec]:
    """Error bars, dots, and the step line below the promoted ones."""
    present = {dot["kind"] for dot in points.dots}
    channels = base.dots_by("kind", (kind for kind in (*DOTS, _ABOVE, _BELOW) if kind.words in present))
    size = min(60.0, max(20.0, 3000 / count))
    promoted = [dot for dot in points.dots if dot["kind"] == PROMOTED.words]
    others = [dot for dot in points.dots if dot["kind"] != PROMOTED.words]
    tips = base.tooltip("name", "title", "value", "kind")

    def dots(rows: base.Rows, area: float, opacity: float) -> base.Spec:
        style = {"filled": True, "size": area, "opacity": opacity}
        return base.layer(rows, "point", style, x=x, y=y, tooltip=tips, **channels)

    line = {"interpolate": "step-after", "color": BLUE, "strokeWidth": 1.8}
    thin = {"strokeWidth": 1.2, "opacity": 0.55}
    return [
        base.layer(points.bars, "rule", thin, x=x, y=y, y2={"field": "y2"}, color=channels["color"]),
        base.layer(points.steps, "line", line, x=x, y=y),
        dots(others, size, 0.75),
        dots(promoted, 1.7 * size, 1.0),
    ]


def _labels(
    points: _Points, domain: tuple[float, float], count: int, metric: Metric, x: base.Spec, y: base.Spec
) -> list[base.Spec]:
    """Names of what was kept with their leader lines; the largest effects, where there is room."""
    low, high = domain
    to_x, to_y = WIDTH / (count + 1), HEIGHT / (high - low)
    better = 1 if metric.direction == "minimize" else -1  # pixels grow downwards
    places = Places(WIDTH, HEIGHT, better)
    for dot in points.dots:
        at, level = dot["x"] * to_x, (high - dot["y"]) * to_y
        places.taken.append((at - 3, level - 3, at + 3, level + 3))
    for bar in points.bars:
        at = bar["x"] * to_x
        places.taken.append((at - 1, (high - bar["y2"]) * to_y, at + 1, (high - bar["y"]) * to_y))
    for before, after in pairwise(points.steps):
        left, right = before["x"] * to_x, after["x"] * to_x
        here, there = ((high - step["y"]) * to_y for step in (before, after))
        places.taken.append((left, here - 1, right, here + 1))
        places.taken.append((right - 1, min(here, there), right + 1, max(here, there)))
    largest = sorted(points.kept, key=lambda item: _gain(item[1]), reverse=True)[:_SHOWN_LABELS]
    rows: base.Rows = []
    for number, attempt in sorted(largest, key=lambda item: item[0]):
        assert attempt.value is not None
        at, level = number * to_x, (high - attempt.value) * to_y
        label = places.put(at, level, (base.wrapped(attempt.title, _LABEL_WIDTH, lines) for lines in (3, 1)))
        if label is not None:
            line = {
                "at": number,
                "from": high - (level + better * 5) / to_y,
                "to": high - label.leader / to_y,
            }
            rows.append({"text": label.text, "x": label.right / to_x, "y": high - label.first / to_y, **line})
    font = {"align": "right", "baseline": "middle", "fontSize": 10.5, "color": "#222222", "lineBreak": "\n"}
    font |= {"lineHeight": base.LINE}
    halo = {"stroke": "white", "strokeWidth": 3}
    ends = {"x": {**x, "field": "at"}, "y": {**y, "field": "from"}, "y2": {"field": "to"}}
    return [
        base.layer(rows, "rule", {"color": "#999999", "strokeWidth": 0.6}, **ends),
        *(
            base.layer(rows, "text", {**font, **more}, x=x, y=y, text=base.words("text"))
            for more in (halo, {})
        ),
    ]


def _gain(attempt: Attempt) -> float:
    return -attempt.verdict.effect if attempt.verdict and attempt.verdict.effect is not None else 0.0


def _title(history: History, program: Program, first: Attempt | None, count: int) -> tuple[str, str]:
    """The heading, and the line below it."""
    now = history.now
    heading = f"{one_line(program.objective.key)} over {counted(count, 'attempt')}"
    parts = [f"{len(history.promoted)} promoted"]
    if first is not None and first.value is not None:
        before = quantity(first.value, first.standard_error)
        parts.append(f"baseline {before} (dashed, with its standard error)")
        if now is not None and now is not first and now.value is not None:
            after = quantity(now.value, now.standard_error)
            parts.append(f"now {after} (step line)")
            heading += f": {before.partition(' ±')[0]} → {after.partition(' ±')[0]}"
    return heading, ", ".join(parts)
