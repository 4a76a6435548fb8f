"""What `ar run` shows off a terminal: a line an event, and a sign of life now and then.

All text from experiments is data: it is printed without escapes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self, TextIO

from ar.campaign.progress import Snapshot
from ar.text import one_line, plain, shorten_middle
from ar.views.console import SUBSTITUTE
from ar.views.standing import objective_name, run_clock, spent

HEARTBEAT = 10.0  # seconds between two lines that say no more than "still at work"


class PlainView:
    """One timestamped line per event, and a sign of life now and then while something runs."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._now = now
        self._quiet_since = now()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended_by: object) -> None:
        pass

    def event(self, text: str) -> None:
        self._quiet_since = self._now()
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        for line in plain(text).splitlines() or [""]:
            stamped = f"{time.strftime('%H:%M:%S')} {line.expandtabs()}\n"
            self._stream.write(stamped.encode(encoding, SUBSTITUTE).decode(encoding))
        self._stream.flush()

    def update(self, snapshot: Snapshot) -> None:
        if (snapshot.running or snapshot.asking) and self._now() - self._quiet_since >= HEARTBEAT:
            self.event(heartbeat(snapshot))


def heartbeat(snapshot: Snapshot) -> str:
    """One line that says what runs and how far the campaign is."""
    parts = [one_line(snapshot.phase)]
    parts += [f"{shorten_middle(one_line(run.name), 40)} {run_clock(run)}" for run in snapshot.running]
    parts.append(shorten_middle(one_line(snapshot.asking), 120))
    if snapshot.best:
        parts.append(f"{objective_name(snapshot)}now {one_line(snapshot.best)}")
    parts.append(spent(snapshot))
    parts += [f"agents spent {shorten_middle(snapshot.paid, 120)}"] if snapshot.paid else []
    return " | ".join(part for part in parts if part)
