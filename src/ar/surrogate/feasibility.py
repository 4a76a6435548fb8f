"""How likely a setting runs to its end, and passes its guards when it is judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from ar.judge.rule import GUARD_ERRORS
from ar.surrogate.regression import Array, Kernel, Posterior, Rows, Weights, fit

SMOOTH_LENGTH = 0.35  # along each parameter, of where runs crash
PRIOR_RISK = 0.1  # of a crash, far from every run
LEAST_ROWS = 4  # of a guard's values before it is modelled
FITTED_ROWS = 60  # of them, to find the hyperparameters
ROUNDS = 30  # evaluations of its likelihood
JUDGED_RUNS = 3  # that a change typically has when its guards decide
WORST = -20.0  # logarithm of a probability, at least


@dataclass(frozen=True)
class Guard:
    """One guard's surface, and what the judge lets pass.

    Args:
        centre, scale: of the posterior's values, in the guard's unit.
        limit: what it may be at most.
        now: mean of the incumbent's runs, and how many they are.
    """

    posterior: Posterior
    centre: float
    scale: float
    limit: float
    now: float
    runs: int

    def log_probability(self, at: Rows, base: Rows, at_once: bool = True) -> Array:
        """That a change passes: within the limit and, if at once, not clearly worse than the incumbent."""
        mean, sd = self.posterior.difference(at, base)
        level = self.centre + self.scale * (float(self.posterior.mean(base)[0]) + mean)
        sd = self.scale * np.maximum(sd, 0.02)
        within: Array = log_ndtr((self.limit - level) / sd)
        if not at_once:
            return within
        noise = self.scale * self.posterior.weights.noise
        beside = (self.now + _bound(noise, self.runs) - level) / np.sqrt(sd**2 + noise**2 / JUDGED_RUNS)
        out: Array = within + log_ndtr(beside)
        return out


@dataclass(frozen=True)
class Feasible:
    """What is known of crashes and guards."""

    crash: Posterior | None
    guards: tuple[Guard, ...]

    @classmethod
    def of(
        cls, kernel: Kernel, rows: Rows, crashed: Array, guards: Array, limits: Sequence[float], base: Rows
    ) -> Feasible:
        """From runs that ended, the campaign's first one first.

        Args:
            crashed: 1 for a run that did, else 0.
            guards: (rows, guards), nan where there is no value.
            limits: of each guard, on what was measured of the first baseline.
            base: the incumbent's row.
        """
        crash = None
        if crashed.any() and rows.x.shape[1]:
            weights = _plain(rows.x.shape[1])
            crash = Posterior(kernel, weights, rows, crashed - PRIOR_RISK)
        found = (_guard(kernel, rows, guards[:, k], limit, base) for k, limit in enumerate(limits))
        return cls(crash, tuple(guard for guard in found if guard is not None))

    def log_probability(self, at: Rows, base: Rows, at_once: bool = True) -> Array:
        """That a setting neither crashes nor is refused for a guard.

        Args:
            at_once: as one change of the incumbent, rather than by several.
        """
        out = np.zeros(len(at))
        if self.crash is not None:
            out += np.log(np.clip(1 - PRIOR_RISK - self.crash.mean(at), 0.01, 1.0))
        for guard in self.guards:
            out += np.maximum(guard.log_probability(at, base, at_once), WORST)
        return out


def _plain(size: int) -> Weights:
    """Of a function that is smooth, and as much a joint as an additive one."""
    lengths = np.full(size, SMOOTH_LENGTH)
    return Weights(lengths, lengths * math.sqrt(size), np.full(size, 0.1), 0.7, 0.05, 0.3, 0.0, 0.15)


def _guard(kernel: Kernel, rows: Rows, values: Array, limit: float, base: Rows) -> Guard | None:
    """None where there is too little to tell."""
    known = ~np.isnan(values)
    if known.sum() < LEAST_ROWS or values[known].std() == 0:
        return None
    rows, values = rows.of(known), values[known]
    centre, scale = float(np.median(values)), float(values.std())
    standard = np.clip((values - centre) / scale, -4, 4)
    few = np.unique(np.linspace(0, len(values) - 1, min(len(values), FITTED_ROWS)).astype(int))
    weights = fit(kernel, rows.of(few), standard[few], rounds=ROUNDS)
    posterior = Posterior(kernel, weights, rows, standard)
    start = rows.of(np.array([0]))
    first, own = _equal(rows, start), _equal(rows, base)
    measured = float(values[first].mean())
    luck = centre + scale * float(posterior.mean(start)[0]) - measured
    # A lucky first baseline must not move the limit: the model's view of it counts where it is stricter, and
    # while the branch is there still, where the judge will run it again.
    if not (first & own).any():
        luck = min(0.0, luck)
    limit = luck + max(limit, measured + _bound(scale * weights.noise, int(first.sum())))
    now = centre + scale * float(posterior.mean(base)[0])
    if own.any():  # where its runs were lucky, the judge runs it again beside what it refuses
        now = max(now, float(values[own].mean()))
    return Guard(posterior, centre, scale, limit, now, int(own.sum()))


def _bound(noise: float, runs: int) -> float:
    """How much worse than the mean of so many runs a change may be, as it may be noise."""
    return GUARD_ERRORS * noise * math.sqrt(1 / JUDGED_RUNS + 1 / max(1, runs))


def _equal(rows: Rows, one: Rows) -> np.typing.NDArray[np.bool_]:
    """Which rows have the setting of the one row."""
    same: np.typing.NDArray[np.bool_] = (rows.x == one.x).all(1) & (rows.code == one.code).all(1)
    return same
