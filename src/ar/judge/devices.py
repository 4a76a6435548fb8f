"""Which runs are evidence together: those of one class of devices, where each change is judged.

A class is a campaign of its own as far as evidence goes: it has its own incumbent's runs, its own noise and
its own opening. Budget, branch and the order of seeds are common to all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import fmean

from ar.history.attempts import objective
from ar.history.records import Attempt, Experiment, History
from ar.judge import nodes
from ar.project.program import Program


def classes(program: Program, history: History) -> tuple[str, ...]:
    """The classes whose runs count, the campaign's own first; a nameless one before anything was measured."""
    return tuple(filter(program.allows_device, history.devices)) or ("",)


def on(program: Program, history: History, device: str) -> History:
    """The campaign as if it had been run on one class of devices alone; what waits or runs stays in it."""
    if history.devices == (device,) and not nodes.set_aside(program, history):
        return history
    counts = counting(program, history)
    kept = (_restricted(program, item, counts, history.devices[0], device) for item in history.attempts)
    return replace(history, attempts=tuple(item for item in kept if item.experiments))


def counting(program: Program, history: History) -> Callable[[Experiment], bool]:
    """Whether a run is evidence at all: on devices that the programme allows, and a machine that is as others
    are."""
    aside = {(one.host, one.device) for one in nodes.set_aside(program, history)}

    def counts(run: Experiment) -> bool:
        device = run.note.device if run.note else None
        is_aside = device is not None and (device.host, device.device_class) in aside
        return not is_aside and program.allows_device(run.device_class)

    return counts


def _restricted(
    program: Program, attempt: Attempt, counts: Callable[[Experiment], bool], own: str, device: str
) -> Attempt:
    runs = tuple(
        run
        for run in attempt.experiments
        if not run.status.ended or (_of(run, own) == device and counts(run))
    )
    if len(runs) == len(attempt.experiments):
        return attempt
    values = [value for run in runs if (value := objective(run, program)) is not None]
    return replace(attempt, experiments=runs, value=fmean(values) if values else None)


def home(program: Program, history: History) -> str:
    """The class by which it is told what the incumbent still has to be run for: the campaign's own, or where
    the incumbent was not measured there, the one in which it was measured most often."""
    known = classes(program, history)
    if len(known) == 1 or _times(history, known[0]):
        return known[0]
    return max(known, key=lambda device: _times(history, device))


def is_measured(program: Program, history: History) -> bool:
    """Whether the incumbent has a run on any class that counts."""
    return any(_times(history, device) for device in classes(program, history))


def _times(history: History, device: str) -> int:
    runs = history.now.experiments if history.now else ()
    return sum(run.status.ended and _of(run, history.devices[0]) == device for run in runs)


def _of(run: Experiment, own: str) -> str:
    return run.device_class or own
