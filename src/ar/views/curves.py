"""Time to target: when a run's curve first reaches the level at which the first baseline's curve ended.

The curve is a CSV file that a run writes (`curve:` in program.md). One run's curve is noisy, and so is its
end: the mean over an attempt's runs is smoothed by local linear regression (Cleveland 1979), which follows a
falling curve to its very end without a lag. All are smoothed alike. The file is what the code under test
reported: it tells how fast, and decides nothing.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ar.errors import ArError
from ar.git.repo import Repo
from ar.history.reader import read_output
from ar.history.records import Attempt, History, Outcome, Status
from ar.project.program import FILE, CurveFile
from ar.project.project import Project
from ar.project.values import number
from ar.record import Record

POINTS = 100  # of a curve, at equal shares of the run
WINDOW = 0.15  # share of the run on either side that a smoothed point is drawn from
LEAST = 5  # points of a file that are a curve
MOST_BYTES = 20_000_000


@dataclass(frozen=True)
class Curve:
    """A curve at `POINTS` equal shares of the run: the value, oriented (lower is better), and each axis."""

    values: tuple[float, ...]
    axes: Mapping[str, tuple[float, ...]]


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


def tracks(project: Project, history: History, rung: str = "") -> list[Track]:
    """The first baseline, every promoted change in the order of the branch, and the head, at one scale.

    Raises:
        ArError: program.md names no curve, or the first baseline has none.
    """
    if project.program.curve is None:
        raise ArError(
            f"{FILE} names no curve file",
            "for example: curve: {file: loss.csv, value: train_loss, against: [seconds]}",
        )
    first = history.first
    merged = [
        item for item in history.attempts if item.outcome is Outcome.PROMOTED and item is not history.now
    ]
    states = [item for item in (first, *merged, history.now if history.now is not first else None) if item]
    states = (
        states
        if not rung
        else [climb for item in states if (climb := history.climb(item.candidate, rung)) is not None]
    )
    found = [Track(attempt, _curves(project.repo, project.program.curve, attempt)) for attempt in states]
    if not rung and (not found or not found[0].curves):
        raise ArError(
            f"the first baseline has no curve: {project.program.curve.file} is missing, or lacks its columns",
            f"check curve: in {FILE}; to measure the baseline: ar baseline",
        )
    known = [track for track in found if track.curves]
    # Without the first baseline there is no target at this scale.
    return known if first and known and known[0].attempt.candidate == first.candidate else []


def reaches(tracks: Sequence[Track]) -> list[Reach]:
    """When each of the tracks reaches the level at which the first one ends."""
    if not tracks:
        return []
    base, target, start = tracks[0], mean_curve(tracks[0]).values[-1], _end(tracks[0].curves)
    out = []
    for track in tracks:
        at = start if track is base else _crossing(mean_curve(track), target)
        ratio = {axis: at[axis] / start[axis] for axis in at if start[axis]}
        attempt = track.attempt
        out.append(
            Reach(
                name=attempt.name,
                title=attempt.title,
                outcome=attempt.outcome,
                rung=attempt.rung,
                runs=len(track.curves),
                target=target,
                at=at,
                ratio=ratio,
                error=_jackknife(base.curves, track.curves) if track is not base else {},
            )
        )
    return out


def all_reaches(project: Project, history: History) -> list[Reach]:
    """`reaches` at every scale that was measured, the base first.

    Raises:
        ArError: as `tracks` does.
    """
    rungs = [rung.name for rung in project.program.ladder[1:]]
    return [reach for rung in ("", *rungs) for reach in reaches(tracks(project, history, rung))]


def smooth(curve: Curve) -> Curve:
    """The values smoothed by local linear regression with tricube weights; the axes as they are."""
    count = len(curve.values)
    reach = max(2, round(WINDOW * count))
    weights = [(1 - (distance / (reach + 1)) ** 3) ** 3 for distance in range(reach + 1)]
    values = []
    for place in range(count):
        near = range(max(0, place - reach), min(count, place + reach + 1))
        w = [weights[abs(other - place)] for other in near]
        total = math.fsum(w)
        x = [other - place for other in near]
        centre = math.fsum(a * b for a, b in zip(w, x, strict=True)) / total
        y = [curve.values[other] for other in near]
        level = math.fsum(a * b for a, b in zip(w, y, strict=True)) / total
        spread = math.fsum(a * (b - centre) ** 2 for a, b in zip(w, x, strict=True))
        slope = math.fsum(a * (b - centre) * c for a, b, c in zip(w, x, y, strict=True)) / spread
        values.append(level - slope * centre)
    return Curve(tuple(values), curve.axes)


def mean_curve(track: Track) -> Curve:
    """What a track's picture shows: the mean of its runs, smoothed."""
    return smooth(_mean(list(track.curves.values())))


def _mean(curves: Sequence[Curve]) -> Curve:
    def middle(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
        return tuple(math.fsum(column) / len(rows) for column in zip(*rows, strict=True))

    axes = {axis: middle([curve.axes[axis] for curve in curves]) for axis in curves[0].axes}
    return Curve(middle([curve.values for curve in curves]), axes)


def _end(curves: Mapping[int, Curve]) -> dict[str, float]:
    return {axis: values[-1] for axis, values in _mean(list(curves.values())).axes.items()}


def _crossing(curve: Curve, target: float) -> dict[str, float]:
    """Each axis where the curve first reaches the target; empty where it never does."""
    for place, value in enumerate(curve.values):
        if value <= target:
            if place == 0:
                return {axis: values[0] for axis, values in curve.axes.items()}
            before = curve.values[place - 1]
            share = (before - target) / (before - value)
            return {
                axis: values[place - 1] + share * (values[place] - values[place - 1])
                for axis, values in curve.axes.items()
            }
    return {}


def _jackknife(base: Mapping[int, Curve], own: Mapping[int, Curve]) -> dict[str, float]:
    """Standard error of the ratio: each seed left out of both sides in turn (Efron and Tibshirani 1993)."""
    seeds = sorted(base.keys() | own.keys())
    found: dict[str, list[float]] = {}
    for left in seeds:
        sides = [{seed: curve for seed, curve in side.items() if seed != left} for side in (base, own)]
        if not all(sides):
            return {}
        target = smooth(_mean(list(sides[0].values()))).values[-1]
        at = _crossing(smooth(_mean(list(sides[1].values()))), target)
        if not at:
            return {}
        start = _end(sides[0])
        for axis in at if all(start.values()) else ():
            found.setdefault(axis, []).append(at[axis] / start[axis])
    count = len(seeds)
    errors = {}
    for axis, ratios in found.items():
        middle = math.fsum(ratios) / count
        errors[axis] = math.sqrt((count - 1) / count * math.fsum((it - middle) ** 2 for it in ratios))
    return errors if count > 1 else {}


# -- files ------------------------------------------------------------------------------------------------


def _curves(repo: Repo, spec: CurveFile, attempt: Attempt) -> dict[int, Curve]:
    runs = [run for run in attempt.experiments if run.status is Status.SUCCEEDED]
    runs.sort(key=lambda run: (not run.measures_baseline, run.created))
    contents = repo.read_many([(run.rev, spec.file) for run in runs])
    found: dict[int, Curve] = {}
    for place, (run, content) in enumerate(zip(runs, contents, strict=True)):
        content = read_output(repo, run.rev, spec.file) if content is None else content
        curve = read_curve(content, spec) if content is not None and len(content) <= MOST_BYTES else None
        if curve is not None:
            found.setdefault(place if run.seed is None else run.seed, curve)
    return found


@lru_cache(maxsize=2048)
def read_curve(content: bytes, spec: CurveFile) -> Curve | None:
    """The curve that a CSV file holds, at `POINTS` equal shares of its rows; None where it holds none."""
    rows = csv.DictReader(io.StringIO(content.decode(errors="replace")))
    table: list[list[float]] = []
    for row in rows:
        cells = [_cell(row.get(name)) for name in (spec.value, *spec.against)]
        known = [cell for cell in cells if cell is not None]
        if len(known) == len(cells):
            table.append(known)
    if len(table) < LEAST:
        return None
    sign = 1.0 if spec.direction == "minimize" else -1.0
    values, *axes = (_spread([row[place] for row in table]) for place in range(len(table[0])))
    return Curve(tuple(sign * value for value in values), dict(zip(spec.against, axes, strict=True)))


def _cell(text: object) -> float | None:
    try:
        return number(float(text)) if isinstance(text, str) else None
    except ValueError:
        return None


def _spread(column: Sequence[float]) -> tuple[float, ...]:
    """A column read at `POINTS` equal steps from its first value to its last."""
    out = []
    for place in range(POINTS):
        at = place * (len(column) - 1) / (POINTS - 1)
        low = min(int(at), len(column) - 2)
        out.append(column[low] + (at - low) * (column[low + 1] - column[low]))
    return tuple(out)
