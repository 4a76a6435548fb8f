"""Time to target: when a run's curve first reaches the level at which the first baseline's curve ended.

One run's curve is noisy, and so is its end: the mean over an attempt's runs is smoothed by local linear
regression (Cleveland 1979), which follows a falling curve to its very end without a lag. All are smoothed
alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev

from ar.errors import ArError
from ar.history.curves import Curve, curves_of
from ar.history.records import Attempt, History
from ar.project.project import Project
from ar.record import Record

WINDOW = 0.15  # share of the run on either side that a smoothed point is drawn from


@dataclass(frozen=True)
class Reach(Record):
    """When one state of the branch reaches the target, at one scale.

    Args:
        runs: how many runs its curve is the mean of.
        at: axis to its value there; empty where the target is never reached.
        ratio: axis to that value over the first baseline's own.
        error: axis to the standard error of the ratio, by the jackknife over seeds; where there are two.
    """

    name: str
    title: str
    outcome: str
    rung: str
    runs: int
    target: float
    at: dict[str, float] = field(default_factory=dict)
    ratio: dict[str, float] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Track:
    """A state of the branch with its curves, one a run; seed (or the run's place) to curve."""

    attempt: Attempt
    curves: dict[int, Curve]


def _tracks(project: Project, history: History, rung: str) -> list[Track]:
    """The first baseline, every promoted change in the order of the branch, and the head, at one scale."""
    spec = project.program.curve
    if spec is None:
        mend = "for example: curve: {file: loss.csv, value: train_loss, against: [seconds]}"
        raise ArError(f"{project.program.file} names no curve file", mend)
    first, now = history.first, history.now
    merged = [item for item in history.promoted if item is not now]
    states = [item for item in (first, *merged, now if now is not first else None) if item]
    if rung:
        climbs = [history.at_rung(item.candidate, rung) for item in states]
        states = [climb for climb in climbs if climb is not None]
    found = [Track(attempt, curves_of(project.repo, spec, attempt)) for attempt in states]
    if not rung and (not found or not found[0].curves):
        what = f"the first baseline has no curve: {spec.file} is missing, or lacks its columns"
        raise ArError(what, f"check curve: in {project.program.file}; to measure the baseline: ar baseline")
    known = [track for track in found if track.curves]
    # Without the first baseline there is no target at this scale.
    return known if first and known and known[0].attempt.candidate == first.candidate else []


def reaches(tracks: Sequence[Track]) -> list[Reach]:
    """When each of the tracks reaches the level at which the first one ends."""
    base, target, start = tracks[0], mean_curve(tracks[0]).values[-1], _end(tracks[0].curves)
    out = []
    for track in tracks:
        item = track.attempt
        at = start if track is base else _crossing(mean_curve(track), target)
        ratio = {axis: at[axis] / start[axis] for axis in at if start[axis]}
        error = {} if track is base else _jackknife(base.curves, track.curves)
        runs = len(track.curves)
        out.append(Reach(item.name, item.title, item.outcome, item.rung, runs, target, at, ratio, error))
    return out


def scales(project: Project, history: History) -> dict[str, list[Track]]:
    """Rung to its tracks, at every scale at which the first baseline was measured; the base first.

    Raises:
        ArError: program.md names no curve, or the first baseline has none.
    """
    rungs = ("", *(rung.name for rung in project.program.ladder[1:]))
    return {rung: found for rung in rungs if (found := _tracks(project, history, rung))}


def smooth(curve: Curve) -> Curve:
    """The values smoothed by local linear regression with tricube weights; the axes as they are."""
    count = len(curve.values)
    reach = max(2, round(WINDOW * count))
    weights = [(1 - (distance / (reach + 1)) ** 3) ** 3 for distance in range(reach + 1)]
    values = []
    for place in range(count):
        first, last = max(0, place - reach), min(count, place + reach + 1)
        x, y = [other - place for other in range(first, last)], curve.values[first:last]
        w = [weights[abs(distance)] for distance in x]
        centre = fmean(x, w)
        spread = fmean([(at - centre) ** 2 for at in x], w)
        slope = fmean([(at - centre) * value for at, value in zip(x, y, strict=True)], w) / spread
        values.append(fmean(y, w) - slope * centre)
    return Curve(tuple(values), curve.axes)


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


def _jackknife(base: Mapping[int, Curve], own: Mapping[int, Curve]) -> dict[str, float]:
    """Standard error of the ratio: each seed left out of both sides in turn (Efron and Tibshirani 1993)."""
    seeds = sorted(base.keys() | own.keys())
    found: dict[str, list[float]] = {}
    for left in seeds:
        sides = [{seed: curve for seed, curve in side.items() if seed != left} for side in (base, own)]
        if not all(sides):
            return {}
        start, target = _end(sides[0]), smooth(_mean(sides[0])).values[-1]
        at = _crossing(smooth(_mean(sides[1])), target)
        if not at:
            return {}
        for axis in at if all(start.values()) else ():
            found.setdefault(axis, []).append(at[axis] / start[axis])
    return {axis: math.sqrt(len(seeds) - 1) * pstdev(ratios) for axis, ratios in found.items()}
