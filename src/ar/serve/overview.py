"""How a campaign stands, and its history row by row, as programs are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ar.history.records import Attempt, History, Outcome
from ar.judge.findings import Total
from ar.project.program import Program
from ar.project.values import Scalar
from ar.record import Record
from ar.serve.words import LINE, PROSE, Words, finite
from ar.views import columns
from ar.views.columns import Column

MOST_ROWS = 100
_MOST_SHOWN = 40
_WAITING = (Outcome.QUEUED, Outcome.RUNNING, Outcome.OPEN)


def is_settled(attempt: Attempt) -> bool:
    """Whether it ended or was decided: nothing more is to come of it."""
    return attempt.outcome not in _WAITING and not (attempt.is_baseline and attempt.is_under_way)


@dataclass(frozen=True)
class Level(Record):
    """The objective of the branch at some time.

    Args:
        name: of its first experiment.
        value: mean over its runs, in the metric's own direction and unit.
        standard_error: of `value`; null before the noise is known.
        runs: how many ended.
    """

    name: str
    value: float
    standard_error: float | None
    runs: int


_PROSE = (*(Column.TITLE, Column.AGENT, Column.REASON, Column.HYPOTHESIS, Column.EXPECTED, Column.BUILDS_ON),)
USUAL = (
    *(Column.NAME, Column.TITLE, Column.AGENT, Column.OUTCOME, Column.EFFECT, Column.STANDARD_ERROR),
    *(Column.RUNS, Column.REASON),
)
Row = dict[str, Scalar]


@dataclass(frozen=True)
class Overview(Record):
    """How a campaign stands.

    Args:
        direction: minimize or maximize.
        head: commit of the branch; proposals change its tree.
        now, first: the branch as it is and as the campaign began; null while not measured.
        total: the gain by runs that no decision selected; null before the closing audit.
        sigma: standard deviation of one run of equal code between seeds; null while not known.
        outcomes: how many attempts came to what.
        runs, budget: runs that ended, and how many may.
        hours: in which at least one run was under way.
        spent: what agents have spent, in words; empty where nothing.
        under_way: attempts that wait, run or want more runs; of many the newest.
        winners: attempts that were judged good and wait to be merged.
        at_work: whether anything on this machine runs experiments at the moment.
        advice: what to do next, where that is plain.
    """

    objective: str
    direction: str
    guards: tuple[str, ...]
    head: str
    now: Level | None
    first: Level | None
    total: Total | None
    sigma: float | None
    outcomes: dict[str, int]
    runs: int
    budget: int
    hours: float
    spent: str
    under_way: tuple[Row, ...]
    winners: tuple[Row, ...]
    at_work: bool
    advice: str


def level(attempt: Attempt | None) -> Level | None:
    if attempt is None or attempt.value is None:
        return None
    ended = sum(run.status.ended for run in attempt.experiments)
    return Level(attempt.name, attempt.value, attempt.standard_error, ended)


def outcomes(history: History) -> dict[str, int]:
    return dict(Counter(str(attempt.outcome) for attempt in history.tried))


def rows(program: Program, attempts: Sequence[Attempt], fields: Sequence[Column] = USUAL) -> tuple[Row, ...]:
    """Each attempt in a row. An effect is that of the verdict, in the objective's own direction and unit."""
    return tuple({str(column): _cell(program, attempt, column) for column in fields} for attempt in attempts)


def under_way(program: Program, history: History) -> tuple[Row, ...]:
    waiting = [item for item in history.attempts if item.outcome in _WAITING and not item.is_foreign]
    return rows(program, waiting[-_MOST_SHOWN:][::-1])


def winners(program: Program, history: History) -> tuple[Row, ...]:
    return rows(program, history.winners[-_MOST_SHOWN:][::-1])


@dataclass(frozen=True)
class Page(Record):
    """A part of the history.

    Args:
        rows: an attempt each.
        total: how many attempts fit the filter.
        skipped: how many of those came before the rows.
        next_skip: what to give as `skip` for the next page; null where this is the last.
    """

    rows: tuple[Row, ...]
    total: int
    skipped: int
    next_skip: int | None


def _cell(program: Program, attempt: Attempt, column: Column) -> Scalar:
    value = columns.cell(program, attempt, column)
    if column in _PROSE:
        limit = PROSE // 4 if column is Column.HYPOTHESIS else LINE
        return Words(program, [attempt])(str(value), limit)
    return finite(value) if isinstance(value, float) else value
