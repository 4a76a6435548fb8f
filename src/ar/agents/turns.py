"""Whose turn it is, where several agents propose.

The history decides, so that a restarted engine goes on where it was: the agent whose share of the proposals
lags most behind its weight is next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ar.agents import bandit
from ar.history.records import History
from ar.history.spend import Spend
from ar.project.program import AgentSpec


def order(
    specs: Sequence[AgentSpec],
    history: History,
    spent: Mapping[str, Spend],
    asked: Sequence[str] = (),
) -> list[AgentSpec]:
    """All agents, the one that lags most first; of equals the one that `program.md` lists first.

    Counted from the first proposal of the agent that joined last: a newcomer gets its share from now on, and
    does not catch up on what was before its time. Where weights are learned, only the last proposals count,
    as many as let each agent have a turn: what was due by earlier weights is not made up for.

    Args:
        spent: what each agent's calls cost so far, by its name.
        asked: names of agents whose proposals are on their way.
    """
    names = [spec.name for spec in specs]
    proposed = [attempt.agent for attempt in history.attempts if not attempt.stack]
    made = [name for name in (*proposed, *asked) if name in names]
    counted = made[max((made.index(name) for name in names if name in made), default=-1) + 1 :]
    parts = shares(specs, history, spent)
    if any(spec.is_learned for spec in specs):
        counted = counted[-math.ceil(1 / min(parts.values())) :]

    def lag(spec: AgentSpec) -> float:
        if spec.name not in made:
            return math.inf
        return parts[spec.name] * (len(counted) + 1) - counted.count(spec.name)

    return sorted(specs, key=lag, reverse=True)


def shares(specs: Sequence[AgentSpec], history: History, spent: Mapping[str, Spend]) -> dict[str, float]:
    """Each agent's share of the proposals by its weight. Those whose weight is learned divide among them what
    they would have with a weight of 1 each."""
    learned = [spec.name for spec in specs if spec.is_learned]
    parts = bandit.shares(learned, history, spent) if learned else {}
    weights = {
        spec.name: len(learned) * parts[spec.name] if spec.weight is None else spec.weight for spec in specs
    }
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def named(specs: Sequence[AgentSpec], name: str) -> AgentSpec:
    """The agent of that name, else the first of that kind, else one of that kind without settings."""
    for spec in specs:
        if spec.name == name:
            return spec
    return next((spec for spec in specs if spec.kind == name), AgentSpec(kind=name))
