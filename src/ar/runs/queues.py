"""Where experiments wait: in this clone, or on a remote that several clones share. Workers, commands and
policies take, end and give back experiments by the same few calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ar.history.messages import Message
from ar.history.records import Note
from ar.local.claims import Claim
from ar.project.program import Program
from ar.project.program_file import current as current_program
from ar.project.project import Project
from ar.runs import budget, queue
from ar.runs.pipeline import Pipeline


class Queue(Protocol):
    """What can be done with experiments that wait or run.

    `remote` is its remote; empty for the clone's own queue. `tell` is called with what is worth a line.
    """

    remote: str
    tell: Callable[[str], None]

    def put(self, project: Project, tree: str, baseline: str, message: Message, name: str) -> bool:
        """Queue one run of a tree. False where the very same run is there already: that one counts."""

    def refusals(self) -> tuple[str, str]:
        """Why no run may begin any more, and why none at the base scale may; empty where one may."""

    def claim(
        self, only: str = "", base: bool = True, suits: Callable[[Message], bool] = lambda _: True
    ) -> Claim | None:
        """Take one that waits and suits, or the one called `only`; of the base scale only with `base`."""

    def program(self, claimed: Claim) -> Program:
        """The programme that a claimed experiment runs by."""

    def flaw(self, claimed: Claim) -> str:
        """Why a claimed experiment must not run at all; empty if nothing speaks against it.

        Raises:
            BadState: it may, but this machine lacks what it needs.
        """

    def finish(self, claimed: Claim, rev: str, note: Note) -> bool:
        """Record the one outcome of a claimed experiment, and let go of it. False where it is not ours any
        more: then nothing is recorded."""

    def requeue(self, claimed: Claim) -> None:
        """Give a claimed experiment back, as if it had never been taken."""

    def drop(self, claimed: Claim) -> None:
        """Let a claimed experiment go, for good: it never began."""

    def disown(self, claimed: Claim) -> None:
        """Forget a claimed experiment that is somebody else's by now."""

    def withdraw(self, name: str, rev: str) -> bool:
        """Take a waiting experiment out of the queue for good. False if it is not waiting any more, or was
        taken before."""

    def fetch_outputs(self, rev: str) -> None:
        """Have here what the stages of a commit made elsewhere, as far as that can be had."""


class Home:
    """The clone's own queue."""

    remote = ""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.repo = pipeline.repo
        self.tell: Callable[[str], None] = print

    def put(self, project: Project, tree: str, baseline: str, message: Message, name: str) -> bool:
        queue.put(project, self.pipeline, tree, baseline, message, name)
        return True

    def refusals(self) -> tuple[str, str]:
        return budget.refusals(Project(self.repo, current_program(self.repo)))

    def claim(
        self, only: str = "", base: bool = True, suits: Callable[[Message], bool] = lambda _: True
    ) -> Claim | None:
        return queue.claim(self.pipeline, only, base, suits)

    def program(self, claimed: Claim) -> Program:  # noqa: ARG002
        return current_program(self.repo)

    def flaw(self, claimed: Claim) -> str:  # noqa: ARG002
        return ""  # what waits here was made here, from what had passed every check

    def finish(self, claimed: Claim, rev: str, note: Note) -> bool:
        queue.finish(self.repo, claimed, rev, note)
        return True

    def requeue(self, claimed: Claim) -> None:
        queue.requeue(self.pipeline, claimed)

    def drop(self, claimed: Claim) -> None:
        queue.drop(self.repo, claimed)

    def disown(self, claimed: Claim) -> None:
        queue.requeue(self.pipeline, claimed)

    def withdraw(self, name: str, rev: str) -> bool:
        return queue.withdraw(self.pipeline, name, rev)

    def fetch_outputs(self, rev: str) -> None:
        """What was made here is here."""
