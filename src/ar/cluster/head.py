"""The head of a campaign on a Ray cluster: asks for as many workers as there is work, and has what a dead
one held taken up by another at once.

The queue is a git remote's, and all that is true is there: whatever the head or Ray believes of a worker,
only who holds the lease can publish.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from ar.cluster.connection import Connection, Silence
from ar.cluster.state import State
from ar.errors import ArError
from ar.git import refs
from ar.git.repo import Repo
from ar.history import leases
from ar.local import allowed, lines, node
from ar.runs.pipeline import Pipeline
from ar.runs.remote_queue import RemoteQueue
from ar.text import one_line

FAILURES = "cluster-failures"  # the file of lines in which what failed is kept, for `ar cluster status`
ADDRESS = "cluster"  # and the one with the address of the cluster that was used last
_LOOK = 0.5  # seconds between two looks at all workers
_IDLE = 60.0  # seconds for which a worker without work is kept: what comes next finds it ready
_SETTLING = 3.0  # seconds for which a dead worker's process may still take something
_PAUSE = 2.0, 60.0  # seconds before a slot is tried again that failed, at first and at most
_PATIENCE = 20.0  # seconds for workers to end by themselves
_KEPT = 20  # failures that are kept


@dataclass
class _Slot:
    number: int
    worker: Any = None  # Ray's handle
    asked: Any = None
    state: State | None = None
    used: float = 0.0  # when it was last seen with work
    leaves: bool = False  # it was told to end, as there is nothing to do
    failures: int = 0  # in a row
    not_before: float = 0.0
    lost: list[tuple[str, float]] = field(default_factory=list)  # dead clones' names, and until when to look


class Head:
    """Keeps workers on a cluster while a campaign runs. Its thread has a handle on the repository of its own.

    Args:
        remote: whose queue they work on; each node must reach its address.
        size: the most workers at once.
        gpus: that each is given: 1, 0, or a share of one.
    """

    def __init__(self, repo: Repo, connection: Connection, remote: str, size: int, gpus: float) -> None:
        self.size = size
        self.gpus = gpus
        self.connection = connection
        self._repo = Repo.open(repo.root)
        self._told = deque[str]()
        self._queue = RemoteQueue(Pipeline(self._repo), remote, tell=self._told.append)
        self._home = node.name(self._repo)
        self._url = _address(self._repo, remote)
        self._ref = refs.standing(self._repo.branch())
        self._slots = [_Slot(number) for number in range(size)]
        self._drained = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers: what still runs goes back to the queue."""
        self._done.set()
        self._thread.join()
        until = time.monotonic() + _PATIENCE
        for slot in self._slots:
            self._end(slot, at_once=True)
        while time.monotonic() < until and any(slot.worker is not None for slot in self._slots):
            for slot in self._slots:
                self._look(slot)
            time.sleep(0.1)
        for slot in self._slots:
            self._let_go(slot)
        self._queue.pipeline.close()
        self.connection.close()

    # -- for the engine -----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Let the workers finish what they run, and ask for no more."""
        self._drained = True

    @property
    def busy(self) -> bool:
        """Whether any worker may have something in hand."""
        return any(slot.worker is not None for slot in self._slots)

    def said(self) -> Iterator[str]:
        """What is worth a line since the last time."""
        with contextlib.suppress(IndexError):
            while True:
                yield self._told.popleft()

    # -- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        told_to_end, fault = False, ""
        while not self._done.wait(_LOOK):
            try:
                for slot in self._slots:
                    self._look(slot)
                self._free_lost()
                if self._drained and not told_to_end:
                    told_to_end = True
                    for slot in self._slots:
                        self._end(slot, at_once=False)
                if not self._drained:
                    self._scale()
                fault = ""
            except Exception as error:  # Ray's, too: without this thread nothing would be looked after
                known, fault = fault, error.message if isinstance(error, ArError) else one_line(repr(error))
                if fault != known:
                    self._tell(fault)

    def _look(self, slot: _Slot) -> None:
        """See how a slot's worker is; let go of one that has ended."""
        if slot.worker is None:
            return
        if slot.asked is None:
            slot.asked = self.connection.ask(slot.worker)
            return
        found = self.connection.answer(slot.asked)
        if isinstance(found, State):
            slot.asked = None
            if slot.state is None and not found.ended:
                gpu = f", GPU {found.gpus}" if found.gpus else ""
                self._told.append(f"slot {slot.number}: a worker is up on {found.host}{gpu}")
            slot.state = found
            if found.runs:
                slot.used, slot.failures = time.monotonic(), 0
            if found.ended:
                if not (slot.leaves or self._drained or self._done.is_set()):
                    self._failed(slot, f"its worker on {found.host} ended: {found.said}")
                self._let_go(slot)
            return
        silence, words = found
        if silence is not Silence.AWAITED:
            slot.asked = None
        if silence is Silence.DIED:
            where = f"its worker on {slot.state.host} died" if slot.state else "no worker came up"
            mend = "" if slot.state else "; ar must be installed on every node"
            self._failed(slot, f"{where}: {words}{mend}")
            self._let_go(slot)

    def _failed(self, slot: _Slot, words: str) -> None:
        slot.failures += 1
        slot.not_before = time.monotonic() + min(_PAUSE[1], _PAUSE[0] * 2 ** (slot.failures - 1))
        self._tell(f"slot {slot.number}: {words}")
        if slot.state is not None and slot.state.worker:
            slot.lost.append((slot.state.worker, time.monotonic() + _SETTLING))

    def _free_lost(self) -> None:
        """Break the leases of dead workers, without waiting for them to run out."""
        dead = {name for slot in self._slots for name, _ in slot.lost}
        if not dead:
            return
        self._queue.look()
        for name, held in leases.held(self._repo, self._queue.remote).items():
            broken = held.lease.worker in dead and not held.lease.is_broken and self._queue.break_(held)
            if broken:
                self._told.append(f"{name} is free again: {held.lease.worker} is gone")
        for slot in self._slots:
            slot.lost = [each for each in slot.lost if each[1] > time.monotonic()]

    def _scale(self) -> None:
        """Have a worker for each experiment that waits or runs, as far as there are slots."""
        now, there = time.monotonic(), self._queue.remote
        held = leases.held(self._repo, there).values()
        waiting = len(self._queue.waiting()) + sum(it.lease.is_broken for it in held)
        holders = {it.lease.worker for it in held if not it.lease.is_broken}
        up = [slot for slot in self._slots if slot.worker is not None and not slot.leaves]
        working = [slot for slot in up if slot.state and (slot.state.runs or slot.state.worker in holders)]
        wanted = min(self.size, len(working) + waiting)
        for slot in self._slots:
            if len(up) >= wanted:
                break
            if slot.worker is None and not slot.lost and now >= slot.not_before:
                self._start(slot)
                up.append(slot)
        spare = [slot for slot in up if slot not in working and now - slot.used > _IDLE]
        for slot in spare[: max(0, len(up) - wanted)]:
            slot.leaves = True
            self._end(slot, at_once=True)

    def _start(self, slot: _Slot) -> None:
        words = sorted(allowed.read(self._repo))
        arguments = (self._url, self._ref, str(self._repo.prefix), self._home, slot.number, words)
        slot.worker = self.connection.start(slot.number, self.gpus, (*arguments, self.gpus > 0))
        slot.used = time.monotonic()

    def _end(self, slot: _Slot, at_once: bool) -> None:
        if slot.worker is None:
            return
        if slot.state is None:
            self._let_go(slot)  # Ray has found no place for it yet
        else:
            self.connection.end(slot.worker, at_once)

    def _let_go(self, slot: _Slot) -> None:
        if slot.worker is not None:
            self.connection.kill(slot.worker)
        slot.worker = slot.asked = slot.state = None
        slot.leaves = False

    def _tell(self, words: str) -> None:
        if words not in self._told:
            self._told.append(words)
        kept = [line for line in lines.read(self._repo, FAILURES) if line]
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        lines.write(self._repo, FAILURES, [*kept, f"{stamp} {words}"][-_KEPT:])


def _address(repo: Repo, remote: str) -> str:
    """A remote's address, as it is for a clone elsewhere on this machine or on one that shares its disk."""
    url = repo.run("remote", "get-url", remote)
    is_path = "://" not in url and ":" not in url.partition("/")[0]
    return str((repo.top / url).resolve()) if is_path else url
