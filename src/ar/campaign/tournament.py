"""Who climbs: successive halving of all ideas, or what is good and not yet judged at a rung."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import TypeVar

from ar.campaign.ladder import decided_at
from ar.history.records import Attempt, History, Verdict

ETA = 3  # of so many contenders one climbs on
_T = TypeVar("_T")


def default_contenders(history: History, rung: str) -> list[Attempt]:
    """What `ar climb` takes without a name: promoted changes, oldest first, and winners that wait, where
    they have no verdict at the rung yet."""
    return [item for item in (*history.promoted, *history.winners) if not decided_at(history, item, rung)]


def tournament(
    history: History, rungs: Sequence[str], eta: int = ETA, refused: Container[str] = ()
) -> tuple[str, list[Attempt]] | None:
    """The rung that is played now, and who plays: successive halving (Jamieson and Talwalkar 2016; with any
    eta, Li et al. 2018). Of the n ideas measured against the head, the best n / eta climb to the first rung,
    the best n / eta^2 of all to the second, and so on. None when the last rung is decided.

    Ideas are ranked by their score at the rung below; whoever looks worse than the incumbent there is out,
    wherever it ranks.
    """
    ideas = [
        item
        for item in history.attempts
        if history.is_head(item.baseline) and item.value is not None and not item.base
    ]
    scored = [(_score(item.verdict), item) for item in ideas]
    for level, rung in enumerate(rungs, 1):
        able = [(score, item) for score, item in scored if item.name not in refused]
        players = halve(able, math.ceil(len(ideas) / eta**level))
        if any(not decided_at(history, item, rung) for item in players):
            return rung, players
        results = [(item, history.at_rung(item.candidate, rung)) for item in players]
        scored = [(_score(found.verdict if found else None), item) for item, found in results]
    return None


def halve(scored: Sequence[tuple[float, _T]], keep: int) -> list[_T]:
    """The best `keep` of those that score above 0, best first; equals in the order given."""
    ranked = sorted(scored, key=lambda pair: -pair[0])
    return [item for score, item in ranked[:keep] if score > 0]


def _score(verdict: Verdict | None) -> float:
    return -math.inf if verdict is None or verdict.z is None else verdict.z
