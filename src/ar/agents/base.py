"""The protocol that every agent follows: what it is told, and what it answers."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ar.errors import ArError
from ar.history.ideas import Proposal
from ar.history.near_misses import NearMiss
from ar.history.notebook import Notebook
from ar.history.records import History
from ar.history.spend import Spend
from ar.local.board import Post
from ar.project.program import AgentRole, Program
from ar.project.values import Scalar
from ar.runs.budget import Used

if TYPE_CHECKING:
    from ar.surrogate.surface import Surface


@dataclass(frozen=True)
class Briefing:
    """All that an agent is given.

    Args:
        params: parameters at the head, keyed `file:dotted.key`.
        refused: why earlier answers to this very question were refused, oldest first.
        lane: the field that this agent keeps to; empty for all of them.
        role: the kind of change that it looks for; None for any.
        idea: what the user wants tried, in a sentence; empty where the agent may choose.
        surface: the campaign's model; None while too little is measured, or nothing is searched.
        agent: the name under which the answer is recorded.
        notebook: what experiments taught.
        near: changes that are promising and not settled.
        used, spent: what runs and agents have used of the budget; None where nobody looked.
        cards: names of the branch's cards of literature.
        board: what others say that they are about to work on.
        curve: of the branch, at equal shares of a run, in its own direction; empty where there is none.
    """

    program: Program
    history: History
    params: dict[str, Scalar] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    lane: str = ""
    idea: str = ""
    surface: Surface | None = None
    agent: str = ""
    notebook: Notebook = field(default_factory=Notebook)
    near: tuple[NearMiss, ...] = ()
    used: Used | None = None
    spent: Spend | None = None
    curve: tuple[float, ...] = ()
    role: AgentRole | None = None
    cards: tuple[str, ...] = ()
    board: tuple[Post, ...] = ()


class Dropped(ArError):
    """Whoever asked does not want the answer any more."""


@dataclass
class Channel:
    """Between an agent that takes its time and whoever asked it.

    Args:
        say: told what goes on at the moment, in a few words.
        event: told what happened, where that deserves a lasting line.
        claim: told what the agent is about to work on, which all others see until its answer is there.
        dropped: set when the answer is not wanted any more.
    """

    say: Callable[[str], None] = lambda words: None
    event: Callable[[str], None] = lambda words: None
    claim: Callable[[str], None] = lambda words: None
    dropped: threading.Event = field(default_factory=threading.Event)
    _due: float = field(default=math.inf, init=False)  # monotonic time

    def wait(self, seconds: float) -> None:
        """Do nothing for a while.

        Raises:
            Dropped: at once when the answer is not wanted any more.
        """
        if self.dropped.wait(max(0.0, seconds)):
            raise Dropped("the question was dropped")

    def expect(self, seconds: float) -> None:
        """A sign of life is to come within so many seconds; infinity where none is awaited."""
        self._due = time.monotonic() + seconds

    @property
    def is_stalled(self) -> bool:
        """Whether the agent tries again what failed, or is not heard of: another may go on meanwhile."""
        return time.monotonic() > self._due


class Agent(Protocol):
    """Reads the history, proposes one change.

    Args:
        instant: it answers in moments, so that proposals can be made one at a time, each knowing the last.
            Its class says so.
    """

    instant: bool

    def propose(self, briefing: Briefing) -> Proposal:
        """The next change to try.

        Raises:
            ArError: the agent cannot propose anything, and what would help.
        """
        ...
