"""Effects at each rung of the ladder, with intervals."""

from __future__ import annotations

from typing import Any

from ar.errors import ArError
from ar.history.records import Attempt, Decision, History, Label
from ar.judge.rule import half_width
from ar.project.program import Program
from ar.text import one_line, signed
from ar.views.charts.base import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    ORANGE,
    RED,
    SKY,
    WIDTH,
    Rows,
    data,
    domain_of,
    label_of,
    picture,
    scale_of,
)

_MOST_ROWS = 40


def ladder(history: History, program: Program) -> dict[str, Any]:
    """The effect of what climbed, at each rung, with its 95 % interval.

    Raises:
        ArError: nothing has climbed yet.
    """
    rungs = [rung.name for rung in program.ladder]
    base = rungs[0] if rungs else ""
    rows: Rows = []
    for item in history.attempts:
        climbs = [
            climb for rung in rungs[1:] if (climb := history.climb(item.candidate, rung)) and _own(climb)
        ]
        if climbs and _own(item):
            cells = [_effect_row(it, it.rung or base, program) for it in (item, *climbs)]
            last = cells[-1]
            if last is not None:
                label = label_of(item.title)
                bound = item.verdict is not None and item.verdict.label is Label.SCALE_BOUND
                rows += [
                    {**cell, "title": label, "last": last["y"], "bound": bound, "name": item.name}
                    for cell in cells
                    if cell
                ]
    if not rows:
        raise ArError("there is nothing to draw: no change has climbed yet", "run: ar climb")
    order = list(
        dict.fromkeys(
            row["name"] for row in sorted(rows, key=lambda row: program.objective.orient(row["last"]))
        )
    )
    left_out = max(0, len(order) - _MOST_ROWS)
    order = order[:_MOST_ROWS]
    # A row is a name; its label is the title, which two changes may share.
    titles = {row["name"]: row["title"] + (" (scale-bound)" if row["bound"] else "") for row in rows}
    labels: dict[str, str] = {}
    for name in order:
        label = titles[name]
        while label in labels.values():
            label += "\u200b"  # told apart by a space of no width
        labels[name] = label
    for row in rows:
        row["row"] = labels.get(row["name"], "")
    rows = [row for row in rows if row["row"]]
    present = [rung for rung in rungs if any(row["rung"] == rung for row in rows)]
    colour = {
        "field": "rung",
        "type": "nominal",
        "sort": present,
        "scale": {"domain": present, "range": [GREY, SKY, BLUE, GREEN, ORANGE, RED][: len(present)]},
    }
    y = {
        "field": "row",
        "type": "nominal",
        "sort": list(labels.values()),
        "title": None,
        "axis": {"grid": True, "ticks": False, "domain": False},
    }
    offset = {"field": "rung", "type": "nominal", "sort": present}
    key = one_line(program.objective.key)
    domain = domain_of([0.0, *(row[end] for row in rows for end in ("low", "high"))])
    side = "below" if program.objective.direction == "minimize" else "above"
    x = scale_of(
        "y", f"effect on {key} ({side} 0 is better)", scale={"domain": domain, "nice": False, "zero": False}
    )
    tooltip = [{"field": name, "type": "nominal"} for name in ("title", "rung", "effect", "verdict", "name")]
    layers = [
        {
            "data": data([{"zero": 0}]),
            "mark": {"type": "rule", "color": DARK, "strokeDash": [4, 3]},
            "encoding": {"x": {**x, "field": "zero"}},
        },
        {
            "data": data(rows),
            "mark": {"type": "rule", "strokeWidth": 1.6},
            "encoding": {
                "y": y,
                "yOffset": offset,
                "x": {**x, "field": "low"},
                "x2": {"field": "high"},
                "color": colour,
            },
        },
        {
            "data": data(rows),
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {"y": y, "yOffset": offset, "x": x, "color": colour, "tooltip": tooltip},
        },
    ]
    words = "with 95 % intervals, each judged by its own rung's noise; best at its largest rung first"
    words += f"\n{left_out} more are left out" if left_out else ""
    return picture(
        "Effects at larger scales",
        words,
        width=WIDTH - 240,
        height={"step": 14 + 9 * len(present), "for": "position"},
        layer=layers,
    )


def _own(item: Attempt) -> bool:
    return bool(item.own)


def _effect_row(item: Attempt, rung: str, program: Program) -> dict[str, Any] | None:
    verdict = item.verdict
    if verdict is None or verdict.effect is None or verdict.standard_error is None:
        return None
    effect = program.objective.orient(verdict.effect)
    half = half_width(verdict.standard_error, verdict.df)
    said = {Decision.PROMOTE: "better", Decision.DISCARD: "not better", Decision.OPEN: "open"}
    return {
        "rung": rung,
        "y": effect,
        "low": effect - half,
        "high": effect + half,
        "effect": signed(effect, verdict.standard_error),
        "verdict": said[verdict.decision],
    }
