"""What an engine shows while the terminal is somebody else's: lines in a file, and the usual view after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from ar.campaign.progress import Snapshot, View


class Aside:
    """Tells one view, and, as soon as the terminal is free, another one that is opened then.

    Args:
        log: told all of it.
        screen: opens the other.
        is_free: whether that may write to the terminal.
    """

    def __init__(self, log: View, screen: Callable[[], View], is_free: Callable[[], bool]) -> None:
        self._log = log
        self._open = screen
        self._is_free = is_free
        self._screen: View | None = None

    def __enter__(self) -> Self:
        self._log.__enter__()
        return self

    def __exit__(self, *ended_by: object) -> None:
        if self._screen is not None:
            self._screen.__exit__(*ended_by)
        self._log.__exit__(*ended_by)

    def event(self, text: str) -> None:
        self._log.event(text)
        if screen := self._shown():
            screen.event(text)

    def update(self, snapshot: Snapshot) -> None:
        self._log.update(snapshot)
        if screen := self._shown():
            screen.update(snapshot)

    def _shown(self) -> View | None:
        if self._screen is None and self._is_free():
            self._screen = self._open().__enter__()
        return self._screen
