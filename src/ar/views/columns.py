"""Columns that somebody chose: what each says of an attempt, to sort by and to give to programs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from ar.errors import NotFound, nearest
from ar.history.records import Attempt, Experiment, Status
from ar.project.program import Program
from ar.project.values import Scalar, number
from ar.views.facts import short_key


class Column(StrEnum):
    """What can be told of any attempt."""

    NAME = "name"
    TITLE = "title"
    AGENT = "agent"
    OUTCOME = "outcome"
    EFFECT = "effect"
    STANDARD_ERROR = "standard_error"
    VALUE = "value"
    RUNS = "runs"
    GUARDS = "guards"
    LABEL = "label"
    REASON = "reason"
    HYPOTHESIS = "hypothesis"
    EXPECTED = "expected"
    BUILDS_ON = "builds_on"
    BASELINE = "baseline"
    CREATED = "created"


# What the usual table has under names of its own, and what that is of an attempt.
TABLE = {"seeds": Column.RUNS, "objective": Column.VALUE, "verdict": Column.OUTCOME, "age": Column.CREATED}


def cell(program: Program, attempt: Attempt, column: Column) -> Scalar:
    """What a column says of an attempt. An effect is that of the verdict, in the objective's own direction
    and unit; so is its standard error."""
    verdict, first = attempt.verdict, attempt.first
    cells: dict[Column, Callable[[], Scalar]] = {
        Column.NAME: lambda: attempt.name,
        Column.TITLE: lambda: attempt.title,
        Column.AGENT: lambda: attempt.agent,
        Column.OUTCOME: lambda: str(attempt.outcome),
        Column.EFFECT: lambda: (
            None if verdict is None or verdict.effect is None else program.objective.orient(verdict.effect)
        ),
        Column.STANDARD_ERROR: lambda: verdict.standard_error if verdict else None,
        Column.VALUE: lambda: attempt.value,
        Column.RUNS: lambda: sum(run.status.ended for run in attempt.own),
        Column.GUARDS: lambda: ", ".join(f"{key} {value:.5g}" for key, value in attempt.guards.items()),
        Column.LABEL: lambda: str(verdict.label) if verdict else "",
        Column.REASON: lambda: _reason(attempt),
        Column.HYPOTHESIS: lambda: first.hypothesis,
        Column.EXPECTED: lambda: first.expected,
        Column.BUILDS_ON: lambda: first.parent,
        Column.BASELINE: lambda: attempt.baseline,
        Column.CREATED: lambda: attempt.created,
    }
    return cells[column]()


def _reason(attempt: Attempt) -> str:
    """How a run failed, or else why the verdict is what it is."""
    notes = [run.note for run in attempt.own if run.note]
    return next(filter(None, (item.reason for item in (*notes, attempt.verdict) if item)), "")


@dataclass(frozen=True)
class Chosen:
    """A column by the name that somebody gave it.

    Args:
        key: the table's own name of it, or the metric's or parameter's.
        of: what it says of an attempt; None where nothing.
        of_run: what it says of one run.
    """

    name: str
    key: str
    of: Callable[[Attempt], Scalar]
    of_run: Callable[[Experiment], Scalar] = lambda _: None


def choose(names: Iterable[str], program: Program, attempts: Sequence[Attempt]) -> tuple[Chosen, ...]:
    """The columns of those names: the table's, those of `Column`, and metrics and parameters with or without
    their file.

    Raises:
        NotFound: there is no such column, or several.
    """
    return tuple(_chosen(name, program, attempts) for name in names)


def _chosen(name: str, program: Program, attempts: Sequence[Attempt]) -> Chosen:
    if name in TABLE or name in list(Column):
        column = TABLE.get(name) or Column(name)
        return Chosen(name, name, lambda attempt: cell(program, attempt, column))
    metrics = dict.fromkeys(str(metric) for metric in (program.objective, *program.guards))
    params: dict[str, None] = {}
    for run in (run for attempt in attempts for run in attempt.experiments):
        metrics.update(dict.fromkeys(run.metrics))
        params.update(dict.fromkeys(run.params))
    found = [key for key in (*metrics, *params) if name in (key, short_key(key))]
    if not found:
        known = {*TABLE, *Column, *map(short_key, metrics), *map(short_key, params)}
        raise NotFound(f"there is no column '{name}'", nearest(name, known))
    if len(found) > 1:
        raise NotFound(f"'{name}' could be any of {', '.join(found)}", "give the whole name")
    (key,) = found
    if key in params:
        return Chosen(name, key, lambda item: item.first.params.get(key), lambda run: run.params.get(key))
    return Chosen(name, key, lambda item: _mean(program, item, key), lambda run: run.metrics.get(key))


def _mean(program: Program, attempt: Attempt, metric: str) -> Scalar:
    """A metric's mean over the runs that ended well; what is no number, of the first of them."""
    if metric == str(program.objective):
        return attempt.value
    if metric in attempt.guards:
        return attempt.guards[metric]
    told = [run.metrics[metric] for run in attempt.experiments if _tells(run, metric)]
    numbers = [value for item in told if (value := number(item)) is not None]
    return fmean(numbers) if numbers and len(numbers) == len(told) else next(iter(told), None)


def _tells(run: Experiment, metric: str) -> bool:
    return run.status is Status.SUCCEEDED and metric in run.metrics


def in_order(attempts: Iterable[Attempt], column: Chosen, largest: bool) -> list[Attempt]:
    """Attempts by what a column says of them: numbers, then text, and last those of which it says nothing."""
    told = [(attempt, column.of(attempt)) for attempt in attempts]
    empty = [attempt for attempt, value in told if _is_empty(value)]
    known = [(attempt, value) for attempt, value in told if not _is_empty(value)]
    known.sort(
        key=lambda pair: (
            (1, 0.0, pair[1].lower()) if isinstance(pair[1], str) else (0, float(pair[1] or 0.0), "")
        ),
        reverse=largest,
    )
    return [*(attempt for attempt, _ in known), *empty]


def _is_empty(value: Scalar) -> bool:
    return value in (None, "") or (isinstance(value, float) and math.isnan(value))
