"""Which change deserves another seed: the model's choice, made before the judge is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ar.judge.arithmetic import unscore
from ar.judge.rule import CHOSEN_RUNS, PAIRING_DF, promote_bar
from ar.surrogate.acquisition import potential
from ar.surrogate.surface import Setting, Surface

MARGIN = 0.5  # standard errors that a change is expected to stand above the judge's bar
CLEAR_RUNS = 4  # a change that is to be confirmed in mid-campaign is to be clear with so many runs
CLEAR = 5.0  # standard errors at them
DEAREST = 8  # of the runs left, a confirmation in mid-campaign costs at most one in so many
LEAST_STEP = 0.2  # and it is to add this share to what the campaign has gained
WORTH = 8.0  # residuals that must still be to be had beyond it: less could not be confirmed later
NEGLIGIBLE = 0.07  # of its gain: with less beyond a large one, nothing is to be waited for
LARGE = 14.0  # residuals: beside a smaller gain, what it leaves is a part that matters, and is lost
FEW = 40  # runs in all: with fewer, the last of them hold no second try, and nothing is to be waited for
LEAST_CHANCE = 0.3  # of passing its guards
CLEARLY = 3.0  # standard deviations worse than the branch, and a change is out
SIMILAR = 0.5  # standard errors from the best
LAST = 0.25  # of all runs: before the last of them, what is hard to confirm yet may still become better
LEAST_LAST = 14  # runs: in a short campaign a quarter is too few for a change that takes more than expected
SLACK = 4  # runs kept beside those of the last confirmation, at least; or half as many as it takes
AT_ONCE = 2  # seeds that the last confirmation queues together


@dataclass(frozen=True)
class Waiting:
    """A change with runs whose verdict is open."""

    name: str
    setting: Setting
    runs: int = 1


@dataclass(frozen=True)
class Choice:
    """The change to run again, and with how many seeds before it is looked at once more."""

    change: Waiting
    seeds: int = 1


def runs_needed(gain: float, residual: float) -> int:
    """How many paired runs a change of this expected gain needs to be promoted, with a margin; more than the
    judge allows where it is too small."""
    for n in range(2, CHOSEN_RUNS + 1):
        bar = unscore(promote_bar(n) + MARGIN, PAIRING_DF + n - 1)
        if gain >= bar * residual * math.sqrt(2 / n):
            return n
    return CHOSEN_RUNS + 1


def runs_to_go(needed: int, runs: int, base_runs: int) -> int:
    """How many runs a confirmation still takes, the incumbent's beside them included.

    Args:
        needed: `runs_needed`.
        runs: of the change, among them the one that it was looked at by.
        base_runs: of the incumbent, on seeds of the common order.
    """
    return max(0, needed - runs) + max(0, needed - base_runs)


def choose(
    surface: Surface,
    waiting: Sequence[Waiting],
    gained: float,
    residual: float,
    at_most: float,
    spare: float,
    base_runs: int,
    at_once: int = AT_ONCE,
) -> Choice | None:
    """The waiting change to run again; None while it is better to explore.

    Args:
        gained: what the branch has gained over the campaign's first baseline, above 0.
        residual: standard deviation of one run after its seed's effect.
        at_most: what that may be, as little as is known of it: runs are kept for a confirmation that takes
            more of them than expected.
        spare: runs left besides those of the closing audit.
        base_runs: of the incumbent, on seeds of the common order.
        at_once: seeds that the last confirmation may queue together.
    """
    if not waiting:
        return None
    settings = [one.setting for one in waiting]
    mean, error = surface.difference(settings)
    chance = surface.allowed(settings)
    worth = np.where(chance >= LEAST_CHANCE, np.minimum(mean, 0.0) * chance, 0.0)
    first = int(np.argmin(worth))
    # Of those that are as good as the best, what was begun is ended.
    alike = np.flatnonzero(worth <= worth[first] + SIMILAR * error)
    first = max(map(int, alike), key=lambda k: (waiting[k].runs, -worth[k]))
    best, gain = waiting[first], -float(mean[first])
    if worth[first] >= 0:
        return None
    needed, most = (runs_needed(gain, noise) for noise in (residual, at_most))
    cost, reserve = (runs_to_go(n, best.runs, base_runs) for n in (needed, most))
    last = max(LEAST_LAST, LAST * (spare + len(surface.points)))
    if spare <= min(reserve + max(SLACK, cost // 2), last):
        if cost > spare and gain <= residual:
            return None  # a better one may still turn up, this one cannot be confirmed any more
        return Choice(best, max(1, min(at_once, most - best.runs)))
    if needed > CHOSEN_RUNS:
        return None
    more = potential(surface, best.setting)
    is_short = spare + len(surface.points) < FEW
    if more < NEGLIGIBLE * gain and (is_short or gain >= LARGE * residual):
        return Choice(best)
    if DEAREST * cost > spare or gain < CLEAR * residual * math.sqrt(2 / CLEAR_RUNS):
        return None
    if gain >= LEAST_STEP * (gained + gain) and more >= WORTH * residual:
        return Choice(best)
    # A guard that lets only so much pass at once is passed in several steps.
    stepwise = surface.limits and potential(surface, best.setting, at_once=False) > more + residual
    return Choice(best) if stepwise else None


def is_last_stretch(gain: float, residual: float, spare: float, base_runs: int) -> bool:
    """Whether what is left is best spent on refining the best point: one whose gain can be confirmed. Beside
    one that is lost in the noise, more of the same would teach nothing."""
    needed = runs_needed(gain, residual)
    return needed <= CHOSEN_RUNS and spare <= (runs_to_go(needed, 1, base_runs) + SLACK) * 2
