"""What a branch kept, judged again: which of its steps were real, and which run would tell most about them.

A step leads from the branch as it was to the branch with one more change. It is judged by the rule that
changes are judged by, on the runs of either side; the runs of one commit are the change's in its own step and
the incumbent's in the next.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

from ar.history.records import Audited, Decision, Finding
from ar.judge.contrast import Comparison, compare, own_residual
from ar.judge.evidence import MOST_RUNS, Candidate, Ledger, Run, guard_means
from ar.judge.noise import Noise, Residual
from ar.judge.rule import PAIRING_DF, discard_bar, next_action, promote_bar

LEAST_RUNS = 2  # of either side before a step is decided
BROKEN = 2  # failed runs of a commit, and none that ended well: it does not run
_NORMAL = NormalDist()
_ENDLESS = 1_000_000  # runs: an audit's own limit is for the caller to keep
_WHOLE = 1 / LEAST_RUNS  # verdicts for a pair of runs, of what lies before a step's first verdict

Step = tuple[str, str]  # from the branch as it was to the branch with the change, by their identities
Wanted = tuple[str, int | None]  # whose run, and its seed


@dataclass(frozen=True)
class Evidence:
    """What was measured of a branch's commits, by the identity of their trees.

    Args:
        runs: that ended.
        under_way: seeds of those that have not.
        noise: as the campaign knows it.
        guards: their names, in the order of `Run.guards`.
        first: where the branch begins, which guards must not drift away from.
        first_seed: seeds are first_seed, first_seed + 1, ...; None where the programme has none.
    """

    runs: Mapping[str, tuple[Run, ...]]
    under_way: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    noise: Noise = field(default_factory=Noise)
    guards: tuple[str, ...] = ()
    first: str = ""
    first_seed: int | None = None

    def measured(self, place: str) -> tuple[Run, ...]:
        """Its runs that gave values, by seed."""
        runs = (run for run in self.runs.get(place, ()) if run.measured)
        return tuple(sorted(runs, key=lambda run: run.seed or 0))

    def is_broken(self, place: str) -> bool:
        """Whether it does not run, as far as can be told."""
        return len(self.runs.get(place, ())) >= BROKEN and not self.measured(place)

    def judged_by(self, step: Step) -> tuple[Run, ...]:
        """The runs of the later side that the step is judged by: with seeds, those that both sides have."""
        before, after = map(self.measured, step)
        if self.first_seed is None:
            return after[: len(before)]
        seeds = {run.seed for run in before}
        return tuple(run for run in after if run.seed in seeds)

    def lacking(self, step: Step) -> list[Wanted]:
        """The runs that make the step's next pair; none where that is under way."""
        if self.first_seed is None:
            counts = [len(self.runs.get(side, ())) + len(self.under_way.get(side, ())) for side in step]
            return [(side, None) for side, count in zip(step, counts, strict=True) if count == min(counts)]
        for seed in itertools.count(self.first_seed):
            ended, coming = zip(*(self._at(side, seed) for side in step), strict=True)
            if any(run is not None and not run.measured for run in ended) or all(ended):
                continue
            return [
                (side, seed)
                for side, run, waits in zip(step, ended, coming, strict=True)
                if run is None and not waits
            ]
        raise AssertionError("seeds never end")

    def _at(self, place: str, seed: int) -> tuple[Run | None, bool]:
        """The run with a seed, and whether it is under way."""
        run = next((run for run in self.runs.get(place, ()) if run.seed == seed), None)
        return run, seed in self.under_way.get(place, ())

    def with_noise_of(self, steps: Iterable[Step]) -> Evidence:
        """As if all that is known of runs with one seed were how alike they are on the two sides of a step.

        That is what a step is compared by. Commits further apart share less of what a seed does. Where the
        steps tell too little yet, the noise stays as it is.
        """
        residual, number = Residual(), itertools.count()
        for step in steps:
            # Each step is a table of its own: its seeds are no other's.
            seeds = {run.seed: next(number) for run in self.judged_by(step)}
            for side in step:
                runs = [run for run in self.measured(side) if run.seed in seeds]
                residual.add([replace(run, seed=seeds[run.seed]) for run in runs])
        if residual.pool.df < PAIRING_DF:
            return self
        return replace(self, noise=replace(self.noise, residual=residual))

    def with_run(self, wanted: Wanted) -> Evidence:
        """As if a run were under way, too."""
        place, seed = wanted
        coming = {**self.under_way, place: (*self.under_way.get(place, ()), seed)}
        return replace(self, under_way=coming)


def audited(evidence: Evidence, step: Step, commit: str = "") -> Audited:
    """What the runs say of a step: real where the judge would promote it, worse where it would promote its
    reverse, not confirmed where it would discard it, and undecided while it would go on.

    Args:
        commit: id of the commit that the step leads to.
    """
    if any(map(evidence.is_broken, step)):
        side = "it" if evidence.is_broken(step[1]) else "the branch before it"
        return Audited(Finding.NOT_CONFIRMED, commit, reason=f"{side} does not run")
    after = evidence.judged_by(step)
    if not after:
        return Audited(Finding.UNDECIDED, commit)
    action = next_action(_ledger(evidence, step, after), evidence.noise)
    found = compared(evidence, step)
    verdict, known = action.verdict, found.df > 0
    finding, reason = Finding.UNDECIDED, ""
    # Without seeds the rule counts on the eight runs of a first incumbent, which tell the noise.
    tells = evidence.first_seed is not None or found.df >= PAIRING_DF
    if verdict.decision is Decision.PROMOTE:
        finding = Finding.REAL
    elif (verdict.decision is Decision.DISCARD and tells) or len(after) >= MOST_RUNS:
        is_worse = known and found.z <= -promote_bar(len(after))
        finding = Finding.WORSE if is_worse else Finding.NOT_CONFIRMED
        reason = verdict.reason if verdict.failed_guard else ""
    return Audited(
        finding=finding,
        commit=commit,
        effect=found.effect,
        standard_error=found.error if known else None,
        z=found.z if known else None,
        runs=len(after),
        paired=found.paired,
        reason=reason,
    )


def compared(evidence: Evidence, step: Step) -> Comparison:
    """A step's two sides against each other, as far as they have runs.

    Both sides need one.
    """
    before, after = evidence.measured(step[0]), evidence.judged_by(step) or evidence.measured(step[1])
    return compare(after, before, evidence.noise, own_residual(after, before))


def _ledger(evidence: Evidence, step: Step, after: Sequence[Run]) -> Ledger:
    """The step as a campaign of its own, in which it is the one change."""
    return Ledger(
        budget=_ENDLESS,
        spent=0,
        incumbent=Candidate(base=evidence.measured(step[0])),
        candidate=Candidate(runs=tuple(after), chosen=False),
        promotions=1,
        guards=evidence.guards,
        first_guards=guard_means(evidence.runs.get(evidence.first, ())),
        first_seed=evidence.first_seed,
    )


def next_run(evidence: Evidence, steps: Sequence[Step], whole: Step) -> Wanted | None:
    """The run from which most verdicts are to be expected; None where nothing is left to be decided.

    Each step that is not decided promises its next verdict for so many more pairs of runs, and that promise
    counts for each of the runs that its next pair lacks. A run that two steps lack, as it is the change of
    one and the incumbent of the other, has the promise of both. This is the greedy, one step at a time form
    of optimal computing budget allocation (Chen, Lin, Yücesan and Chick 2000): the next run goes where it
    raises the chance of right verdicts most.

    Args:
        whole: from the first commit to the head: it has as many pairs as a change may have, whatever they
            say, since its size is what is wanted.
    """
    promises: dict[Wanted, float] = {}
    for step in dict.fromkeys([*steps, whole]):
        if any(map(evidence.is_broken, step)):
            continue
        promise = _promise_of_whole(evidence, step) if step == whole else 0.0
        promise = max(promise, _promise(evidence, step) if step in steps else 0.0)
        lacking = evidence.lacking(step) if promise else []
        for wanted in lacking:
            promises[wanted] = promises.get(wanted, 0.0) + promise / len(lacking)
    return max(promises, key=lambda wanted: promises[wanted]) if promises else None


def _promise_of_whole(evidence: Evidence, step: Step) -> float:
    return _WHOLE if len(evidence.judged_by(step)) < MOST_RUNS else 0.0


def _promise(evidence: Evidence, step: Step) -> float:
    """Verdicts to be expected for one more pair of runs of a step, at the best number of further pairs; 0
    where it is decided."""
    found = audited(evidence, step)
    if found.finding is not Finding.UNDECIDED:
        return 0.0
    if found.runs < LEAST_RUNS or found.z is None:
        return 1 / max(1, LEAST_RUNS - found.runs)
    return max(
        settled(found.z, found.runs, more) / more for more in range(1, max(1, MOST_RUNS - found.runs) + 1)
    )


def settled(z: float, n: int, more: int) -> float:
    """The chance that a step with the score z after n pairs of runs is decided after `more` further ones,
    where nothing was known of its effect before."""
    total = n + more
    if total >= MOST_RUNS:
        return 1.0
    centre, width = z * math.sqrt(total / n), math.sqrt(more / n)
    undecided = [_NORMAL.cdf((bar - centre) / width) for bar in (discard_bar(total), promote_bar(total))]
    return 1.0 - max(0.0, undecided[1] - undecided[0])
