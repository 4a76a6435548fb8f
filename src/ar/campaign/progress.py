"""What the engine tells whoever watches it: what happened, and how things stand."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from ar.history.records import Outcome


@dataclass(frozen=True)
class Running:
    """An experiment under way.

    Args:
        elapsed, expected: seconds; None where no run has ended yet to expect anything from.
        slot: where it trains, if there are several places.
    """

    name: str
    title: str
    seed: int | None
    elapsed: float
    expected: float | None = None
    slot: str = ""


@dataclass(frozen=True)
class Snapshot:
    """How a campaign stands at one instant.

    Args:
        phase: what the loop is about: "measuring the baseline 3/8".
        verdicts: name, title, outcome and effect of the latest ones, oldest first.
        best, baseline: level of the branch now and at first, each with its uncertainty; may be empty.
        spent, budget: runs.
        elapsed: seconds since the loop began.
        agent: who proposes.
        asking: what agents that take their time are doing.
    """

    running: tuple[Running, ...] = ()
    queued: int = 0
    phase: str = ""
    verdicts: tuple[tuple[str, str, Outcome, str], ...] = ()
    best: str = ""
    baseline: str = ""
    spent: int = 0
    budget: int = 0
    elapsed: float = 0.0
    hours_left: float | None = None
    agent: str = ""
    asking: str = ""


class View(Protocol):
    """Where the loop reports to, for the length of a `with` block."""

    def event(self, text: str) -> None:
        """Something happened that is worth a line for ever."""
        ...

    def update(self, snapshot: Snapshot) -> None:
        """How things stand now."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
