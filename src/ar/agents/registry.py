"""From the kind of agent that `program.md` names to the agent itself; other packages may offer more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ar.agents.base import Agent, Briefing, Line
from ar.errors import AgentFailed, ArError, BadProgram, nearest
from ar.git.repo import Repo
from ar.history.ideas import Proposal
from ar.project.program import AGENTS, AgentSpec, agent_plugins

_SEE = "it comes with another package: ar --debug shows where; docs/agents.md says what an agent must do"


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
