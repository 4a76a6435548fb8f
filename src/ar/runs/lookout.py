"""Looks at a remote's queue now and then, for whoever has nothing else to do."""

from __future__ import annotations

import time

from ar.errors import ArError
from ar.history import leases
from ar.history.leases import Watch
from ar.runs.remote_queue import RemoteQueue

_EVERY = 1.0  # seconds between two looks
_MOST = 30.0  # where the remote is out of reach


class Lookout:
    """Tells whether anything is there to be run, and lets anybody take what was lost with its holder."""

    def __init__(self, queue: RemoteQueue) -> None:
        self.queue = queue
        self._watch = Watch()
        self._next = 0.0
        self._pause = _EVERY
        self.is_away = False  # at the last look

    def finds(self) -> bool:
        """Whether something is free to be taken; False also where it is too soon for another look."""
        if time.monotonic() < self._next:
            return False
        try:
            self.queue.look()
            found = bool(self.queue.waiting()) | bool(self.free_lost())
        except ArError as error:
            if not self.is_away:
                self.queue.tell(f"{error.message}; it is tried again and again")
            self.is_away, self._pause = True, min(2 * self._pause, _MOST)
            found = False
        else:
            if self.is_away:
                self.queue.tell(f"{self.queue.remote} can be reached again")
            self.is_away, self._pause = False, _EVERY
        self._next = time.monotonic() + self._pause
        return found

    def free_lost(self) -> list[str]:
        """Break the leases that have run out, as far as we know. Returns what is free to be taken."""
        found = leases.held(self.queue.repo, self.queue.remote)
        self._watch.see(found)
        free = []
        for name, held in found.items():
            if held.lease.is_broken:
                free.append(name)
            elif self._watch.has_run_out(held) and self.queue.break_(held):
                self.queue.tell(f"{name} is free again: {held.lease.worker} has not renewed its lease")
                free.append(name)
        return free
