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
    def z(self) -> float:
        """The score, above 0 for an improvement. With no noise at all, any difference is certain."""
        if not self.df or not self.effect:
            return 0.0
        t = -self.effect / self.error if self.error > 0 else math.copysign(math.inf, -self.effect)
        return score(t, self.df)


def own_residual(runs: Sequence[Run], base: Sequence[Run]) -> Pool:
    """Residual variance of a change from its confirming runs: how its differences from the incumbent, seed
    by seed, differ from each other. Half of that is the incumbent's share."""
    at_seed: dict[int | None, float] = {run.seed: run.value for run in base if run.seed is not None}
    steps = [run.value - at_seed[run.seed] for run in runs[1:] if run.seed in at_seed and run.measured]
    return Pool.of([step / math.sqrt(2) for step in steps])


def compare(
    runs: Sequence[Run], base: Sequence[Run], noise: Noise, own: Pool | None = None, hopeful: bool = False
) -> Comparison:
    """The change's mean minus the incumbent's, less what is known of the luck of the change's seeds.

    The incumbent's own runs show that luck: their mean on the shared seeds against their mean on all. Of
    it the fraction `rho` is taken off, the best linear predictor (a control variate). The error is that of
    the resulting weighted sum of runs, whose weights add up to 1 and -1. Where changes are unlike each other,
    the form with the narrower interval counts. `own` and `hopeful` are as in `Noise.residual_of`.
    """
    n, m = len(runs), len(base)
    sigma, df = noise.residual_of(own or Pool(), hopeful)
    rho = 1 - (sigma / noise.sigma) ** 2 if noise.sigma > 0 else 0.0
    base_mean = mean([run.value for run in base])
    effect = mean([run.value for run in runs]) - base_mean
    seeds = {run.seed for run in runs} - {None}
    shared = [run.value for run in base if run.seed in seeds]
    plain = Comparison(effect, noise.plain.error(n, m), noise.sigma, noise.plain.df)
    if rho <= 0 or not shared:
        return plain
    share = len(shared) / n
    effect -= rho * share * (mean(shared) - base_mean)
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


def best_seeds(sides: Sequence[Side], noise: Noise) -> frozenset[int | None]:
    """The seeds that all sides have, if their runs alone tell a contrast more precisely; else none."""
    seeds = frozenset.intersection(*(frozenset(run.seed for run in runs) for _, runs in sides)) - {None}
    if not seeds or (noise.correlation <= 0 and noise.typical is None):
        return frozenset()
    paired, all_runs = contrast(sides, noise, seeds), contrast(sides, noise)
    narrower = half_width(paired.error, paired.df) < half_width(all_runs.error, all_runs.df)
    return seeds if narrower else frozenset()


def contrast(sides: Sequence[Side], noise: Noise, seeds: frozenset[int | None] = frozenset()) -> Comparison:
    """A weighted sum of means and its standard error, on some seeds only if any are given.

    Runs that several sides share count with the sum of their weights, as do runs of one seed in what the
    seed does to them. Where changes are not alike, the sums of the given seeds say themselves how precise;
    what is typical counts as one more.
    """
    if seeds:
        sides = [(weight, [run for run in runs if run.seed in seeds]) for weight, runs in sides]
    effect = 0.0
    by_run: dict[Run, float] = defaultdict(float)
    by_seed: dict[object, float] = defaultdict(float)
    for place, (weight, runs) in enumerate(sides):
        for run in runs:
            part = weight / len(runs)
            effect += part * run.value
            by_run[run] += part
            by_seed[(place, len(by_seed)) if run.seed is None else run.seed] += part
    of_runs, of_seeds = (math.fsum(part**2 for part in parts.values()) for parts in (by_run, by_seed))
    if seeds and noise.typical is not None:
        at_seed: dict[object, float] = defaultdict(float)
        for run, part in by_run.items():
            at_seed[run.seed] += part * run.value * len(seeds)
        pool = Pool.of(list(at_seed.values()))
        expected = noise.typical**2 * len(seeds) * of_runs
        error = math.sqrt((expected + pool.squares) / (1 + pool.df) / len(seeds))
        return Comparison(effect, error, noise.typical, 1 + pool.df, paired=True)
    helps = noise.correlation > 0
    own, df = (noise.residual_sigma, noise.residual.df) if helps else (noise.sigma, noise.plain.df)
    error = math.sqrt(own**2 * of_runs + (noise.sigma**2 - own**2) * of_seeds)
    return Comparison(effect, error, own, df, paired=helps)
