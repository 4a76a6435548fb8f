"""Whose turn it is, where several agents propose.

The history decides, so that a restarted engine goes on where it was: the agent whose share of the proposals
lags most behind its weight is next.
"""

from __future__ import annotations

from collections.abc import Sequence

from ar.history.records import History
from ar.project.program import AgentSpec


def order(specs: Sequence[AgentSpec], history: History, asked: Sequence[str] = ()) -> list[AgentSpec]:
    """All agents, the one that lags most first; of equals the one that `program.md` lists first.

    Counted from the first proposal of the agent that joined last: a newcomer gets its share from now on, and
    does not catch up on what was before its time. `asked` names agents whose proposals are on their way.
    """
    names = [spec.name for spec in specs]
    made = [name for name in (*(attempt.agent for attempt in history.attempts), *asked) if name in names]
    fresh = [spec for spec in specs if spec.name not in made]
    if fresh:
        return fresh + [spec for spec in specs if spec not in fresh]
    counted = made[max(map(made.index, names)) + 1 :]
    whole = sum(spec.weight for spec in specs)

    def lag(spec: AgentSpec) -> float:
        return spec.weight / whole * (len(counted) + 1) - counted.count(spec.name)

    return sorted(specs, key=lag, reverse=True)


def named(specs: Sequence[AgentSpec], name: str) -> AgentSpec:
    """The agent of that name, else the first of that kind, else one of that kind without settings."""
    for spec in specs:
        if spec.name == name:
            return spec
    return next((spec for spec in specs if spec.kind == name), AgentSpec(kind=name))
