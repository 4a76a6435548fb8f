"""What the charts share: the frame of a Vega-Lite specification, colours, domains.

Titles come from agents: they are data values, never expressions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ar.project.program import Metric
from ar.text import one_line

WIDTH = 760
BLUE, SKY, ORANGE, RED, GREEN, GREY, DARK = (
    "#0072B2",
    "#56B4E9",
    "#E69F00",
    "#D55E00",
    "#009E73",
    "#A3A3A3",
    "#4D4D4D",
)


TITLE = 46  # characters of a row's label

Rows = list[dict[str, Any]]


def picture(title: str, subtitle: str, **body: Any) -> dict[str, Any]:
    heading = {"text": title, "subtitle": subtitle.split("\n")} if subtitle else {"text": title}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "title": heading,
        **body,
        "config": {
            "view": {"stroke": None},
            "axis": {
                "gridColor": "#EEEEEE",
                "domainColor": "#888888",
                "tickColor": "#888888",
                "titleFontWeight": 500,
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


def data(rows: Rows) -> dict[str, Any]:
    return {"values": rows}


def scale_of(field: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title, **more}


def label_of(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= TITLE else line[: TITLE - 1].rstrip() + "…"


def domain_of(values: Sequence[float], room: float = 0.06) -> list[float]:
    low, high = min(values), max(values)
    margin = room * ((high - low) or abs(high) or 1.0)
    return [low - margin, high + margin]


def trimmed(values: Sequence[float], kept: Sequence[float]) -> list[float]:
    """A domain that holds all of `kept`, and of `values` what lies within three interquartile ranges."""
    ranked = sorted(values)
    low, high = ranked[len(ranked) // 4], ranked[(3 * len(ranked)) // 4]
    reach = 3 * (high - low)
    inside = [value for value in ranked if low - reach <= value <= high + reach]
    return domain_of([*inside, *kept])


def better(metric: Metric) -> str:
    return f"{'lower' if metric.direction == 'minimize' else 'higher'} is better"
