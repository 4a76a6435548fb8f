"""The difference between runs of one code and of another, and its standard error."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ar.judge.arithmetic import half_width, mean, score
from ar.judge.evidence import Run
from ar.judge.noise import Noise, Pool

Side = tuple[float, Sequence[Run]]  # runs, and the weight that their mean has in a sum of means


@dataclass(frozen=True)
class Comparison:
    """A change against the incumbent: effect below 0 is an improvement; error is its standard error."""

    effect: float
    error: float
    sigma: float
    df: int
    paired: bool = False

    @property
    def t(self) -> float:
        """Student's t, above 0 for an improvement. With no noise at all, any difference is infinite."""
        if not self.df or not self.effect:
            return 0.0
        return -self.effect / self.error if self.error > 0 else math.copysign(math.inf, -self.effect)

    @property
    def z(self) -> float:
        """The score, above 0 for an improvement."""
        return score(self.t, self.df) if self.df else 0.0


def own_residual(runs: Sequence[Run], base: Sequence[Run]) -> Pool:
    """Residual variance of a change: how its differences from the incumbent, seed by seed, differ from each
    other. Half of that is the incumbent's share."""
    return Pool.of([step / math.sqrt(2) for step in _steps(runs, base)])


def compare(runs: Sequence[Run], base: Sequence[Run], noise: Noise, own: Pool | None = None) -> Comparison:
    """The change's mean minus the incumbent's: over the seeds that both were run with, by the residual, or
    over all runs, by sigma, whichever has the narrower 95 % interval. `own` is as in `Noise.residual_of`."""
    effect = mean([run.value for run in runs]) - mean([run.value for run in base])
    plain = Comparison(effect, noise.plain.error(len(runs), len(base)), noise.sigma, noise.df)
    steps, df = _steps(runs, base), noise.residual.pool.df
    if not steps or not df:
        return plain
    sigma = noise.residual_of(own or Pool())
    return narrower(plain, Comparison(mean(steps), sigma * math.sqrt(2 / len(steps)), sigma, df, paired=True))


def narrower(one: Comparison, two: Comparison) -> Comparison:
    """Of two comparisons of the same things, the one with the narrower 95 % interval."""
    widths = [half_width(it.error, it.df) if it.df else math.inf for it in (one, two)]
    return one if widths[0] < widths[1] else two


def _steps(runs: Sequence[Run], base: Sequence[Run]) -> list[float]:
    """Differences from the incumbent on the seeds that both have."""
    at_seed = {run.seed: run.value for run in base if run.seed is not None}
    return [run.value - at_seed[run.seed] for run in runs if run.seed in at_seed and run.measured]


def contrast(sides: Sequence[Side], noise: Noise, paired: bool = False) -> Comparison:
    """A weighted sum of means and its standard error.

    Runs that several sides share count with the sum of their weights. With `paired`, only the seeds that all
    sides have count, and the sums at these seeds have a say in how precise the whole is.
    """
    seeds = shared_seeds(sides)
    if paired:
        sides = [(weight, [run for run in runs if run.seed in seeds]) for weight, runs in sides]
    effect = 0.0
    by_run: dict[Run, float] = defaultdict(float)
    for weight, runs in sides:
        for run in runs:
            part = weight / len(runs)
            effect += part * run.value
            by_run[run] += part
    scale = math.sqrt(math.fsum(part**2 for part in by_run.values()))
    if not paired:
        return Comparison(effect, noise.sigma * scale, noise.sigma, noise.df)
    at_seed: dict[object, float] = defaultdict(float)
    for run, part in by_run.items():
        at_seed[run.seed] += part * run.value * len(seeds)
    own = Pool.of([value / (scale * math.sqrt(len(seeds))) for value in at_seed.values()])
    sigma = noise.residual_of(own)
    return Comparison(effect, sigma * scale, sigma, noise.residual.pool.df, paired=True)


def shared_seeds(sides: Sequence[Side]) -> frozenset[int | None]:
    """The seeds that all sides were run with."""
    return frozenset.intersection(*(frozenset(run.seed for run in runs) for _, runs in sides)) - {None}


def best_paired(sides: Sequence[Side], noise: Noise) -> bool:
    """Whether the seeds that all sides have tell a contrast more precisely than all runs do."""
    if not noise.residual.pool.df or not shared_seeds(sides):
        return False
    return narrower(contrast(sides, noise), contrast(sides, noise, paired=True)).paired
