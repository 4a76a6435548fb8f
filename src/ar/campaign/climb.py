"""The policy of `ar climb`: contenders and their baselines run at larger scales until each is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine, Policy
from ar.campaign.ladder import Ladder, Step, above, decided_at, upto
from ar.campaign.tournament import ETA, default_contenders, tournament
from ar.errors import CannotClimb, NotFound
from ar.history.records import Attempt, History


@dataclass
class Climbing(Policy):
    """Takes one step of one contender at a time. Judged against their own baselines, none of them goes stale.

    Args:
        rungs: names of those to climb, lowest first.
        named: the candidates that climb, on one rung; None for a tournament of all ideas.
        eta: of so many one climbs on, in a tournament.
    """

    ladder: Ladder
    rungs: list[str]
    named: list[str] | None = None
    eta: int = ETA
    _played: str = field(default="", init=False)
    _refused: set[str] = field(default_factory=set, init=False)

    def step(self, engine: Engine, history: History, room: int) -> bool:
        now = self._players(history)
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

    def _players(self, history: History) -> tuple[str, list[Attempt]] | None:
        """The rung that is played now and who plays there; None when all is decided."""
        if self.named is None:
            return tournament(history, self.rungs, self.eta, self._refused)
        players = [item for item in history.attempts if item.candidate in self.named]
        return self.rungs[0], [item for item in players if item.name not in self._refused]


def climbing(
    campaign: Campaign, history: History, attempts: Sequence[Attempt], rung: str | None, eta: int | None
) -> Climbing:
    """Who climbs where: those given; a tournament of all with `eta`; else what is good and not yet judged
    there.

    Raises:
        NotFound: there is no such rung, or nobody to climb.
        CannotClimb: one of those given can not.
    """
    ladder = Ladder(campaign)
    if eta is not None:
        return Climbing(ladder, [item.name for item in upto(campaign.program, rung)], eta=eta)
    top = above(campaign.program, rung).name
    attempts = attempts or default_contenders(history, top)
    if not attempts:
        raise NotFound(f"nothing good is left to climb to {top}", "name a change, or: ar climb --all")
    for attempt in attempts:
        ladder.rung(top).check(attempt)
    return Climbing(ladder, [top], [attempt.candidate for attempt in attempts])
