"""The summary line: what was tried, what became of it, and how far the branch has come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from ar.campaign.aa import line
from ar.history.attempts import level
from ar.history.records import Attempt, History, Status
from ar.judge import aa
from ar.judge.findings import Total
from ar.project.program import Program
from ar.text import counted, one_line, quantity, signed
from ar.views.marks import MARKS

if TYPE_CHECKING:
    from ar.agents.account import Account
    from ar.surrogate.importance import Importance

_MOST_NAMED = 8
EMPTY = "No experiment yet. Run: ar run"


def summary(
    history: History,
    program: Program,
    total: Total | None = None,
    matters: Sequence[Importance] = (),
    paid: Account | None = None,
) -> Text:
    """What was tried, what became of it, how far the branch has come, what matters, what agents cost."""
    if not history.attempts:
        return Text("\n".join((EMPTY, *_foreign(history))))
    tried = [MARKS[item.outcome].counted for item in history.tried]
    counts = {word: tried.count(word) for mark in MARKS.values() if (word := mark.counted)}
    always = ("promoted", "discarded", "crashed", "open")
    parts = [f"{count} {word}" for word, count in counts.items() if count or word in always]
    text = Text(f"{counted(len(tried), 'attempt')}: {', '.join(parts)}. ", no_wrap=False, overflow="fold")
    text.append(_total(total, program) if total else _gain(history, program), style="bold")
    checked = aa.last(program, history)
    spent = paid.words(len(history.promoted)) if paid else ""
    lines = (
        *levels(history, program),
        *([f"A/A check: {line(checked)}."] if checked else []),
        *_unprotected(history),
        *elsewhere(history),
        *_foreign(history),
        *_matters(matters),
        *([f"Agents spent: {spent}."] if spent else []),
    )
    return text.append("".join(f"\n{line}" for line in lines))


def _unprotected(history: History) -> list[str]:
    runs = sum(run.is_unprotected for run in history.experiments)
    return [f"Measured without walls around the code under test: {counted(runs, 'run')}."] if runs else []


def _foreign(history: History) -> list[str]:
    told = (
        ("Foreign", len(history.foreign), "that remotes brought"),
        ("Imported", len(history.imported), "that another tool tells of"),
    )
    return [
        f"{word}, and not counted: {counted(number, 'attempt')} {whose}."
        for word, number, whose in told
        if number
    ]


def elsewhere(history: History) -> list[str]:
    """Who runs what on other machines, and what waits for them."""
    runs = [run for run in history.everything if run.elsewhere]
    busy = [f"{one_line(run.name)} {one_line(run.where)}" for run in runs if run.status is Status.RUNNING]
    more = [f"{len(busy) - _MOST_NAMED} more"] if len(busy) > _MOST_NAMED else []
    words = ", ".join([*busy[:_MOST_NAMED], *more])
    waits = [f"{len(runs) - len(busy)} waiting"] if len(runs) > len(busy) else []
    return [f"Elsewhere: {', '.join([*filter(None, [words]), *waits])}."] if runs else []


def _matters(found: Sequence[Importance]) -> list[str]:
    if not found:
        return []
    from ar.surrogate.importance import in_words

    return [f"What matters: {in_words(found)}."]


def levels(history: History, program: Program) -> list[str]:
    """How far the branch has come at each rung above the base, as far as it was measured there."""
    first = history.first
    lines = []
    for rung in program.ladder[1:]:
        before = history.at_rung(first.candidate, rung.name) if first else None
        now = history.at_rung(history.incumbent, rung.name)
        if before and now and before.value is not None and now.value is not None:
            gain = level(now) if now is before else moved(before, now)
            lines.append(f"At {rung.name}, {one_line(program.objective.key)} {gain}.")
    return lines


def _total(total: Total, program: Program) -> str:
    """The audited gain: unlike the values that decided, it is not selected for being good."""
    low, high, before, after = (
        quantity(value, total.standard_error).partition(" ")[0].replace("-", "−")
        for value in (*total.interval, total.before, total.after)
    )
    runs = counted(total.runs_before, "run")
    return (
        f"Total {one_line(program.objective.key)} {signed(total.change, total.standard_error)}, "
        f"95 % interval {low} to {high}: {before} in {runs} of the first baseline, "
        f"{after} in {total.runs_after} of the closing audit."
    )


def _gain(history: History, program: Program) -> str:
    key = one_line(program.objective.key)
    first = history.first
    now = history.now
    if now is None or now.value is None:
        return f"{key}: the branch is not measured yet."
    if first is None or first.value is None or first is now:
        return f"{key} {level(now)}."
    return f"{key} {moved(first, now)}."


def moved(first: Attempt, now: Attempt) -> str:
    assert first.value is not None and now.value is not None
    errors = [attempt.standard_error for attempt in (first, now) if attempt.standard_error is not None]
    error = math.hypot(*errors) if len(errors) == 2 else None
    before, after = level(first), level(now)
    return f"{before} → {after} ({signed(now.value - first.value, error)})"
