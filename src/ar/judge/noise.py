"""How much one run varies by luck, and how much of that is its seed's."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ar.judge.arithmetic import at_most, mean, spread
from ar.judge.evidence import MOST_RUNS, Candidate, Ledger, Run

ROUNDING = 1e-6  # of sigma: a smaller residual is one of the arithmetic, not of the runs
SINGULAR = 1e-9  # a smaller pivot is 0: of seeds that were run together, one effect is free


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

    Least squares over the table of codes and seeds, gaps and all: each code's runs about their own mean, then
    the seeds' effects from their normal equations.
    """

    _about: Pool = field(default_factory=Pool)  # of codes, about their own means
    _normal: dict[int, dict[int, float]] = field(default_factory=dict)
    _sums: dict[int, float] = field(default_factory=dict)
    _found: Pool | None = None

    def add(self, runs: Sequence[Run]) -> None:
        """Take in the runs of one code, each with a seed of its own."""
        new = {run.seed: run.value for run in runs[:MOST_RUNS] if run.seed is not None}
        if len(new) < 2:
            return
        self._found = None
        self._about.add(list(new.values()))
        centre, share = mean(list(new.values())), 1 / len(new)
        for seed, value in new.items():
            self._sums[seed] = self._sums.get(seed, 0.0) + value - centre
            row = self._normal.setdefault(seed, defaultdict(float))
            for other in new:
                row[other] += (seed == other) - share

    @property
    def pool(self) -> Pool:
        """Sum of squares about the table's best fit, and its degrees of freedom."""
        if self._found is None:
            rows = {seed: dict(row) for seed, row in self._normal.items()}
            sums, squares, df = dict(self._sums), self._about.squares, self._about.df
            while rows:
                seed, row = rows.popitem()
                pivot, total = row.pop(seed), sums.pop(seed)
                for other in row:
                    del rows[other][seed]
                if pivot < SINGULAR:
                    continue
                squares, df = squares - total**2 / pivot, df - 1
                for other, weight in row.items():
                    sums[other] -= weight / pivot * total
                    for third, part in row.items():
                        rows[other][third] = rows[other].get(third, 0.0) - weight * part / pivot
            self._found = Pool(max(0.0, squares), df)
        return self._found


@dataclass
class Noise:
    """What the campaign knows of its noise: of single runs, and of what is left after the seed's effect.

    A run that repeats another's to the last digit with its seed is the same computation again, not evidence,
    and is left out.
    """

    plain: Pool = field(default_factory=Pool)
    residual: Residual = field(default_factory=Residual)
    _seeds: set[int] = field(default_factory=set)
    _counted: set[tuple[int, float]] = field(default_factory=set)  # seeds and values
    _seeded: int = 0  # degrees of freedom of `plain` from groups with seeds

    @classmethod
    def of(cls, changes: Iterable[Candidate]) -> Noise:
        noise = cls()
        for change in changes:
            noise.add(change)
        return noise

    def add(self, change: Candidate) -> None:
        runs = [run for run in change.fair if run.seed is None or (run.seed, run.value) not in self._counted]
        if len(runs) < 2:
            return
        self._counted |= {(run.seed, run.value) for run in runs if run.seed is not None}
        self.plain.add([run.value for run in runs])
        seeds = {run.seed for run in runs if run.seed is not None}
        if seeds:
            self._seeds |= seeds
            self._seeded += len(runs) - 1
            self.residual.add(runs)

    @property
    def sigma(self) -> float:
        """Standard deviation of one run; nan where nothing was repeated."""
        return self.plain.sigma

    @property
    def df(self) -> int:
        """Degrees of freedom of `sigma`: runs of many changes on few seeds tell what seeds do no more often
        than there are seeds."""
        return self.plain.df - self._seeded + min(self._seeded, max(0, len(self._seeds) - 1))

    @property
    def residual_sigma(self) -> float:
        """Standard deviation of one run after its seed's effect; nan where nothing tells it."""
        pool = self.residual.pool
        return max(pool.sigma, ROUNDING * self.sigma) if pool.df else math.nan

    @property
    def pairing_helps(self) -> bool:
        """Whether the seed's effect is known to be part of the noise: the upper 95 % bound of the residual
        lies below sigma."""
        df = self.residual.pool.df
        return df > 0 and at_most(self.residual_sigma, df) < self.sigma

    def residual_of(self, own: Pool) -> float:
        """Residual standard deviation of something compared by seed, whose own runs give `own`.

        Some changes follow the incumbent closely, others send training down another path, and the own runs
        say which kind it is. What the campaign knows counts beside them as one more degree of freedom (after
        Smyth 2004), and is only ever corrected upwards.
        """
        known = self.residual_sigma
        return max(known, math.sqrt((known**2 + own.squares) / (1 + own.df)))


def noise_of(ledger: Ledger) -> Noise:
    """What the campaign so far shows of its noise, the open change left out; of what drifts with the machine,
    only by runs that followed each other."""
    changes = (ledger.incumbent, *ledger.closed)
    if ledger.drifts:
        in_time = [sorted(change.fair, key=lambda run: run.when or 0.0) for change in changes]
        changes = tuple(
            Candidate(base=tuple(runs[k : k + 2])) for runs in in_time for k in range(0, len(runs), 2)
        )
    return Noise.of(changes)
