"""Child processes of the harness: started with a socket and a shared buffer, measured, never left.

The child runs `python -m data.child ROLE`. It is in a session of its own, dies with the harness
(PR_SET_PDEATHSIG), and whatever it started dies with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

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
    """What the kernel says a finished child used."""

    status: int  # exit status, negative for a signal
    cpu_seconds: float
    peak_bytes: int


class Child:
    """A running child. Messages are lines of ASCII; replies are up to the caller."""

    def __init__(self, role: str, config: Path, folder: Path) -> None:
        """Starts `python -m data.child ROLE CONFIG` with `folder` as its only place to write."""
        self.socket, theirs = socket.socketpair()
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(folder),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        }
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "data.child",
                    role,
                    str(theirs.fileno()),
                    str(os.getpid()),
                    str(config),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        self.usage: Usage | None = None
        self.buffer = b""

    def receive(self) -> list[str] | None:
        """The next message's words, or None when the child has closed its end."""
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
        """Sends bytes to the child. A child that is gone shows at the next `receive`."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def wait(self) -> Usage:
        """Waits for the end of the child."""
        if self.usage is None:
            _, status, used = os.wait4(self.process.pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self.process.returncode = code
            unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
            self.usage = Usage(code, used.ru_utime + used.ru_stime, used.ru_maxrss * unit)
        return self.usage

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Ends the child and all that it started."""
        if self.usage is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.wait()
        self.socket.close()
        kill_orphans()


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
