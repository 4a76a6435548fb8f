"""The decision rule: what was measured so far in, what to do next out.

Pure: no I/O, no clock, no randomness. Values are oriented (lower is better), so an effect below 0 is an
improvement. The rule, its reasons and its sources are in docs/judge.md. Running things, keeping the
books and refusing tampered runs is left to the callers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ar.records import Decision, Run, Verdict

MOST_RUNS = 8  # no candidate gets more; the first incumbent has as many before the rule may begin
LEAST_BASE = 2  # runs of a later incumbent before anything is screened against it
GUARD_ERRORS = 2.0  # standard errors worse on a guard, and the change is discarded
GUARD_DRIFT = 0.02  # of the campaign's first baseline: what a guard may lose over all promotions together
SIMPLER_RUNS = 4  # runs that a simplification needs to be promoted when equal
SIMPLER_BAR = 2.0  # its bar, after one sigma is added to its improvement
SIMPLER = "simpler, not better"
HUGE = 1e150  # a value beyond this is no measurement; below it no sum of squares overflows


def promote_bar(n: int) -> float:
    """The score at which a change with n runs is promoted: strict while n is small."""
    return 2.5 + 2 / n


def discard_bar(n: int) -> float:
    """The score below which a change with n runs is not worth another seed."""
    return 1.1 + 0.15 * n


def base_runs_needed(n: int, promotions: int) -> int:
    """How many runs the incumbent must have before a change with n runs is judged against it."""
    return MOST_RUNS if promotions == 0 else max(LEAST_BASE, min(MOST_RUNS, n))


def audit_runs(budget: int) -> int:
    """How many runs at the end of the budget re-measure the incumbent: clamp(budget / 100, 4, 8)."""
    return min(8, max(4, budget // 100))


def score(t: float, df: int) -> float:
    """Student's t on df degrees of freedom as the normal deviate of equal tail (Wallace 1959, eq. 5)."""
    if math.isinf(t):
        return t
    return math.copysign(math.sqrt(df * math.log1p(t * t / df)) * (8 * df + 1) / (8 * df + 3), t)


def unscore(z: float, df: int) -> float:
    """The t whose `score` is z."""
    root = z * (8 * df + 3) / (8 * df + 1)
    power = root * root / df
    return math.copysign(math.sqrt(df * math.expm1(power)), z) if power < 700 else math.copysign(math.inf, z)


@dataclass(frozen=True)
class Candidate:
    """A change and its runs.

    Args:
        runs: made while it was judged, in order; runs[0] is its screening run. Empty for the first
            baseline, which nobody judged.
        base: made later, while it was the incumbent. Only these measure it: `runs` were selected.
        simplification: declared to be simpler at equal quality.
    """

    runs: tuple[Run, ...] = ()
    base: tuple[Run, ...] = ()
    simplification: bool = False


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


def measured(run: Run) -> bool:
    """Whether the run gave finite values; one that did not counts as crashed."""
    return not run.crashed and all(abs(value) <= HUGE for value in (run.value, *run.guards))


def mean(values: Sequence[float]) -> float:
    """Exact for equal values and independent of their order, so that equality stays equality."""
    low = min(values)
    return low + math.fsum(value - low for value in values) / len(values)


def spread(values: Sequence[float]) -> float:
    """Sum of squared deviations from the mean."""
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values)


def guard_means(runs: Iterable[Run]) -> tuple[float, ...]:
    """Mean of each guard over the runs that gave a value."""
    rows = [run.guards for run in runs if measured(run)]
    return tuple(mean(column) for column in zip(*rows, strict=False))


@dataclass
class Noise:
    """Variance of one run within equal code, pooled over groups of runs, each about its own mean."""

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
        """Standard error of the difference between means of n and m runs."""
        return self.sigma * math.sqrt(1 / n + 1 / m)


def groups(ledger: Ledger) -> Iterable[list[Run]]:
    """Runs of equal code that no decision selected: all but each change's screening run."""
    for change in (ledger.incumbent, *ledger.closed):
        yield [run for run in change.runs[1:] if measured(run)]
        yield [run for run in change.base if measured(run)]


def noise_of(ledger: Ledger) -> Noise:
    noise = Noise()
    for runs in groups(ledger):
        noise.add([run.value for run in runs])
    return noise


def next_action(ledger: Ledger, noise: Noise | None = None) -> Action:
    """What to do next. `noise` spares reading the closed candidates again; it must be `noise_of(ledger)`."""
    change = ledger.candidate
    runs = change.runs if change else ()
    base = [run for run in ledger.incumbent.base if measured(run)]
    needed = base_runs_needed(len(runs), ledger.promotions)
    auditing = ledger.left <= audit_runs(ledger.budget)

    if not all(measured(run) for run in runs):
        return _discard(Verdict(Decision.DISCARD, "A run crashed or gave no finite value.", runs=len(runs)))
    if auditing and not runs:
        if ledger.left <= 0:
            return Action(Kind.FINISH, Verdict(Decision.OPEN, "The budget is spent."))
        words = f"Closing audit: the last {ledger.left} runs re-measure the incumbent."
        return Action(Kind.RUN_INCUMBENT, Verdict(Decision.OPEN, words), _next_base_seed(ledger))
    if len(base) < needed and not auditing:
        words = f"The incumbent has {len(base)} of the {needed} runs that the rule needs."
        return Action(Kind.RUN_INCUMBENT, Verdict(Decision.OPEN, words), _next_base_seed(ledger))
    if change is None:
        words = "The incumbent is measured well enough to judge a change."
        return Action(Kind.PROPOSE, Verdict(Decision.OPEN, words), _next_change_seed(ledger))
    if not runs:
        return Action(Kind.RUN_CANDIDATE, Verdict(Decision.OPEN, "Not run yet."), _next_change_seed(ledger))

    verdict = Verdict(Decision.OPEN, "", runs=len(runs), base_runs=len(base))
    if len(base) >= needed:
        verdict = judge(change, base, noise or noise_of(ledger))
    slip = _guard_slip(ledger, base, promoting=verdict.decision is Decision.PROMOTE)
    if slip and verdict.decision is not Decision.DISCARD:
        verdict = replace(verdict, decision=Decision.DISCARD, reason=slip)
    if verdict.decision is Decision.OPEN and auditing:
        words = "Undecided when only the closing audit was left in the budget."
        verdict = replace(verdict, decision=Decision.DISCARD, reason=words)
    if verdict.decision is Decision.DISCARD:
        return _discard(verdict)
    if verdict.decision is Decision.PROMOTE:
        return Action(Kind.PROMOTE, verdict)
    return Action(Kind.RUN_CANDIDATE, verdict, _next_change_seed(ledger))


def judge(change: Candidate, base: Sequence[Run], noise: Noise) -> Verdict:
    """The rule itself, on a change with at least one run and an incumbent with at least one."""
    n, bar = len(change.runs), promote_bar(len(change.runs))
    whole = compare(change.runs, base, noise)
    shown = compare(change.runs[1:], base, noise) if n > 1 else whole
    z = whole.z
    verdict = Verdict(
        Decision.OPEN, "", shown.effect, shown.error, z, bar, n, len(base), whole.sigma, whole.df
    )
    if n >= 2 and z >= bar:
        return _say(verdict, Decision.PROMOTE, f"z = {z:.2f} reaches {bar:.2f}")
    if change.simplification:
        z = whole.plus(whole.sigma).z
        verdict = replace(verdict, z=z, bar=SIMPLER_BAR)
        if n >= SIMPLER_RUNS and z >= SIMPLER_BAR:
            words = f"with one sigma granted, z = {z:.2f} reaches {SIMPLER_BAR:.2f}"
            return _say(replace(verdict, label=SIMPLER), Decision.PROMOTE, words)
    if n >= MOST_RUNS:
        return _say(verdict, Decision.DISCARD, f"z = {z:.2f} is short of {bar:.2f} after all {n} runs")
    if not z >= discard_bar(n):
        words = f"z = {z:.2f} is below {discard_bar(n):.2f}, the least that is worth another seed"
        return _say(verdict, Decision.DISCARD, words)
    return _say(verdict, Decision.OPEN, f"z = {z:.2f} is worth another seed but short of {bar:.2f}")


@dataclass(frozen=True)
class Comparison:
    """A change against the incumbent: effect below 0 is an improvement; error is its standard error."""

    effect: float
    error: float
    sigma: float
    df: int

    @property
    def z(self) -> float:
        """The score, above 0 for an improvement. With no noise at all, any difference is certain."""
        if not self.df or not self.effect:
            return 0.0
        t = -self.effect / self.error if self.error > 0 else math.copysign(math.inf, -self.effect)
        return score(t, self.df)

    def plus(self, credit: float) -> Comparison:
        return replace(self, effect=self.effect - credit)


def compare(runs: Sequence[Run], base: Sequence[Run], noise: Noise) -> Comparison:
    effect = mean([run.value for run in runs]) - mean([run.value for run in base])
    return Comparison(effect, noise.error(len(runs), len(base)), noise.sigma, noise.df)


def _say(verdict: Verdict, decision: Decision, why: str) -> Verdict:
    """The verdict with its reason: the effect and its error, what they rest on, then why this decision."""
    assert verdict.effect is not None and verdict.standard_error is not None
    size = f"{abs(verdict.effect):.4g} ± {verdict.standard_error:.2g}"
    way = "Better" if verdict.effect < 0 else "Worse"
    kind = "run" if verdict.runs == 1 else "confirming run" if verdict.runs == 2 else "confirming runs"
    count = max(1, verdict.runs - 1)
    words = f"{way} by {size} ({count} {kind} against {verdict.base_runs} of the incumbent): {why}."
    return replace(verdict, decision=decision, reason=words)


def _guard_slip(ledger: Ledger, base: Sequence[Run], promoting: bool) -> str:
    """Why the open change fails a guard; empty where it passes or has too few runs to say."""
    runs = ledger.candidate.runs if ledger.candidate else ()
    if len(runs) < 2:
        return ""
    first = ledger.first_guards or (guard_means(base) if not ledger.promotions else ())
    for k, (now, before) in enumerate(zip(guard_means(runs), guard_means(base), strict=False)):
        noise = Noise()
        for group in groups(ledger):
            noise.add([run.guards[k] for run in group if k < len(run.guards)])
        worse, error = now - before, noise.error(len(runs), len(base))
        if worse > 0 and worse >= GUARD_ERRORS * error:
            much = f"at least {GUARD_ERRORS:g} standard errors"
            return f"Guard {k + 1} is worse by {worse:.4g} ± {error:.2g}: {much}."
        if promoting and k < len(first) and now > first[k] + GUARD_DRIFT * abs(first[k]):
            past = f"more than {GUARD_DRIFT:.0%} past the first baseline's {first[k]:.4g}"
            return f"Guard {k + 1} is at {now:.4g}, {past}."
    return ""


def _discard(verdict: Verdict) -> Action:
    return Action(Kind.DISCARD, verdict)


def _first_seed(ledger: Ledger) -> int | None:
    """Where the incumbent's own seeds begin: past those that selected it, so that they are fresh."""
    used = [run.seed for run in ledger.incumbent.runs if run.seed is not None]
    return max(used) + 1 if used else ledger.first_seed


def _next_base_seed(ledger: Ledger) -> int | None:
    used = [run.seed for run in ledger.incumbent.base if run.seed is not None]
    return max(used) + 1 if used else _first_seed(ledger)


def _next_change_seed(ledger: Ledger) -> int | None:
    """The first of the incumbent's seeds that the change has not run, so that the two can be paired."""
    used = {run.seed for run in ledger.candidate.runs} if ledger.candidate else set()
    for run in ledger.incumbent.base:
        if measured(run) and run.seed not in used:
            return run.seed
    beyond = _next_base_seed(ledger)
    return None if beyond is None else max([beyond, *(seed + 1 for seed in used if seed is not None)])
