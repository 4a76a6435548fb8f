"""Charts of the history as PNG, SVG or HTML files (Altair makes the specification, vl-convert draws it)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from ar.errors import ArError
from ar.records import Attempt, History
from ar.text import one_line, quantity

if TYPE_CHECKING:
    from ar.program import Metric, Program

# Of the whole picture about 900 x 480: the rest is titles, axes and legend.
WIDTH, HEIGHT = 830, 370

_FORMATS = (".png", ".svg", ".html")
_SHOWN_TITLE = 34  # characters of a label
_CHARACTER, _LINE = 5.9, 14  # size of a label's letters in pixels, on the safe side
_MANY = 40  # attempts from which on dots shrink and only what was kept has error bars

# What a dot stands for, its colour (Okabe and Ito's palette, told apart by colour-blind readers) and shape.
_KINDS = {
    "promoted": ("#0072B2", "circle"),
    "judged better, not merged": ("#56B4E9", "square"),
    "not decided": ("#E69F00", "diamond"),
    "discarded": ("#A3A3A3", "circle"),
    "beyond the scale": ("#A3A3A3", "triangle-up"),
    "crashed": ("#D55E00", "cross"),
}
_KIND_OF = {
    "promoted": "promoted",
    "winner": "judged better, not merged",
    "discarded": "discarded",
    "cancelled": "discarded",
    "baseline": "not decided",
    "crashed": "crashed",
    "timed out": "crashed",
}
_BEST = "#0072B2"
_BASELINE = "#4D4D4D"


def progress(history: History, program: Program, path: Path) -> None:
    """Draw every attempt in order, what was kept, and the level the branch reached, into `path`.

    Raises:
        ArError: the file's ending is unknown, or nothing is measured yet.
    """
    _check_ending(path)
    save(progress_chart(history, program), path)


def save(spec: dict[str, Any], path: Path) -> None:
    """Draw a Vega-Lite specification into a file, whole or not at all.

    Raises:
        ArError: the file's ending is unknown.
    """
    ending = _check_ending(path)
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    content: bytes
    if ending == ".png":
        content = vl_convert.vegalite_to_png(spec, vl_version=version, scale=2)
    elif ending == ".svg":
        content = vl_convert.vegalite_to_svg(spec, vl_version=version).encode()
    else:
        content = vl_convert.vegalite_to_html(spec, vl_version=version, bundle=True).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def _check_ending(path: Path) -> str:
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
    last = len(tried)
    low, high = _domain([first, *tried] if first else tried, program.objective)
    points = _points(tried, first, (low, high), program.objective)
    labels = _place(points.kept, (low, high), last, program.objective)
    return _specification(history, program, first, points, labels, (low, high), last)


def _domain(attempts: Sequence[Attempt], metric: Metric) -> tuple[float, float]:
    """The y axis: what was kept always lies inside, one diverged run cannot flatten the rest.

    Far-out values (beyond three times the interquartile range, as Tukey draws them) are left outside.
    """
    values = sorted(item.value for item in attempts if item.value is not None)
    shown = [v for item in attempts if item.outcome in ("promoted", "baseline", "winner") for v in _interval(item)]
    if len(values) >= 4:
        lower, _, upper = quantiles(values, n=4, method="inclusive")
        reach = 3 * (upper - lower)
        shown += [value for value in values if lower - reach <= value <= upper + reach]
    else:
        shown += values
    low, high = min(shown), max(shown)
    room = (high - low) or abs(high) * 0.01 or 1.0
    # Labels hang on the better side of the dots, where few others are.
    below, above = (0.22, 0.08) if metric.direction == "minimize" else (0.08, 0.22)
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
    worst = high if metric.direction == "minimize" else low
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
        inside = low <= value <= high
        points.dots.append(dot | ({"y": value} if inside else {"y": min(max(value, low), high), "kind": "beyond the scale"}))
        if attempt.standard_error and inside and (kind != "discarded" or len(tried) <= _MANY):
            bar = {"x": number, "kind": kind}
            points.bars.append({**bar, "y": max(_interval(attempt)[0], low), "y2": min(_interval(attempt)[1], high)})
        if kind == "promoted":
            points.kept.append((number, attempt))
            points.steps.append({"x": number, "y": value})
    if points.steps:
        points.steps.append({"x": len(tried) + 0.5, "y": points.steps[-1]["y"]})
    return points


def _place(
    kept: Sequence[tuple[int, Attempt]], domain: tuple[float, float], last: int, metric: Metric
) -> list[dict[str, Any]]:
    """Where the labels of what was kept go, so that none covers another; those without room are left out.

    The largest steps choose first. A label hangs on the better side of its dot, as near as it can.
    """
    low, high = domain
    to_x = WIDTH / (last + 1)
    to_y = HEIGHT / (high - low)
    better = 1 if metric.direction == "minimize" else -1  # pixels grow downwards
    dots = [(number * to_x, (high - attempt.value) * to_y) for number, attempt in kept if attempt.value is not None]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in dots]
    order = sorted(range(len(dots)), key=lambda index: _gain(kept[index][1]), reverse=True)
    labels = []
    for index in order:
        x, y = dots[index]
        text = _short(one_line(kept[index][1].title))
        half = len(text) * _CHARACTER / 2
        middle = min(max(x, half + 2), WIDTH - half - 2)
        for step in range(1, 13):
            level = y + better * (6 + step * _LINE)
            box = (middle - half - 3, level - _LINE / 2, middle + half + 3, level + _LINE / 2)
            if box[1] < 0 or box[3] > HEIGHT:
                break
            if not any(_overlap(box, other) for other in taken):
                taken.append(box)
                edge = level - better * _LINE / 2
                labels.append(
                    {
                        "text": text,
                        "x": middle / to_x,
                        "y": high - level / to_y,
                        "dot_x": x / to_x,
                        "dot_y": high - (y + better * 5) / to_y,
                        "edge": high - edge / to_y,
                        "edge_x": min(max(x, box[0] + 6), box[2] - 6) / to_x,
                    }
                )
                break
    return labels


def _gain(attempt: Attempt) -> float:
    return -attempt.verdict.effect if attempt.verdict and attempt.verdict.effect is not None else 0.0


def _short(title: str) -> str:
    return title if len(title) <= _SHOWN_TITLE else title[: _SHOWN_TITLE - 1].rstrip() + "…"


Box = tuple[float, float, float, float]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


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
    small = last > _MANY
    x = alt.X("x:Q").title("attempt").scale(domain=[0, last + 1], nice=False).axis(tickMinStep=1, format="d", grid=False)
    y = alt.Y("y:Q").title(f"{key} ({direction} is better)").scale(domain=list(domain), nice=False, zero=False)
    present = {dot["kind"] for dot in points.dots}
    kinds = [kind for kind in _KINDS if kind in present]
    colours, shapes = zip(*(_KINDS[kind] for kind in kinds), strict=True) if kinds else ((), ())
    legend = alt.Legend(orient="bottom", direction="horizontal", title=None, symbolOpacity=1, symbolSize=70)
    colour = alt.Color("kind:N").scale(domain=kinds, range=list(colours)).legend(legend)
    shape = alt.Shape("kind:N").scale(domain=kinds, range=list(shapes)).legend(legend)

    def chart(rows: list[dict[str, Any]]) -> Any:
        return alt.Chart(alt.Data(values=rows))

    layers = []
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
    for rows, size, opacity in ((discarded, 22 if small else 60, 0.75), (promoted, 55 if small else 90, 1.0)):
        marks = chart(rows).mark_point(filled=True, size=size, opacity=opacity, clip=False)
        layers.append(marks.encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip))
    steps = chart(points.steps).mark_line(interpolate="step-after", color=_BEST, strokeWidth=1.8)
    layers.insert(-2, steps.encode(x=x, y=y))
    leaders = chart(labels).mark_rule(color="#888888", strokeWidth=0.6)
    layers.append(leaders.encode(x=alt.X("dot_x:Q"), y=alt.Y("dot_y:Q"), x2="edge_x:Q", y2="edge:Q"))
    texts = chart(labels).mark_text(fontSize=10.5, color="#222222")
    layers.append(texts.encode(x=x, y=y, text="text:N"))

    spec: dict[str, Any] = (
        alt.layer(*layers)
        .properties(width=WIDTH, height=HEIGHT, background="white", title=_title(history, program, first))
        .configure_view(stroke=None)
        .configure_axis(gridColor="#EEEEEE", domainColor="#888888", tickColor="#888888", titleFontWeight="normal")
        .configure_title(anchor="start", subtitleColor="#555555", fontSize=15, subtitleFontSize=11, offset=12)
        .to_dict()
    )
    return spec


def _title(history: History, program: Program, first: Attempt | None) -> dict[str, Any]:
    tried = [item.outcome for item in history.attempts if not item.is_baseline]
    now = next((item for item in history.attempts if item.candidate == history.incumbent), None)
    key = one_line(program.objective.key)
    heading = f"{key} over {len(tried)} attempt{'' if len(tried) == 1 else 's'}"
    parts = [f"{tried.count('promoted')} promoted"]
    if first is not None and first.value is not None:
        parts.append(f"baseline {quantity(first.value, first.standard_error)} (dashed, ± its standard error)")
        if now is not None and now is not first and now.value is not None:
            heading += f": {quantity(first.value)} → {quantity(now.value)}"
            parts.append(f"now {quantity(now.value, now.standard_error)} (step line)")
    return {"text": heading, "subtitle": ", ".join(parts)}
