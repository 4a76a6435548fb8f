"""What the charts share: the parts of a Vega-Lite specification, labels, domains.

Titles come from agents: they are data values, never expressions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

from ar.project.program import Metric
from ar.text import one_line
from ar.views.marks import Dot

WIDTH = 760
LABEL_WIDTH = 46  # characters of a line of a row's label
MOST_LINES = 3  # of a label
LINE = 13  # of a label's letters, in pixels
CHARACTER = 5.7  # of a label, in pixels

Spec = dict[str, Any]
Rows = list[dict[str, Any]]


def picture(title: str, subtitle: str, **body: Any) -> Spec:
    """A whole specification: `body` is what a chart is made of, in the look that all share."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "background": "white",
        "title": {"text": title, "subtitle": subtitle.split("\n")},
        **body,
        "config": {
            "view": {"stroke": None},
            "axis": {
                "gridColor": "#EEEEEE",
                "domainColor": "#888888",
                "tickColor": "#888888",
                "titleFontWeight": 500,
                "titlePadding": 8,
                "labelLimit": 340,
            },
            "title": {
                "anchor": "start",
                "subtitleColor": "#555555",
                "fontSize": 15,
                "subtitleFontSize": 11,
                "offset": 12,
            },
            "legend": {"orient": "bottom", "direction": "horizontal", "title": None, "symbolOpacity": 1},
        },
    }


def layer(rows: Rows, mark: str, style: Spec, **encoding: Any) -> Spec:
    """One layer: its data, a kind of mark with its style, and which field decides which channel."""
    return {"data": {"values": rows}, "mark": {"type": mark, **style}, "encoding": encoding}


def numbers(field: str, title: str, domain: Sequence[float], **more: Any) -> Spec:
    """The channel of an axis of numbers, which ends where `domain` does."""
    scale = {"domain": list(domain), "nice": False, "zero": False}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, **more}


def words(field: str, **more: Any) -> Spec:
    """A channel of words."""
    return {"field": field, "type": "nominal", **more}


def rows_by(field: str, labels: Sequence[str], **axis: Any) -> Spec:
    """The channel of an axis of rows, in the order of `labels`; a label may have several lines."""
    # Vega centres a label's first line on its row: half of the others' height up, it is the whole label.
    lines = "split(datum.label, '\\n')"
    raised = [{"test": f"length({lines}) == {count}", "value": -LINE / 2 * (count - 1)} for count in (2, 3)]
    axis = {"ticks": False, "domain": False, "labelExpr": lines, "labelLineHeight": LINE, **axis}
    axis["labelOffset"] = {"condition": raised, "value": 0}
    return words(field, sort=list(labels), title=None, axis=axis)


def tooltip(*fields: str) -> list[Spec]:
    return [words(field) for field in fields]


def dots_by(field: str, dots: Iterable[Dot]) -> dict[str, Spec]:
    """The channels of colour and shape with their legend, where `field` holds a dot's words."""
    dots = list(dots)
    named = [dot.words for dot in dots]
    return {
        "color": words(field, scale={"domain": named, "range": [dot.colour for dot in dots]}),
        "shape": words(field, scale={"domain": named, "range": [dot.shape for dot in dots]}),
    }


def wrapped(text: str, width: int = LABEL_WIDTH, most: int = MOST_LINES) -> str:
    """A label of at most so many even lines of so many characters; an ellipsis tells of more."""
    line = one_line(text).replace(" → ", "\u00a0→\u00a0")  # what belongs together stays together

    def lines(width: int) -> list[str]:
        return wrap(line, width, max_lines=most, placeholder="…")

    count, least = len(lines(width)), width
    if len(line) <= width * most:
        while least > 1 and len(lines(least - 1)) == count and not lines(least - 1)[-1].endswith("…"):
            least -= 1
    return "\n".join(lines(least)).replace("\u00a0", " ")


def distinct(labels: Iterable[str]) -> list[str]:
    """The labels told apart by spaces of no width: rows of equal titles stay rows of their own."""
    seen: list[str] = []
    for label in labels:
        while label in seen:
            label += "\u200b"
        seen.append(label)
    return seen


def row_height(labels: Iterable[str], least: int) -> int:
    """Pixels of a row in which the tallest of the labels has room."""
    return max([least, *(LINE * (label.count("\n") + 1) + 4 for label in labels)])


def domain_of(values: Sequence[float], room: float = 0.06) -> list[float]:
    low, high = min(values), max(values)
    margin = room * ((high - low) or abs(high) or 1.0)
    return [low - margin, high + margin]


def named(metric: Metric) -> str:
    """An axis's title."""
    return f"{one_line(metric.key)} ({metric.better} is better)"
