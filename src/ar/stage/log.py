"""What a stage prints, on its way to the log: the beginning and the end are kept, the middle is left out, and
no secret ever lies in the file.

Standard library only: the launcher uses it.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import re
import time
from collections import deque
from collections.abc import Iterable

HEAD = 1_000_000
TAIL = 1_000_000
_CHUNK = 1 << 20
_BITE = 1 << 16  # bytes of the beginning that are read at once: the limits wait while they are looked through
_LIVE = 1 << 15  # bytes of the end that whoever watches sees while more is printed
_INTERVAL = 0.1, 0.5  # s, between two looks through the beginning, and through the end
_SPARE = 1 << 13  # bytes before the end that show whether it begins within a secret
# As many characters, besides white space, are not shown where what was before them is not known.
_UNSURE = re.compile(r"(?:\s*+\S){0,4096}+")
_F_SETPIPE_SZ = 1031  # linux/fcntl.h


class Funnel:
    """Copies a pipe to a file, which grows by little more than `head + tail` bytes.

    Args:
        source: the reading end of the pipe.
        target: descriptor of the log, opened for appending.
        handed: values that must not get there, besides those that names of variables tell for secrets.
    """

    def __init__(
        self, source: int, target: int, handed: Iterable[str] = (), head: int = HEAD, tail: int = TAIL
    ) -> None:
        # Not before: when this is made the stage runs, and no slot waits.
        from ar.redaction import Redactor, hand

        hand(handed)
        self.source = source
        self.target = target
        self.head = head
        self.tail = tail
        self.printed = 0
        self._copied = self._shown = 0  # bytes of the beginning, and of all, that the file was brought up to
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._redactor = Redactor()
        self._end: int | None = None  # of the beginning in the file, once there is more
        self._recent: deque[bytes] = deque()  # what was printed last and not copied
        self._kept = 0
        self._due = 0.0
        os.set_blocking(source, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(source, _F_SETPIPE_SZ, _CHUNK)

    def pump(self) -> bool:
        """Take what is there. False once nobody can write to the pipe any more."""
        left = self.head - self.printed
        try:
            chunk = os.read(self.source, min(left, _BITE) if left > 0 else _CHUNK)
        except BlockingIOError:
            return True
        self.printed += len(chunk)
        self._remember(chunk)
        if left > 0 and (self.printed >= self.head or self._kept >= _BITE):
            self._copy()
        return bool(chunk)

    def show(self) -> None:
        """Bring the file up to date, now and then."""
        now, ended = time.monotonic(), self.printed >= self.head
        if self._shown < self.printed and now >= self._due:
            self._due = now + _INTERVAL[ended]
            if ended:
                self._show(min(_LIVE, self.tail), unfinished=True)
            else:
                self._copy()

    def drain(self) -> None:
        """Take what is left in the pipe, which somebody may hold open; the last that is called."""
        for _ in range(64):
            before = self.printed
            if not self.pump() or self.printed == before:
                break
        if self.printed < self.head:
            self._copy()
        self._show(self.tail)

    def _remember(self, chunk: bytes) -> None:
        if self._recent and len(self._recent[-1]) < _SPARE:
            self._recent[-1] += chunk
        elif chunk:
            self._recent.append(chunk)
        self._kept += len(chunk)
        while self._recent and self._kept - len(self._recent[0]) >= self.tail + _SPARE:
            self._kept -= len(self._recent.popleft())

    def _copy(self) -> None:
        """Write of the beginning what no secret can begin in that is not all there."""
        self._copied = self._shown = self.printed
        self._write(self._redactor.feed(self._decoder.decode(b"".join(self._recent))))
        self._recent.clear()
        self._kept = 0

    def _show(self, most: int, unfinished: bool = False) -> None:
        """Let the file be the beginning, and the end so far."""
        from ar.redaction import redact

        self._shown = self.printed
        if self._end is None:
            self._end = os.fstat(self.target).st_size
        waiting = self._redactor.kept.encode(errors="surrogateescape") + self._decoder.getstate()[0]
        recent = b"".join(self._recent)[-most - _SPARE :]
        whole = self._copied + len(recent) == self.printed
        text = waiting + recent if whole else recent
        cut = max(0, len(text) - most) if len(recent) > most else 0
        while cut < len(text) and text[cut] & 0xC0 == 0x80:  # within a letter
            cut += 1
        start = len(_read(text[:cut]))
        if not whole and (unsure := _UNSURE.match(_read(text))):
            start = max(start, unsure.end())
        shown = redact(_read(text), start=start, unfinished=unfinished)
        if start or not whole:
            left_out = self.printed - self._copied + len(waiting)
            left_out -= len(_read(text)[start:].encode(errors="surrogateescape"))
            shown = f"\n… ar: {left_out} bytes are left out here …\n{shown}"
        with contextlib.suppress(OSError):
            os.ftruncate(self.target, self._end)
            self._write(shown)

    def _write(self, text: str) -> None:
        chunk = text.encode(errors="surrogateescape")
        with contextlib.suppress(OSError):  # a full disk costs the log, not the run
            while chunk:
                chunk = chunk[os.write(self.target, chunk) :]


def _read(text: bytes) -> str:
    return text.decode(errors="surrogateescape")
