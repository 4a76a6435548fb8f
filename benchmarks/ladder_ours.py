"""Our way up a simulated ladder: the model's choice of each run, then the stack at the target."""

from __future__ import annotations

import math
import os

from ladder_worlds import COSTS, RUNGS, OutOfCompute, Play

from ar.surrogate.transfer import Measured, Transfer

TOP = RUNGS - 1
BASES = 8
GATE = 6  # runs of the stack kept back
TRACE = os.environ.get("TRACE")


def fitted(play: Play, start=None) -> Transfer:
    rows = []
    for idea in range(play.ideas):
        row = []
        for rung in play.rungs:
            met = rung.effect((idea,))
            share = (
                0.0 if not met else met.error / 2**0.5 if met.paired else met.sigma / len(rung.base) ** 0.5
            )
            row.append(Measured(met.effect, met.error, share) if met and met.df else None)
        rows.append(row)
    return Transfer(rows, RUNGS, start)


def run_noise(play: Play) -> list[float]:
    """Standard error of an effect from one run at each rung."""
    found = []
    for rung in play.rungs:
        noise = rung.noise
        sigma = noise.residual_sigma if noise.residual.pool.df >= 5 else noise.sigma
        if math.isnan(sigma):
            sigma = found[-1] / math.sqrt(2)
        found.append(sigma * math.sqrt(2))
    return found


def ours(play: Play) -> tuple[list[int], list[bool]]:
    taken: list[int] = []
    fit = None
    try:
        for idea in range(play.ideas):
            play.rungs[0].judge((idea,))
        fit = fitted(play)
        while True:
            opened = [bool(rung.base) for rung in play.rungs]
            reserve = COSTS[TOP] * (GATE + (0 if opened[TOP] else BASES))
            worth = fit.worth(run_noise(play))
            doubtful = max(1, sum(0.02 < chance < 0.98 for chance in fit.chances()))
            best = (0.0, -1, -1)
            for idea in range(play.ideas):
                for rung in range(1, RUNGS):
                    if (idea,) in play.rungs[rung].decided:
                        continue
                    extra = 0 if opened[rung] or rung == TOP else BASES * COSTS[rung]
                    if play.spent + COSTS[rung] + extra + reserve > play.budget:
                        continue
                    cost = COSTS[rung] + extra / doubtful
                    best = max(best, (worth[idea][rung] / cost, idea, rung))
            if best[1] < 0 or best[0] <= 1e-7:
                break
            _, idea, rung = best
            play.rungs[rung].step((idea,))
            fit = fitted(play, fit.chain)
        members = [i for i in range(play.ideas) if fit.forecast(i).effect < 0]
        if TRACE:
            counts = [sum(len(r) for r in rung.runs.values()) for rung in play.rungs]
            print(
                play.kind,
                play.number,
                "runs",
                counts,
                "members",
                len(members),
                round(play.spent),
                "pred",
                round(-sum(fit.forecast(i).effect for i in members), 2),
                "true",
                round(play.gain(members), 2),
                fit.chain,
                [round(float(a), 2) for a in fit.luck],
            )
        while members:
            if play.rungs[TOP].judge(tuple(members)):
                taken = members
                break
            ranked = sorted(members, key=lambda i: fit.forecast(i).chance)
            members = sorted(ranked[len(ranked) // 2 + 1 :])
    except OutOfCompute:
        pass
    held = []
    if fit:
        for idea in range(play.ideas):
            low, high = fit.forecast(idea).interval
            held.append(low <= play.truth[idea][-1] <= high)
    return taken, held
