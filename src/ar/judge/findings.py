"""What the judge tells people: what a verdict rests on, how large the noise is, what the campaign gained, and
whether changes that won alone add up where they are joined in a stack.

Values are in the metric's own direction and unit; intervals are 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from ar.errors import NotFound
from ar.history.attempts import find, of_commit
from ar.history.records import Attempt, Decision, Experiment, History, Outcome, Verdict
from ar.judge import devices
from ar.judge.arithmetic import half_width, mean, unscore
from ar.judge.contrast import Comparison, Side, best_paired, compare, contrast, own_residual
from ar.judge.evidence import Ledger, Run
from ar.judge.ledger import candidate, first_seed, ledger, measurements, on_device, where
from ar.judge.noise import Noise, Pool, noise_of
from ar.judge.rule import promote_bar
from ar.project.program import Metric, Program
from ar.project.values import number
from ar.record import Record
from ar.text import signed


@dataclass(frozen=True)
class Case(Record):
    """Everything a verdict rests on, for `ar judge`.

    Args:
        interval: of the effect, from the confirming runs.
        guards: metric to its mean for the incumbent and for the change.
        holdout: the same for the holdout. For people only: no agent may see it.
        wanted: what would change the verdict.
        devices: the classes that the campaign was measured on, its own first.
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
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoiseReport(Record):
    """What the campaign knows of its noise.

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
    """What the campaign changed, by runs that no decision selected.

    Args:
        change: of the mean, from the first baseline (before) to the closing audit (after).
    """

    change: float
    standard_error: float
    interval: tuple[float, ...]
    before: float
    after: float
    runs_before: int
    runs_after: int


@dataclass(frozen=True)
class Member(Record):
    """One winner in a stack.

    Args:
        effect: of the change alone, against its own baseline.
        share: what the stack gains by it, from the stack with and without it; None where that was not
            measured.
    """

    name: str
    title: str
    effect: float
    standard_error: float
    share: float | None = None
    share_error: float | None = None


@dataclass(frozen=True)
class Additivity(Record):
    """Whether a stack's members add up, from confirming runs: screening runs were selected for being good.

    Args:
        name: of the stack's attempt.
        sum: of the single effects.
        joint: effect of the stack against its baseline.
        interaction: joint effect minus sum, its error from the runs that they share.
        interval: of the interaction.
    """

    name: str
    members: tuple[Member, ...]
    sum: float
    sum_error: float
    joint: float
    joint_error: float
    interaction: float
    interaction_error: float
    interval: tuple[float, ...]


def case(program: Program, history: History, attempt: Attempt, verdict: Verdict) -> Case:
    """What a verdict on an attempt rests on.

    Raises:
        NotFound: it is the baseline, or none of its runs has ended.
    """
    if not attempt.own:
        raise NotFound(f"{attempt.name} is the baseline: there is nothing to judge", "see: ar show")
    if not any(run.status.ended for run in attempt.own):
        raise NotFound(f"{attempt.name} has no run that ended yet", "wait for it: ar run")
    device = verdict.device or where(program, history, attempt)
    here, incumbent = on_device(program, history, attempt, device), of_commit(history, attempt.baseline)
    own = here.own if here else ()
    other = on_device(program, history, incumbent, device) if incumbent else None
    base = _compared(history, other) if other else ()
    effect = None if verdict.effect is None else program.objective.orient(verdict.effect)
    interval: tuple[float, ...] = ()
    if effect is not None and verdict.standard_error is not None and verdict.df:
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
        base_seeds=tuple(dict.fromkeys(run.seed for run in base if run.seed is not None)),
        guards=_means(program.guards, base, own),
        holdout=_means((program.holdout,) if program.holdout else (), base, own),
        wanted=_wanted(program, verdict),
        devices=tuple(filter(None, history.devices)),
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
    for metric in map(str, metrics):
        values = [[number(run.metrics.get(metric)) for run in runs] for runs in (base, own)]
        sides = [[value for value in side if value is not None] for side in values]
        if all(sides):
            found[metric] = [fmean(side) for side in sides]
    return found


def noise_report(ledger: Ledger) -> NoiseReport:
    """What was learned of the noise so far."""
    noise, runs = noise_of(ledger), len(ledger.base)
    if not noise.df or not runs:
        return NoiseReport(runs)
    # With seeds, the incumbent is run with those that a change has.
    needed = 0 if ledger.first_seed is None else 1
    return NoiseReport(
        runs=runs,
        sigma=noise.sigma,
        paired_sigma=noise.residual_sigma if noise.pairing_helps else None,
        smallest={str(n): resolution(noise, n, max(runs, needed * n)) for n in (2, 4, 8)},
    )


def resolution(noise: Noise, n: int, m: int) -> float:
    """The smallest mean improvement that n runs against m of the incumbent can show; nan if unknown."""
    runs, base = ([Run(seed, 0.0) for seed in range(count)] for count in (n, m))
    found = compare(runs, base, noise)
    return unscore(promote_bar(n), found.df) * found.error if found.df else math.nan


def total(program: Program, history: History) -> Total | None:
    """The campaign's gain, from the first baseline to the closing audit of the head; None before that, or
    where no noise can be told. Of several classes of devices, the first that has both."""
    found = (_total(program, devices.on(program, history, it)) for it in devices.classes(program, history))
    return next(filter(None, found), None)


def _total(program: Program, history: History) -> Total | None:
    """The same of one class of devices."""
    first, now = history.first, history.now
    if first is None or now is None:
        return None
    sides = [run for run in first.base if not run.audit], [run for run in now.experiments if run.audit]
    before, after = ([run.value for run in measurements(program, side) if run.measured] for side in sides)
    noise, orient = Pool.of(before, after), program.objective.orient
    if not before or not after or not noise.df:
        return None
    change, error = orient(mean(after)) - orient(mean(before)), noise.error(len(before), len(after))
    half = half_width(error, noise.df)
    return Total(
        change=change,
        standard_error=error,
        interval=(change - half, change + half),
        before=orient(fmean(before)),
        after=orient(fmean(after)),
        runs_before=len(before),
        runs_after=len(after),
    )


def additivity(
    program: Program, history: History, stack: Attempt, members: Sequence[Attempt] | None = None
) -> Additivity | None:
    """How a measured stack compares with the sum of its members; None for what joins fewer than two, and
    where a side has no run.

    Args:
        members: at the scale of the history; None for those that the stack names, at the base.

    Raises:
        NotFound: a member is not in this repository.
    """
    parts = [find(history, name)[0] for name in stack.stack] if members is None else list(members)
    if len(parts) < 2:
        return None
    device = where(program, history, stack)
    found = [stack, *parts]
    seen = [item for one in found if (item := on_device(program, history, one, device))]
    if len(seen) < len(found):
        return None  # they were not measured on one class of devices
    stack, *attempts = seen
    noise = noise_of(ledger(program, history, device=device))

    joint = _against_baseline(program, history, stack, device)
    singles = [_against_baseline(program, history, attempt, device) for attempt in attempts]
    alone = [side for sides in singles for side in sides]
    everything = [*joint, *((-weight, runs) for weight, runs in alone)]
    if not all(runs for _, runs in everything):
        return None
    orient = program.objective.orient
    paired = best_paired(everything, noise)  # one form for all, so that the sum is that of the lines above it
    shown = []
    for attempt, sides in zip(attempts, singles, strict=True):
        single = contrast(sides, noise, paired)
        share = _share(program, devices.on(program, history, device), stack, attempt.name, noise)
        shown.append(
            Member(
                name=attempt.name,
                title=attempt.title,
                effect=orient(single.effect),
                standard_error=single.error,
                share=None if share is None else orient(share.effect),
                share_error=None if share is None else share.error,
            )
        )
    total, together, gap = (contrast(sides, noise, paired) for sides in (alone, joint, everything))
    interaction, half = orient(gap.effect), half_width(gap.error, gap.df) if gap.df else math.inf
    return Additivity(
        name=stack.name,
        members=tuple(shown),
        sum=orient(total.effect),
        sum_error=total.error,
        joint=orient(together.effect),
        joint_error=together.error,
        interaction=interaction,
        interaction_error=gap.error,
        interval=(interaction - half, interaction + half),
    )


def _against_baseline(program: Program, history: History, attempt: Attempt, device: str) -> list[Side]:
    runs = own_runs(program, attempt)
    # Without the screening run, which was selected for its luck, unless it is alone.
    return [(1.0, runs[1:] or runs), (-1.0, _incumbent_runs(program, history, attempt.baseline, device))]


def own_runs(program: Program, attempt: Attempt) -> list[Run]:
    """Runs that count, without those made of its tree as a baseline."""
    return [run for run in candidate(program, attempt).runs if run.measured]


def share(whole: Sequence[Run], rest: Sequence[Run], noise: Noise) -> Comparison:
    """What a stack gains by one member, below 0 where it does: the stack's runs against those of the rest."""
    return compare(whole, rest, noise, own_residual(whole, rest))


def _share(program: Program, history: History, stack: Attempt, name: str, noise: Noise) -> Comparison | None:
    """What a stack gains by one member; None where the stack without it was not measured."""
    if not stack.stack:
        return None
    rest = tuple(member for member in stack.stack if member != name)
    for item in history.attempts:
        if item.baseline == stack.baseline and rest in (item.stack, (item.name,)):
            whole, others = own_runs(program, stack), own_runs(program, item)
            return share(whole, others, noise) if whole and others else None
    return None


def _compared(history: History, incumbent: Attempt) -> tuple[Experiment, ...]:
    """Its runs that changes are compared with: where all have the same seeds, those that selected it, too."""
    return incumbent.base if first_seed(history) is None else incumbent.experiments


def _incumbent_runs(program: Program, history: History, baseline: str, device: str) -> Sequence[Run]:
    """The runs on a class of devices that measure a commit of the branch."""
    incumbent = of_commit(history, baseline)
    incumbent = incumbent and on_device(program, history, incumbent, device)
    if incumbent is None:
        return ()
    found = candidate(program, incumbent)
    return found.fair if first_seed(history) is None else found.measured
