"""The decision rule: what was measured so far in, what to do next out.

Pure: no I/O, no clock, no randomness. Values are oriented (lower is better), so an effect below 0 is an
improvement. The rule, its reasons and its sources are in docs/judge.md. Running things, keeping the
books and refusing tampered runs is left to the callers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from statistics import NormalDist
from typing import Any

from ar.history.records import Decision, Label, Run, Verdict

NORMAL_95 = 1.96  # normal deviate that leaves 2.5 % on either side
MOST_RUNS = 8  # no candidate gets more; the first incumbent has as many before the rule may begin
LEAST_BASE = 2  # runs of a later incumbent before anything is screened against it
GUARD_ERRORS = 2.0  # standard errors worse on a guard, and the change is discarded
GUARD_DRIFT = 0.02  # of the campaign's first baseline: what a guard may lose over all promotions together
GUARD_RUNS = 4  # at most so many incumbent runs are made beside a change before a guard refuses it
SIMPLER_RUNS = 4  # runs that a simplification needs to be promoted when equal
SIMPLER_BAR = 2.0  # its bar, after one sigma is added to its improvement
HOLDOUT_BAR = 2.0  # the score of worsening on the holdout at which a change counts as overfitted
CERTAIN = 99.0  # the score of any difference where there is no noise; finite, so that JSON can hold it
PAIRING_DF = 6  # degrees of freedom from which the campaign knows how alike runs of one seed are
PAIRING_BUDGET = 200  # runs of a campaign from which it is worth the eight or so that this costs
PAIRING_RUNS = 5  # what a change gets to measure that, where its first run beats the incumbent's
LEAST_RESIDUAL = 0.25  # of sigma: how far pairing is trusted. Large changes decorrelate more than small ones
SCREENED = 8  # first runs from which the campaign knows how closely most changes follow the incumbent
CLOSE = 0.7  # most changes follow it closely if they differ by less than this share of what the pool says
HUGE = 1e140  # a value beyond this is no measurement; below it no sum of squares overflows


def promote_bar(n: int) -> float:
    """The score at which a change with n runs is promoted: strict while n is small."""
    return 2.5 + 2 / n


def discard_bar(n: int) -> float:
    """The score below which a change with n runs is not worth another seed."""
    return 1.1 + 0.15 * n


def base_runs_needed(n: int, promotions: int) -> int:
    """How many runs the incumbent must have, as incumbent, before a change with n runs is judged."""
    return MOST_RUNS if promotions == 0 else max(LEAST_BASE, min(MOST_RUNS, n))


def audit_runs(budget: int) -> int:
    """How many runs at the end of the budget re-measure the incumbent: clamp(budget / 100, 4, 8)."""
    return min(8, max(4, budget // 100))


def score(t: float, df: int) -> float:
    """Student's t on df degrees of freedom as the normal deviate of equal tail (Wallace 1959), clipped."""
    z = math.sqrt(df * math.log1p(t * t / df)) * (8 * df + 1) / (8 * df + 3)
    return math.copysign(min(z, CERTAIN), t)


def unscore(z: float, df: int) -> float:
    """The t whose `score` is z, for z of at least 0."""
    root = z * (8 * df + 3) / (8 * df + 1)
    return math.sqrt(df * math.expm1(min(700.0, root * root / df)))


def half_width(error: float, df: int) -> float:
    """Half of the 95 % interval of an effect with this standard error; df of 0 stands for a known sigma."""
    return (unscore(NORMAL_95, df) if df else NORMAL_95) * error


def measured(run: Run) -> bool:
    """Whether the run gave finite values; one that did not counts as crashed."""
    finite = abs(run.value) <= HUGE and (not run.guards or all(abs(guard) <= HUGE for guard in run.guards))
    return finite and not run.crashed


@dataclass(frozen=True)
class Candidate:
    """A change and its runs.

    Args:
        runs: made while it was judged, in order; runs[0] is its screening run. Empty for the first
            baseline, which nobody judged.
        base: made later, while it was the incumbent.
        simplification: declared to be simpler at equal quality.
    """

    runs: tuple[Run, ...] = ()
    base: tuple[Run, ...] = ()
    simplification: bool = False

    @cached_property
    def fair(self) -> tuple[Run, ...]:
        """The runs that measure it: all but the screening run, which was selected for its luck."""
        return tuple(run for run in (*self.runs[1:], *self.base) if measured(run))

    @cached_property
    def fresh(self) -> tuple[Run, ...]:
        """Those of them that were made after the decision that made it the incumbent."""
        return tuple(run for run in self.base if measured(run))


@dataclass(frozen=True)
class Ledger:
    """The campaign so far.

    Args:
        budget, spent: in runs; a crashed run is spent too.
        incumbent: what the branch holds now.
        candidate: the open change, with the runs made so far (none yet is fine); None between changes.
        closed: every change judged before, and every earlier incumbent, in any order.
        promotions: how many times the incumbent was replaced.
        first_guards: mean guard values of the campaign's first baseline (see `guard_means`); while empty
            and before the first promotion, the incumbent's.
        first_seed: seeds are first_seed, first_seed + 1, ...; None where the programme has none.
    """

    budget: int
    spent: int
    incumbent: Candidate
    candidate: Candidate | None = None
    closed: tuple[Candidate, ...] = ()
    promotions: int = 0
    first_guards: tuple[float, ...] = ()
    first_seed: int | None = None

    @property
    def left(self) -> int:
        return self.budget - self.spent


class Kind(StrEnum):
    """What the caller is to do. PROPOSE: nothing is open and the rule may begin. FINISH: nothing is left."""

    RUN_INCUMBENT = "run_incumbent"
    RUN_CANDIDATE = "run_candidate"
    PROMOTE = "promote"
    DISCARD = "discard"
    PROPOSE = "propose"
    FINISH = "finish"


@dataclass(frozen=True)
class Action:
    """The next step, with the verdict on the open candidate that led to it.

    `seed` is that of the run asked for; with PROPOSE, that of the next candidate's first run.
    """

    kind: Kind
    verdict: Verdict
    seed: int | None = None

    @property
    def effect(self) -> float | None:
        return self.verdict.effect

    @property
    def standard_error(self) -> float | None:
        return self.verdict.standard_error

    @property
    def reason(self) -> str:
        return self.verdict.reason


def mean(values: Sequence[float]) -> float:
    """Exact for equal values and independent of their order, so that equality stays equality."""
    low = min(values)
    return low + math.fsum(value - low for value in values) / len(values)


def spread(values: Sequence[float]) -> float:
    """Sum of squared deviations from the mean."""
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values)


def spread_of_most(values: Sequence[float]) -> float:
    """Standard deviation by the median absolute deviation, which a few wild values cannot move far."""
    middle = statistics.median(values)
    return 1.4826 * statistics.median(abs(value - middle) for value in values)


def guard_means(runs: Iterable[Run]) -> tuple[float, ...]:
    """Mean of each guard over the runs that gave a value."""
    rows = [run.guards for run in runs if measured(run)]
    return tuple(mean(column) for column in zip(*rows, strict=False))


@dataclass
class Pool:
    """Variance of one run of equal code, pooled over groups of runs, each about its own mean."""

    squares: float = 0.0
    df: int = 0

    def add(self, values: Sequence[float]) -> None:
        if len(values) > 1:
            self.squares += spread(values)
            self.df += len(values) - 1

    @property
    def sigma(self) -> float:
        return math.sqrt(self.squares / self.df) if self.df else math.nan

    def error(self, n: int, m: int) -> float:
        """Standard error of the difference between means of n and m independent runs."""
        return self.sigma * math.sqrt(1 / n + 1 / m)


@dataclass
class Residual:
    """Variance of one run after the effect of its seed: value = code + seed + residual.

    Helmert contrasts (each run against the mean of those before it in its group) are free of the code's
    mean, and their squares add up to the group's. In groups with equal seeds so far, a contrast has the
    same expectation, what the seeds do to it; about that, pooled, is left the residual of the additive
    two-way table. A contrast met before to the last digit is the same computation again, not evidence.
    """

    squares: float = 0.0
    df: int = 0
    cells: dict[tuple[int, ...], tuple[float, set[float]]] = field(default_factory=dict)

    def add(self, runs: Sequence[Run]) -> None:
        seeds = [run.seed for run in runs[: MOST_RUNS - 1] if run.seed is not None]
        if len(seeds) < len(runs[: MOST_RUNS - 1]):
            return
        for k in range(1, len(seeds)):
            step = runs[k].value - mean([run.value for run in runs[:k]])
            contrast = step * math.sqrt(k / (k + 1))
            centre, seen = self.cells.get(tuple(seeds[: k + 1]), (0.0, set()))
            if contrast in seen:
                continue
            seen.add(contrast)
            moved = centre + (contrast - centre) / len(seen)
            if len(seen) > 1:
                self.squares += (contrast - centre) * (contrast - moved)
                self.df += 1
            self.cells[tuple(seeds[: k + 1])] = (moved, seen)


@dataclass
class Noise:
    """What the campaign knows of its noise: of single runs, and of what is left after the seed's effect."""

    plain: Pool = field(default_factory=Pool)
    residual: Residual = field(default_factory=Residual)
    screens: dict[int, set[float]] = field(default_factory=dict)
    _screened: int = 0
    _spread: tuple[int, float] = (0, math.inf)

    @classmethod
    def of(cls, changes: Iterable[Candidate]) -> Noise:
        noise = cls()
        for change in changes:
            noise.add(change)
        return noise

    def add(self, change: Candidate) -> None:
        for run in change.runs[:1]:
            if run.seed is not None and measured(run):
                self.screens.setdefault(run.seed, set()).add(run.value)
                self._screened += 1
        if len(change.runs) < 2 and not change.base:
            return  # one run tells nothing else; most changes have one
        self.plain.add([run.value for run in change.fair])
        # Changes are screened on their incumbent's first fresh seed: without it, their seeds begin alike.
        self.residual.add([run for run in change.runs[1:] if measured(run)])
        self.residual.add(change.fresh[1:])

    @property
    def sigma(self) -> float:
        """Standard deviation of one run; nan where nothing was repeated."""
        return self.plain.sigma

    @property
    def residual_sigma(self) -> float:
        """Standard deviation of one run after its seed's effect; sigma while that is not known to be less."""
        df = self.residual.df
        if not df or not self.sigma > 0:
            return self.sigma
        found = math.sqrt(self.residual.squares / df)
        if found * math.sqrt(df / chi_square(0.05, df)) >= self.sigma:
            return self.sigma
        return max(found, LEAST_RESIDUAL * self.sigma)

    @property
    def typical(self) -> float | None:
        """Residual standard deviation of most changes, where a few wild ones hide it in the pool; else None.

        From the spread of first runs of one seed (median absolute deviation), equal values counted once: an
        upper bound, as the changes' effects are part of it.
        """
        if self._spread[0] != self._screened:
            groups = [values for values in self.screens.values() if len(values) >= SCREENED]
            middles = ((values, statistics.median(values)) for values in groups)
            steps = [value - middle for values, middle in middles for value in values]
            self._spread = self._screened, spread_of_most(steps) if steps else math.inf
        found = max(self._spread[1], LEAST_RESIDUAL * self.sigma)
        return found if found < CLOSE * self.residual_sigma else None

    def residual_of(self, own: Pool, hopeful: bool = False) -> tuple[float, int]:
        """Residual standard deviation of a change, and the degrees of freedom behind it.

        Some changes follow the incumbent closely, others send training down another path. The change's own
        runs say which kind it is; what the campaign knows counts beside them as one more degree of freedom
        (after Smyth 2004). Pooled knowledge is only ever corrected upwards.

        Args:
            own: what the change's confirming runs say of it.
            hopeful: take it to be like most, as far as its own runs do not speak against that.
        """
        typical = self.typical
        known = typical or self.residual_sigma
        found = math.sqrt((known**2 + own.squares) / (1 + own.df))
        if typical is None:
            return (max(known, found) if known < self.sigma else known), self.residual.df
        return max(found, LEAST_RESIDUAL * self.sigma), own.df + (SCREENED - 1 if hopeful else 1)

    @property
    def correlation(self) -> float:
        """Between runs of one seed, as far as pairing may trust it; 0: pairing is not used."""
        return 1 - (self.residual_sigma / self.sigma) ** 2 if self.sigma > 0 else 0.0


def chi_square(p: float, df: int) -> float:
    """Quantile of the chi-square distribution (Wilson and Hilferty 1931), p below one half."""
    return df * max(0.01, 1 - 2 / (9 * df) + NormalDist().inv_cdf(p) * math.sqrt(2 / (9 * df))) ** 3


def noise_of(ledger: Ledger) -> Noise:
    """What the campaign so far shows of its noise, the open change left out."""
    return Noise.of((ledger.incumbent, *ledger.closed))


def next_action(ledger: Ledger, noise: Noise | None = None) -> Action:
    """What to do next: one step, for the caller to take and to record.

    `noise` spares reading the closed changes again; it must equal `noise_of(ledger)`.
    """
    change = ledger.candidate
    runs = change.runs if change else ()
    base = ledger.incumbent.fair
    fresh, needed = len(ledger.incumbent.fresh), base_runs_needed(len(runs), ledger.promotions)
    auditing = ledger.left <= audit_runs(ledger.budget)

    if not all(measured(run) for run in runs):
        words = "A run crashed or gave no finite value."
        return Action(Kind.DISCARD, Verdict(Decision.DISCARD, words, runs=len(runs)))
    if auditing and not runs:
        if ledger.left <= 0:
            return Action(Kind.FINISH, Verdict(Decision.OPEN, "The budget is spent."))
        words = f"Closing audit: the last {ledger.left} runs re-measure the incumbent."
        return Action(Kind.RUN_INCUMBENT, Verdict(Decision.OPEN, words), next_base_seed(ledger))
    if fresh < needed and not auditing:
        words = f"The incumbent has {fresh} of the {needed} fresh runs that the rule needs."
        return Action(Kind.RUN_INCUMBENT, Verdict(Decision.OPEN, words), next_base_seed(ledger))
    if change is None:
        words = "The incumbent is measured well enough to judge a change."
        return Action(Kind.PROPOSE, Verdict(Decision.OPEN, words), _next_change_seed(ledger))
    if not runs:
        return Action(Kind.RUN_CANDIDATE, Verdict(Decision.OPEN, "Not run yet."), _next_change_seed(ledger))

    calibrate = not auditing and ledger.budget >= PAIRING_BUDGET
    verdict = Verdict(Decision.OPEN, "", runs=len(runs), base_runs=len(base))
    if fresh >= needed:
        verdict = judge(change, base, noise or noise_of(ledger), calibrate=calibrate)
    slip = _guard_slip(ledger, base, promoting=verdict.decision is Decision.PROMOTE)
    if slip and verdict.decision is not Decision.DISCARD:
        beside = _beside(runs, base)
        if beside is not None and len(beside) < min(len(runs), GUARD_RUNS) and not auditing:
            words = f"{slip} In case the machine changed, the incumbent is measured beside it."
            verdict = replace(verdict, decision=Decision.OPEN, reason=words, label=Label.PLAIN)
            return Action(Kind.RUN_INCUMBENT, verdict, next_base_seed(ledger))
        if beside:
            slip = _guard_slip(ledger, beside, promoting=verdict.decision is Decision.PROMOTE)
    if slip and verdict.decision is not Decision.DISCARD:
        verdict = replace(verdict, decision=Decision.DISCARD, reason=slip, label=Label.PLAIN)
    if verdict.decision is Decision.OPEN and auditing:
        words = "Undecided when only the closing audit was left in the budget."
        verdict = replace(verdict, decision=Decision.DISCARD, reason=words)
    if verdict.decision is Decision.DISCARD:
        return Action(Kind.DISCARD, verdict)
    if verdict.decision is Decision.PROMOTE:
        return Action(Kind.PROMOTE, verdict)
    return Action(Kind.RUN_CANDIDATE, verdict, _next_change_seed(ledger))


def judge(change: Candidate, base: Sequence[Run], noise: Noise, calibrate: bool = False) -> Verdict:
    """The rule itself, on a change with at least one run and an incumbent with at least one.

    With `calibrate`, a promising change may go on just to measure how well pairing works.
    """
    n, bar = len(change.runs), promote_bar(len(change.runs))
    own = own_residual(change.runs, base)
    whole = compare(change.runs, base, noise, own)
    shown = compare(change.runs[1:], base, noise, own) if n > 1 else whole
    z = whole.z
    verdict = Verdict(
        Decision.OPEN,
        reason="",
        effect=shown.effect,
        standard_error=shown.error,
        z=z,
        bar=bar,
        needed=-unscore(bar, whole.df) * whole.error,
        runs=n,
        base_runs=len(base),
        sigma=whole.sigma,
        df=whole.df,
        paired=whole.paired,
    )
    if n >= 2 and z >= bar:
        return _say(verdict, Decision.PROMOTE, f"z = {z:.2f} reaches {bar:.2f}")
    if change.simplification:
        z = whole.plus(whole.sigma).z
        needed = whole.sigma - unscore(SIMPLER_BAR, whole.df) * whole.error
        verdict = replace(verdict, z=z, bar=SIMPLER_BAR, needed=needed)
        if n >= SIMPLER_RUNS and z >= SIMPLER_BAR:
            words = f"with one sigma granted, z = {z:.2f} reaches {SIMPLER_BAR:.2f}"
            return _say(replace(verdict, label=Label.SIMPLER), Decision.PROMOTE, words)
    if n >= MOST_RUNS:
        return _say(verdict, Decision.DISCARD, f"z = {z:.2f} is short of {bar:.2f} after all {n} runs")
    z = max(z, compare(change.runs, base, noise, own, hopeful=True).z)
    if z >= discard_bar(n):
        return _say(verdict, Decision.OPEN, f"z = {z:.2f} is worth another seed but short of {bar:.2f}")
    if calibrate and n < PAIRING_RUNS and noise.residual.df < PAIRING_DF and _first_beats(change, base):
        return _say(verdict, Decision.OPEN, "it gets more seeds to measure how well pairing by seed works")
    words = f"z = {z:.2f} is below {discard_bar(n):.2f}, the least that is worth another seed"
    return _say(verdict, Decision.DISCARD, words)


def _first_beats(change: Candidate, base: Sequence[Run]) -> bool:
    """Whether the screening run beat the incumbent's of the same seed: it alone may select, as it is left
    out of the noise."""
    first = change.runs[0]
    return first.seed is not None and any(run.seed == first.seed and first.value < run.value for run in base)


@dataclass(frozen=True)
class Comparison:
    """A change against the incumbent: effect below 0 is an improvement; error is its standard error."""

    effect: float
    error: float
    sigma: float
    df: int
    paired: bool = False

    @property
    def z(self) -> float:
        """The score, above 0 for an improvement. With no noise at all, any difference is certain."""
        if not self.df or not self.effect:
            return 0.0
        t = -self.effect / self.error if self.error > 0 else math.copysign(math.inf, -self.effect)
        return score(t, self.df)

    def plus(self, credit: float) -> Comparison:
        """With so much credited to the improvement."""
        return replace(self, effect=self.effect - credit)


def own_residual(runs: Sequence[Run], base: Sequence[Run]) -> Pool:
    """Residual variance of a change from its confirming runs: how its differences from the incumbent, seed
    by seed, differ from each other. Half of that is the incumbent's share."""
    at_seed: dict[int | None, float] = {run.seed: run.value for run in base if run.seed is not None}
    pool = Pool()
    steps = [run.value - at_seed[run.seed] for run in runs[1:] if run.seed in at_seed and measured(run)]
    pool.add([step / math.sqrt(2) for step in steps])
    return pool


def compare(
    runs: Sequence[Run], base: Sequence[Run], noise: Noise, own: Pool | None = None, hopeful: bool = False
) -> Comparison:
    """The change's mean minus the incumbent's, less what is known of the luck of the change's seeds.

    The incumbent's own runs show that luck: their mean on the shared seeds against their mean on all. Of
    it the fraction `rho` is taken off, the best linear predictor (a control variate). The error is that of
    the resulting weighted sum of runs, whose weights add up to 1 and -1. Where changes are unlike each other,
    the form with the narrower interval counts.

    Args:
        own, hopeful: as in `Noise.residual_of`.
    """
    n, m = len(runs), len(base)
    sigma, df = noise.residual_of(own or Pool(), hopeful)
    rho = 1 - (sigma / noise.sigma) ** 2 if noise.sigma > 0 else 0.0
    effect = mean([run.value for run in runs]) - mean([run.value for run in base])
    seeds = {run.seed for run in runs} - {None}
    shared = [run.value for run in base if run.seed in seeds]
    plain = Comparison(effect, noise.plain.error(n, m), noise.sigma, noise.plain.df)
    if rho <= 0 or not shared:
        return plain
    share = len(shared) / n
    effect -= rho * share * (mean(shared) - mean([run.value for run in base]))
    at_seed = {run.seed: 1 / n for run in runs}
    residual = 1 / n
    for run in base:
        weight = (rho * share - 1) / m - (rho / n if run.seed in seeds else 0.0)
        residual += weight * weight
        at_seed[run.seed] = at_seed.get(run.seed, 0.0) + weight
    by_seed = math.fsum(weight * weight for weight in at_seed.values())
    error = math.sqrt(sigma**2 * residual + (noise.sigma**2 - sigma**2) * by_seed)
    if noise.typical is not None and half_width(error, df) >= half_width(plain.error, plain.df):
        return plain
    return Comparison(effect, error, sigma, df, paired=True)


def resolution(noise: Noise, n: int, m: int) -> float:
    """The smallest mean improvement that n runs against m of the incumbent can show; nan if unknown."""
    runs, base = ([Run(seed, 0.0) for seed in range(count)] for count in (n, m))
    found = compare(runs, base, noise)
    return unscore(promote_bar(n), found.df) * found.error if found.df else math.nan


def overfitted(holdout: Ledger) -> str:
    """Why a change about to be promoted is refused for what it does on the holdout; empty if it passes.

    `holdout` is the campaign's ledger with the holdout's values in place of the objective's. The words hold
    no number: verdicts reach agents, and nothing measured on the holdout may.
    """
    change = holdout.candidate or Candidate()
    runs, base = [run for run in change.runs if measured(run)], holdout.incumbent.fair
    if not runs or not base:
        return ""
    worse = compare(runs, base, noise_of(holdout)).z <= -HOLDOUT_BAR
    return "Overfitted: clearly worse on the holdout." if worse else ""


def total_gain(first: Sequence[Run], audit: Sequence[Run]) -> tuple[float, float]:
    """What the campaign gained and its standard error: mean of the first baseline minus mean of the audit.

    Both sides are runs that no decision selected. nan where a side has no value, or no noise can be told.
    """
    before, after = ([run.value for run in runs if measured(run)] for runs in (first, audit))
    if not before or not after:
        return math.nan, math.nan
    pool = Pool()
    pool.add(before)
    pool.add(after)
    return mean(before) - mean(after), pool.error(len(before), len(after))


def _say(verdict: Verdict, decision: Decision, why: str) -> Verdict:
    """The verdict with its reason: the effect and its error, what they rest on, then why this decision."""
    assert verdict.effect is not None and verdict.standard_error is not None
    way = "Better" if verdict.effect < 0 else "Worse"
    size = f"{way} by {abs(verdict.effect):.4g} ± {verdict.standard_error:.2g}"
    if not verdict.effect:
        size = "Equal to the last digit"
    kind = "run" if verdict.runs == 1 else "confirming run" if verdict.runs == 2 else "confirming runs"
    count, how = max(1, verdict.runs - 1), ", paired by seed" if verdict.paired else ""
    words = f"{size} ({count} {kind} against {verdict.base_runs} of the incumbent{how}): {why}."
    return replace(verdict, decision=decision, reason=words)


def _guard_slip(ledger: Ledger, base: Sequence[Run], promoting: bool) -> str:
    """Why the open change fails a guard against `base`; empty where it passes or has too few runs to say."""
    runs = ledger.candidate.runs if ledger.candidate else ()
    if len(runs) < 2:
        return ""
    first = ledger.first_guards or (guard_means(base) if not ledger.promotions else ())
    for k, (now, before) in enumerate(zip(guard_means(runs), guard_means(base), strict=False)):
        noise = Pool()
        for change in (ledger.incumbent, *ledger.closed):
            noise.add([run.guards[k] for run in change.fair if k < len(run.guards)])
        worse, bound = now - before, GUARD_ERRORS * noise.error(len(runs), len(base))
        if worse > 0 and worse >= bound:
            much = f"at least {GUARD_ERRORS:g} standard errors"
            return f"Guard {k + 1} is worse by {worse:.4g} ± {bound / GUARD_ERRORS:.2g}: {much}."
        if promoting and k < len(first) and now > first[k] + max(GUARD_DRIFT * abs(first[k]), bound):
            past = f"more than {GUARD_DRIFT:.0%} and noise past the first baseline's {first[k]:.4g}"
            return f"Guard {k + 1} is at {now:.4g}, {past}."
    return ""


def _beside(runs: Sequence[Run], base: Sequence[Run]) -> list[Run] | None:
    """The incumbent's runs that ended after the change's first; None where no run says when it ended."""
    first = runs[0].when
    return None if first is None else [run for run in base if run.when is not None and run.when > first]


def next_base_seed(ledger: Ledger) -> int | None:
    """The seed of the incumbent's next run."""
    used = [run.seed for run in (*ledger.incumbent.runs, *ledger.incumbent.base) if run.seed is not None]
    return max(used) + 1 if used else ledger.first_seed


def _next_change_seed(ledger: Ledger) -> int | None:
    """The first of the incumbent's fresh seeds that the change has not run, so that the two pair up."""
    change = ledger.candidate or Candidate()
    used = {run.seed for run in (*change.runs, *change.base)}
    for run in ledger.incumbent.fresh:
        if run.seed not in used:
            return run.seed
    beyond = next_base_seed(ledger)
    return None if beyond is None else max([beyond, *(seed + 1 for seed in used if seed is not None)])


@dataclass
class Memory:
    """What `answer` keeps between questions of one campaign: the changes closed so far and their noise."""

    closed: list[Candidate] = field(default_factory=list)
    incumbent: Candidate = Candidate()
    change: int | None = None
    open: Candidate = Candidate()
    noise: Noise = field(default_factory=Noise)
    promotions: int = 0

    def close(self, change: Candidate) -> None:
        self.closed.append(change)

    def follow(self, change: int, runs: Candidate, incumbent: Candidate, promotions: int) -> None:
        """Take in what happened since the last question: a change dropped, an incumbent replaced."""
        if change != self.change and self.open.runs:
            self.close(self.open)  # the caller dropped it: a run crashed
            self.noise.add(self.open)
        if incumbent != self.incumbent:
            if promotions != self.promotions:
                self.close(self.incumbent)
            self.noise = Noise.of((incumbent, *self.closed))
        self.incumbent, self.promotions = incumbent, promotions
        self.change, self.open = change, runs


def answer(message: Mapping[str, Any], memory: Memory) -> dict[str, Any]:
    """One line of `ar judge --stdio`: the answer to a message, with `memory` brought up to date.

    Raises:
        ValueError: the message is not one of the protocol's (docs/judge-reference.md).
    """
    if message.get("reset"):
        _whole(message, "budget")
        memory.__dict__.update(Memory().__dict__)
        return {}
    seeds = message.get("seeds")
    if seeds is not None and not isinstance(seeds, Mapping):
        raise ValueError("seeds: expected an object with cand, own and base")
    cand, own, base = (_runs(message, name, seeds) for name in ("cand", "own", "base"))
    budget, left, promotions = (_whole(message, name) for name in ("budget", "left", "promotions"))
    _whole(message, "spent")
    change = Candidate(cand)
    memory.follow(_whole(message, "change"), change, Candidate(own, base), promotions)
    ledger = Ledger(
        budget,
        budget - left,
        memory.incumbent,
        change,
        tuple(memory.closed),
        promotions,
        first_seed=None if seeds is None else 0,
    )
    action = next_action(ledger, memory.noise)
    if action.kind is Kind.DISCARD:
        memory.close(change)
        memory.noise.add(change)
        memory.open = Candidate()
    elif action.kind is Kind.PROMOTE:
        memory.open = Candidate()
    names = {Kind.RUN_INCUMBENT: "base", Kind.RUN_CANDIDATE: "run", Kind.PROMOTE: "promote"}
    effect = action.effect if action.kind in (Kind.PROMOTE, Kind.DISCARD) else None
    return {"action": names.get(action.kind, "discard"), "effect": effect, "seed": action.seed}


def _whole(message: Mapping[str, Any], name: str) -> int:
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}: expected a whole number, got {value!r}")
    return value


def _runs(message: Mapping[str, Any], name: str, seeds: Mapping[str, Any] | None) -> tuple[Run, ...]:
    values = message.get(name)
    if not isinstance(values, list) or not all(_is_number(value) for value in values):
        raise ValueError(f"{name}: expected a list of numbers, got {values!r}")
    if seeds is None:
        return tuple(Run(None, _finite(value)) for value in values)
    order = seeds.get(name)
    if not isinstance(order, list) or not all(isinstance(seed, int | None) for seed in order):
        raise ValueError(f"seeds.{name}: expected a list of whole numbers, got {order!r}")
    if len(order) != len(values):
        raise ValueError(f"seeds.{name}: {len(order)} seeds for {len(values)} values")
    return tuple(Run(seed, _finite(value)) for seed, value in zip(order, values, strict=True))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: float) -> float:
    return float(value) if abs(value) <= HUGE else math.inf  # whole numbers of JSON may exceed any float
