"""How much one run varies by luck, and how much of that is its seed's."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ar.judge.arithmetic import chi_square, mean, spread, spread_of_most
from ar.judge.evidence import MOST_RUNS, Candidate, Ledger, Run

LEAST_RESIDUAL = 0.25  # of sigma: how far pairing is trusted. Large changes decorrelate more than small ones
SCREENED = 8  # first runs from which the campaign knows how closely most changes follow the incumbent
CLOSE = 0.7  # most changes follow it closely if they differ by less than this share of what the pool says


@dataclass
class Pool:
    """Variance of one run of equal code, pooled over groups of runs, each about its own mean."""

    squares: float = 0.0
    df: int = 0

    @classmethod
    def of(cls, *groups: Sequence[float]) -> Pool:
        pool = cls()
        for values in groups:
            pool.add(values)
        return pool

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
        runs = runs[: MOST_RUNS - 1]
        seeds = tuple(run.seed for run in runs if run.seed is not None)
        if len(seeds) < len(runs):
            return
        for k in range(1, len(seeds)):
            step = runs[k].value - mean([run.value for run in runs[:k]])
            contrast = step * math.sqrt(k / (k + 1))
            centre, seen = self.cells.get(seeds[: k + 1], (0.0, set()))
            if contrast in seen:
                continue
            seen.add(contrast)
            moved = centre + (contrast - centre) / len(seen)
            if len(seen) > 1:
                self.squares += (contrast - centre) * (contrast - moved)
                self.df += 1
            self.cells[seeds[: k + 1]] = (moved, seen)


@dataclass
class Noise:
    """What the campaign knows of its noise: of single runs, and of what is left after the seed's effect."""

    plain: Pool = field(default_factory=Pool)
    residual: Residual = field(default_factory=Residual)
    screens: dict[int, set[float]] = field(default_factory=dict)
    _spread: float | None = None  # of the screens; worked out again once there is another

    @classmethod
    def of(cls, changes: Iterable[Candidate]) -> Noise:
        noise = cls()
        for change in changes:
            noise.add(change)
        return noise

    def add(self, change: Candidate) -> None:
        for run in change.runs[:1]:
            if run.seed is not None and run.measured:
                self.screens.setdefault(run.seed, set()).add(run.value)
                self._spread = None
        if len(change.runs) < 2 and not change.base:
            return  # one run tells nothing else; most changes have one
        self.plain.add([run.value for run in change.fair])
        # Changes are screened on their incumbent's first fresh seed: without it, their seeds begin alike.
        self.residual.add([run for run in change.runs[1:] if run.measured])
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
        if found * math.sqrt(df / chi_square(df)) >= self.sigma:
            return self.sigma
        return max(found, LEAST_RESIDUAL * self.sigma)

    @property
    def typical(self) -> float | None:
        """Residual standard deviation of most changes, where a few wild ones hide it in the pool; else None.

        From the spread of first runs of one seed, equal values counted once: an upper bound, as the changes'
        effects are part of it.
        """
        if self._spread is None:
            groups = [values for values in self.screens.values() if len(values) >= SCREENED]
            middles = ((values, statistics.median(values)) for values in groups)
            steps = [value - middle for values, middle in middles for value in values]
            self._spread = spread_of_most(steps) if steps else math.inf
        found = max(self._spread, LEAST_RESIDUAL * self.sigma)
        return found if found < CLOSE * self.residual_sigma else None

    def residual_of(self, own: Pool, hopeful: bool = False) -> tuple[float, int]:
        """Residual standard deviation of a change, and the degrees of freedom behind it.

        Some changes follow the incumbent closely, others send training down another path. The change's own
        runs say which kind it is; what the campaign knows counts beside them as one more degree of freedom
        (after Smyth 2004). Pooled knowledge is only ever corrected upwards. With `hopeful`, the change is
        taken to be like most, as far as its own runs do not speak against that.
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


def noise_of(ledger: Ledger) -> Noise:
    """What the campaign so far shows of its noise, the open change left out."""
    return Noise.of((ledger.incumbent, *ledger.closed))
