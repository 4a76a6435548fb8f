"""The workers of one `ar run`: started, woken, listened to, ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Self

from ar.errors import BadState
from ar.repo import Repo
from ar.worker import FINISH, WAKE

_MAX_DEATHS = 5


class Crew:
    """`jobs` worker processes, one a slot; a slot's share of the cores is what its stages are told to use.

    A worker that dies is replaced; if they keep dying, `events` raises `BadState`.
    """

    def __init__(self, repo: Repo, jobs: int) -> None:
        self.repo = repo
        self.jobs = jobs
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        self.busy: dict[int, str] = {}
        self.deaths = 0
        self.draining = False
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        for slot in range(self.jobs):
            self._start(slot)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        for process in self.workers.values():
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.write(WAKE)
                    process.stdin.flush()

    def drain(self) -> None:
        """Let the workers finish what they run, and claim nothing more."""
        if self.draining:
            return
        self.draining = True
        for process in self.workers.values():
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.write(FINISH)
                    process.stdin.flush()

    def slots(self) -> dict[str, str]:
        """Name of a running experiment to its slot."""
        return {name: str(slot + 1) for slot, name in self.busy.items()} if self.jobs > 1 else {}

    def events(self, timeout: float) -> list[dict[str, Any]]:
        """What the workers reported within `timeout` seconds; a dead worker is reported and replaced."""
        found: list[dict[str, Any]] = []
        for key, _ in self._selector.select(timeout):
            slot = int(key.data)
            chunk = os.read(key.fd, 65536)
            if not chunk:
                found.append({"event": "died", "slot": slot})
                self._selector.unregister(key.fileobj)
                if not self.draining:
                    self._replace(slot)
                continue
            *lines, self._buffers[slot] = (self._buffers[slot] + chunk).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError):
                    found.append({"slot": slot, **json.loads(line)})
        for event in found:
            if event["event"] == "started":
                self.busy[event["slot"]] = event["name"]
            elif event["event"] in ("ended", "requeued", "idle", "died"):
                self.busy.pop(event["slot"], None)
            elif event["event"] == "failed":
                raise BadState(f"a worker cannot go on: {event['reason']}")
        return found

    def _start(self, slot: int) -> None:
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        with self.repo.log_file(f"worker-{slot + 1}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ar.worker", str(self.repo.root), str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the loop alone
            )
        assert process.stdout is not None
        self.workers[slot] = process
        self._buffers[slot] = b""
        self._selector.register(process.stdout, selectors.EVENT_READ, slot)

    def _replace(self, slot: int) -> None:
        dead = self.workers[slot]
        code = dead.wait()
        for stream in (dead.stdin, dead.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        self.deaths += 1
        if self.deaths > _MAX_DEATHS:
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            log = self.repo.log_file(f"worker-{slot + 1}.log")
            raise BadState(f"workers keep dying, the last with {how}", f"see {log}, or run: ar doctor")
        self._start(slot)
