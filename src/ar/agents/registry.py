"""From the kind of agent that `program.md` names to the agent itself; other packages may offer more."""

from __future__ import annotations

import contextlib
import functools
import pkgutil
from collections.abc import Callable
from typing import Any

from ar.agents import holdout
from ar.agents.base import Agent, Briefing, Channel
from ar.errors import AgentFailed, ArError, BadProgram, nearest
from ar.git.repo import Repo
from ar.history.ideas import Proposal
from ar.project.program import AGENTS, AgentSpec, agent_plugins
from ar.runs import demands

_OURS = {
    "search": "ar.agents.search:SearchAgent",
    "optuna": "ar.agents.optuna:OptunaAgent",
    "claude": "ar.agents.claude:ClaudeAgent",
    "command": "ar.agents.command:CommandAgent",
}
_SEE = "it comes with another package: ar --debug shows where; docs/agent-writers.md says what it must do"


def make(spec: AgentSpec, repo: Repo, channel: Channel | None = None) -> Agent:
    """The agent that a line of `program.md` describes, for one project.

    Raises:
        BadProgram: there is none.
        NotAllowed: this machine's owner has not allowed it.
        AgentFailed: another package's does not load or start.
    """
    _refuse_unknown(spec.kind)
    demands.refuse(repo, demands.of_agent(spec))
    channel = channel or Channel()

    def start() -> Agent:
        agent: Agent = _factory(spec.kind)(spec, repo, channel)
        return agent

    return start() if spec.kind in AGENTS else _Plugin(spec.kind, start)


def is_instant(spec: AgentSpec) -> bool:
    """Whether the agent's class says that it answers in moments; what does not load does not say so."""
    with contextlib.suppress(Exception):
        return bool(getattr(_factory(spec.kind), "instant", False))
    return False


@functools.cache
def _factory(kind: str) -> Any:
    """Class of the agents of a kind; of another package's perhaps a function that makes them."""
    if kind in _OURS:
        return pkgutil.resolve_name(_OURS[kind])
    _refuse_unknown(kind)
    return agent_plugins()[kind].load()


def _refuse_unknown(kind: str) -> None:
    if kind not in AGENTS and kind not in (plugins := agent_plugins()):
        raise BadProgram(f"there is no agent '{kind}'", nearest(kind, [*AGENTS, *plugins]))


class _Plugin:
    """An agent of another package, whose faults are told from ours."""

    def __init__(self, kind: str, make: Callable[[], Agent]) -> None:
        self.kind = kind
        self.agent: Agent = self._called(make)
        self.instant = bool(getattr(self.agent, "instant", False))

    def propose(self, briefing: Briefing) -> Proposal:
        blind = holdout.hidden_from(briefing)
        proposal = self._called(lambda: self.agent.propose(blind))
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
