"""What effects at small scales say of the effect at the target: an autoregressive chain over the rungs.

    effect(rung r) ~ N(rho_r · effect(rung r - 1), tau_r²),   measured = effect + noise

(Kennedy and O'Hagan 2000.) `rho`, what is left of an effect one rung up, and `tau`, what is new there, are
learnt over all ideas of a campaign by expectation-maximisation, under priors that speak where ideas are few.
At one rung at most an idea may break with its past: from there on its effect is one like any other idea's,
whatever it was below. So each idea is a mixture of as many Gaussian chains as there are places to break, and
none of it hides an outlier or a flip. Lower is better; below 0 a change improves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from ar.surrogate.regression import Array

ROUNDS, WARM_ROUNDS = 100, 6  # of expectation-maximisation, at most: from the start, and from an earlier fit
SETTLED = 3e-4  # relative change of rho, tau and the rest at which it ends
RHO, RHO_SPREAD, RHO_ALIKE = 0.9, 0.3, 0.2  # expected of rho; its spread, and that of one rung about all
TAU = 0.15  # expected tau, in standard deviations of the effects at the rung below
PRIOR_IDEAS = 4.0  # so many ideas' worth of what is expected of each variance
BREAKS, PRIOR_STEPS = 0.1, 10.0  # how often an idea breaks at a rung; as if so many steps had been seen
IDLE, PRIOR_SEEN = 0.3, 6.0  # share of the ideas that do next to nothing; as if so many had been seen
NOTHING = 0.15  # of what others do: standard deviation of what these do
BATCHES = (1, 2, 4, 8)  # runs at once that a further run's worth is looked for among
LEAST = 1e-9  # of the effects' variance: keeps a variance above 0
INSIDE = 0.95


@dataclass(frozen=True)
class Measured:
    """An idea's effect at one rung.

    Args:
        error: its standard error.
        base: the part of it that is the baseline's luck, which all ideas of the rung share as far as they
            have the same seeds.
    """

    effect: float
    error: float
    base: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """An idea's effect at one rung, by all that was measured of it and of others.

    Args:
        interval: that holds it in 95 % of cases.
        chance: that it is an improvement.
        broken: probability that the idea's effect has broken with that at the lowest rung by then.
    """

    effect: float
    error: float
    interval: tuple[float, float]
    chance: float
    broken: float


@dataclass(frozen=True)
class Chain:
    """What is common to all ideas.

    Args:
        mean, variance: of the effects at the lowest rung.
        rho, tau: of each step to the next rung; `rho_error` is the standard error of `rho`.
        breaks: how often an idea breaks with its past at a step.
        idle: share of the ideas that do next to nothing at any rung.
    """

    mean: float
    variance: float
    rho: Array
    rho_error: Array
    tau: Array
    breaks: float
    idle: float

    @property
    def marginals(self) -> tuple[Array, Array]:
        """Mean and variance of the effects at each rung, of ideas that never broke."""
        means, variances = [self.mean], [self.variance]
        for rho, error, tau in zip(self.rho, self.rho_error, self.tau, strict=True):
            new = tau**2 + error**2 * (variances[-1] + means[-1] ** 2)
            means.append(rho * means[-1])
            variances.append(rho**2 * variances[-1] + new)
        return np.array(means), np.array(variances)

    def priors(self) -> tuple[Array, Array, Array]:
        """Weight, mean (rungs) and covariance (rungs, rungs) of an idea that never breaks, of one that breaks
        at the first step, at the second, …, and of one that does next to nothing."""
        means, variances = self.marginals
        count = len(means)
        centres, covariances = np.tile(means, (count + 1, 1)), np.zeros((count + 1, count, count))
        for place in range(count):  # 0: never
            centre, cov = centres[place], covariances[place]
            cov[0, 0] = self.variance
            for r in range(1, count):
                if r == place:
                    centre[r], cov[r, r] = means[r], variances[r]
                    continue
                rho = self.rho[r - 1]
                centre[r] = rho * centre[r - 1]
                cov[r, :r] = cov[:r, r] = rho * cov[r - 1, :r]
                cov[r, r] = rho**2 * (cov[r - 1, r - 1] - variances[r - 1]) + variances[r]
        centres[-1], covariances[-1] = 0.0, NOTHING**2 * covariances[0]
        never = (1 - self.breaks) ** (count - 1)
        weights = np.full(count + 1, (1 - self.idle) * (1 - never) / max(1, count - 1))
        weights[0], weights[-1] = (1 - self.idle) * never, self.idle
        return weights, centres, covariances


class Transfer:
    """The chain fitted to a campaign, and what it says of each of its ideas.

    Args:
        ideas: of each, what was measured at each rung, the lowest first; None where nothing was.
        rungs: how many there are; the last is the target.
        start: an earlier fit, to begin from.
    """

    def __init__(
        self, ideas: Sequence[Sequence[Measured | None]], rungs: int, start: Transfer | None = None
    ) -> None:
        shape = len(ideas), rungs
        self.effects, self.precisions, self.loads = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        found = [(i, r, at) for i, idea in enumerate(ideas) for r, at in enumerate(idea) if at is not None]
        errors = [at.error for _, _, at in found if at.error > 0]
        # A metric without noise is known, but for what keeps the arithmetic going.
        floor = 1e-3 * (min(errors) if errors else max((abs(at.effect) for *_, at in found), default=1.0))
        self.shared = np.zeros(rungs)  # variance of the baseline's luck in what has fewest runs
        for _, r, at in found:
            self.shared[r] = max(self.shared[r], at.base**2)
        for i, r, at in found:
            # Of k runs' luck the first one's is one part in k, so that it counts the less the smaller the
            # error.
            load = at.base**2 / self.shared[r] if self.shared[r] else 0.0
            own = at.error**2 - load**2 * self.shared[r]
            self.effects[i, r], self.loads[i, r] = at.effect, load
            self.precisions[i, r] = 1 / max(own, (floor or 1.0) ** 2)
        self.luck = np.zeros(rungs)  # the baseline's, at each rung: above 0 it makes ideas look worse
        alike = self.effects[self.loads[:, 0] > 0.5, 0]
        if len(alike):  # many ideas do nothing: what the middle one shows is mostly the baseline's luck
            most = 2 * math.sqrt(self.shared[0])
            self.luck[0] = np.clip(np.median(alike), -most, most)
        self.chain = _first(self.effects, self.precisions, rungs)
        if start is not None:
            self.chain, self.luck = start.chain, start.luck
        for _ in range((WARM_ROUNDS if start else ROUNDS) if found else 0):
            before = self.chain
            self._infer()
            self.chain = _refit(self)
            self.luck = self._luck()
            if _change(before, self.chain) < SETTLED:
                break
        self._infer()

    def _infer(self) -> None:
        """Each idea's posterior: weights (ideas, chains), means (…, rungs), covariances (…, rungs, rungs).
        It is the Kalman smoother in information form."""
        prior, centres, covariances = self.chain.priors()
        inverse = np.linalg.inv(covariances)
        inside = inverse[None] + np.eye(centres.shape[1]) * self.precisions[:, None, None, :]
        self.covariances = np.linalg.inv(inside)
        off = (self.effects - self.loads * self.luck)[:, None] - centres
        pull = self.precisions[:, None] * off
        step = np.einsum("ihrs,ihs->ihr", self.covariances, pull)
        self.means = centres + step
        fit = (pull * off).sum(2) - (pull * step).sum(2)
        log = np.log(prior) - 0.5 * (fit + np.linalg.slogdet(covariances)[1] + np.linalg.slogdet(inside)[1])
        log -= log.max(1, keepdims=True)
        self.weights = np.exp(log) / np.exp(log).sum(1, keepdims=True)

    def _luck(self) -> Array:
        """What all ideas of a rung have in common beyond what is expected of them."""
        left = self.effects - np.einsum("ih,ihr->ir", self.weights, self.means)
        weights = self.loads * self.precisions
        told = (weights * self.loads).sum(0) + 1 / np.maximum(self.shared, 1e-300)
        luck: Array = (weights * left).sum(0) / told
        return luck

    def forecast(self, idea: int, rung: int = -1) -> Forecast:
        """What is expected of an idea at a rung; of the target by default."""
        weights, means = self.weights[idea], self.means[idea, :, rung]
        sds = np.sqrt(self.covariances[idea, :, rung, rung])
        mean = float(weights @ means)
        error = math.sqrt(float(weights @ (sds**2 + (means - mean) ** 2)))

        def below(value: float) -> float:
            return float(weights @ ndtr((value - means) / sds))

        tail = (1 - INSIDE) / 2
        ends = _quantile(below, tail, mean, error), _quantile(below, 1 - tail, mean, error)
        last = len(self.chain.tau) if rung < 0 else rung
        return Forecast(mean, error, ends, below(0.0), float(weights[1 : last + 1].sum()))

    def chances(self) -> list[float]:
        """That each idea is an improvement at the target."""
        sds = np.sqrt(self.covariances[:, :, -1, -1])
        found: list[float] = (self.weights * ndtr(-self.means[:, :, -1] / sds)).sum(1).tolist()
        return found

    def moments(self) -> tuple[Array, Array]:
        """Mean (ideas, rungs) and covariance (ideas, rungs, rungs) of each idea's mixture."""
        mean = np.einsum("ih,ihr->ir", self.weights, self.means)
        off = self.means - mean[:, None]
        whole = self.covariances + off[..., None] * off[..., None, :]
        return mean, np.einsum("ih,ihrs->irs", self.weights, whole)

    def worth(self, noise: Sequence[float]) -> list[list[float]]:
        """What one more run of each idea at each rung adds, on average, to the gain at the target of a
        campaign that takes an idea if it is expected to improve it: the knowledge gradient (Frazier, Powell
        and Dayanik 2008), of the best number of runs by the run (Frazier and Powell 2010), as a single one
        may never change a decision.

        Args:
            noise: standard error of an effect from one run at each rung.
        """
        mean, whole = self.moments()
        target, spread = mean[:, -1:], np.diagonal(whole, axis1=1, axis2=2)
        best = np.zeros_like(mean)
        for count in BATCHES:
            moved = np.abs(whole[:, :, -1]) / np.sqrt(spread + np.square(noise) / count)
            z = -np.abs(target) / np.maximum(moved, 1e-300)
            density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
            best = np.maximum(best, moved * (density + z * ndtr(z)) / count)
        found: list[list[float]] = best.tolist()
        return found


def _first(effects: Array, precisions: Array, rungs: int) -> Chain:
    """Where the fit begins: the variance by moments, everything else as it is expected."""
    lowest = precisions[:, 0] > 0 if (precisions[:, 0] > 0).any() else precisions.any(1)
    place = (precisions > 0).argmax(1)
    rows = np.flatnonzero(lowest)
    values, noise = effects[rows, place[rows]], 1 / np.maximum(precisions[rows, place[rows]], 1e-300)
    raw = float(np.mean(values**2)) if len(rows) else 1.0
    variance = max(raw - float(noise.mean()), 0.1 * raw) if len(rows) else 1.0
    variance = variance or 1.0
    steps = rungs - 1
    tau = np.full(steps, TAU * math.sqrt(variance))
    return Chain(0.0, variance, np.full(steps, RHO), np.full(steps, RHO_SPREAD), tau, BREAKS, IDLE)


def _refit(fit: Transfer) -> Chain:
    """The chain that the posterior speaks for, under the priors. An idea that was not measured at a rung or
    above says nothing of the step to it."""
    chain, covs = fit.chain, fit.covariances[:, :-1]
    seen = fit.precisions > 0
    known = seen.any(1)
    idle = (IDLE * PRIOR_SEEN + float(fit.weights[known, -1].sum())) / (PRIOR_SEEN + known.sum())
    weights, means = fit.weights[:, :-1], fit.means[:, :-1]  # of those that do something
    first, some = means[:, :, 0], float(weights[known].sum())
    centre = float((weights * first)[known].sum() / (some + PRIOR_IDEAS))
    square = (weights * (covs[:, :, 0, 0] + (first - centre) ** 2))[known].sum()
    prior = _first(fit.effects, fit.precisions, len(chain.tau) + 1).variance
    variance = float((PRIOR_IDEAS * prior + square) / (PRIOR_IDEAS + some))
    size = len(chain.tau)
    xx, xy, yy, count = (np.zeros(size) for _ in range(4))
    broken = steps = 0.0
    for step in range(size):
        of = seen[:, step + 1 :].any(1)
        share = weights[of].copy()
        broken += float(share[:, step + 1].sum())
        steps += float(share.sum())
        share[:, step + 1] = 0.0
        low, high = means[of][:, :, step], means[of][:, :, step + 1]
        cov = covs[of]
        xx[step] = float((share * (low**2 + cov[:, :, step, step])).sum())
        xy[step] = float((share * (low * high + cov[:, :, step, step + 1])).sum())
        yy[step] = float((share * (high**2 + cov[:, :, step + 1, step + 1])).sum())
        count[step] = float(share.sum())
    inverse = 1 / chain.tau**2
    told = 1 / (RHO_ALIKE**2 + 1 / np.maximum(xx * inverse, 1e-12))  # of rho over all rungs, by each step
    each = xy / np.maximum(xx, 1e-300)
    common = float((RHO / RHO_SPREAD**2 + (told * each).sum()) / (1 / RHO_SPREAD**2 + told.sum()))
    doubt = 1 / (1 / RHO_SPREAD**2 + told.sum())
    about = RHO_ALIKE**2 + doubt
    rho = (xy * inverse + common / RHO_ALIKE**2) / (xx * inverse + 1 / RHO_ALIKE**2)
    error = np.sqrt(1 / (xx * inverse + 1 / about))
    rest = np.maximum(yy - 2 * rho * xy + rho**2 * xx, 0.0)
    pooled = (PRIOR_IDEAS * TAU**2 * variance + rest.sum()) / (PRIOR_IDEAS + count.sum())
    tau = np.sqrt((PRIOR_IDEAS * pooled + rest) / (PRIOR_IDEAS + count - 2) + LEAST * variance)
    breaks = (BREAKS * PRIOR_STEPS + broken) / (PRIOR_STEPS + steps)
    return Chain(centre, variance, rho, error, tau, breaks, float(idle))


def _change(before: Chain, after: Chain) -> float:
    """The largest relative change of any of its numbers."""

    def numbers(chain: Chain) -> Array:
        return np.array([math.sqrt(chain.variance), chain.breaks, chain.idle, *chain.rho, *chain.tau])

    old, new = numbers(before), numbers(after)
    return float(np.max(np.abs(new - old) / (np.abs(old) + 1e-12)))


def _quantile(below: Callable[[float], float], share: float, mean: float, error: float) -> float:
    """Where a distribution function reaches a share, by bisection."""
    low, high = mean - 12 * error, mean + 12 * error
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < share else (low, middle)
    return (low + high) / 2
