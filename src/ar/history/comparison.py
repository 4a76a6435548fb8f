"""Two attempts side by side: a metric over the seeds that both have, and parameters in which they differ.

It decides nothing: what is promoted, the judge says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev

from ar.history.records import Attempt, Status
from ar.project.program import Program
from ar.project.values import Scalar, number
from ar.record import Record

_MOST_PARAMS, _MOST_SEEDS = 200, 30


@dataclass(frozen=True)
class Seeded(Record):
    """A metric of one seed's run of each side; null where a side has none.

    Args:
        seed: the run's name where runs have no seed.
    """

    seed: int | str
    a: float | None
    b: float | None


@dataclass(frozen=True)
class Measured(Record):
    """A metric of two attempts.

    Args:
        a, b: means over their runs, in the metric's own direction and unit; null where not measured.
        difference: b minus a; over the seeds that both have, where there are any.
        seeds: how many those are.
        standard_error: of the difference, from those seeds alone; null below two.
        runs: seed by seed; of many the first.
    """

    metric: str
    a: float | None
    b: float | None
    difference: float | None
    seeds: int
    standard_error: float | None
    runs: tuple[Seeded, ...]


@dataclass(frozen=True)
class Setting(Record):
    """A parameter in which two attempts differ; null where one has none."""

    key: str
    a: Scalar
    b: Scalar


def measured(metric: str, a: Attempt, b: Attempt) -> Measured:
    """A metric, by the name that runs record it under, of two attempts."""
    ours, theirs = _by_seed(metric, a), _by_seed(metric, b)
    means = [fmean(values.values()) if values else None for values in (ours, theirs)]
    shared = [theirs[seed] - ours[seed] for seed in theirs if seed in ours]
    difference = None
    if shared:
        difference = fmean(shared)
    elif means[0] is not None and means[1] is not None:
        difference = means[1] - means[0]
    error = stdev(shared) / math.sqrt(len(shared)) if len(shared) > 1 else None
    seeds = list(dict.fromkeys((*ours, *theirs)))[:_MOST_SEEDS]
    runs = tuple(Seeded(seed, ours.get(seed), theirs.get(seed)) for seed in seeds)
    return Measured(metric, means[0], means[1], difference, len(shared), error, runs)


def settings(program: Program, a: Attempt, b: Attempt) -> tuple[Setting, ...]:
    """Parameters in which two attempts differ, but the seed; of many the first."""
    ours, theirs, seed = a.first.params, b.first.params, str(program.seed.flat) if program.seed else ""
    differ = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key) and key != seed]
    return tuple(Setting(key, ours.get(key), theirs.get(key)) for key in differ[:_MOST_PARAMS])


def _by_seed(metric: str, attempt: Attempt) -> dict[int | str, float]:
    """The first value of each seed; runs without one stand for themselves."""
    found: dict[int | str, float] = {}
    for run in attempt.experiments:
        value = number(run.metrics.get(metric)) if run.status is Status.SUCCEEDED else None
        if value is not None and math.isfinite(value):
            found.setdefault(run.name if run.seed is None else run.seed, value)
    return found
