"""Time to target: when a run's curve first reaches the level at which the first baseline's curve ended.

One run's curve is noisy, and so is its end: the mean over an attempt's runs is smoothed by local linear
regression (Cleveland 1979), which follows a falling curve to its very end without a lag. All are smoothed
alike.

A run that never gets there is censored: all that is known of its time is that it is longer than the run. So
the interval is made of curves and not of times, which such a run does not have: it holds every point at which
the mean curve and the target cannot be told apart (Fieller 1954), and is open where there is no later end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import mul
from statistics import fmean, pstdev

from ar.history.curves import Curve
from ar.history.tracks import Track
from ar.judge.arithmetic import half_width
from ar.record import Record

WINDOW = 0.15  # share of the run on either side that a smoothed point is drawn from


@dataclass(frozen=True)
class Reach(Record):
    """When one state of the branch reaches the target, at one scale.

    Args:
        runs: how many runs its curve is the mean of.
        reached: how many of them reach the target, each by its own smoothed curve.
        at: axis to its value there; empty where the target is never reached.
        end: axis to its value where the runs end: a target that is not reached takes more.
        interval: axis to both ends of the 95 % interval of `at`, or to the lower one alone where the target
            may not be reached at all; of two seeds or more, and not of the first baseline.
        ratio: axis to its value over the first baseline's own.
        error: axis to the standard error of the ratio, by the jackknife over seeds; where there are two, and
            every part of them reaches the target.
    """

    name: str
    title: str
    outcome: str
    rung: str
    runs: int
    target: float
    reached: int = 0
    at: dict[str, float] = field(default_factory=dict)
    end: dict[str, float] = field(default_factory=dict)
    interval: dict[str, tuple[float, ...]] = field(default_factory=dict)
    ratio: dict[str, float] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)


def reaches(tracks: Sequence[Track]) -> list[Reach]:
    """When each of the tracks reaches the level at which the first one ends."""
    sides = [{seed: smooth(curve) for seed, curve in track.curves.items()} for track in tracks]
    base, target, start = sides[0], _mean(sides[0]).values[-1], _end(sides[0])
    out = []
    for track, own in zip(tracks, sides, strict=True):
        at = start if own is base else _crossing(_mean(own), target)
        reach = Reach(
            name=track.attempt.name,
            title=track.attempt.title,
            outcome=track.attempt.outcome,
            rung=track.attempt.rung,
            runs=len(own),
            target=target,
            reached=sum(min(curve.values) <= target for curve in own.values()),
            at=at,
            end=_end(own),
            interval={} if own is base else _interval(base, own),
            ratio={axis: at[axis] / start[axis] for axis in at if start[axis]},
            error={} if own is base else _jackknife(base, own),
        )
        out.append(reach)
    return out


def smooth(curve: Curve) -> Curve:
    """The values smoothed by local linear regression with tricube weights; the axes as they are."""
    rows = _smoother(len(curve.values))
    return Curve(tuple(sum(map(mul, shares, curve.values[first:])) for first, shares in rows), curve.axes)


@cache
def _smoother(count: int) -> list[tuple[int, list[float]]]:
    """For each of so many points, the first that it is drawn from, and the share of each from there on."""
    reach = max(2, round(WINDOW * count))
    weights = [(1 - (distance / (reach + 1)) ** 3) ** 3 for distance in range(reach + 1)]
    found = []
    for place in range(count):
        first = max(0, place - reach)
        x = [other - place for other in range(first, min(count, place + reach + 1))]
        w = [weights[abs(distance)] for distance in x]
        centre = fmean(x, w)
        spread = fmean([(at - centre) ** 2 for at in x], w)
        shares = [
            weight / sum(w) * (1 - centre * (at - centre) / spread) for at, weight in zip(x, w, strict=True)
        ]
        found.append((first, shares))
    return found


def mean_curve(track: Track) -> Curve:
    """What a track's picture shows: the mean of its runs, smoothed."""
    return smooth(_mean(track.curves))


def _mean(runs: Mapping[int, Curve]) -> Curve:
    def middle(rows: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
        return tuple(map(fmean, zip(*rows, strict=True)))

    curves = list(runs.values())
    axes = {axis: middle(curve.axes[axis] for curve in curves) for axis in curves[0].axes}
    return Curve(middle(curve.values for curve in curves), axes)


def _end(runs: Mapping[int, Curve]) -> dict[str, float]:
    return {axis: values[-1] for axis, values in _mean(runs).axes.items()}


def _crossing(curve: Curve, target: float) -> dict[str, float]:
    """Each axis where the curve first reaches the target; empty where it never does."""
    place = next((place for place, value in enumerate(curve.values) if value <= target), None)
    if place is None:
        return {}
    if place == 0:
        return {axis: values[0] for axis, values in curve.axes.items()}
    before, after = curve.values[place - 1 : place + 1]
    share = (before - target) / (before - after)
    steps = {axis: values[place - 1 : place + 1] for axis, values in curve.axes.items()}
    return {axis: low + share * (high - low) for axis, (low, high) in steps.items()}


def _parts(base: Mapping[int, Curve], own: Mapping[int, Curve]) -> list[list[dict[int, Curve]]]:
    """Both sides with each seed left out in turn; none where that leaves a side without runs."""
    seeds = sorted(base.keys() | own.keys())
    parts = [
        [{seed: curve for seed, curve in side.items() if seed != left} for side in (base, own)]
        for left in seeds
    ]
    return parts if all(all(sides) for sides in parts) else []


def _spread(values: Sequence[float]) -> float:
    """Standard error by the jackknife (Efron and Tibshirani 1993)."""
    return math.sqrt(len(values) - 1) * pstdev(values)


def _jackknife(base: Mapping[int, Curve], own: Mapping[int, Curve]) -> dict[str, float]:
    """Standard error of the ratio; empty where it is not known."""
    found: dict[str, list[float]] = {}
    for part, other in _parts(base, own):
        start = _end(part)
        at = _crossing(_mean(other), _mean(part).values[-1])
        if not at:
            return {}
        for axis in at if all(start.values()) else ():
            found.setdefault(axis, []).append(at[axis] / start[axis])
    return {axis: _spread(ratios) for axis, ratios in found.items()}


def _interval(base: Mapping[int, Curve], own: Mapping[int, Curve]) -> dict[str, tuple[float, ...]]:
    """Axis to the 95 % interval of when the target is reached; its lower end alone where it is open."""
    parts = _parts(base, own)
    if len(parts) < 2:
        return {}

    def above(base: Mapping[int, Curve], own: Mapping[int, Curve]) -> list[float]:
        target = _mean(base).values[-1]
        return [value - target for value in _mean(own).values]

    rows = [above(part, other) for part, other in parts]
    halves = [half_width(_spread(column), len(parts) - 1) for column in zip(*rows, strict=True)]
    middle, axes = above(base, own), _mean(own).axes
    early, late = (
        _crossing(Curve(tuple(at + side * half for at, half in zip(middle, halves, strict=True)), axes), 0.0)
        for side in (-1, 1)
    )
    early = early or _end(own)
    return {axis: (early[axis], *((late[axis],) if late else ())) for axis in axes}
