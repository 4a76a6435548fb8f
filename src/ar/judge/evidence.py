"""What the judge is shown: runs, the changes that they measure, and the campaign so far.

Values are oriented (lower is better), so an effect below 0 is an improvement.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ar.history.attempts import objective
from ar.history.records import Attempt, Experiment, History, Outcome
from ar.judge.arithmetic import mean
from ar.project.program import Program
from ar.project.values import number

MOST_RUNS = 8  # no change gets more; the first incumbent has as many before the rule may begin
HUGE = 1e140  # a value beyond this is no measurement; below it no sum of squares overflows


@dataclass(frozen=True)
class Run:
    """One measured run: of what a change is judged by.

    Args:
        guards: oriented too, in the order of the programme's `guards:`.
        when: unix time of the run's end; None where nobody knows.
    """

    seed: int | None
    value: float
    guards: tuple[float, ...] = ()
    crashed: bool = False
    when: float | None = None

    @property
    def measured(self) -> bool:
        """Whether it gave finite values; one that did not counts as crashed."""
        finite = abs(self.value) <= HUGE and (
            not self.guards or all(abs(guard) <= HUGE for guard in self.guards)
        )
        return finite and not self.crashed


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
        return tuple(run for run in (*self.runs[1:], *self.base) if run.measured)

    @cached_property
    def fresh(self) -> tuple[Run, ...]:
        """Those of them that were made after the decision that made it the incumbent."""
        return tuple(run for run in self.base if run.measured)


@dataclass(frozen=True)
class Ledger:
    """The campaign so far.

    Args:
        budget: in runs; None where the judge has none to watch over, and keeps no run back for an audit.
        spent: in runs; a crashed run is spent too.
        candidate: the open change, with the runs made so far (none yet is fine); None between changes.
        closed: every change judged before, and every earlier incumbent, in any order.
        promotions: how many times the incumbent was replaced.
        guards: their names, in the order of `Run.guards`.
        first_guards: mean guard values of the campaign's first baseline; while empty and before the first
            promotion, the incumbent's.
        first_seed: seeds are first_seed, first_seed + 1, ...; None where the programme has none.
    """

    budget: int | None
    spent: int
    incumbent: Candidate
    candidate: Candidate | None = None
    closed: tuple[Candidate, ...] = ()
    promotions: int = 0
    guards: tuple[str, ...] = ()
    first_guards: tuple[float, ...] = ()
    first_seed: int | None = None

    @property
    def left(self) -> float:
        """Runs that are left; infinite without a budget."""
        return math.inf if self.budget is None else self.budget - self.spent

    @property
    def spare(self) -> float:
        """Runs that are left besides those of the closing audit."""
        return self.left - (0 if self.budget is None else audit_runs(self.budget))

    @property
    def auditing(self) -> bool:
        """Whether all that is left is the closing audit's."""
        return self.spare <= 0


def audit_runs(budget: int) -> int:
    """How many runs at the end of the budget re-measure the incumbent: clamp(budget / 100, 4, 8)."""
    return min(8, max(4, budget // 100))


def guard_means(runs: Iterable[Run]) -> tuple[float, ...]:
    """Mean of each guard over the runs that gave a value."""
    rows = [run.guards for run in runs if run.measured]
    return tuple(mean(column) for column in zip(*rows, strict=False))


def ledger(
    program: Program, history: History, attempt: Attempt | None = None, head_seed: int | None = None
) -> Ledger:
    """The campaign as the judge sees it, with one attempt open. Runs under way are as good as spent.

    Args:
        head_seed: what the branch's parameters hold, for as long as no baseline run says where seeds begin.
    """
    head, first, known = history.now, history.first, first_seed(history)
    closed = tuple(
        candidate(program, item)
        for item in history.attempts
        if item is not head
        and item is not attempt
        and (item.is_decided or item.outcome in (Outcome.BASELINE, Outcome.PROMOTED))
        and item.outcome is not Outcome.TAMPERED
    )
    return Ledger(
        budget=None if history.rung else program.budget.runs,
        spent=sum(not run.is_foreign for run in history.experiments),
        incumbent=candidate(program, head) if head else Candidate(),
        candidate=candidate(program, attempt) if attempt else None,
        closed=closed,
        promotions=len(history.promoted),
        guards=tuple(guard.key for guard in program.guards),
        first_guards=guard_means(measurements(program, first.experiments)) if first else (),
        first_seed=head_seed if known is None else known,
    )


def first_seed(history: History) -> int | None:
    """The seed of the campaign's first baseline run; None before there is one."""
    seeds = (run.seed for run in history.experiments if run.measures_baseline)
    return next((seed for seed in seeds if seed is not None), None)


def candidate(program: Program, attempt: Attempt) -> Candidate:
    """An attempt as the judge sees it."""
    own, base = (measurements(program, runs) for runs in (attempt.own, attempt.base))
    return Candidate(own, base, simplification=any(run.simplification for run in attempt.own))


def measurements(program: Program, experiments: Sequence[Experiment]) -> tuple[Run, ...]:
    """The runs that ended; of one seed measured twice, in two clones, the first."""
    first: dict[int | str, Experiment] = {}
    for item in experiments:
        if item.status.ended:
            first.setdefault(item.name if item.seed is None else item.seed, item)
    return tuple(_run(program, item) for item in first.values())


def _run(program: Program, experiment: Experiment) -> Run:
    value = objective(experiment, program)
    guards = [number(experiment.metrics.get(str(guard))) for guard in program.guards]
    known = [guard for guard in guards if guard is not None]
    if value is None or len(known) < len(guards):
        return Run(experiment.seed, 0.0, crashed=True)
    oriented = tuple(g.orient(v) for g, v in zip(program.guards, known, strict=True))
    when = experiment.note.finished if experiment.note else None
    return Run(experiment.seed, program.objective.orient(value), oriented, when=when)
