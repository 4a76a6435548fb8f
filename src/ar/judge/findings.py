"""What the judge tells people: what a verdict rests on, how large the noise is, what the campaign gained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from ar.errors import NotFound
from ar.history.records import Attempt, Decision, Experiment, History, Outcome, Verdict
from ar.judge.arithmetic import half_width, mean, unscore
from ar.judge.contrast import compare
from ar.judge.evidence import Ledger, Run
from ar.judge.ledger import measurements
from ar.judge.noise import Noise, Pool, noise_of
from ar.judge.rule import promote_bar
from ar.project.program import Metric, Program
from ar.project.values import number
from ar.record import Record
from ar.text import signed


@dataclass(frozen=True)
class Case(Record):
    """Everything a verdict rests on, for `ar judge`. Values in the metric's own direction and unit.

    Args:
        interval: of the effect, 95 %, from the confirming runs.
        seeds, base_seeds: of the runs on either side.
        guards: metric to its mean for the incumbent and for the change.
        holdout: the same for the holdout. For people only: no agent may see it.
        wanted: what would change the verdict.
    """

    name: str
    title: str
    outcome: Outcome
    verdict: Verdict
    effect: float | None = None
    interval: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    base_seeds: tuple[int, ...] = ()
    guards: dict[str, list[float]] = field(default_factory=dict)
    holdout: dict[str, list[float]] = field(default_factory=dict)
    wanted: str = ""


@dataclass(frozen=True)
class NoiseReport(Record):
    """What the campaign knows of its noise, in the objective's unit.

    Args:
        runs: of the incumbent that measure it.
        sigma: standard deviation of one run of equal code; None before anything was repeated.
        paired_sigma: what is left of it after the seed's effect; None while pairing is not known to help.
        smallest: number of runs of a change to the smallest mean improvement that they can show.
    """

    runs: int
    sigma: float | None = None
    paired_sigma: float | None = None
    smallest: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Total(Record):
    """What the campaign changed, by runs that no decision selected, in the metric's own direction and unit.

    Args:
        change, standard_error: mean of the closing audit minus mean of the first baseline.
        interval: of the change, 95 %.
        before, after: the two means, of so many runs.
    """

    change: float
    standard_error: float
    interval: tuple[float, ...]
    before: float
    after: float
    runs_before: int
    runs_after: int


def case(program: Program, history: History, attempt: Attempt, verdict: Verdict) -> Case:
    """What a verdict on an attempt rests on.

    Raises:
        NotFound: it is the baseline, or none of its runs has ended.
    """
    own = attempt.own
    if not own:
        raise NotFound(f"{attempt.name} is the baseline: there is nothing to judge", "see: ar show")
    if not any(run.status.ended for run in own):
        raise NotFound(f"{attempt.name} has no run that ended yet", "wait for it: ar run")
    base = [run for item in history.attempts for run in item.base if run.baseline == attempt.baseline]
    effect: float | None = None
    interval: tuple[float, ...] = ()
    if verdict.effect is not None:
        effect = program.objective.orient(verdict.effect)
        if verdict.standard_error is not None and verdict.df:
            half = half_width(verdict.standard_error, verdict.df)
            interval = (effect - half, effect + half)
    return Case(
        name=attempt.name,
        title=attempt.title,
        outcome=attempt.outcome,
        verdict=verdict,
        effect=effect,
        interval=interval,
        seeds=tuple(run.seed for run in own if run.seed is not None),
        base_seeds=tuple(run.seed for run in base if run.seed is not None),
        guards=_means(program.guards, base, own),
        holdout=_means((program.holdout,) if program.holdout else (), base, own),
        wanted=_wanted(program, verdict),
    )


def _wanted(program: Program, verdict: Verdict) -> str:
    if verdict.decision is Decision.PROMOTE or verdict.needed is None:
        return ""
    if verdict.z is not None and verdict.bar is not None and verdict.z >= verdict.bar:
        return ""  # it was refused for something else than its size
    needed = signed(program.objective.orient(verdict.needed))
    return f"a mean effect of {needed} over its {verdict.runs} run{'s' if verdict.runs > 1 else ''}"


def _means(
    metrics: Sequence[Metric], base: Sequence[Experiment], own: Sequence[Experiment]
) -> dict[str, list[float]]:
    """Metric to its mean on either side, where both have it."""
    found = {}
    for metric in metrics:
        sides = [
            [value for run in runs if (value := number(run.metrics.get(str(metric)))) is not None]
            for runs in (base, own)
        ]
        if all(sides):
            found[str(metric)] = [fmean(side) for side in sides]
    return found


def noise_report(ledger: Ledger) -> NoiseReport:
    """What was learned of the noise so far."""
    noise, runs = noise_of(ledger), len(ledger.incumbent.fair)
    if not noise.plain.df or not runs:
        return NoiseReport(runs)
    return NoiseReport(
        runs=runs,
        sigma=noise.sigma,
        paired_sigma=noise.typical or (noise.residual_sigma if noise.correlation > 0 else None),
        smallest={str(n): resolution(noise, n, runs) for n in (2, 4, 8)},
    )


def resolution(noise: Noise, n: int, m: int) -> float:
    """The smallest mean improvement that n runs against m of the incumbent can show; nan if unknown."""
    runs, base = ([Run(seed, 0.0) for seed in range(count)] for count in (n, m))
    found = compare(runs, base, noise)
    return unscore(promote_bar(n), found.df) * found.error if found.df else math.nan


def total(program: Program, history: History) -> Total | None:
    """The campaign's gain, from the first baseline to the closing audit of the head; None before that."""
    first, now = history.first, history.now
    if first is None or now is None:
        return None
    before = measurements(program, [run for run in first.base if not run.audit])
    after = measurements(program, [run for run in now.experiments if run.audit])
    old, new = ([run for run in side if run.measured] for side in (before, after))
    gain, error = total_gain(old, new)
    if not math.isfinite(error):
        return None
    orient = program.objective.orient
    change, half = orient(-gain), half_width(error, len(old) + len(new) - 2)
    return Total(
        change=change,
        standard_error=error,
        interval=(change - half, change + half),
        before=orient(fmean(run.value for run in old)),
        after=orient(fmean(run.value for run in new)),
        runs_before=len(old),
        runs_after=len(new),
    )


def total_gain(first: Sequence[Run], audit: Sequence[Run]) -> tuple[float, float]:
    """What the campaign gained and its standard error: mean of the first baseline minus mean of the audit.

    Both sides are runs that no decision selected. nan where a side has no value, or no noise can be told.
    """
    before, after = ([run.value for run in runs if run.measured] for runs in (first, audit))
    if not before or not after:
        return math.nan, math.nan
    pool = Pool()
    pool.add(before)
    pool.add(after)
    return mean(before) - mean(after), pool.error(len(before), len(after))
