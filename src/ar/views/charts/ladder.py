"""Effects at each rung of the ladder, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ar.errors import ArError
from ar.history.records import Attempt, Decision, History
from ar.history.selection import EVERYTHING, Selection
from ar.judge.arithmetic import half_width
from ar.project.program import Program
from ar.text import one_line, signed
from ar.views.charts import base
from ar.views.marks import BLUE, DARK, GREEN, GREY, ORANGE, RED, SKY

_MOST_ROWS = 40
_SAID = {Decision.PROMOTE: "better", Decision.DISCARD: "not better", Decision.OPEN: "open"}


def ladder(history: History, program: Program, selection: Selection = EVERYTHING) -> base.Spec:
    """The effect of what climbed, at each rung, with its 95 % interval; of what a selection takes.

    Raises:
        ArError: nothing has climbed yet.
    """
    climbed = [pair for pair in _climbed(history, program) if selection.takes(pair[0])]
    if not climbed:
        raise ArError("there is nothing to draw: no change has climbed yet", "run: ar climb")
    left_out = max(0, len(climbed) - _MOST_ROWS)
    climbed = climbed[:_MOST_ROWS]
    labels = base.distinct(_label(item) for item, _ in climbed)
    rows: base.Rows = [
        {**cell, "row": label, "title": one_line(item.title), "name": item.name}
        for label, (item, cells) in zip(labels, climbed, strict=True)
        for cell in cells
    ]
    present = [rung.name for rung in program.ladder if any(row["rung"] == rung.name for row in rows)]
    hues = [GREY, SKY, BLUE, GREEN, ORANGE, RED][: len(present)]
    bands = _bands(history, program, climbed, labels)
    present, hues = [*present, bands[0]["rung"]] if bands else present, [*hues, DARK] if bands else hues
    colour = base.words("rung", sort=present, scale={"domain": present, "range": hues})
    place = {
        "y": base.rows_by("row", labels, grid=True),
        "yOffset": base.words("rung", sort=present),
        "color": colour,
    }
    side = "below" if program.objective.direction == "minimize" else "above"
    both = [*rows, *bands]
    title = f"effect on {one_line(program.objective.key)} ({side} 0 is better)"
    x = base.numbers(
        "y", title, base.domain_of([0.0, *(row[end] for row in both for end in ("low", "high"))])
    )
    low, high = {**x, "field": "low"}, {"field": "high"}
    tips = base.tooltip("title", "rung", "effect", "verdict", "name")
    layers = [
        base.layer([{"zero": 0}], "rule", {"color": DARK, "strokeDash": [4, 3]}, x={**x, "field": "zero"}),
        base.layer(bands, "rule", {"strokeWidth": 5, "opacity": 0.3}, x=low, x2=high, **place),
        base.layer(rows, "rule", {"strokeWidth": 1.6}, x=low, x2=high, **place),
        base.layer(bands, "point", {"filled": False, "size": 70}, x=x, tooltip=tips, **place),
        base.layer(rows, "point", {"filled": True, "size": 70, "opacity": 1}, x=x, tooltip=tips, **place),
    ]
    said = "with 95 % intervals, each judged by its own rung's noise; best at its largest rung first"
    said += f"\nshown: {one_line(selection.words)}" if selection else ""
    said += f"\n{left_out} more are left out" if left_out else ""
    height = {"step": base.row_height(labels, 14 + 9 * len(present)), "for": "position"}
    return base.picture("Effects at larger scales", said, width=base.WIDTH - 240, height=height, layer=layers)


def _bands(
    history: History, program: Program, climbed: Sequence[tuple[Attempt, base.Rows]], labels: Sequence[str]
) -> base.Rows:
    """What is expected of each at the target, by all rungs."""
    from ar.surrogate.climbs import climbs_of  # it takes its time to load

    target, orient = program.target, program.objective.orient
    climbs = climbs_of(program, history, target)
    found = [climbs.forecast(item.candidate) for item, _ in climbed]
    return [
        {
            "row": label,
            "title": one_line(item.title),
            "name": item.name,
            "rung": f"expected at {target}",
            "y": orient(one.effect),
            "low": min(map(orient, one.interval)),
            "high": max(map(orient, one.interval)),
            "effect": signed(orient(one.effect), one.error),
            "verdict": f"better with {one.chance:.0%}",
        }
        for label, (item, _), one in zip(labels, climbed, found, strict=True)
        if one is not None
    ]


def _climbed(history: History, program: Program) -> list[tuple[Attempt, base.Rows]]:
    """What climbed, with its effects from the base on; the best at its largest rung first."""
    rungs = [rung.name for rung in program.ladder]
    found = []
    for item in history.attempts:
        at = [climb for rung in rungs[1:] if (climb := history.at_rung(item.candidate, rung)) and climb.own]
        cells = [_effect(it, it.rung or rungs[0], program) for it in (item, *at)] if at and item.own else []
        if cells and cells[-1] is not None:
            found.append((item, [cell for cell in cells if cell]))
    return sorted(found, key=lambda pair: program.objective.orient(pair[1][-1]["y"]))


def _label(item: Attempt) -> str:
    bound = f" ({item.verdict.called})" if item.verdict is not None and item.verdict.hurts_higher else ""
    return f"{base.wrapped(item.title)}{bound}"


def _effect(item: Attempt, rung: str, program: Program) -> dict[str, Any] | None:
    verdict = item.verdict
    if verdict is None or verdict.effect is None or verdict.standard_error is None:
        return None
    effect = program.objective.orient(verdict.effect)
    half = half_width(verdict.standard_error, verdict.df)
    return {
        "rung": rung,
        "y": effect,
        "low": effect - half,
        "high": effect + half,
        "effect": signed(effect, verdict.standard_error),
        "verdict": _SAID[verdict.decision],
    }
