"""`ar worker`: one worker, run by hand, until nothing waits any more."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ar.campaign.campaign import Campaign
from ar.campaign.engine import result_line
from ar.campaign.progress import View
from ar.git import refs
from ar.history.attempts import find
from ar.runs import recovery, slots
from ar.runs.pool import Crew
from ar.runs.stop import HAND

_LOOK = 0.5  # seconds between two looks at the queue


def work(campaign: Campaign, view: View, stop: Callable[[], int]) -> int:
    """Run what is queued. While an `ar run` is at work, wait for what it queues. Returns how many runs ended.

    Args:
        stop: asked again and again: 0 go on, 1 finish what runs and end, 2 end at once.
    """
    repo, ended = campaign.repo, 0
    with repo.lock(f"{HAND}-{os.getpid()}", keep=False), Crew(repo, slots.by_hand()) as crew:
        for line in recovery.recover(campaign.project, campaign.pipeline):
            view.event(f"recovered: {line}")
        crew.wake()
        idle = False
        while stop() < 2:
            if stop():
                crew.drain()
            elif idle and repo.refs(refs.QUEUE):
                idle = False
                crew.wake()
            elif idle and not repo.lock_holder("run"):
                break
            kinds = set()
            for event in crew.events(_LOOK):
                kinds.add(event["event"])
                ended += event["event"] == "ended"
                if event["event"] == "died":
                    crew.blame(str(event.get("name", "")))
                _tell(campaign, view, event)
            if "refused" in kinds:
                break
            idle = "idle" in kinds or (idle and "started" not in kinds)
            if "died" in kinds:
                if crew.draining:
                    break
                for line in recovery.recover(campaign.project, campaign.pipeline):
                    view.event(f"recovered: {line}")
    return ended


def _tell(campaign: Campaign, view: View, event: dict[str, Any]) -> None:
    match event["event"]:
        case "started":
            view.event(f"took {event['name']}")
        case "refused":
            view.event(event["reason"])
        case "ended":
            run = find(campaign.history(), event["name"])[1]
            view.event(result_line(run, campaign.program))
        case "requeued" | "withdrawn" as word:
            view.event(f"{event['name']} {word}")
