"""Progress for people: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Self, TextIO

BAR = 24  # characters
LINE_SECONDS = 5.0
BAR_SECONDS = 0.1


class Progress:
    """A named piece of work of `total` units; `update` as often as you like, then `close`.

    As a context it leaves the line in peace for the message of an exception that passes.
    """

    def __init__(self, name: str, total: float, stream: TextIO | None = None) -> None:
        self.name = name
        self.total = max(total, 1e-9)
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.start = self.shown = time.monotonic()
        self.width = 0

    def update(self, done: float, note: str = "") -> None:
        """Shows that `done` of the total units are done, with a short note behind."""
        now = time.monotonic()
        if now - self.shown >= (BAR_SECONDS if self.terminal else LINE_SECONDS):
            self.shown = now
            self._show(done, note)

    def close(self, note: str = "") -> None:
        """Shows the end of the work."""
        self._show(self.total, note)
        if self.terminal:
            print(file=self.stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self.terminal and self.width:
            print(file=self.stream)

    def _show(self, done: float, note: str) -> None:
        share = min(done / self.total, 1.0)
        seconds = time.monotonic() - self.start
        if self.terminal:
            full = round(share * BAR)
            bar = "█" * full + "░" * (BAR - full)
            text = f"{self.name:9}{bar} {share:4.0%} {seconds:5.1f}s  {note}"
            print("\r" + text.ljust(self.width), end="", file=self.stream, flush=True)
            self.width = len(text)
        else:
            print(f"{self.name} {share:.0%} {seconds:.1f}s {note}".rstrip(), file=self.stream, flush=True)


def say(text: str) -> None:
    """A line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)
