"""What a stage prints, on its way to the log: the beginning and the end are kept, the middle is left out.

Standard library only: the launcher uses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import deque

HEAD = 1_000_000
TAIL = 1_000_000
_CHUNK = 1 << 20
_F_SETPIPE_SZ = 1031  # linux/fcntl.h


class Funnel:
    """Copies a pipe to a file, which never grows by more than `head + 3 * tail` bytes.

    Args:
        source: the reading end of the pipe.
        target: descriptor of the log, opened for appending.
    """

    def __init__(self, source: int, target: int, head: int = HEAD, tail: int = TAIL) -> None:
        self.source = source
        self.target = target
        self.head = head
        self.tail = tail
        self.printed = 0
        self._start = os.fstat(target).st_size
        self._written = 0
        self._recent: deque[bytes] = deque()
        self._kept = 0
        os.set_blocking(source, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(source, _F_SETPIPE_SZ, _CHUNK)

    def pump(self) -> bool:
        """Copy what is there. False once nobody can write to the pipe any more."""
        try:
            chunk = os.read(self.source, _CHUNK)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        self.printed += len(chunk)
        self._remember(chunk)
        if self._written + len(chunk) > self.head + 2 * self.tail:
            self._write(chunk[: max(0, self.head - self._written)])
            self._cut()
        else:
            self._write(chunk)
        return True

    def drain(self) -> None:
        """Copy what is left in the pipe; it may still be held open by somebody."""
        for _ in range(64):
            before = self.printed
            if not self.pump() or self.printed == before:
                break

    def _remember(self, chunk: bytes) -> None:
        self._recent.append(chunk)
        self._kept += len(chunk)
        while self._kept - len(self._recent[0]) >= self.tail:
            self._kept -= len(self._recent.popleft())

    def _cut(self) -> None:
        """Shorten the log to its beginning and its end so far."""
        end = b"".join(self._recent)[-self.tail :]
        left_out = self.printed - self.head - len(end)
        with contextlib.suppress(OSError):
            os.ftruncate(self.target, self._start + self.head)
            self._written = self.head
            self._write(f"\n… ar: {left_out} bytes are left out here …\n".encode() + end)

    def _write(self, chunk: bytes) -> None:
        self._written += len(chunk)
        with contextlib.suppress(OSError):  # a full disk costs the log, not the run
            while chunk:
                chunk = chunk[os.write(self.target, chunk) :]
