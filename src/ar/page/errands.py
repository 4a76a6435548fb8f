"""What somebody asked for on the page and what takes its time: each in a thread, with how it stands."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from ar.errors import BadState

_MOST_RUNNING = 4
_KEPT = 8  # that have ended


@dataclass(frozen=True)
class Errand:
    """One of them.

    Args:
        said: how it stands, or what came of it.
    """

    number: int
    what: str
    said: str = ""
    has_ended: bool = False
    has_failed: bool = False


class Errands:
    """All of them since the server began, the newest first."""

    def __init__(self, says: Callable[[Exception], str]) -> None:
        self._says = says
        self._numbers = itertools.count(1)
        self._known: dict[int, Errand] = {}
        self._changes = threading.Lock()

    def all(self) -> tuple[Errand, ...]:
        with self._changes:
            return tuple(self._known.values())[::-1]

    def begin(self, what: str, work: Callable[[Callable[[str], None]], str]) -> Errand:
        """Begin one.

        Args:
            work: given how to say where it stands; returns what came of it.

        Raises:
            BadState: too many are under way.
        """
        with self._changes:
            if sum(not one.has_ended for one in self._known.values()) >= _MOST_RUNNING:
                raise BadState("enough is under way that was asked for here", "wait for one of them to end")
            errand = Errand(next(self._numbers), what)
            self._known[errand.number] = errand
            for one in [one for one in self._known.values() if one.has_ended][:-_KEPT]:
                del self._known[one.number]

        def run() -> None:
            try:
                said = work(lambda words: self._note(errand.number, said=words))
                self._note(errand.number, said=said, has_ended=True)
            except BaseException as error:
                failure = error if isinstance(error, Exception) else BadState(repr(error))
                self._note(errand.number, said=self._says(failure), has_ended=True, has_failed=True)

        threading.Thread(target=run, daemon=True).start()
        return errand

    def _note(self, number: int, **changes: object) -> None:
        with self._changes, contextlib.suppress(KeyError):
            self._known[number] = replace(self._known[number], **changes)  # type: ignore[arg-type]
