"""The workers of one `ar run`: started, woken, listened to, ended."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from ar.errors import BadState, DiskFull
from ar.git.repo import Repo
from ar.local import claims
from ar.runs.events import FINISH, WAKE, Event, EventKind
from ar.runs.slots import Slot
from ar.stage.files import Request

_MAX_DEATHS = 5
_LEAST_FREE = 1_000_000  # bytes of disk without which nothing can be expected of a worker
_PATIENCE = 1.0  # seconds for which experiments wait before another worker is worth its start


class Pool:
    """Worker processes that feed slots: one for each, and a second one where experiments wait to be set up.

    They get ready on their own and claim nothing before the first `wake`. A worker that dies is replaced; if
    they keep dying, `events` raises `BadState`. They take no experiment but the one called `only`, if that is
    not empty, and work on the queue of `remote`, or the clone's own.
    """

    def __init__(
        self, repo: Repo, slots: Sequence[Slot], workers: int = 1, only: str = "", remote: str = ""
    ) -> None:
        self.repo = repo
        self.slots = slots
        self.size = workers
        self.only = only
        self.remote = remote
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        self.busy: dict[int, str] = {}
        self.deaths = 0
        self.fatal: Counter[str] = Counter()
        self.draining = False
        self._awake = False
        self._crowded: float | None = None
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        for number in range(self.size):
            self._start(number)
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers: what still runs goes back to the queue."""
        for process in self.workers.values():
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        deadline = time.monotonic() + 15
        for process in self.workers.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
        self._selector.close()

    def wake(self) -> None:
        """Tell idle workers that something may wait for them."""
        self._awake = True
        self._tell_all(WAKE)

    def drain(self) -> None:
        """Let the workers finish what they run, and claim nothing more."""
        if not self.draining:
            self.draining = True
            self._tell_all(FINISH)

    def _tell_all(self, word: bytes) -> None:
        for process in self.workers.values():
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.write(word)
                    process.stdin.flush()

    def blame(self, name: str) -> None:
        """A worker died: the second time over the same experiment, that one does not come back."""
        self.fatal[name] += 1
        if name and self.fatal[name] > 1:
            claims.ask(self.repo, name, Request.CANCEL, "its worker died twice while it ran")

    def reinforce(self, waiting: int) -> None:
        """Start one more worker where experiments keep waiting while every worker has one, up to two a slot:
        the next experiment is then set up while one trains. Short runs are over before that would pay."""
        crowded = waiting > 0 and len(self.busy) >= len(self.workers) and not self.draining
        now = time.monotonic()
        if not crowded:
            self._crowded = None
        elif self._crowded is None:
            self._crowded = now
        elif now - self._crowded > _PATIENCE and len(self.workers) < 2 * len(self.slots):
            self._crowded = None
            self._start(len(self.workers))

    def events(self, timeout: float) -> list[Event]:
        """What the workers reported within `timeout` seconds; a dead worker is reported and replaced."""
        found: list[Event] = []
        for key, _ in self._selector.select(timeout):
            number = int(key.data)
            chunk = os.read(key.fd, 65536)
            if not chunk:
                found.append(Event(EventKind.DIED, self.busy.get(number, ""), worker=number))
                self._selector.unregister(key.fileobj)
                if not self.draining:
                    self._replace(number)
                continue
            *lines, self._buffers[number] = (self._buffers[number] + chunk).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError, TypeError):
                    found.append(dataclasses.replace(Event.from_json(json.loads(line)), worker=number))
        for event in found:
            if event.kind is EventKind.STARTED:
                self.busy[event.worker] = event.name
            elif event.is_settled or event.kind in (EventKind.IDLE, EventKind.DIED):
                self.busy.pop(event.worker, None)
                self.deaths *= event.kind is not EventKind.ENDED
            elif event.kind is EventKind.FAILED:
                raise BadState(f"a worker cannot go on: {event.reason}")
        return found

    def _start(self, number: int) -> None:
        slots = json.dumps([dataclasses.asdict(slot) for slot in self.slots])
        told = [str(self.repo.root), slots, self.only, self.remote]
        with self._log(number).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ar.runs.worker", *told],  # -P: no folder `ar` of the project's
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the loop alone
            )
        assert process.stdout is not None
        self.workers[number] = process
        self._buffers[number] = b""
        self._selector.register(process.stdout, selectors.EVENT_READ, number)
        if self._awake:
            self._tell_all(WAKE)

    def _replace(self, number: int) -> None:
        dead = self.workers[number]
        code = dead.wait()
        for stream in (dead.stdin, dead.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        self.deaths += 1
        if self.deaths > _MAX_DEATHS:
            if shutil.disk_usage(folder := self._log(number).parent).free < _LEAST_FREE:
                raise DiskFull(str(folder))
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            hint = f"see {self._log(number)}, or run: ar doctor"
            raise BadState(f"workers keep dying, the last with {how}", hint)
        self._start(number)

    def _log(self, number: int) -> Path:
        """Where a worker writes what it has to say besides its events."""
        return self.repo.own_folder() / f"worker-{number + 1}.log"
