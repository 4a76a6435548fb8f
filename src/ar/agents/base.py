"""The protocol that every agent follows, and the way to one by its kind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ar.errors import AgentFailed, ArError, BadProgram, nearest
from ar.program import AGENTS, AgentSpec, Program, agent_plugins
from ar.records import History, Proposal, Scalar
from ar.repo import Repo

_SEE = "it comes with another package: ar --debug shows where; docs/agents.md says what an agent must do"


@dataclass(frozen=True)
class Briefing:
    """All that an agent is given.

    Args:
        params: parameters at the head, keyed `file:dotted.key`.
        refused: why earlier answers to this very question were refused, oldest first.
        lane: the field that this agent keeps to; empty for all of them.
        idea: what the user wants tried, in a sentence; empty where the agent may choose.
    """

    program: Program
    history: History
    params: dict[str, Scalar] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    lane: str = ""
    idea: str = ""


class Dropped(ArError):
    """Whoever asked does not want the answer any more."""


@dataclass(frozen=True)
class Line:
    """How an agent that takes its time keeps in touch with whoever asked.

    Args:
        say: told what goes on just now, in a few words.
        tell: told what is worth a line for ever.
        dropped: set when the answer is not wanted any more.
    """

    say: Callable[[str], None] = lambda words: None
    tell: Callable[[str], None] = lambda words: None
    dropped: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float) -> None:
        """Do nothing for a while.

        Raises:
            Dropped: at once when the answer is not wanted any more.
        """
        if self.dropped.wait(max(0.0, seconds)):
            raise Dropped("the question was dropped")


class Agent(Protocol):
    """Reads the history, proposes one change.

    Args:
        instant: it answers in moments, so that proposals can be made one at a time, each knowing the last.
    """

    instant: bool

    def propose(self, briefing: Briefing) -> Proposal:
        """The next change to try.

        Raises:
            ArError: the agent cannot propose anything, and what would help.
        """
        ...


def make(spec: AgentSpec, repo: Repo, line: Line | None = None) -> Agent:
    """The agent that a line of `program.md` describes, for one project.

    Raises:
        BadProgram: there is none.
    """
    if spec.kind == "optuna":
        from ar.agents.optuna import OptunaAgent

        return OptunaAgent()
    if spec.kind == "claude":
        from ar.agents.claude import ClaudeAgent

        return ClaudeAgent(spec, repo, line or Line())
    if spec.kind == "command":
        from ar.agents.command import CommandAgent

        return CommandAgent(spec, repo, line or Line())
    plugins = agent_plugins()
    if spec.kind not in plugins:
        raise BadProgram(f"there is no agent '{spec.kind}'", nearest(spec.kind, [*AGENTS, *plugins]))
    return _Plugin(spec.kind, lambda: plugins[spec.kind].load()(spec, repo, line or Line()))


class _Plugin:
    """An agent of another package, whose faults are told from ours."""

    def __init__(self, kind: str, make: Callable[[], Agent]) -> None:
        self.kind = kind
        self.agent: Agent = self._called(make)
        self.instant = bool(getattr(self.agent, "instant", False))

    def propose(self, briefing: Briefing) -> Proposal:
        proposal = self._called(lambda: self.agent.propose(briefing))
        if not isinstance(proposal, Proposal):
            raise AgentFailed(f"the agent '{self.kind}' gave {type(proposal).__name__}, not a Proposal", _SEE)
        return proposal

    def _called(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except ArError:
            raise
        except Exception as error:
            raise AgentFailed(
                f"the agent '{self.kind}' failed: {type(error).__name__}: {error}", _SEE
            ) from error


def is_instant(spec: AgentSpec) -> bool:
    """Whether that agent is known to answer in moments."""
    return spec.kind == "optuna"
