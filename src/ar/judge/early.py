"""Whether a run that is under way is hopeless, by its loss curve beside the incumbent's at the same seed.

Pure: points in, an answer out. The rule and what it was measured to do are in docs/judge.md. Values are
oriented: lower is better.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

Point = tuple[float, float]  # where in the run (tokens, steps, seconds), and the value there

LOOKS = tuple(share / 100 for share in range(50, 91, 5))  # of the run, when it is looked at
LAG = 2 / 3  # a run is behind where the incumbent was better already at this share of its steps
WINDOW = 0.1  # of the run: points that are looked at together
LEAST = 5  # points of either side; a sparser curve is never judged


def hopeless(curve: Sequence[Point], incumbent: Sequence[Point]) -> float | None:
    """The share of the run at which two looks in a row found it behind; None while there is hope.

    `incumbent` is a whole run's curve, `curve` what there is so far of another's at the same seed.
    """
    if not curve or not incumbent:
        return None
    end = incumbent[-1][0]
    reached = [share for share in LOOKS if curve[-1][0] >= share * end]
    looks = [_behind(curve, incumbent, share * end, end) for share in reached]
    pairs = zip(reached[1:], looks, looks[1:], strict=False)
    return next((share for share, before, now in pairs if before and now), None)


def _behind(curve: Sequence[Point], incumbent: Sequence[Point], place: float, end: float) -> bool:
    """Whether every point of the last stretch before `place` is worse than every point of the incumbent's
    from the same stretch before two thirds of `place` on."""
    width = WINDOW * end
    recent = _between(curve, place - width, place)
    known = _between(incumbent, LAG * place - width, end)
    passed = _between(incumbent, LAG * place - width, LAG * place)
    return min(len(recent), len(passed)) >= LEAST and min(recent) > max(known)


def _between(points: Sequence[Point], after: float, until: float) -> list[float]:
    places = [place for place, _ in points]
    return [value for _, value in points[bisect_right(places, after) : bisect_right(places, until)]]
