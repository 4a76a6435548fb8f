"""The policy of `ar climb`: contenders and their baselines run at larger scales until each is judged."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine, Policy
from ar.campaign.ladder import AtRung, Ladder, Step, above, decided_at, upto
from ar.campaign.tournament import ETA, default_contenders, tournament
from ar.errors import CannotClimb, NotFound
from ar.history.records import Attempt, History

# The rung that is played now and who plays there; None when all is decided. The names of those who cannot
# climb are left out.
Players = Callable[[History, Container[str]], tuple[str, list[Attempt]] | None]


@dataclass
class Climbing(Policy):
    """Takes one step of one contender at a time. Judged against their own baselines, none of them goes stale.

    Args:
        players: asked in every round.
    """

    ladder: Ladder
    players: Players
    _played: str = field(default="", init=False)
    _refused: set[str] = field(default_factory=set, init=False)

    def step(self, engine: Engine, history: History, room: int) -> bool:
        now = self.players(history, self._refused)
        if now is None:
            return False
        rung, contenders = now
        if rung != self._played:
            self._played = rung
            self.phase = f"climbing to {rung}"
            engine.event(f"{rung}: {len(contenders)} to climb: {', '.join(it.name for it in contenders)}")
        open_ones = {item.candidate for item in contenders if not decided_at(history, item, rung)}
        for attempt in contenders:
            if self.ladder.rung(rung).identity(attempt.baseline) in open_ones:
                continue  # its baseline climbs, too, and is measured by that first
            try:
                step = self.ladder.climb(engine, rung, history, attempt, room)
            except CannotClimb as error:
                self._refused.add(attempt.name)
                engine.event(f"{attempt.name} cannot climb: {error.message}")
                return True
            if step in (Step.QUEUED, Step.DECIDED):
                return True
        return False


@dataclass(frozen=True)
class Plan:
    """What one `ar climb` does: on which rungs, with whom; `candidates` is None for all."""

    rungs: list[str]
    players: Players
    candidates: list[str] | None = None


def plan(
    campaign: Campaign, history: History, attempts: Sequence[Attempt], rung: str | None, eta: int | None
) -> Plan:
    """Who climbs where: those given; a tournament of all with `eta`; else what is good and not yet judged
    there.

    Raises:
        NotFound: there is no such rung, or nobody to climb.
        CannotClimb: one of those given can not.
    """
    if eta is not None:
        rungs = [item.name for item in upto(campaign.program, rung)]
        return Plan(rungs, in_tournament(rungs, eta))
    top = above(campaign.program, rung)
    attempts = attempts or default_contenders(history, top.name)
    if not attempts:
        raise NotFound(f"nothing good is left to climb to {top.name}", "name a change, or: ar climb --all")
    for attempt in attempts:
        AtRung(campaign, top).check(attempt)
    candidates = [attempt.candidate for attempt in attempts]
    return Plan([top.name], chosen(candidates, top.name), candidates)


def chosen(candidates: Sequence[str], rung: str) -> Players:
    """Players that were named: all on one rung."""

    def players(history: History, refused: Container[str]) -> tuple[str, list[Attempt]]:
        named = [item for item in history.attempts if item.candidate in candidates]
        return rung, [item for item in named if item.name not in refused]

    return players


def in_tournament(rungs: Sequence[str], eta: int = ETA) -> Players:
    """Players by successive halving over `rungs`, lowest first."""
    return lambda history, refused: tournament(history, rungs, eta, refused)
