"""New machines of a shared campaign: each runs the incumbent, with a seed that others of its kind have run,
so that what it gives there tells whether its numbers count. A machine that is set aside is named.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ar.campaign.engine import Engine
from ar.history.records import Experiment, History, Status
from ar.judge import nodes

SHARE = 0.05  # of the budget's runs: as many at most are spent on this
_PATIENCE = 30.0  # seconds for which a machine is awaited, once there is nothing else to wait for


def lacking(history: History) -> list[tuple[str, int | None]]:
    """The machines that have not run any incumbent, though others of their kind have run this one, and the
    seed to do so with."""
    now, found = history.now, []
    for hosts in history.machines.values():
        measured = {host: list(filter(_is_measured, runs)) for host, runs in hosts.items()}
        seeds = [run.seed for runs in measured.values() for run in runs if now and run in now.base]
        for host, runs in measured.items():
            asked = any(run.only_at == host for run in (now.base if now else ()))
            if seeds and not runs and not asked:
                found.append((host, min(seeds, key=lambda seed: (seed is None, seed or 0))))
    return found


def _is_measured(run: Experiment) -> bool:
    return run.measures_baseline and run.status is Status.SUCCEEDED


@dataclass
class Newcomers:
    """What one engine does about them."""

    _told: set[nodes.SetAside] = field(default_factory=set)
    _gone: set[str] = field(default_factory=set)  # machines that did not come back for their check
    _alone: float | None = None  # since when nothing else waits or runs

    def check(self, engine: Engine, history: History, room: int) -> bool:
        """Name those that are set aside, and queue what is lacking. True where anything was queued, or taken
        out of the queue again."""
        campaign = engine.campaign
        for one in nodes.set_aside(campaign.program, history):
            if (one.host, one.fault) not in {(it.host, it.fault) for it in self._told}:
                self._told.add(one)
                engine.event(f"{one.host} ({one.device}) is set aside: {one.words}")
        if self._give_up(engine, history):
            return True
        made = sum(bool(run.only_at) for run in history.experiments)
        wanted = [it for it in lacking(history) if it[0] not in self._gone]
        if not wanted or room <= 0 or made >= SHARE * campaign.program.budget.runs:
            return False
        host, seed = wanted[0]
        engine.queued(campaign.measure_incumbent(history, seed, aa=True, only_at=host))
        engine.event(f"{host} is new: it runs the branch as it is, which tells whether its numbers count")
        return True

    def _give_up(self, engine: Engine, history: History) -> bool:
        """Wait no longer for machines that are gone."""
        pending = engine.pending(history)
        if not pending or not all(run.only_at and run.status is Status.QUEUED for run in pending):
            self._alone = None
            return False
        self._alone = self._alone or time.monotonic()
        if time.monotonic() - self._alone < _PATIENCE:
            return False
        for run in pending:
            self._gone.add(run.only_at)
            engine.campaign.queue.withdraw(run.name, run.rev)
            engine.event(f"{run.only_at} is gone: {run.name} is not waited for any more")
        return True
