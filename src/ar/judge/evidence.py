"""What the judge is shown: runs, the changes that they measure, and the campaign so far.

Values are oriented (lower is better), so an effect below 0 is an improvement.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ar.judge.arithmetic import mean

MOST_RUNS = 8  # no change gets more; without seeds the first incumbent has as many before the rule may begin
OPENING = (
    6  # changes that get two seeds whatever their first run says: six degrees of freedom of the residual
)
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
        whole = not self.guards or all(abs(guard) <= HUGE for guard in self.guards)
        return whole and abs(self.value) <= HUGE and not self.crashed


@dataclass(frozen=True)
class Candidate:
    """A change and its runs.

    Args:
        runs: made while it was judged, in order; runs[0] is its screening run. Empty for the first
            baseline, which nobody judged.
        base: made later, while it was the incumbent.
        simplification: declared to be simpler at equal quality.
        chosen: whether its screening run had a say in that there is a second; False in the opening.
    """

    runs: tuple[Run, ...] = ()
    base: tuple[Run, ...] = ()
    simplification: bool = False
    chosen: bool = True

    @property
    def confirming(self) -> tuple[Run, ...]:
        """Its runs while it was judged that were not selected for their luck, as the screening run was."""
        return self.runs[1:] if self.chosen else self.runs

    @cached_property
    def fair(self) -> tuple[Run, ...]:
        """The runs that measure it: all but the screening run, if that was selected for its luck."""
        return tuple(run for run in (*self.confirming, *self.base) if run.measured)

    @cached_property
    def measured(self) -> tuple[Run, ...]:
        """All its runs that gave values; of two with one seed the first."""
        found: dict[object, Run] = {}
        for place, run in enumerate((*self.runs, *self.base)):
            if run.measured:
                found.setdefault((place,) if run.seed is None else run.seed, run)
        return tuple(found.values())

    @cached_property
    def seeds(self) -> frozenset[int]:
        """Those that it was run with, crashed runs and all."""
        return frozenset(run.seed for run in (*self.runs, *self.base) if run.seed is not None)

    @property
    def opens(self) -> bool:
        """Whether it counts towards the opening."""
        return not self.chosen and sum(run.measured for run in self.runs) > 1

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
        closed: every change judged before, every earlier incumbent, and what else was measured more than
            once, in any order.
        promotions: how many times the incumbent was replaced.
        guards: their names, in the order of `Run.guards`.
        first_guards: mean guard values of the campaign's first baseline; while empty and before the first
            promotion, the incumbent's.
        first_seed: seeds are first_seed, first_seed + 1, ...; None where the programme has none.
        screening: somebody else chooses, past the opening, which changes get another run.
        drifts: values change with the machine, as times do.
        device: class of devices that all these runs were measured on; empty where nobody noted it.
        asks_device: further runs have to be made there: the campaign has several classes.
        seeds_elsewhere: those that anything was run with on other classes.
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
    screening: bool = False
    drifts: bool = False
    device: str = ""
    asks_device: bool = False
    seeds_elsewhere: frozenset[int] = frozenset()

    @property
    def base(self) -> tuple[Run, ...]:
        """The incumbent's runs that changes are compared with. With seeds, those that selected it are among
        them: everybody has the same seeds. That makes it look lucky, which is harder for the next change."""
        return self.incumbent.fair if self.first_seed is None else self.incumbent.measured

    @property
    def opens(self) -> bool:
        """Whether its first changes calibrate the noise. At a larger rung, where few changes climb, the
        incumbent's own runs do."""
        return self.first_seed is not None and self.budget is not None

    @property
    def opened(self) -> int:
        """How many changes of the opening have their two runs."""
        return sum(item.opens for item in (self.incumbent, *self.closed, self.candidate or Candidate()))

    @property
    def knows_noise(self) -> bool:
        """Whether the opening is over."""
        return self.first_seed is None or self.opened >= OPENING

    @property
    def only_on(self) -> str:
        """The class of devices that further runs are to be made on; empty for any."""
        return self.device if self.asks_device else ""

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
    """How many runs at the end of the budget re-measure the incumbent: clamp(budget / 100, 4, 8), and fewer
    where four would be more than one run in 25."""
    return max(2, min(4, budget // 25), min(8, budget // 100))


def guard_means(runs: Iterable[Run]) -> tuple[float, ...]:
    """Mean of each guard over the runs that gave a value."""
    rows = [run.guards for run in runs if run.measured]
    return tuple(mean(column) for column in zip(*rows, strict=False))
