"""What workers and their pool tell each other: a byte one way, an event a line the other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from ar.record import Record

WAKE, FINISH = b"\n", b"f"  # something may wait to be run; the run in hand is to be the last


class EventKind(StrEnum):
    READY = "ready"  # DVC is imported
    IDLE = "idle"  # nothing waits
    STARTED = "started"  # it has claimed an experiment
    RETRIED = "retried"  # after a fault of the machine's
    ENDED = "ended"
    REQUEUED = "requeued"
    WITHDRAWN = "withdrawn"
    LOST = "lost"  # its lease is another's by now: nothing of it is published
    REFUSED = "refused"  # the budget forbids to run what waits
    TOLD = "told"  # worth a line for people, and nothing else
    PASSED = "passed"  # what waits may not run on the devices that it has
    FAILED = "failed"  # the worker cannot go on
    DIED = "died"  # said by the pool: the worker is gone


_SETTLED = (EventKind.ENDED, EventKind.REQUEUED, EventKind.WITHDRAWN, EventKind.LOST)


@dataclass(frozen=True)
class Event(Record):
    """Something that happened to a worker.

    Args:
        name: the experiment that it had in hand.
        reason: in words, where it was retried, refused or passed on, or failed.
        worker: its number in the pool.
    """

    kind: EventKind
    name: str = ""
    reason: str = ""
    worker: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether the worker is done with the experiment."""
        return self.kind in _SETTLED

    def __str__(self) -> str:
        return json.dumps(self.to_json())
