"""What matters, of the parameters: the campaign's model takes its time, and is asked apart from the page."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ar.page.render import Pages
from ar.serve.desk import Desk
from ar.serve.words import Words
from ar.text import quantity

_MOST = 12


@dataclass(frozen=True)
class Matter:
    """A parameter.

    Args:
        share: of the largest's size, from 0 to 1.
    """

    name: str
    size: str
    share: float
    is_clear: bool


class Matters:
    """Renders the part, once for each state of the history."""

    def __init__(self, desk: Desk, pages: Pages) -> None:
        self._desk, self._pages = desk, pages
        self._known: tuple[object, str] | None = None
        self._asked = threading.Lock()

    def __call__(self) -> str:
        with self._asked, self._desk.campaign() as campaign:
            marks = self._desk.marks()
            if self._known is None or self._known[0] != marks:
                found = campaign.model.importances(campaign.history())[:_MOST]
                words, largest = Words(campaign.program, []), max((one.size for one in found), default=1.0)
                rows = [
                    Matter(
                        words(one.name),
                        quantity(one.size, one.standard_error),
                        round(one.size / largest, 3) if largest else 0.0,
                        one.is_clear,
                    )
                    for one in found
                ]
                self._known = marks, self._pages("parts/matters.html", rows=rows)
            return self._known[1]
