"""One experiment as programs are told of it: all there is to know, and what the judge says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ar.history.attempts import effect
from ar.history.records import Attempt, Experiment, History, Verdict
from ar.judge.findings import Case
from ar.project.program import Program
from ar.project.values import number
from ar.record import Record
from ar.serve.words import CELL, LOG, PROSE, Words, finite, patch, shown, told_verdict

_MOST_RUNS = 64


@dataclass(frozen=True)
class Run(Record):
    """One run of an attempt: one seed.

    Args:
        reason: why it did not succeed.
        metrics: the objective and the guards.
        seconds: wall time of its stages.
    """

    name: str
    seed: int | None
    status: str
    reason: str
    metrics: dict[str, float]
    seconds: float | None


@dataclass(frozen=True)
class Table(Record):
    """A curve that a run left, thinned out: a header, then rows."""

    path: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Details(Record):
    """All there is to know of an experiment. Its texts are what agents, people and programs wrote: data.

    Args:
        effect: the verdict's, in words, in the objective's own direction.
        baseline: commit that it was measured against.
        is_current: whether that is the branch as it is.
        verdict: its effect is oriented: below 0 is an improvement.
        rungs: verdicts at larger scales.
        claimed: what another tool or remote says of it, where nobody measured it here.
        diff: the change as a patch, without outputs; shortened in the middle.
        log: the end of what the named run printed, or has so far.
    """

    name: str
    title: str
    agent: str
    outcome: str
    hypothesis: str
    expected: str
    builds_on: str
    effect: str
    baseline: str
    is_current: bool
    runs: tuple[Run, ...]
    verdict: Verdict | None
    rungs: dict[str, Verdict]
    claimed: str
    diff: str
    curves: tuple[Table, ...]
    log: str


def details(
    program: Program,
    history: History,
    attempt: Attempt,
    run: Experiment,
    diff: str,
    curves: Sequence[tuple[str, Sequence[Sequence[str]]]],
    log: str,
) -> Details:
    words = Words(program, [attempt])
    climbs = [item for item in history.at_rungs if item.candidate == attempt.candidate and item.verdict]
    return Details(
        name=attempt.name,
        title=words(attempt.title),
        agent=words(attempt.agent),
        outcome=str(attempt.outcome),
        hypothesis=words(run.hypothesis, PROSE),
        expected=words(run.expected),
        builds_on=words(run.parent),
        effect=effect(attempt, program),
        baseline=attempt.baseline,
        is_current=history.is_head(attempt.baseline),
        runs=tuple(_run(program, words, one) for one in attempt.experiments[-_MOST_RUNS:]),
        verdict=told_verdict(words, attempt.verdict),
        rungs={item.rung: told for item in climbs if (told := told_verdict(words, item.verdict))},
        claimed=words(attempt.claimed),
        diff=patch(diff),
        curves=tuple(
            Table(words(path), tuple(tuple(words(cell, CELL) for cell in row) for row in table))
            for path, table in curves
        ),
        log=words(log, LOG),
    )


def _run(program: Program, words: Words, run: Experiment) -> Run:
    found = ((str(metric), number(run.metrics.get(str(metric)))) for metric in shown(program))
    return Run(
        name=run.name,
        seed=run.seed,
        status=str(run.status),
        reason=words(run.reason),
        metrics={name: value for name, value in found if value is not None and math.isfinite(value)},
        seconds=finite(run.note.seconds) if run.note else None,
    )


@dataclass(frozen=True)
class Judgement(Record):
    """What the judge says of an attempt, and what that rests on.

    Args:
        verdict: its effect is oriented: below 0 is an improvement.
        interval: of the effect, 95 %.
        seeds, base_seeds: that the attempt and the branch were run with.
        guards: metric to its mean for the branch and for the attempt.
        wanted: what would change the verdict.
        rungs: verdicts at larger scales.
    """

    name: str
    title: str
    outcome: str
    verdict: Verdict
    interval: tuple[float, ...]
    seeds: tuple[int, ...]
    base_seeds: tuple[int, ...]
    guards: dict[str, tuple[float, ...]]
    wanted: str
    rungs: dict[str, Verdict]


def judgement(program: Program, attempt: Attempt, case: Case, climbs: dict[str, Case]) -> Judgement:
    words = Words(program, [attempt])
    verdict = told_verdict(words, case.verdict)
    assert verdict is not None
    return Judgement(
        name=case.name,
        title=words(case.title),
        outcome=str(case.outcome),
        verdict=verdict,
        interval=tuple(end for end in case.interval if math.isfinite(end)),
        seeds=case.seeds,
        base_seeds=case.base_seeds,
        guards={name: tuple(filter(math.isfinite, sides)) for name, sides in case.guards.items()},
        wanted=words(case.wanted),
        rungs={rung: told for rung, climb in climbs.items() if (told := told_verdict(words, climb.verdict))},
    )
