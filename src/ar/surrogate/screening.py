"""Which change deserves another seed: the model's choice, made before the judge is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ar.judge.evidence import MOST_RUNS
from ar.judge.rule import promote_bar
from ar.surrogate.acquisition import potential
from ar.surrogate.surface import Setting, Surface

MARGIN = 1.0  # standard errors that a change is expected to stand above the judge's bar
CLEAR_RUNS = 4  # a change that is to be confirmed in mid-campaign is to be clear with so many runs
CLEAR = 5.0  # standard errors at them
LEAST_STEP = 0.2  # and it is to add this share to what the campaign has gained
WORTH = 8.0  # residuals that must still be to be had beyond it: less could not be confirmed later
NEGLIGIBLE = 0.07  # of its gain: with less beyond it, nothing is to be waited for
LEAST_CHANCE = 0.3  # of passing its guards
SLACK = 4  # runs kept beside those of the last confirmation


@dataclass(frozen=True)
class Waiting:
    """A change with a run whose verdict is open."""

    name: str
    setting: Setting
    runs: int = 1


def runs_needed(gain: float, residual: float) -> int:
    """How many paired runs a change of this expected gain needs to be promoted, with a margin; more than the
    judge allows where it is too small."""
    for n in range(2, MOST_RUNS + 1):
        if gain >= (promote_bar(n) + MARGIN) * residual * math.sqrt(2 / n):
            return n
    return MOST_RUNS + 1


def choose(
    surface: Surface, waiting: Sequence[Waiting], gained: float, residual: float, spare: float, base_runs: int
) -> Waiting | None:
    """The waiting change to run again; None while it is better to explore.

    Args:
        gained: what the branch has gained over the campaign's first baseline, above 0.
        residual: standard deviation of one run after its seed's effect.
        spare: runs left besides those of the closing audit.
        base_runs: of the incumbent, on seeds of the common order.
    """
    if not waiting:
        return None
    settings = [one.setting for one in waiting]
    mean, _ = surface.difference(settings)
    chance = surface.allowed(settings)
    worth = np.where(chance >= LEAST_CHANCE, np.minimum(mean, 0.0) * chance, 0.0)
    first = int(np.argmin(worth))
    best, gain = waiting[first], -float(mean[first])
    if worth[first] >= 0:
        return None
    needed = runs_needed(gain, residual)
    cost = needed - best.runs + max(0, needed - base_runs)
    if spare <= cost + SLACK:
        return best if needed <= MOST_RUNS or gain > residual else None
    if needed > MOST_RUNS:
        return None
    more = potential(surface, best.setting)
    if more < NEGLIGIBLE * gain:
        return best
    if gain < CLEAR * residual * math.sqrt(2 / CLEAR_RUNS):
        return None
    if gain >= LEAST_STEP * (gained + gain) and more >= WORTH * residual:
        return best
    # A guard that lets only so much pass at once is passed in several steps.
    stepwise = surface.limits and potential(surface, best.setting, at_once=False) > more + residual
    return best if stepwise else None


def is_last_stretch(gain: float, residual: float, spare: float, base_runs: int) -> bool:
    """Whether what is left is best spent on refining the best point."""
    needed = min(MOST_RUNS, runs_needed(gain, residual))
    return spare <= (needed - 1 + max(0, needed - base_runs) + SLACK) * 2
