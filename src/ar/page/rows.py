"""The history as the browser has it: an attempt a row, and the states of the branch that they belong to.

The table, the charts and the tree are all drawn from these rows, there, so that one filter holds for all of
them and no filter has to ask the server.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ar.history.attempts import effect, level, of_commit
from ar.history.records import Attempt, History
from ar.project.program import Program
from ar.record import Record
from ar.serve.words import Words, finite
from ar.text import one_line
from ar.views.charts.progress import places
from ar.views.marks import MARKS

_TOGETHER = 200  # attempts whose texts are looked at together
_TEXTS = 5  # of an attempt
_WHY = 160  # characters of a hypothesis, for the search


class Row(NamedTuple):
    """An attempt; a tuple, since a long campaign has thousands and all of them are sent.

    Args:
        sign, kind: its outcome's mark, and the words of its dot's legend.
        number: its place in the order of attempts; baselines lie in between.
        value, error: mean of the objective in the metric's own direction; null where it says nothing. And its
            standard error, to the two digits that are shown: the noise is known a little better after most
            runs, and every row would be another one.
        effect, effect_error: the verdict's, in the metric's own direction.
        gain: the same in words.
        state: place in the list of the branch's states that it was tried on; -1 of what others tell.
        why: the beginning of the hypothesis.
    """

    name: str
    title: str
    agent: str
    outcome: str
    sign: str
    kind: str
    number: float
    value: float | None
    error: float | None
    effect: float | None
    effect_error: float | None
    gain: str
    runs: int
    state: int
    builds_on: str
    reason: str
    why: str
    when: float


@dataclass(frozen=True)
class State(Record):
    """The branch as it was for a while.

    Args:
        name: the attempt that measures it; empty where none does.
        level: of the objective, with its error.
    """

    name: str
    title: str
    level: str


class _Placed(NamedTuple):
    """An attempt at its place among the others."""

    number: float
    attempt: Attempt
    state: int


class _Known(NamedTuple):
    """A row, and what it was made of.

    Args:
        told: texts of the attempt as they may be shown.
    """

    placed: _Placed
    told: tuple[str, ...]
    row: Row


class Rows:
    """Makes rows, each anew only where something of it has changed."""

    def __init__(self) -> None:
        self._program: Program | None = None
        self._known: dict[str, _Known] = {}

    def of(self, program: Program, history: History) -> tuple[tuple[Row, ...], tuple[State, ...]]:
        """All rows, oldest first, and the states in their order."""
        known = self._known if program == self._program else {}
        firsts = _firsts(history)
        placed = _placed(history, firsts)
        told = {}
        for it in placed:
            name, runs = it.attempt.name, it.attempt.experiments
            if name in known and known[name].placed.attempt.experiments == runs:  # all texts are of its runs
                told[name] = known[name].told
        told |= _told(program, [it.attempt for it in placed if it.attempt.name not in told])
        found = {}
        for it in placed:
            name = it.attempt.name
            before = known.get(name)
            if before is None or before.placed != it:
                row = _row(program, it, told[name])
                before = _Known(it, told[name], before.row if before and before.row == row else row)
            found[name] = before
        self._program, self._known = program, found
        states = tuple(_state(program, history, commit) for commit in firsts.values())
        return tuple(one.row for one in found.values()), states


def _told(program: Program, attempts: Sequence[Attempt]) -> dict[str, tuple[str, ...]]:
    """The texts of attempts as they may be shown, by their names.

    Looking for secrets takes its time each time, and so many are looked at together, but where a holdout's
    values differ from one attempt to the next.
    """
    size = 1 if program.holdout else _TOGETHER
    found = {}
    for start in range(0, len(attempts), size):
        part = attempts[start : start + size]
        texts = [text for attempt in part for text in _texts(attempt)]
        told = iter(Words(program, part if program.holdout else ()).lines(texts))
        found.update({attempt.name: tuple(itertools.islice(told, _TEXTS)) for attempt in part})
    return found


def _texts(attempt: Attempt) -> tuple[str, str, str, str, str]:
    """Title, agent, what it builds on, the reason for its end or its verdict, its hypothesis."""
    first, verdict = attempt.first, attempt.verdict
    notes = (run.reason for run in attempt.own)
    reason = next(filter(None, (*notes, verdict.reason if verdict else "")), "")
    return attempt.title, attempt.agent, first.parent, reason, first.hypothesis


def _row(program: Program, placed: _Placed, told: Iterable[str]) -> Row:
    """An attempt's row; `told` are its texts as they may be shown."""
    number, attempt, state = placed
    title, agent, parent, reason, why = told
    verdict, mark = attempt.verdict, MARKS[attempt.outcome]
    counts = attempt.value is not None and mark.dot.counts
    moved = verdict.effect if verdict else None
    error = finite(attempt.standard_error)
    return Row(
        name=attempt.name,
        title=title,
        agent=agent,
        outcome=str(attempt.outcome),
        sign=mark.sign,
        kind=mark.dot.words,
        number=number,
        value=finite(attempt.value) if counts else None,
        error=None if error is None else float(f"{error:.2g}"),
        effect=None if moved is None else finite(program.objective.orient(moved)),
        effect_error=finite(verdict.standard_error) if verdict else None,
        gain=effect(attempt, program),
        runs=sum(run.status.ended for run in attempt.own or attempt.experiments),
        state=state,
        builds_on=parent,
        reason=reason,
        why=why[:_WHY],
        when=attempt.created,
    )


def _placed(history: History, firsts: Mapping[str, str]) -> list[_Placed]:
    """Every attempt that is shown, at its number and on its state, one of `firsts`."""
    numbered = _numbered(history)
    order = {identity: place for place, identity in enumerate(firsts)}
    commits = {attempt.baseline for _, attempt in numbered}
    states = {commit: order.get(_identity(history, commit), -1) for commit in commits}
    return [_Placed(number, attempt, states[attempt.baseline]) for number, attempt in numbered]


def _numbered(history: History) -> list[tuple[float, Attempt]]:
    """Every attempt that is shown at its number; what others tell of, between those of its time."""
    own = list(places(history))
    if not history.pulled and not history.imported:
        return own
    known, times = {attempt.name for _, attempt in own}, [attempt.created for _, attempt in own]
    others = []
    for attempt in history.shown:
        if attempt.name not in known:
            before = bisect.bisect_right(times, attempt.created)
            others.append((math.floor(own[before - 1][0]) + 0.5 if before else 0.5, attempt))
    return own + others


def _identity(history: History, commit: str) -> str:
    return history.identities.get(commit, commit)


def _firsts(history: History) -> dict[str, str]:
    """Identity of each state of the branch on which anything was tried, in order, to its first commit."""
    found: dict[str, str] = {}
    for commit in dict.fromkeys(attempt.baseline for attempt in history.attempts):
        found.setdefault(_identity(history, commit), commit)
    return found


def _state(program: Program, history: History, commit: str) -> State:
    attempt = of_commit(history, commit)
    if attempt is None:
        return State("", commit[:9], "")
    return State(attempt.name, Words(program, [attempt])(one_line(attempt.title)), level(attempt))
