"""A waterfall of what is promoted: single effects, and what the branch measures."""

from __future__ import annotations

import math
from typing import Any

from ar.errors import ArError
from ar.history.records import Attempt, History
from ar.project.program import Program
from ar.text import one_line, quantity, signed
from ar.views.charts.base import (
    BLUE,
    DARK,
    GREY,
    RED,
    WIDTH,
    Rows,
    better,
    data,
    domain_of,
    label_of,
    picture,
    scale_of,
)


def stack(history: History, program: Program) -> dict[str, Any]:
    """A waterfall from the first baseline over the promoted changes' single effects to what is measured; of a
    stack, those of its members.

    Raises:
        ArError: nothing is promoted yet.
    """
    first = history.first
    promoted = history.promoted
    merged = [single for item in promoted for single in _singles(history, item)]
    now = history.now
    if first is None or first.value is None or not merged or now is None or now.value is None:
        raise ArError("there is nothing to draw: nothing is promoted yet", "run: ar run")
    level = first.value
    rows: Rows = [_total_row("first baseline", first)]
    squares = 0.0
    for item in merged:
        verdict = item.verdict
        effect = program.objective.orient(verdict.effect) if verdict and verdict.effect is not None else 0.0
        error = verdict.standard_error if verdict and verdict.standard_error is not None else 0.0
        squares += error**2
        gains = program.objective.orient(effect) < 0
        rows.append(
            {
                "row": label_of(item.title),
                "from": level,
                "to": level + effect,
                "kind": "better" if gains else "worse",
                "text": signed(effect, error or None),
                "low": level + effect - error,
                "high": level + effect + error,
            }
        )
        level += effect
    gap = now.value - level
    error = math.hypot(math.sqrt(squares), first.standard_error or 0.0, now.standard_error or 0.0)
    rows.append(
        {
            "row": "not additive, and luck",
            "from": level,
            "to": now.value,
            "kind": "rest",
            "text": signed(gap, error),
            "low": now.value - error,
            "high": now.value + error,
        }
    )
    rows.append(_total_row("the branch, measured", now))
    seen: dict[str, int] = {}
    for row in rows:
        again = seen.get(row["row"], 0)
        seen[row["row"]] = again + 1
        row["row"] += "\u200b" * again
    domain = domain_of([row[end] for row in rows for end in ("from", "to", "low", "high")], 0.12)
    for row in rows:
        if row["kind"] == "level":
            row["from"] = domain[0]
        row["end"] = max(row["from"], row["to"], row["high"])
    y = {
        "field": "row",
        "type": "nominal",
        "sort": [row["row"] for row in rows],
        "title": None,
        "axis": {"ticks": False, "domain": False},
    }
    key = one_line(program.objective.key)
    x = scale_of(
        "from",
        f"{key} ({better(program.objective)})",
        scale={"domain": domain, "nice": False, "zero": False},
    )
    colour = {
        "field": "kind",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": ["better", "worse", "rest", "level"], "range": [BLUE, RED, GREY, DARK]},
    }
    layers = [
        {
            "mark": {"type": "bar", "height": {"band": 0.62}, "opacity": 0.85},
            "encoding": {"y": y, "x": x, "x2": {"field": "to"}, "color": colour},
        },
        {
            "mark": {"type": "rule", "color": "#222222"},
            "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 6, "fontSize": 11},
            "encoding": {"y": y, "x": {**x, "field": "end"}, "text": {"field": "text", "type": "nominal"}},
        },
    ]
    words = "each change's effect when it was judged (confirming runs), with its standard error;\n"
    words += "the rest is what they do together, and what the measurements leave open"
    total = f"{quantity(first.value, first.standard_error)} → {quantity(now.value, now.standard_error)}"
    title = f"From the first baseline to the branch: {key} {total}"
    return picture(title, words, width=WIDTH - 260, height={"step": 24}, data=data(rows), layer=layers)


def _singles(history: History, item: Attempt) -> list[Attempt]:
    """The members of a stack, strongest first; what is no stack is its own."""
    found = [other for name in item.stack for other in history.attempts if other.name == name]
    return found if len(found) == len(item.stack) > 0 else [item]


def _total_row(label: str, item: Attempt) -> dict[str, Any]:
    assert item.value is not None
    error = item.standard_error or 0.0
    return {
        "row": label,
        "from": item.value,
        "to": item.value,
        "kind": "level",
        "text": quantity(item.value, item.standard_error),
        "low": item.value - error,
        "high": item.value + error,
    }
