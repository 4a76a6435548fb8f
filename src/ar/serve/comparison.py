"""Two attempts side by side, as programs are told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev

from ar.history.records import Attempt, Status
from ar.project.program import Metric, Program
from ar.project.values import Scalar, number
from ar.record import Record
from ar.serve.overview import Row, rows
from ar.serve.words import Words, finite, patch, shown

_MOST_PARAMS = 200


@dataclass(frozen=True)
class Measured(Record):
    """A metric of two attempts.

    Args:
        a, b: means over their runs, in the metric's own direction and unit; null where not measured.
        difference: b minus a; over the seeds that both have, where there are any.
        seeds: how many those are.
        standard_error: of the difference, from those seeds alone; null below two.
    """

    metric: str
    a: float | None
    b: float | None
    difference: float | None
    seeds: int
    standard_error: float | None


@dataclass(frozen=True)
class Setting(Record):
    """A parameter in which two attempts differ; null where one has none."""

    key: str
    a: Scalar
    b: Scalar


@dataclass(frozen=True)
class Comparison(Record):
    """Two attempts side by side. It decides nothing: what is promoted, the judge says.

    Args:
        diff: from a to b as a patch, without outputs; shortened in the middle.
    """

    a: Row
    b: Row
    metrics: tuple[Measured, ...]
    params: tuple[Setting, ...]
    diff: str


def comparison(program: Program, a: Attempt, b: Attempt, diff: str) -> Comparison:
    ours, theirs = a.first.params, b.first.params
    words, seed = Words(program, [a, b]), str(program.seed.flat) if program.seed else ""
    differ = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key) and key != seed]
    return Comparison(
        a=rows(program, [a])[0],
        b=rows(program, [b])[0],
        metrics=tuple(_measured(metric, a, b) for metric in shown(program)),
        params=tuple(
            Setting(words(key), _setting(words, ours.get(key)), _setting(words, theirs.get(key)))
            for key in differ[:_MOST_PARAMS]
        ),
        diff=patch(diff),
    )


def _setting(words: Words, value: Scalar) -> Scalar:
    if isinstance(value, str):
        return words(value)
    return finite(value) if isinstance(value, float) else value


def _measured(metric: Metric, a: Attempt, b: Attempt) -> Measured:
    ours, theirs = _by_seed(metric, a), _by_seed(metric, b)
    means = [fmean(values.values()) if values else None for values in (ours, theirs)]
    shared = [theirs[seed] - ours[seed] for seed in theirs if seed in ours and seed is not None]
    difference = None
    if shared:
        difference = fmean(shared)
    elif means[0] is not None and means[1] is not None:
        difference = means[1] - means[0]
    error = stdev(shared) / math.sqrt(len(shared)) if len(shared) > 1 else None
    return Measured(str(metric), means[0], means[1], difference, len(shared), error)


def _by_seed(metric: Metric, attempt: Attempt) -> dict[int | str | None, float]:
    """The first value of each seed; runs without one stand for themselves."""
    found: dict[int | str | None, float] = {}
    for run in attempt.experiments:
        value = number(run.metrics.get(str(metric))) if run.status is Status.SUCCEEDED else None
        if value is not None and math.isfinite(value):
            found.setdefault(run.name if run.seed is None else run.seed, value)
    return found
