"""Processes of the code under test, from the harness's side: started inside walls, measured, never left.

One server imports torch, once, and nothing of the model; it forks a process for each role, which is alone
with what it was handed: a line to the harness, and memory or files that are open already. The server dies
with the harness (PR_SET_PDEATHSIG), its processes with it, and what they started with them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from data.errors import RunError

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
MOST_LINE = 4096  # bytes of one message


def prctl(option: int, value: int) -> None:
    """Linux's prctl(2); elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """To be called first by a child: it is killed as soon as `parent`, a process id, has died."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@dataclass(frozen=True)
class Usage:
    """What the kernel says that a finished process used, and all that it had started."""

    status: int  # exit status, negative for a signal
    cpu_seconds: float
    peak_bytes: int


class Server:
    """Starts processes of `data.child`, one at a time."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        }
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "data.child", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    def start(self, config: dict[str, Any], descriptors: Sequence[int]) -> Child:
        """A process with `config` that holds copies of `descriptors` and nothing else that is open."""
        ours, theirs = socket.socketpair()
        with theirs, contextlib.suppress(ConnectionError):
            request = json.dumps(config).encode() + b"\n"
            sent = socket.send_fds(self.socket, [request], [theirs.fileno(), *descriptors])
            self.socket.sendall(request[sent:])
        return Child(ours, self)

    def finished(self) -> Usage:
        """Waits for the end of the process that was started last, and of what it started."""
        answer = b""
        while not answer.endswith(b"\n"):
            try:
                data = self.socket.recv(MOST_LINE)
            except ConnectionError:
                data = b""
            if not data:
                return Usage(self.process.wait() or 1, 0.0, 0)
            answer += data
        return Usage(**json.loads(answer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends it and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.socket.close()
        kill_orphans()


class Child:
    """The harness's end of the line to one process. Messages are lines of ASCII; replies up to the caller."""

    def __init__(self, line: socket.socket, server: Server) -> None:
        self.socket = line
        self.server = server
        self.usage: Usage | None = None
        self.buffer = b""

    def receive(self) -> list[str] | None:
        """The next message's words, or None when the process has closed its end."""
        while b"\n" not in self.buffer:
            try:
                data = self.socket.recv(MOST_LINE)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self.buffer += data
            if len(self.buffer) > MOST_LINE:
                raise RunError("the child sent a message that is too long")
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode("utf-8", "replace").split(" ")

    def reply(self, data: bytes) -> None:
        """Sends bytes to the process. One that is gone shows at the next `receive`."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def wait(self) -> Usage:
        """Closes the line and waits for the end of the process."""
        if self.usage is None:
            self.socket.close()
            self.usage = self.server.finished()
        return self.usage


def kill_orphans() -> None:
    """Kills processes that were handed to us because their own parent, a child of ours, died."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            pids = [int(pid) for pid in children.read_text().split()]
        except OSError:  # not Linux, or a kernel without this file
            return
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived. The harness cleans up and leaves."""


@contextlib.contextmanager
def supervision() -> Iterator[None]:
    """Signals become exceptions, and orphans of our children come to us."""

    def stop(number: int, _frame: object) -> None:
        raise Terminated(number)

    prctl(PR_SET_CHILD_SUBREAPER, 1)
    before = {
        number: signal.signal(number, stop)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN  # under nohup, a hang-up stays ignored
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
