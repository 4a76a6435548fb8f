"""Our way up a simulated ladder: the model's choice of each run, then the stack at the target."""

from __future__ import annotations

import contextlib

from ladder_worlds import COSTS, RUNGS, OutOfCompute, Play

from ar.judge.evidence import MOST_RUNS
from ar.surrogate.choosing import LIKELY
from ar.surrogate.climbs import Climbs, known

NAMES = tuple(f"r{rung}" for rung in range(RUNGS))
TOP = RUNGS - 1
GATE = 6  # runs of the stack kept back


def evidence(play: Play, before: Climbs | None = None) -> Climbs:
    """What `ar` would read of its history."""
    rows = [tuple(known(rung.verdicts.get((idea,))) for rung in play.rungs) for idea in range(play.ideas)]
    opened = tuple(bool(rung.base) for rung in play.rungs)
    seconds = tuple(float(cost) for cost in COSTS)
    return Climbs(NAMES, (), tuple(rows), seconds, opened, start=before.fit if before else None)


def ours(play: Play) -> tuple[list[int], list[bool]]:
    """What is taken, and whether each idea's interval at the target held the truth."""
    taken: list[int] = []
    for idea in range(play.ideas):
        play.rungs[0].judge((idea,))
    climbs = evidence(play)
    with contextlib.suppress(OutOfCompute):
        while (best := _next(play, climbs)) is not None:
            idea, rung = best
            play.rungs[rung].step((idea,))
            climbs = evidence(play, climbs)
    forecasts = [climbs.fit.forecast(idea) for idea in range(play.ideas)]
    members = [idea for idea, found in enumerate(forecasts) if found.chance >= LIKELY]
    with contextlib.suppress(OutOfCompute):
        while members and not taken:
            if play.rungs[TOP].judge(tuple(members)):
                taken = members
            ranked = sorted(members, key=lambda idea: forecasts[idea].chance)
            members = sorted(ranked[len(ranked) // 2 + 1 :])
    ends = [found.interval for found in forecasts]
    return taken, [low <= truth[-1] <= high for (low, high), truth in zip(ends, play.truth, strict=True)]


def _next(play: Play, climbs: Climbs) -> tuple[int, int] | None:
    """The run of most worth by the unit of compute that leaves enough for the stack at the target."""
    reserve = COSTS[TOP] * (GATE + (0 if climbs.opened[TOP] else MOST_RUNS))
    found = [
        (climbs.rates[idea][rung], idea, rung)
        for rung in range(1, RUNGS)
        for idea in range(play.ideas)
        if (idea,) not in play.rungs[rung].decided
        and play.spent + reserve + COSTS[rung] * (1 if climbs.opened[rung] or rung == TOP else 1 + MOST_RUNS)
        <= play.budget
    ]
    rate, idea, rung = max(found, default=(0.0, 0, 0))
    return (idea, rung) if rate > 0 else None
