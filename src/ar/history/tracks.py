"""Tracks: the states of the branch with the curves of their runs, at every scale."""

from __future__ import annotations

from dataclasses import dataclass

from ar.errors import ArError
from ar.history.curves import Curve, curves_of
from ar.history.records import Attempt, History
from ar.project.project import Project


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


def scales(project: Project, history: History) -> dict[str, list[Track]]:
    """Rung to its tracks, at every scale at which the first baseline was measured; the base first.

    Raises:
        ArError: program.md names no curve, or the first baseline has none.
    """
    rungs = ("", *(rung.name for rung in project.program.ladder[1:]))
    return {rung: found for rung in rungs if (found := _tracks(project, history, rung))}
