"""What a table shows of a history, apart from the history: small, and as good from a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from rich.text import Text

from ar.history.records import Attempt, History
from ar.project.program import Program
from ar.record import Record
from ar.views.listing import Listing


@dataclass(frozen=True)
class Excerpt(Record):
    """Some attempts, and what is told of all.

    Args:
        shown: in the order in which they are told.
        total: how many there would be without a limit.
        known: how many there are at all.
        rungs: above the base, at which anything was measured.
        climbs: what those that are shown did there, as changes.
        own_class: the campaign's own class of devices.
        summary: what is told of all of them.
        strong: where the parts of that begin and end that are to catch the eye.
    """

    shown: tuple[Attempt, ...]
    total: int
    known: int
    rungs: tuple[str, ...] = ()
    climbs: tuple[Attempt, ...] = ()
    own_class: str = ""
    summary: str = ""
    strong: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of(cls, history: History, program: Program, listed: Listing, summary: Text) -> Self:
        measured = {attempt.rung for attempt in history.at_rungs}
        rungs = tuple(rung.name for rung in program.ladder[1:] if rung.name in measured)
        candidates = {attempt.candidate for attempt in listed.shown}
        climbs = {
            (it.candidate, it.rung): it for it in reversed(history.at_rungs) if it.candidate in candidates
        }
        return cls(
            shown=listed.shown,
            total=listed.total,
            known=len(history.shown),
            rungs=rungs,
            climbs=tuple(climb for climb in climbs.values() if climb.own),
            own_class=history.devices[0],
            summary=summary.plain,
            strong=tuple((span.start, span.end) for span in summary.spans),
        )

    @property
    def text(self) -> Text:
        """The summary, to be drawn."""
        text = Text(self.summary, no_wrap=False, overflow="fold")
        for start, end in self.strong:
            text.stylize("bold", start, end)
        return text

    def climb(self, attempt: Attempt, rung: str) -> Attempt | None:
        """What a change did at a rung, as a change; None where it was at most measured as an incumbent."""
        same = (it for it in self.climbs if (it.candidate, it.rung) == (attempt.candidate, rung))
        return next(same, None)
