"""Which machines are set aside: those on which the same work is not the same as elsewhere. Nothing that was
measured on one is evidence.

A machine is compared with others that have the same class of devices, never with itself: one that is alone is
as it is, and how unsteady it is, is in the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from ar.history.attempts import objective
from ar.history.device import Device
from ar.history.records import Experiment, History
from ar.judge.arithmetic import mean, score
from ar.judge.evidence import Candidate, Run
from ar.judge.noise import Noise
from ar.project.program import Program
from ar.record import Record

SLOW = 1.5  # times as long as the others take for the fixed work, by their median
UNSTEADY = (
    0.5  # of its median: the quartiles of the fixed work lie so far apart, and those of the others do not
)
DIFFERS = (
    4.0  # the score at which the incumbent's runs there are others than those of the same seed elsewhere
)
LATEST = 5  # of a machine's runs: they say how it is now


class Fault(StrEnum):
    """What is wrong with a machine."""

    SLOW = "slow"
    UNSTEADY = "unsteady"
    DIFFERS = "differs"  # it gives other numbers for the incumbent


@dataclass(frozen=True)
class SetAside(Record):
    """A machine that is set aside.

    Args:
        device: its class.
        size: how many times as long it takes for the fixed work as the others; how far the quartiles of its
            times lie apart, over the median; or the score of the incumbent's difference there.
    """

    host: str
    device: str
    fault: Fault
    size: float

    @property
    def words(self) -> str:
        match self.fault:
            case Fault.SLOW:
                return f"it takes {self.size:.2g} times as long as others of its kind for the same fixed work"
            case Fault.UNSTEADY:
                return f"its times for the same fixed work vary, the quartiles by {self.size:.0%}"
            case Fault.DIFFERS:
                return (
                    f"the incumbent's runs differ from those of the same seed elsewhere, z = {self.size:.1f}"
                )


def set_aside(program: Program, history: History, here: Device | None = None) -> tuple[SetAside, ...]:
    """The machines that are set aside.

    Args:
        here: how a machine is at this moment, which counts more than what its runs say.
    """
    machines = {kind: dict(hosts) for kind, hosts in history.machines.items()}
    if here is not None:
        machines.setdefault(here.device_class, {}).setdefault(here.host, [])
    found = []
    for kind, hosts in machines.items():
        if len(hosts) > 1:
            found += _by_work(kind, {host: _known(runs, host, here) for host, runs in hosts.items()})
            found += _by_incumbent(program, history, kind, hosts)
    worst = {(one.host, one.device): one for one in reversed(found)}
    return tuple(worst.values())


def _latest(runs: Sequence[Experiment]) -> list[Experiment]:
    return sorted(runs, key=lambda run: (run.note and run.note.finished) or 0.0)[-LATEST:]


def _known(runs: Sequence[Experiment], host: str, here: Device | None) -> list[Device]:
    """What is known of a machine's fixed work."""
    if here is not None and here.host == host and here.work:
        return [here]
    timed = [run for run in runs if run.note and run.note.device and run.note.device.work]
    return [run.note.device for run in _latest(timed) if run.note and run.note.device]


def _by_work(kind: str, hosts: dict[str, list[Device]]) -> list[SetAside]:
    """Those on which the fixed work takes too long, or now long and now short."""
    works = {host: median(one.work for one in known) for host, known in hosts.items() if known}
    spreads = {host: median(one.spread for one in known) for host, known in hosts.items() if known}
    found = []
    for host, work in works.items():
        others = [known for other, known in works.items() if other != host]
        if others and work > SLOW * median(others):
            found.append(SetAside(host, kind, Fault.SLOW, work / median(others)))
            continue
        steady = [known for other, known in spreads.items() if other != host]
        if steady and spreads[host] > UNSTEADY >= median(steady):
            found.append(SetAside(host, kind, Fault.UNSTEADY, spreads[host]))
    return found


def _by_incumbent(
    program: Program, history: History, kind: str, hosts: dict[str, list[Experiment]]
) -> list[SetAside]:
    """Those on which runs of an incumbent differ from those of the same seed elsewhere. The one with most
    runs is what the others are held against."""
    usual = max(hosts, key=lambda host: len(hosts[host]))
    found = []
    for host in hosts:
        if host == usual:
            continue
        steps = _steps(
            program, hosts[host], [run for other in hosts if other != host for run in hosts[other]]
        )
        noise = _noise(program, history, kind, host) if steps else Noise()
        df = noise.residual.pool.df
        if not steps or not df:
            continue
        error, size = noise.residual_sigma * math.sqrt(2 / len(steps)), mean(steps)
        t = size / error if error > 0 else math.copysign(math.inf, size) if size else 0.0
        if abs(z := score(t, df)) >= DIFFERS:
            found.append(SetAside(host, kind, Fault.DIFFERS, z))
    return found


def _steps(program: Program, there: Sequence[Experiment], elsewhere: Sequence[Experiment]) -> list[float]:
    """What the latest runs of an incumbent there gave, less what its first of that seed gave elsewhere."""
    first: dict[tuple[str, int | None], float] = {}
    for key, value in _incumbents(program, elsewhere):
        first.setdefault(key, value)
    here = _incumbents(program, _latest([run for run in there if run.measures_baseline]))
    return [value - first[key] for key, value in here if key in first]


def _incumbents(program: Program, runs: Sequence[Experiment]) -> list[tuple[tuple[str, int | None], float]]:
    known = [(run, objective(run, program)) for run in runs if run.measures_baseline]
    orient = program.objective.orient
    return [((run.candidate, run.seed), orient(value)) for run, value in known if value is not None]


def _noise(program: Program, history: History, kind: str, host: str) -> Noise:
    """What the campaign knows of the noise on a class of devices, one machine left out."""
    own = history.devices[0]

    def counts(run: Experiment) -> bool:
        away = run.note is None or run.note.device is None or run.note.device.host != host
        return run.status.ended and away and (run.device_class or own) == kind

    def values(runs: Sequence[Experiment]) -> tuple[Run, ...]:
        known = [(run.seed, objective(run, program)) for run in runs if counts(run)]
        return tuple(Run(seed, program.objective.orient(value)) for seed, value in known if value is not None)

    return Noise.of(Candidate(base=values(item.experiments)) for item in history.attempts)
