"""A waterfall of what is promoted: single effects, and what the branch measures."""

from __future__ import annotations

import math
from typing import Any

from ar.errors import ArError
from ar.history.attempts import level
from ar.history.records import Attempt, History
from ar.project.program import Program
from ar.text import one_line, quantity, signed
from ar.views.charts import base
from ar.views.marks import BLUE, DARK, GREY, RED

_WIDTH = base.WIDTH - 240
_GAP = 10  # pixels between a bar or a dot and its words
_HUES = {"better": BLUE, "worse": RED, "rest": GREY, "level": DARK}


def stack(history: History, program: Program) -> base.Spec:
    """A waterfall from the first baseline over the promoted changes' single effects to what is measured; of a
    stack, those of its members.

    Raises:
        ArError: nothing is promoted yet.
    """
    first, now = history.first, history.now
    merged = [single for item in history.promoted for single in _singles(history, item)]
    if first is None or first.value is None or not merged or now is None or now.value is None:
        raise ArError("there is nothing to draw: nothing is promoted yet", "run: ar run")
    rows = _rows(first, merged, now, program)
    labels = [row["row"] for row in rows]
    key = one_line(program.objective.key)
    x = base.numbers("to", base.named(program.objective), _domain(rows))
    y = base.rows_by("row", labels)
    scale = {"domain": list(_HUES), "range": list(_HUES.values())}
    colour = base.words("kind", scale=scale, legend=None)
    # A bar is as long as its effect; a level is a dot, since the axis does not begin at zero.
    changes = [row for row in rows if row["kind"] != "level"]
    levels = [row for row in rows if row["kind"] == "level"]
    bar, dot = {"size": 15, "opacity": 0.85}, {"filled": True, "size": 110, "opacity": 1}
    text = {"align": "left", "dx": _GAP, "fontSize": 11}
    layers = [
        base.layer(changes, "bar", bar, y=y, x={**x, "field": "from"}, x2={"field": "to"}, color=colour),
        base.layer(levels, "point", dot, y=y, x=x, color=colour),
        base.layer(rows, "rule", {"color": "#222222"}, y=y, x={**x, "field": "low"}, x2={"field": "high"}),
        base.layer(rows, "text", text, y=y, x={**x, "field": "end"}, text=base.words("text")),
    ]
    said = "each change's effect when it was judged (confirming runs), with its standard error;\n"
    said += "the rest is what they do together, and what the measurements leave open"
    return base.picture(
        f"From the first baseline to the branch: {key} {level(first)} → {level(now)}",
        said,
        width=_WIDTH,
        height={"step": base.row_height(labels, 24)},
        layer=layers,
    )


def _domain(rows: base.Rows) -> list[float]:
    """All bars and intervals, with room for the words to the right of each."""
    low, high = base.domain_of([row[end] for row in rows for end in ("from", "to", "low", "high")])
    for row in rows:
        room = _WIDTH - 2 * _GAP - base.CHARACTER * len(row["text"])
        high = max(high, low + (row["end"] - low) * _WIDTH / room)
    return [low, high]


def _singles(history: History, item: Attempt) -> list[Attempt]:
    """The members of a stack, strongest first; what is no stack is its own."""
    found = [other for name in item.stack for other in history.attempts if other.name == name]
    return found if len(found) == len(item.stack) > 0 else [item]


def _rows(first: Attempt, merged: list[Attempt], now: Attempt, program: Program) -> base.Rows:
    """The bars from top to bottom."""
    assert first.value is not None and now.value is not None
    value, squares = first.value, 0.0
    rows: base.Rows = [_row("first baseline", "level", value, value, first.standard_error)]
    for item in merged:
        verdict = item.verdict
        effect = program.objective.orient(verdict.effect) if verdict and verdict.effect is not None else 0.0
        error = verdict.standard_error if verdict else None
        squares += (error or 0.0) ** 2
        kind = "better" if program.objective.orient(effect) < 0 else "worse"
        rows.append(_row(base.wrapped(item.title), kind, value, value + effect, error))
        value += effect
    error = math.hypot(math.sqrt(squares), first.standard_error or 0.0, now.standard_error or 0.0)
    rows.append(_row("not additive, and luck", "rest", value, now.value, error))
    rows.append(_row("the branch, measured", "level", now.value, now.value, now.standard_error))
    for row, label in zip(rows, base.distinct(row["row"] for row in rows), strict=True):
        row["row"] = label
    return rows


def _row(label: str, kind: str, start: float, end: float, error: float | None) -> dict[str, Any]:
    text = quantity(end, error) if kind == "level" else signed(end - start, error or None)
    reach = error or 0.0
    ends = {"from": start, "to": end, "low": end - reach, "high": end + reach}
    return {"row": label, "kind": kind, "text": text, **ends, "end": max(start, end + reach)}
