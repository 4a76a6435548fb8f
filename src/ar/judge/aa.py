"""The A/A check: what the judge makes of the branch as it is when it is taken for a change, and whether its
numbers move with what ought not to matter, such as the time and the machine.

Values are in the metric's own direction and unit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import NormalDist

from ar.history.records import Attempt, Decision, Experiment, History, Status
from ar.judge import devices
from ar.judge.arithmetic import mean
from ar.judge.contrast import Comparison, narrower
from ar.judge.evidence import MOST_RUNS, Candidate, Run
from ar.judge.ledger import ledger, measurements, on_device
from ar.judge.noise import Noise, Pool, noise_of
from ar.judge.rule import judge
from ar.project.program import Metric, Program
from ar.project.values import number
from ar.record import Record

LEVEL = 0.01  # at which a check without any flaw finds a shift, over all that it looks at
LEAST_DF = 2  # of a shift's error: with fewer, nothing is said


class FlawKind(StrEnum):
    """What is wrong with a branch whose runs should be alike."""

    FAILS = "fails"  # some of its runs do not end well
    PROMOTES = "promotes"  # the rule takes it for better than itself
    DRIFTS = "drifts"  # a metric moves with the order of the runs
    MACHINE = "machine"  # a metric is another on one machine than on the others


@dataclass(frozen=True)
class Flaw(Record):
    """One thing that is wrong.

    Args:
        metric: whose; empty where it is no metric's.
        host: the machine that differs.
    """

    kind: FlawKind
    metric: str = ""
    host: str = ""


@dataclass(frozen=True)
class Shift(Record):
    """How far a metric moves with something that ought not to matter, seeds' effects taken off where that
    tells it more precisely.

    Args:
        size: from the first run to the last; of a machine, against all others.
        z: as of the judge's scores, but above 0 where the value grows.
    """

    size: float
    standard_error: float
    z: float
    df: int


@dataclass(frozen=True)
class Spread(Record):
    """How one metric varies over runs of the branch as it is.

    Args:
        sigma: standard deviation of one run, each of another seed where there are seeds; None for one run.
        same_seed: standard deviation of runs of one seed about their mean; None where no seed was repeated.
        repeats: degrees of freedom of `same_seed`.
        drift: over the order in which the runs ended; None where they are too few to tell.
        machines: host to how far it lies from the others; empty where all ran on one.
    """

    metric: str
    mean: float
    sigma: float | None = None
    same_seed: float | None = None
    repeats: int = 0
    drift: Shift | None = None
    machines: dict[str, Shift] = field(default_factory=dict)

    @property
    def is_deterministic(self) -> bool:
        """Whether a seed gave the same number each time, bit for bit."""
        return self.same_seed == 0.0

    @property
    def shifts(self) -> list[Shift]:
        return [*([self.drift] if self.drift else []), *self.machines.values()]


@dataclass(frozen=True)
class AACheck(Record):
    """What the runs of one unchanged tree say.

    Args:
        name: of the attempt whose tree it is.
        runs: that were made for the check and ended.
        measured: runs of the branch as it is that gave values, those of the check among them.
        failed: of `runs`, those that gave none.
        seeds: how many different ones; 0 without.
        compared: how many pretended changes the rule was asked about.
        promoted: how many of them it would have promoted.
        highest: their highest score; None where there were none.
        bar: the score, either way, beyond which a shift counts.
        finished: unix time of the last run's end; None where nobody knows.
        metrics: the objective's, then the guards'.
    """

    name: str
    runs: int
    measured: int
    failed: int = 0
    seeds: int = 0
    compared: int = 0
    promoted: int = 0
    highest: float | None = None
    bar: float = 0.0
    finished: float | None = None
    metrics: tuple[Spread, ...] = ()

    @property
    def flaws(self) -> list[Flaw]:
        """All that is wrong, what matters most first; empty if nothing is."""
        found = [Flaw(FlawKind.FAILS)] if self.failed else []
        found += [Flaw(FlawKind.PROMOTES)] if self.promoted else []
        for spread in self.metrics:
            if spread.drift and abs(spread.drift.z) >= self.bar:
                found.append(Flaw(FlawKind.DRIFTS, spread.metric))
            hosts = (host for host, shift in spread.machines.items() if abs(shift.z) >= self.bar)
            found += [Flaw(FlawKind.MACHINE, spread.metric, host) for host in hosts]
        return found


def last(program: Program, history: History) -> AACheck | None:
    """What the latest check came to; None where none was made."""
    checked = {
        max(made): attempt
        for attempt in history.attempts
        if (made := [run.created for run in attempt.base if run.aa and run.status.ended])
    }
    return check(program, history, checked[max(checked)]) if checked else None


def check(program: Program, history: History, attempt: Attempt) -> AACheck:
    """What all runs of an attempt as the incumbent say of it; of several classes of devices, those by which
    the campaign goes."""
    attempt = on_device(program, history, attempt, devices.home(program, history)) or attempt
    ended = sorted((run for run in attempt.base if run.status.ended), key=_when)
    ours = [run for run in ended if run.aa and run.status is not Status.CANCELLED]
    known = [(run, found) for run in ended for found in measurements(program, [run]) if found.measured]
    experiments, runs = [run for run, _ in known], [found for _, found in known]
    measured = {run.name for run in experiments}
    scores = list(_pretended(runs, noise_of(ledger(program, history))))
    metrics = tuple(_spread(metric, experiments) for metric in (program.objective, *program.guards) if known)
    tests = sum(len(spread.shifts) for spread in metrics)
    return AACheck(
        name=attempt.name,
        runs=len(ours),
        measured=len(known),
        failed=sum(run.name not in measured for run in ours),
        seeds=len({run.seed for run in runs} - {None}),
        compared=len(scores),
        promoted=sum(is_promoted for is_promoted, _ in scores),
        highest=max((score for _, score in scores), default=None),
        bar=NormalDist().inv_cdf(1 - LEVEL / (2 * max(1, tests))),  # after Bonferroni, on both sides
        finished=max((found.when for found in runs if found.when is not None), default=None),
        metrics=metrics,
    )


def _when(run: Experiment) -> float:
    return run.note.finished if run.note and run.note.finished is not None else run.created


def _pretended(runs: Sequence[Run], noise: Noise) -> Iterator[tuple[bool, float]]:
    """What the rule says of runs that pretend to be a change's: whether it promotes, and the highest score.

    As in a campaign, the first run of a seed is the incumbent's and what comes later the change's, which
    begins with any two of them; without seeds, the first half is the incumbent's.
    """
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        if run.seed is not None:
            by_seed.setdefault(run.seed, []).append(run)
    if by_seed:
        base = [repeats[0] for repeats in by_seed.values()]
        most = max(map(len, by_seed.values()))
        changes = [
            [repeats[k] for repeats in by_seed.values() if len(repeats) > k][:MOST_RUNS]
            for k in range(1, most)
        ]
    else:
        half = min(MOST_RUNS, len(runs) // 2)
        base, changes = list(runs[:half]), [list(runs[half : half + MOST_RUNS])]
    for change in changes if base else ():
        for begins in itertools.combinations(range(len(change)), 2):
            order = [*begins, *(place for place in range(len(change)) if place not in begins)]
            yield _judged([change[place] for place in order], base, noise)


def _judged(change: Sequence[Run], base: Sequence[Run], noise: Noise) -> tuple[bool, float]:
    """The rule, run by run, until it has decided."""
    highest = -math.inf
    for count in range(2, len(change) + 1):
        verdict = judge(Candidate(tuple(change[:count]), chosen=False), base, noise)
        highest = max(highest, verdict.z or 0.0)
        if verdict.decision is not Decision.OPEN:
            return verdict.decision is Decision.PROMOTE, highest
    return False, highest


def _spread(metric: Metric, runs: Sequence[Experiment]) -> Spread:
    """How a metric varies over runs that all have it, in the order in which they ended."""
    values = [number(run.metrics[str(metric)]) or 0.0 for run in runs]
    seeds = [run.seed for run in runs]
    groups = _groups(seeds, values)
    first = values if None in groups else [group[0] for group in groups.values()]
    repeated = Pool() if None in groups else Pool.of(*groups.values())
    last_place = len(runs) - 1
    return Spread(
        metric=str(metric),
        mean=mean(values),
        sigma=Pool.of(first).sigma if len(first) > 1 else None,
        same_seed=repeated.sigma if repeated.df else None,
        repeats=repeated.df,
        drift=_shift([place / max(1, last_place) for place in range(len(runs))], values, seeds),
        machines=_machines([_host(run) for run in runs], values, seeds),
    )


def _groups(keys: Sequence[int | None], values: Sequence[float]) -> dict[int | None, list[float]]:
    found: dict[int | None, list[float]] = {}
    for key, value in zip(keys, values, strict=True):
        found.setdefault(key, []).append(value)
    return found


def _host(run: Experiment) -> str:
    return run.note.worker.rpartition(":")[0] if run.note else ""


def _machines(hosts: Sequence[str], values: Sequence[float], seeds: Sequence[int | None]) -> dict[str, Shift]:
    """Each host's shift against all others, but for the one with most runs, which the others tell."""
    counts = {host: hosts.count(host) for host in hosts if host}
    usual = max(counts, key=lambda host: counts[host], default="")
    shifts = {
        host: _shift([float(one == host) for one in hosts], values, seeds) for host in counts if host != usual
    }
    return {host: shift for host, shift in shifts.items() if shift}


def _shift(places: Sequence[float], values: Sequence[float], seeds: Sequence[int | None]) -> Shift | None:
    """What a value gains for a step of 1 in `places`, by least squares: with a level for each seed, or with
    one for all, whichever has the narrower interval."""
    apart = _slope(places, values, seeds)
    alike = _slope(places, values, [None] * len(values))
    found = narrower(apart, alike) if apart and alike else apart or alike
    if found is None:
        return None
    return Shift(found.effect, found.error, 0.0 - found.z, found.df)


def _slope(
    places: Sequence[float], values: Sequence[float], levels: Sequence[int | None]
) -> Comparison | None:
    """None where there is too little to tell it from."""
    steps = list(zip(_centred(places, levels), _centred(values, levels), strict=True))
    df = len(values) - len(set(levels)) - 1
    squares = math.fsum(x * x for x, _ in steps)
    if df < LEAST_DF or not squares:
        return None
    slope = math.fsum(x * y for x, y in steps) / squares
    sigma = math.sqrt(math.fsum((y - slope * x) ** 2 for x, y in steps) / df)
    return Comparison(slope, sigma / math.sqrt(squares), sigma, df)


def _centred(values: Sequence[float], levels: Sequence[int | None]) -> list[float]:
    """Each value less the mean of those of its level, the same for equal values: 0."""
    means = {level: mean(group) for level, group in _groups(levels, values).items()}
    return [value - means[level] for value, level in zip(values, levels, strict=True)]
