"""A bandit over agents: the weights that follow from what their proposals gained for what they cost.

Budgeted Thompson sampling (Xia et al. 2015, arXiv:1505.00146): the chance that an agent is the one that gains
most per cost, by Beta posteriors of what a proposal gains. Evidence is discounted (Qi et al. 2023,
arXiv:2305.10718), since ideas run out and models change. All is read from the history and the account, and
the draws are those of a fixed seed: a restarted engine comes to the same weights.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ar.history.records import Attempt, History, Label, Outcome
from ar.history.spend import Spend

FLOOR = 0.05  # least share of an agent, so that one that recovers is seen
DISCOUNT = 0.98  # of what is known of a proposal, with each that comes after it
_PRIOR = 2.0  # proposals that the mean of all agents counts for with each of them
_LEAST_COST = 0.1  # of the mean of all: what an agent that costs nothing is taken to cost
_DRAWS = 500
_UNSETTLED = (Outcome.QUEUED, Outcome.RUNNING, Outcome.OPEN, Outcome.CANCELLED)


@dataclass(frozen=True)
class Payoff:
    """What a settled proposal came to.

    Args:
        gain: what the judge confirmed of it, in the objective's unit; 0 for all that is not in use.
        seconds: that its runs took.
    """

    agent: str
    gain: float
    seconds: float


def payoffs(history: History) -> list[Payoff]:
    """What each proposal that is settled came to, oldest first.

    What was carried onto a later branch (`Attempt.stack`) is nobody's new proposal: its gain goes to the
    proposals that it joins, in equal parts.
    """
    gains: dict[str, float] = {}
    for attempt in history.tried:
        for name in attempt.stack or (attempt.name,):
            gains[name] = gains.get(name, 0.0) + _gain(attempt) / max(1, len(attempt.stack))
    return [
        Payoff(attempt.agent, gains.get(attempt.name, 0.0), _seconds(attempt))
        for attempt in history.tried
        if not attempt.stack and attempt.outcome not in _UNSETTLED
    ]


def shares(agents: Sequence[str], history: History, spent: Mapping[str, Spend]) -> dict[str, float]:
    """Each agent's share of the proposals: they sum to 1, none below `FLOOR`, or half of an equal part.

    Args:
        spent: what each agent's calls cost so far. The cost of a proposal is in dollars where any agent tells
            them, else in seconds of runs.
    """
    known = [payoff for payoff in payoffs(history) if payoff.agent in agents]
    costs = _costs(agents, history, known, spent)
    beliefs = _beliefs(agents, known)
    chances = _chances(tuple((*beliefs[name], costs[name]) for name in agents))
    floor = min(FLOOR, 0.5 / len(agents))
    return {
        name: floor + (1 - floor * len(agents)) * chance for name, chance in zip(agents, chances, strict=True)
    }


def _gain(attempt: Attempt) -> float:
    """Confirmed, and not taken back; of a simplification, that is not better beyond noise, nothing."""
    verdict = attempt.verdict
    if verdict is None or attempt.outcome not in (Outcome.PROMOTED, Outcome.WINNER):
        return 0.0
    return max(0.0, -(verdict.effect or 0.0)) if verdict.label is Label.PLAIN else 0.0


def _seconds(attempt: Attempt) -> float:
    return sum(run.note.seconds or 0.0 for run in attempt.own if run.note)


def _costs(
    agents: Sequence[str], history: History, known: Sequence[Payoff], spent: Mapping[str, Spend]
) -> dict[str, float]:
    """Mean cost of a proposal of each agent, the mean of all counted as one more of its proposals."""
    dollars = {name: spent[name].usd or 0.0 for name in agents if name in spent}
    if any(dollars.values()):
        made = [attempt.agent for attempt in history.tried if not attempt.stack]
        unknown = [name for name in dollars if spent[name].usd is None and spent[name].tokens]
        paid = {name: dollars.get(name, 0.0) for name in agents if name not in unknown}
        counts = {name: made.count(name) for name in paid}
    else:
        paid = {name: sum(payoff.seconds for payoff in known if payoff.agent == name) for name in agents}
        counts = {name: sum(payoff.agent == name for payoff in known) for name in agents}
    mean = sum(paid.values()) / max(1, sum(counts.values()))
    if not mean:
        return dict.fromkeys(agents, 1.0)
    own = {name: (paid.get(name, 0.0) + mean) / (counts.get(name, 0) + 1) / mean for name in agents}
    return {name: max(cost, _LEAST_COST) for name, cost in own.items()}


def _beliefs(agents: Sequence[str], known: Sequence[Payoff]) -> dict[str, tuple[float, float]]:
    """Parameters of a Beta distribution of what a proposal gains, as a part of the largest gain so far."""
    largest = max((payoff.gain for payoff in known), default=0.0)
    gained, missed = dict.fromkeys(agents, 0.0), dict.fromkeys(agents, 0.0)
    for age, payoff in enumerate(reversed(known)):
        part = payoff.gain / largest if largest else 0.0
        gained[payoff.agent] += DISCOUNT**age * part
        missed[payoff.agent] += DISCOUNT**age * (1 - part)
    total = sum(gained.values())
    mean = (0.5 + total) / (1 + total + sum(missed.values()))
    return {name: (_PRIOR * mean + gained[name], _PRIOR * (1 - mean) + missed[name]) for name in agents}


@functools.lru_cache(maxsize=128)  # asked for in every round of an engine
def _chances(agents: tuple[tuple[float, float, float], ...]) -> tuple[float, ...]:
    """How often each agent gains most per cost. Each is two parameters of a Beta distribution, and a cost."""
    draw, best = random.Random(0), [0] * len(agents)  # noqa: S311 (no secret is drawn)
    for _ in range(_DRAWS):
        worth = [draw.betavariate(gained, missed) / cost for gained, missed, cost in agents]
        best[worth.index(max(worth))] += 1
    return tuple(count / _DRAWS for count in best)
