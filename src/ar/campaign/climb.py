"""The policies of `ar climb`: changes and their baselines run at larger scales, those named until each is
judged, or of all ideas what says most about the target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine, Policy
from ar.campaign.ladder import Ladder, Step, above, decided_at, upto
from ar.errors import CannotClimb, NotFound
from ar.history.records import Attempt, History
from ar.text import counted

if TYPE_CHECKING:
    from ar.surrogate.choosing import Choice

ETA = 3  # of so many ideas one climbs on at each rung: what is left of all is confirmed at the target


@dataclass
class Climbing(Policy):
    """Takes one step of one contender at a time. Judged against their own baselines, none of them goes stale.

    Args:
        rungs: the one to climb to.
        named: the candidates that climb.
    """

    ladder: Ladder
    rungs: list[str]
    named: list[str] | None
    _told: bool = field(default=False, init=False)
    _refused: set[str] = field(default_factory=set, init=False)

    def step(self, engine: Engine, history: History, room: int) -> bool:
        [rung] = self.rungs
        players = [item for item in history.attempts if item.candidate in (self.named or ())]
        contenders = [item for item in players if item.name not in self._refused]
        if not self._told:
            self._told = True
            self.phase = f"climbing to {rung}"
            engine.event(f"{rung}: {len(contenders)} to climb: {', '.join(it.name for it in contenders)}")
        open_ones = {item.candidate for item in contenders if not decided_at(history, item, rung)}
        for attempt in contenders:
            if self.ladder.rung(rung).identity(attempt.baseline) in open_ones:
                continue  # its baseline climbs, too, and is measured by that first
            step = _climb(self.ladder, engine, rung, history, attempt, room, self._refused)
            if step in (None, Step.QUEUED, Step.DECIDED):
                return True
        return False


@dataclass
class Choosing(Policy):
    """Of all ideas against the branch, one more run at a time of that idea at that rung which adds most to
    the gain to be expected at the target, by the second; then the best are confirmed at the target, by the
    judge.

    It decides from the history alone, so that a killed one carries on.

    Args:
        rungs: names of those to climb, lowest first; the last is the target.
        eta: of so many one is confirmed at the target, for each rung.
    """

    ladder: Ladder
    rungs: list[str]
    eta: int = ETA
    named: None = None
    _told: set[str] = field(default_factory=set, init=False)
    _refused: set[str] = field(default_factory=set, init=False)
    _spent: set[str] = field(default_factory=set, init=False)

    def step(self, engine: Engine, history: History, room: int) -> bool:
        players = [item for item in ideas(history) if item.name not in self._refused]
        told = [self.ladder.rung(rung).settle(history, item) for rung in self.rungs for item in players]
        if any(told):
            return True
        if room <= 0 or not players:
            return False
        for rung in self.rungs:
            for item in players:
                if self.ladder.rung(rung).neighbour(history, item) is not None:
                    step = _climb(self.ladder, engine, rung, history, item, room, self._refused)
                    if step in (Step.QUEUED, Step.DECIDED):
                        return True
        for choice in self._wanted(engine, history, players):
            step = _climb(self.ladder, engine, choice.rung, history, choice.attempt, room, self._refused)
            if step in (None, Step.QUEUED, Step.DECIDED):
                return True
        return False

    def _wanted(self, engine: Engine, history: History, players: Sequence[Attempt]) -> list[Choice]:
        """Who is to run where, the most urgent first."""
        from ar.surrogate.choosing import Choice, choices, finalists  # it takes its time to load
        from ar.surrogate.climbs import climbs_of

        target = self.rungs[-1]
        climbs = climbs_of(self.ladder.campaign.program, history, target)
        most = math.ceil(len(ideas(history)) / self.eta ** len(self.rungs))
        spent = {rung for rung in self.rungs if self.ladder.rung(rung).is_spent(history)}
        for rung in spent:
            self._tell(engine, f"spent {rung}", f"{rung}: the rung's budget of runs is spent")
        left = [rung for rung in self.rungs if rung not in spent]
        open_to = {item.candidate: open_rungs(history, item, left) for item in players}
        self._tell(engine, "", f"{counted(len(players), 'idea')} may climb to {target}: the model chooses")
        self.phase = f"measuring on the way to {target}"
        wanted = choices(climbs, open_to, most)
        if wanted or any(
            not open_to[item.candidate] and _runs(history, item, self.rungs) for item in players
        ):
            return wanted
        able = [item for item in players if target in open_to[item.candidate]]
        best = finalists(climbs, able, most - sum(decided_at(history, item, target) for item in players))
        self.phase = f"confirming at {target}"
        if best:
            names = ", ".join(item.name for item in best)
            self._tell(engine, target, f"{target}: {len(best)} to confirm: {names}")
        return [Choice(item, target) for item in best]

    def _tell(self, engine: Engine, key: str, words: str) -> None:
        """Say something once."""
        if key not in self._told:
            self._told.add(key)
            engine.event(words)


def open_rungs(history: History, attempt: Attempt, rungs: Sequence[str]) -> list[str]:
    """Rungs at which an idea may be run now: none while it runs at one, or if it failed at one."""
    found = []
    for name in rungs:
        mine = history.at_rung(attempt.candidate, name)
        if mine and any(not run.status.ended for run in mine.own):
            return []
        if mine and mine.is_decided and mine.verdict and mine.verdict.effect is None:
            return []
        if not decided_at(history, attempt, name):
            found.append(name)
    return found


def _runs(history: History, attempt: Attempt, rungs: Sequence[str]) -> bool:
    """Whether any run of it is under way there."""
    climbs = (history.at_rung(attempt.candidate, name) for name in rungs)
    return any(not run.status.ended for climb in climbs if climb for run in climb.own)


def _climb(
    ladder: Ladder,
    engine: Engine,
    rung: str,
    history: History,
    attempt: Attempt,
    room: int,
    refused: set[str],
) -> Step | None:
    """One step of one contender; None, and it is refused from there on, where it cannot climb."""
    try:
        return ladder.climb(engine, rung, history, attempt, room)
    except CannotClimb as error:
        refused.add(attempt.name)
        engine.event(f"{attempt.name} cannot climb: {error.message}")
        return None


def ideas(history: History) -> list[Attempt]:
    """What was measured against the branch as it is."""
    return [
        item
        for item in history.attempts
        if history.is_head(item.baseline) and item.own and item.value is not None and not item.base
    ]


def default_contenders(ladder: Ladder, history: History, rung: str) -> list[Attempt]:
    """What `ar climb` takes without a name: promoted changes, oldest first, and winners that wait, where
    they have no verdict at the rung yet, or a neighbour is to be tried there."""
    return [
        item
        for item in (*history.promoted, *history.winners)
        if not decided_at(history, item, rung) or ladder.rung(rung).neighbour(history, item) is not None
    ]


def climbing(
    campaign: Campaign, history: History, attempts: Sequence[Attempt], rung: str | None, eta: int | None
) -> Climbing | Choosing:
    """Who climbs where: those given; what the model chooses of all with `eta`; else what is good and not yet
    judged there.

    Raises:
        NotFound: there is no such rung, or nobody to climb.
        CannotClimb: one of those given can not.
    """
    ladder = Ladder(campaign)
    if eta is not None:
        return Choosing(ladder, [item.name for item in upto(campaign.program, rung)], eta)
    top = above(campaign.program, rung).name
    attempts = attempts or default_contenders(ladder, history, top)
    if not attempts:
        raise NotFound(f"nothing good is left to climb to {top}", "name a change, or: ar climb --all")
    for attempt in attempts:
        ladder.rung(top).check(attempt)
    return Climbing(ladder, [top], [attempt.candidate for attempt in attempts])
