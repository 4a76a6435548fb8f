"""The protocol that every agent follows, and the way to one by its kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ar.errors import BadProgram, nearest
from ar.program import AGENTS, AgentSpec, Program
from ar.records import History, Proposal, Scalar
from ar.repo import Repo


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


def make(spec: AgentSpec, repo: Repo) -> Agent:  # noqa: ARG001 - agents that read files need the project
    """The agent that a line of `program.md` describes, for one project.

    Raises:
        BadProgram: there is none.
    """
    if spec.kind == "optuna":
        from ar.agents.optuna import OptunaAgent

        return OptunaAgent()
    raise BadProgram(f"there is no agent '{spec.kind}'", nearest(spec.kind, AGENTS))
