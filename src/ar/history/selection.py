"""Which attempts somebody asks for, and which of them come first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ar.history.records import Attempt


class Order(StrEnum):
    """Which attempts come first; best and worst leave out what has no effect yet."""

    NEWEST = "newest"
    OLDEST = "oldest"
    BEST = "best"
    WORST = "worst"


@dataclass(frozen=True)
class Selection:
    """What an attempt has to be like; of a field that is empty, anything will do.

    Args:
        contains: text that its name, title, agent or hypothesis has; upper and lower case are the same.
        outcome: what became of it, in the word of `Outcome`.
        agent: the name of who proposed it.
    """

    contains: str = ""
    outcome: str = ""
    agent: str = ""

    def __bool__(self) -> bool:
        """Whether anything is asked for at all."""
        return bool(self.contains or self.outcome or self.agent)

    @property
    def words(self) -> str:
        """What is asked for, in words."""
        parts = [self.outcome, self.agent and f"by {self.agent}", self.contains and f"with '{self.contains}'"]
        return ", ".join(filter(None, parts))

    def takes(self, attempt: Attempt) -> bool:
        wanted = self.contains.lower()
        return (
            (not self.outcome or attempt.outcome == self.outcome)
            and (not self.agent or attempt.agent == self.agent)
            and any(
                wanted in text.lower()
                for text in (attempt.name, attempt.title, attempt.agent, attempt.first.hypothesis)
            )
        )

    def of(self, attempts: Iterable[Attempt], order: Order = Order.NEWEST) -> list[Attempt]:
        """Those that fit of attempts given oldest first."""
        found = [attempt for attempt in attempts if self.takes(attempt)]
        if order is Order.NEWEST:
            found.reverse()
        elif order in (Order.BEST, Order.WORST):
            effects = {item.name: item.verdict.effect for item in found if item.verdict}
            found = [item for item in found if effects.get(item.name) is not None]
            found.sort(key=lambda item: effects[item.name] or 0.0, reverse=order is Order.WORST)
        return found


EVERYTHING = Selection()
