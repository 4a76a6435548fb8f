"""Which idea to run next, and at which rung: where a second of it adds most to the gain at the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ar.history.records import Attempt
from ar.judge.evidence import MOST_RUNS
from ar.surrogate.climbs import DOUBT, Climbs

CONFIRMING = 4  # runs at the target that the judge takes for a change, typically
LIKELY = 2 / 3  # chance to improve the target from which an idea is joined with others
FRUGAL = 0.1  # of what confirming gains by the second: a run that adds less on the way is not made


@dataclass(frozen=True)
class Choice:
    """An idea, and the rung to run it at."""

    attempt: Attempt
    rung: str


def choices(climbs: Climbs, open_to: Mapping[str, Sequence[str]], most: int) -> list[Choice]:
    """Runs that are worth their time, the best first; none where it is time to confirm the best ideas at the
    target. Measuring on the way takes no more time than confirming will.

    Args:
        open_to: candidate to the rungs that it may be run at.
        most: ideas that are confirmed.
    """
    target = len(climbs.rungs) - 1
    runs = most * CONFIRMING + (0 if climbs.opened[target] else MOST_RUNS)
    confirming = runs * climbs.seconds[target]
    if not climbs.ideas or climbs.measuring >= confirming:
        return []
    gains = sorted((max(0.0, -found.effect) for found in climbs.forecasts), reverse=True)
    bar = FRUGAL * sum(gains[:most]) / confirming
    found = [
        (rate, -row, place)
        for row, item in enumerate(climbs.ideas)
        if DOUBT < climbs.forecasts[row].chance < 1 - DOUBT
        for place, rate in enumerate(climbs.rates[row])
        if rate > bar and climbs.rungs[place] in open_to.get(item.candidate, ())
    ]
    return [Choice(climbs.ideas[-row], climbs.rungs[place]) for _, row, place in sorted(found, reverse=True)]


def detour(climbs: Climbs, attempt: Attempt, able: Sequence[str]) -> str:
    """The rung below the target at which a second of one idea's run says more of the target than one there;
    empty where there is none, or where it is not in doubt what the target will say."""
    row = climbs.places.get(attempt.candidate)
    if row is None or not DOUBT < climbs.forecasts[row].chance < 1 - DOUBT:
        return ""
    rates = dict(zip(climbs.rungs, climbs.rates[row], strict=True))
    best = max(able, key=lambda rung: rates[rung], default="")
    return best if best and rates[best] > rates[climbs.rungs[-1]] else ""


def finalists(climbs: Climbs, able: Sequence[Attempt], most: int) -> list[Attempt]:
    """Those that are expected to gain at the target, the best first, at most so many."""
    found = [(climbs.forecast(item.candidate), item) for item in able]
    good = [(one.effect, item) for one, item in found if one is not None and one.effect < 0]
    return [item for _, item in sorted(good, key=lambda pair: pair[0])[: max(0, most)]]
