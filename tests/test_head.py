"""The head of a cluster where Ray does what nobody foresaw; with a real cluster: `test_cluster.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers import wait_for

from ar.campaign.campaign import Campaign
from ar.changes.proposal import prepare
from ar.cluster.connection import Connection, Silence
from ar.cluster.head import Head
from ar.history.ideas import Proposal
from ar.project.project import Project
from ar.runs.pipeline import Pipeline
from ar.runs.remote_queue import RemoteQueue


class Confused(Connection):
    """Has no Ray, and fails the first times that it is asked for a worker."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.started = 0

    def start(self, *_: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise AttributeError("'NoneType' object has no attribute 'worker_id'")
        self.started += 1
        return object()

    def ask(self, worker: Any) -> Any:
        return worker

    def answer(self, asked: Any) -> Any:
        return Silence.AWAITED, ""

    def kill(self, worker: Any) -> None: ...

    def close(self) -> None: ...


def test_an_unforeseen_failure_is_told_once_and_ends_nothing(shared: Path) -> None:
    campaign = Campaign(Project.open(shared))
    campaign.queue = RemoteQueue(Pipeline(campaign.repo), "origin")
    proposal = Proposal("x 1.5 → 2.9", "Nearer to the floor.", "human", {"x": 2.9})
    campaign.submit(prepare(campaign.project, proposal, campaign.history()), 1)
    connection = Confused(failures=3)
    with Head(campaign.repo, connection, "origin", size=1, gpus=0) as head:
        wait_for(lambda: connection.started == 1, seconds=30)
        assert [line for line in head.said() if "worker_id" in line] == [
            "AttributeError(\"'NoneType' object has no attribute 'worker_id'\")"
        ]
