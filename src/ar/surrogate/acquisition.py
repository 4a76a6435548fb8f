"""Which point to measure next: by expected improvement, globally and around the best."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import erfcx, log_ndtr, ndtri
from scipy.stats import qmc

from ar.surrogate.regression import Array
from ar.surrogate.space import Space
from ar.surrogate.surface import Setting, Surface

GLOBAL = 512  # candidates all over the space, and as many around the best
LOCAL = 512
REFINED = 4  # of the candidates, improved by small steps
STEPS = (0.3, 0.1, 0.03)
REFINING = (0.05, 0.02, 0.008)
CENTRES = 4  # settings that candidates lie around
REACH = 0.25  # from these, of the even sample, while little is known: the model doubts the corners most
REACHING = 2  # runs a parameter that it takes to reach as far again
CAUTION = 0.5  # standard deviations of the values that e times the risk counts for
HOPE = 0.5  # standard deviations below its mean that a value is hoped to be: of equals, what is known less
DOUBT = 2.5  # times its own error: with the most probable hyperparameters alone a model is too sure of itself
DRAWN, DRAWS = 160, 48  # settings that are drawn jointly, and how many times
LIKELY = -0.7  # logarithm of the chance of being allowed, at least, of what counts as potential
OPENING_STEP = 0.2  # standard deviation of the first steps away from the incumbent
LEAST_STEP = 0.5  # of these standard deviations, in the parameter that moves most
OPENING_SWITCH = 0.3  # how often a category is left: there is no small step away from one
OPENING_SEED = 12  # of the sequence that spreads them


def log_improvement(mean: Array, sd: Array, best: float) -> Array:
    """Logarithm of the expected improvement on `best`, without underflow (Ament et al. 2023)."""
    z = (best - mean) / sd
    out = np.empty_like(z)
    easy = z > -1
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    out[easy] = np.log(density[easy] + z[easy] * np.exp(log_ndtr(z[easy])))
    hard = z[~easy]
    tail = 1 + hard * erfcx(-hard / math.sqrt(2)) * math.sqrt(math.pi / 2)
    out[~easy] = -0.5 * hard**2 - 0.5 * math.log(2 * math.pi) + np.log(np.maximum(tail, 1e-300))
    return out + np.log(sd)


@dataclass
class Candidates:
    """Points to choose from: a low-discrepancy sample of the space, and steps away from good points."""

    space: Space
    rng: np.random.Generator

    def draw(self, centres: Array, spread: int = GLOBAL, local: int = LOCAL, reach: float = 1.0) -> Array:
        """Evenly as far as `reach` from the centres (1: all over the space), and in steps from them."""
        size = len(self.space)
        points = qmc.Sobol(size, seed=self.rng).random(spread)
        middle = centres[self.rng.integers(len(centres), size=spread)]
        for k, axis in enumerate(self.space.axes):
            if axis.categorical:
                points[:, k] = np.floor(points[:, k] * axis.levels)
            else:
                low, high = np.maximum(0, middle[:, k] - reach), np.minimum(1, middle[:, k] + reach)
                points[:, k] = low + points[:, k] * (high - low)
        around = [self.near(centre, local // len(centres), step=None) for centre in centres]
        return np.concatenate([self.space.snapped(points), *around])

    def near(self, centre: Array, count: int, step: float | None) -> Array:
        """Steps from a point, each along a random few of the parameters."""
        size, rng = len(self.space), self.rng
        steps = np.full(count, step) if step else rng.choice(STEPS, count)
        moved = rng.random((count, size)) < rng.choice([1.5 / size, 0.4, 1.0], count)[:, None]
        moved[np.arange(count), rng.integers(size, size=count)] = True
        points = centre + moved * rng.normal(size=(count, size)) * steps[:, None]
        # Reflected at the walls rather than stopped there.
        points = np.abs(points)
        for k, axis in enumerate(self.space.axes):
            if axis.categorical:
                other = rng.integers(axis.levels, size=count)
                points[:, k] = np.where(moved[:, k] & (rng.random(count) < 0.5), other, centre[k])
            else:
                points[:, k] = np.where(points[:, k] > 1, np.maximum(0, 2 - points[:, k]), points[:, k])
                levels = axis.levels
                if levels > 1:  # a step at least, where the values are few
                    jump = rng.choice([-1, 1], count) / (levels - 1)
                    small = moved[:, k] & (np.abs(points[:, k] - centre[k]) < 0.5 / (levels - 1))
                    points[:, k] = np.where(small & (rng.random(count) < 0.5), centre[k] + jump, points[:, k])
        return self.space.snapped(points)


def opening(space: Space, incumbent: Array, number: int) -> Array:
    """A step away from the incumbent in all parameters: the `number`th, from 0, of an even spread of them."""
    even = qmc.Sobol(len(space), seed=OPENING_SEED).random(2 ** math.ceil(math.log2(number + 2)))[number]
    steps = ndtri(even)
    largest = int(np.abs(steps).argmax())
    if abs(steps[largest]) < LEAST_STEP:  # of a tiny step in few parameters only noise would be seen
        steps[largest] = math.copysign(math.hypot(steps[largest], LEAST_STEP), steps[largest])
    point = incumbent + OPENING_STEP * steps
    point = np.where((point < 0) | (point > 1), 2 * incumbent - point, point)  # the other way from a wall
    for k, axis in enumerate(space.axes):
        if axis.categorical:
            share = (even[k] - 1 + OPENING_SWITCH) / OPENING_SWITCH  # below 0: it stays
            other = 1 + math.floor(share * (axis.levels - 1)) if share >= 0 else 0
            point[k] = (incumbent[k] + other) % axis.levels
    snapped: Array = space.snapped(point[None])[0]
    return snapped


@dataclass
class Search:
    """Looks for the next setting on a fitted surface.

    Args:
        exploit: by a lower confidence bound of the value, close to its mean.
        hope: standard deviations that this bound lies below it.
        salt: another number, another answer.
    """

    surface: Surface
    exploit: bool = False
    hope: float = HOPE
    salt: int = 0

    def __post_init__(self) -> None:
        surface = self.surface
        self.posterior = surface.posterior.supposing(surface.pending)
        known = surface.here(self.posterior.rows.x)
        means = self.posterior.mean(known) - CAUTION * surface.feasible.log_probability(known, surface.base)
        self.centres = _distinct(known.x[np.argsort(means)], CENTRES)
        here = (surface.tried.code == surface.base.code).all(1)
        self.tried = set(_keys(surface.tried.x[here]))

    def best(self) -> Array:
        """The point to measure next: none that was tried on the branch's code, if there is another."""
        pool = Candidates(self.surface.space, self.surface.rng(self.salt))
        runs = len(self.surface.points) / max(1, len(self.surface.space))
        points = pool.draw(self.centres, reach=min(1.0, REACH * (1 + runs / REACHING)))
        scores = self.score(points)
        for step in REFINING:
            order = np.argsort(-scores)
            more = np.concatenate([pool.near(points[k], 64, step) for k in order[:REFINED]])
            points = np.concatenate([points[order[:64]], more])
            scores = np.concatenate([scores[order[:64]], self.score(more)])
        new = np.array([key not in self.tried for key in _keys(points)])
        if new.any():
            points, scores = points[new], scores[new]
        chosen: Array = points[np.argmax(scores)]
        return chosen

    def score(self, points: Array) -> Array:
        rows = self.surface.here(points)
        mean, sd = self.posterior.difference(rows, self.surface.here(self.centres[:1]))
        feasible = self.surface.feasible.log_probability(rows, self.surface.base)
        if self.exploit:
            return self.hope * sd - mean + np.minimum(feasible, 0) * CAUTION
        return log_improvement(mean, DOUBT * sd, 0.0) + feasible


def potential(surface: Surface, setting: Setting, at_once: bool = True) -> float:
    """By how much the best setting that there may be is expected to beat this one, in the metric's unit: by
    what joint draws of the surface have as their best.

    Args:
        at_once: as one change of the incumbent that its guards let pass, rather than by several.
    """
    rng = surface.rng(1)
    row = surface.rows_of([setting])
    known = surface.here(surface.rows.x)
    centres = _distinct(known.x[np.argsort(surface.posterior.mean(known))], CENTRES)
    points = Candidates(surface.space, rng).draw(np.concatenate([row.x, centres]), 256, 320)
    rows = surface.here(points)
    mean, sd = surface.posterior.difference(rows, row)
    passes = np.flatnonzero(surface.feasible.log_probability(rows, surface.base, at_once) > LIKELY)
    likely = passes[np.argsort((mean - 2 * sd)[passes])[:DRAWN]]
    if not len(likely):
        return 0.0
    draws = surface.posterior.draws(row.joined(rows.of(likely)), DRAWS, rng)
    return float(np.mean(draws[:, 0] - draws.min(1))) * float(surface.scale)


def _keys(points: Array) -> list[tuple[float, ...]]:
    """Equal for equal points, whichever way they were come by."""
    return [tuple(point) for point in np.round(points, 9).tolist()]


def _distinct(points: Array, count: int) -> Array:
    """The first few of them that differ."""
    chosen: list[Array] = []
    for point in points:
        if not any(np.array_equal(point, other) for other in chosen):
            chosen.append(point)
        if len(chosen) == count:
            break
    return np.array(chosen)
