"""`ar worker`: one worker, beside `ar run` or without it, until nothing waits any more; on a remote's queue,
until it is told to stop.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ar.campaign.campaign import Campaign
from ar.campaign.progress import View, result_line
from ar.git import refs
from ar.history.attempts import find
from ar.local import locks
from ar.runs import recovery, slots
from ar.runs.events import Event, EventKind
from ar.runs.lookout import Lookout
from ar.runs.pool import Pool
from ar.runs.remote_queue import RemoteQueue
from ar.runs.stop import WORKER

_LOOK = 0.5  # seconds between two looks at the queue


def work(campaign: Campaign, view: View, stop: Callable[[], int], remote: str = "") -> int:
    """Run what is queued. While an `ar run` is at work, wait for what it queues. Returns how many runs ended.

    Args:
        stop: asked again and again: 0 go on, 1 finish what runs and end, 2 end at once.
        remote: whose queue to work on, until told to stop; empty for the clone's own.
    """
    repo, ended = campaign.repo, 0
    there = Lookout(RemoteQueue(campaign.pipeline, remote, tell=view.event)) if remote else None
    pool = Pool(repo, slots.every_gpu(), remote=remote)
    with locks.hold(repo, f"{WORKER}-{os.getpid()}", keep=False), pool:
        for line in recovery.recover(campaign.project, campaign.pipeline):
            view.event(f"recovered: {line}")
        pool.wake()
        idle, passed = False, ""
        while stop() < 2:
            if stop():
                pool.drain()
            elif idle and passed and not there and not locks.holder(repo, "run"):
                view.event(f"{passed}; run ar worker on a machine that has one")
                break
            elif idle and (there.finds() if there else repo.refs(refs.QUEUE)):
                idle = False
                pool.wake()
            elif idle and not there and not locks.holder(repo, "run"):
                break
            kinds = set()
            for event in pool.events(_LOOK):
                kinds.add(event.kind)
                if event.kind is EventKind.PASSED and event.reason != passed:
                    passed = event.reason
                    if there:
                        view.event(passed)
                ended += event.kind is EventKind.ENDED
                if event.kind is EventKind.DIED:
                    pool.blame(event.name)
                _tell(campaign, view, event)
            if EventKind.REFUSED in kinds:
                break
            idle = EventKind.IDLE in kinds or (idle and EventKind.STARTED not in kinds)
            if EventKind.DIED in kinds:
                if pool.draining:
                    break
                for line in recovery.recover(campaign.project, campaign.pipeline):
                    view.event(f"recovered: {line}")
    return ended


def _tell(campaign: Campaign, view: View, event: Event) -> None:
    match event.kind:
        case EventKind.STARTED:
            view.event(f"took {event.name}")
        case EventKind.REFUSED | EventKind.TOLD:
            view.event(event.reason)
        case EventKind.LOST:
            view.event(f"{event.name} is not published: {event.reason}")
        case EventKind.RETRIED:
            view.event(f"{event.name}: {event.reason}; it is tried again")
        case EventKind.ENDED:
            run = find(campaign.history(), event.name)[1]
            if run.status.ended:
                view.event(result_line(run, campaign.program))
        case EventKind.REQUEUED | EventKind.WITHDRAWN:
            view.event(f"{event.name} {event.kind}")
