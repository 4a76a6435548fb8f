"""The decision rule: what was measured so far in, what to do next out.

Pure: no I/O, no clock, no randomness. The rule, its reasons and its sources are in docs/judge.md. Running
things, keeping the books and refusing tampered runs is left to the callers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ar.history.records import Decision, Label, Verdict
from ar.judge.arithmetic import unscore
from ar.judge.contrast import compare, own_residual
from ar.judge.evidence import MOST_RUNS, OPENING, Candidate, Ledger, Run, guard_means
from ar.judge.noise import Noise, Pool, noise_of
from ar.text import counted

CHOSEN_RUNS = 16  # that a change gets at most, where somebody else chooses which gets another
OUT_BAR = -2.0  # the score below which a change is not left to them, either
LOOKS = 3  # seeds that the first runs of changes take in turn
LEAST_BASE = 2  # runs of an incumbent before anything is screened against it
GUARD_ERRORS = 2.0  # standard errors worse on a guard, and the change is discarded
GUARD_DRIFT = 0.02  # of the campaign's first baseline: what a guard may lose over all promotions together
GUARD_RUNS = 4  # at most so many incumbent runs are made beside a change before a guard refuses it
SIMPLER_RUNS = 4  # runs that a simplification needs to be promoted when equal
SIMPLER_BAR = 2.0  # its bar, after one sigma is added to its improvement
HOLDOUT_BAR = 2.0  # the score of worsening on the holdout at which a change counts as overfitted
PAIRING_DF = OPENING  # degrees of freedom from which the campaign knows how alike runs of one seed are


def promote_bar(n: int) -> float:
    """The score at which a change with n runs is promoted: strict while n is small."""
    return 2.5 + 2 / n


def discard_bar(n: int) -> float:
    """The score below which a change with n runs is not worth another seed."""
    return 1.1 + 0.15 * n


def base_runs_needed(n: int, promotions: int) -> int:
    """How many runs the incumbent must have, as incumbent, before a change with n runs is judged, where no
    opening tells the noise."""
    return MOST_RUNS if promotions == 0 else max(LEAST_BASE, min(MOST_RUNS, n))


class Kind(StrEnum):
    """What the caller is to do.

    WAIT: the open change stays as it is until the opening is over, or until the caller gives it another run.
    PROPOSE: nothing is open and the rule may begin. FINISH: nothing is left.
    """

    RUN_INCUMBENT = "run_incumbent"
    RUN_CANDIDATE = "run_candidate"
    PROMOTE = "promote"
    DISCARD = "discard"
    WAIT = "wait"
    PROPOSE = "propose"
    FINISH = "finish"


@dataclass(frozen=True)
class Action:
    """The next step, with the verdict on the open candidate that led to it.

    `seed` is that of the run asked for; with PROPOSE, that of the next candidate's first run. `only_on` is
    the class of devices that it is to be made on; empty for any.
    """

    kind: Kind
    verdict: Verdict
    seed: int | None = None
    only_on: str = ""

    @property
    def decides(self) -> bool:
        """Whether the verdict is the last word on the open candidate."""
        return self.kind in (Kind.PROMOTE, Kind.DISCARD)


def next_action(ledger: Ledger, noise: Noise | None = None) -> Action:
    """What to do next: one step, for the caller to take and to record.

    `noise` spares reading the closed changes again; it must equal `noise_of(ledger)`.
    """
    action = _next(ledger, noise)
    if not ledger.device:
        return action
    verdict = replace(action.verdict, device=ledger.device)
    return replace(action, verdict=verdict, only_on=ledger.only_on)


def _next(ledger: Ledger, noise: Noise | None) -> Action:
    change = ledger.candidate
    runs = change.runs if change else ()

    if not all(run.measured for run in runs):
        words = "A run crashed or gave no finite value."
        return Action(Kind.DISCARD, Verdict(Decision.DISCARD, words, runs=len(runs)))
    if ledger.auditing and not runs:
        if ledger.left <= 0:
            return Action(Kind.FINISH, Verdict(Decision.OPEN, "The budget is spent."))
        words = (
            f"Closing audit: the incumbent is re-measured with the last {counted(int(ledger.left), 'run')}."
        )
        return Action(Kind.RUN_INCUMBENT, Verdict(Decision.OPEN, words), _audit_seed(ledger))
    lacks = _lacks(ledger, len(runs))
    if lacks and not ledger.auditing:
        return Action(Kind.RUN_INCUMBENT, Verdict(Decision.OPEN, lacks), next_base_seed(ledger))
    if change is None:
        words = "The incumbent is measured well enough to judge a change."
        return Action(Kind.PROPOSE, Verdict(Decision.OPEN, words), next_seed(ledger))
    if not runs:
        return Action(Kind.RUN_CANDIDATE, Verdict(Decision.OPEN, "Not run yet."), next_seed(ledger))
    if lacks and (ledger.first_seed is None or not ledger.base):
        verdict = Verdict(Decision.OPEN, "", runs=len(runs), base_runs=len(ledger.base))
        return _decided(ledger, change, verdict)
    return _judged(ledger, change, noise or noise_of(ledger))


def _lacks(ledger: Ledger, n: int) -> str:
    """What the incumbent has to be run for before a change with n runs is judged; empty if for nothing."""
    if ledger.first_seed is None:
        kind, made, needed = "fresh runs", len(ledger.incumbent.fresh), base_runs_needed(n, ledger.promotions)
    else:
        kind, made = "runs", len(ledger.base)
        needed = LEAST_BASE if ledger.opens else base_runs_needed(0, ledger.promotions)
    if made < needed:
        return f"The incumbent has {made} of the {needed} {kind} that the rule needs."
    missing = _missing_seeds(ledger)
    return f"The incumbent has no run with seed {missing[0]} of the change." if missing else ""


def _judged(ledger: Ledger, change: Candidate, noise: Noise) -> Action:
    """The step after a change's last run, with the incumbent measured as the rule needs it."""
    n, base = len(change.runs), ledger.base
    waits = ledger.screening and n == 1
    beside = _beside(change.runs, base) if ledger.drifts and not waits else None
    if beside is not None and len(beside) < min(n, GUARD_RUNS) and not ledger.auditing:
        words = "Times change with the machine: the incumbent is measured beside the change."
        verdict = Verdict(Decision.OPEN, words, runs=n, base_runs=len(base))
        return Action(Kind.RUN_INCUMBENT, verdict, next_base_seed(ledger))
    knows = not ledger.opens or max(noise.residual.pool.df, ledger.opened) >= PAIRING_DF
    most = CHOSEN_RUNS if ledger.screening else MOST_RUNS
    verdict = judge(change, beside or base, noise, patient=not knows, most=most)
    if not ledger.opens or ledger.auditing or verdict.decision is Decision.PROMOTE:
        return _decided(ledger, change, verdict)
    if n == 1 and not change.chosen:
        words = "The first changes get two seeds each, which tell how alike runs of one seed are."
        return Action(Kind.RUN_CANDIDATE, _open(verdict, words), next_seed(ledger))
    unasked = n == 1 or (n == 2 and not change.chosen and verdict.decision is Decision.OPEN)
    if ledger.screening and (unasked or not knows or (n < most and _is_doubtful(verdict))):
        words = "It waits to be chosen for another seed." if knows else "It waits until the noise is known."
        return Action(Kind.WAIT, _open(verdict, words))
    return _decided(ledger, change, verdict)


def _decided(ledger: Ledger, change: Candidate, verdict: Verdict) -> Action:
    """What follows from a verdict, once the guards and the budget have had their say."""
    if verdict.decision is not Decision.DISCARD and (action := _refused(ledger, change.runs, verdict)):
        return action
    if verdict.decision is Decision.OPEN and not ledger.auditing:
        return Action(Kind.RUN_CANDIDATE, verdict, next_seed(ledger))
    if verdict.decision is Decision.OPEN:
        words = "Undecided when only the closing audit was left in the budget."
        verdict = replace(verdict, decision=Decision.DISCARD, reason=words)
    return Action(Kind.PROMOTE if verdict.decision is Decision.PROMOTE else Kind.DISCARD, verdict)


def _is_doubtful(verdict: Verdict) -> bool:
    """Whether a change that is not worth another seed by its own runs may be by those of others."""
    score, error = verdict.z, verdict.standard_error
    return verdict.decision is Decision.DISCARD and bool(error) and score is not None and score > OUT_BAR


def _open(verdict: Verdict, words: str) -> Verdict:
    return replace(verdict, decision=Decision.OPEN, reason=words)


def judge(
    change: Candidate, base: Sequence[Run], noise: Noise, patient: bool = False, most: int = MOST_RUNS
) -> Verdict:
    """The rule itself, on a change with at least one run and an incumbent with at least one.

    Args:
        patient: not to discard for want of degrees of freedom: t counts as if the noise were known.
        most: runs that a change gets.
    """
    n, bar = len(change.runs), promote_bar(len(change.runs))
    own = own_residual(change.runs, base)
    whole = compare(change.runs, base, noise, own)
    shown = compare(change.confirming, base, noise, own) if change.confirming else whole
    z = whole.z
    verdict = Verdict(
        Decision.OPEN,
        reason="",
        effect=shown.effect,
        standard_error=shown.error,
        z=z,
        bar=bar,
        needed=-unscore(bar, whole.df) * whole.error if whole.df else None,
        runs=n,
        base_runs=len(base),
        sigma=whole.sigma,
        df=whole.df,
        paired=whole.paired,
    )
    if n >= 2 and z >= bar:
        return _say(verdict, Decision.PROMOTE, f"z = {z:.2f} reaches {bar:.2f}")
    if change.simplification:
        z = replace(whole, effect=whole.effect - whole.sigma).z
        needed = whole.sigma - unscore(SIMPLER_BAR, whole.df) * whole.error if whole.df else None
        verdict = replace(verdict, z=z, bar=SIMPLER_BAR, needed=needed)
        if n >= SIMPLER_RUNS and z >= SIMPLER_BAR:
            words = f"with one sigma granted, z = {z:.2f} reaches {SIMPLER_BAR:.2f}"
            return _say(replace(verdict, label=Label.SIMPLER), Decision.PROMOTE, words)
    if n >= most:
        return _say(verdict, Decision.DISCARD, f"z = {z:.2f} is short of {bar:.2f} after all {n} runs")
    if (whole.t if patient else z) >= discard_bar(n):
        return _say(verdict, Decision.OPEN, f"z = {z:.2f} is worth another seed but short of {bar:.2f}")
    words = f"z = {z:.2f} is below {discard_bar(n):.2f}, the least that is worth another seed"
    return _say(verdict, Decision.DISCARD, words)


def overfitted(holdout: Ledger) -> bool:
    """Whether a change about to be promoted is clearly worse on the holdout.

    `holdout` is the campaign's ledger with the holdout's values in place of the objective's.
    """
    change = holdout.candidate or Candidate()
    runs, base = [run for run in change.runs if run.measured], holdout.base
    if not runs or not base:
        return False
    return compare(runs, base, noise_of(holdout)).z <= -HOLDOUT_BAR


def _say(verdict: Verdict, decision: Decision, why: str) -> Verdict:
    """The verdict with its reason: the effect and its error, what they rest on, then why this decision."""
    assert verdict.effect is not None and verdict.standard_error is not None
    way = "Better" if verdict.effect < 0 else "Worse"
    size = f"{way} by {abs(verdict.effect):.4g} ± {verdict.standard_error:.2g}"
    if not verdict.effect:
        size = "Equal to the last digit"
    if verdict.sigma == 0:
        why += ", on one seed: no two runs of equal code differ"
    kind = "run" if verdict.runs == 1 else "confirming run" if verdict.runs == 2 else "confirming runs"
    count, how = max(1, verdict.runs - 1), ", paired by seed" if verdict.paired else ""
    words = f"{size} ({count} {kind} against {verdict.base_runs} of the incumbent{how}): {why}."
    return replace(verdict, decision=decision, reason=words)


def _refused(ledger: Ledger, runs: Sequence[Run], verdict: Verdict) -> Action | None:
    """What a failed guard makes of the open change; None where it passes."""
    base = ledger.base
    refused, beside = _fails_a_guard(ledger, runs, base, verdict), _beside(runs, base)
    if refused is not None and beside is not None:
        if len(beside) < min(len(runs), GUARD_RUNS) and not ledger.auditing:
            words = f"{refused.reason} In case the machine changed, the incumbent is measured beside it."
            verdict = replace(verdict, decision=Decision.OPEN, reason=words, label=Label.PLAIN)
            return Action(Kind.RUN_INCUMBENT, verdict, next_base_seed(ledger))
        refused = _fails_a_guard(ledger, runs, beside or base, verdict)
    return Action(Kind.DISCARD, refused) if refused else None


def _fails_a_guard(
    ledger: Ledger, runs: Sequence[Run], base: Sequence[Run], verdict: Verdict
) -> Verdict | None:
    """The verdict on what fails a guard against `base`; None where it passes, or has too few runs to say."""
    if len(runs) < 2:
        return None
    first = ledger.first_guards or (guard_means(base) if not ledger.promotions else ())
    means = zip(ledger.guards, guard_means(runs), guard_means(base), strict=False)
    for k, (name, now, before) in enumerate(means):
        groups = [change.fair for change in (ledger.incumbent, *ledger.closed)]
        noise = Pool.of(*([run.guards[k] for run in group if k < len(run.guards)] for group in groups))
        error = noise.error(len(runs), len(base))
        far = unscore(GUARD_ERRORS, noise.df) if noise.df and ledger.first_seed is not None else GUARD_ERRORS
        worse, bound = now - before, far * error
        drifted = k < len(first) and now > first[k] + max(GUARD_DRIFT * abs(first[k]), bound)
        if worse > 0 and worse >= bound:
            much = f"at least {GUARD_ERRORS:g} standard errors"
            words = f"{name} is worse by {worse:.4g} ± {error:.2g}: {much}."
        elif drifted and verdict.decision is Decision.PROMOTE:
            past = f"more than {GUARD_DRIFT:.0%} and noise past the first baseline's {first[k]:.4g}"
            words = f"{name} is at {now:.4g}, {past}."
        else:
            continue
        verdict = replace(verdict, decision=Decision.DISCARD, reason=words, label=Label.PLAIN)
        return replace(verdict, failed_guard=name)
    return None


def _beside(runs: Sequence[Run], base: Sequence[Run]) -> list[Run] | None:
    """The incumbent's runs that ended after the change's first; None where no run says when it ended."""
    first = runs[0].when
    return None if first is None else [run for run in base if run.when is not None and run.when > first]


def next_base_seed(ledger: Ledger) -> int | None:
    """The seed of the incumbent's next run: what the open change has and it lacks, else the next in order."""
    if missing := _missing_seeds(ledger):
        return missing[0]
    return next(_unused(ledger, ledger.incumbent))


def next_seed(ledger: Ledger) -> int | None:
    """The seed of the open change's next run (of the next change's first, where none is open)."""
    return next_seeds(ledger, 1)[0]


def next_seeds(ledger: Ledger, count: int) -> list[int | None]:
    """The seeds of its next runs."""
    return list(itertools.islice(_unused(ledger, ledger.candidate or Candidate()), count))


def look_seed(ledger: Ledger, number: int) -> int | None:
    """The seed that a change has its first run with, where that run is a look: the first few in turn. What a
    seed is worth is alike for similar changes only: whoever searches with one seed finds what suits that one.

    Args:
        number: of the change in the campaign.
    """
    return None if ledger.first_seed is None else ledger.first_seed + number % LOOKS


def _missing_seeds(ledger: Ledger) -> list[int]:
    """Those of the open change that the incumbent was not run with."""
    change = ledger.candidate or Candidate()
    own = (run.seed for run in change.runs if run.seed is not None)
    return [] if ledger.first_seed is None else [seed for seed in own if seed not in ledger.incumbent.seeds]


def _unused(ledger: Ledger, of: Candidate) -> Iterator[int | None]:
    """Everybody takes the seeds in one order."""
    if ledger.first_seed is None:
        return itertools.repeat(None)
    return (seed for seed in itertools.count(ledger.first_seed) if seed not in of.seeds)


def _audit_seed(ledger: Ledger) -> int | None:
    """A seed beyond all that anything was decided by."""
    if ledger.first_seed is None:
        return None
    everybody = (ledger.incumbent, ledger.candidate or Candidate(), *ledger.closed)
    used = [item.seeds for item in everybody] + [ledger.seeds_elsewhere]
    return max([ledger.first_seed - 1, *(max(seeds) for seeds in used if seeds)]) + 1
