"""A command, run as it would run by itself, while what it prints is read for values.

Its output passes through byte by byte, a terminal stays one for it, signals reach it, and its end is ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import subprocess
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ar.stage.files import write_whole
from ar.stage.printed import Found, Lines, Reader, Wanted

_PIECE = 1 << 16  # bytes
_PATIENCE = 0.5  # s without output, after the command's end, that a process which it left may still print in
_PASSED = frozenset(
    signal.Signals[f"SIG{name}"] for name in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "TSTP", "WINCH")
)
_BY_KERNEL = 0x80  # SI_KERNEL, linux/siginfo.h: from the terminal, which sends it to the command, too


@dataclass
class Curve:
    """A table that grows by a row with every value of a name: `step,seconds,NAME`.

    `step` is what the line says, or how many values there were before; `seconds` are those since the start.
    """

    path: Path
    name: str
    _rows: int = field(default=0, init=False)
    _start: float = field(default_factory=time.monotonic, init=False)

    def begin(self) -> None:
        """Write the header over whatever there is."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(f"step,seconds,{self.name}\n", encoding="utf-8")

    def add(self, found: Iterable[Found]) -> None:
        """Append rows, all at once: whoever reads meanwhile sees no half of one."""
        rows = []
        for one in found:
            if one.name == self.name:
                step = self._rows if one.step is None else one.step
                rows.append(f"{step},{time.monotonic() - self._start:.3f},{one.value}\n")
                self._rows += 1
        if rows:
            with self.path.open("ab", buffering=0) as file:
                file.write("".join(rows).encode())


class _Pump(threading.Thread):
    """Copies one output of the command to where it would have gone by itself, and shows it to `see`."""

    def __init__(self, source: int, target: int, see: Callable[[bytes], None]) -> None:
        super().__init__(daemon=True)
        self.source, self.target, self.see = source, target, see
        self.is_over = threading.Event()

    def run(self) -> None:
        lines = Lines()
        while self._waits():
            try:
                piece = os.read(self.source, _PIECE)
            except OSError:  # how a terminal says that its other end is closed
                break
            if not piece or not _written(self.target, piece):
                break
            self.see(lines.add(piece))
        os.close(self.source)  # whoever prints on is told what he would have been told without us
        self.see(lines.end())

    def _waits(self) -> bool:
        """Wait for more. False when the command is over and nothing came for a while."""
        while True:
            was_over = self.is_over.is_set()  # looked at first: what is printed last is there before that
            if select.select([self.source], [], [], _PATIENCE)[0]:
                return True
            if was_over:
                return False


def _written(target: int, piece: bytes) -> bool:
    """False where nobody reads any more."""
    left = memoryview(piece)
    with contextlib.suppress(OSError):
        while left:
            left = left[os.write(target, left) :]
    return not left


def run(
    command: Sequence[str],
    out: Path,
    wanted: Sequence[Wanted] = (),
    curves: Sequence[tuple[Path, Wanted]] = (),
) -> int:
    """Run a command, and write the metrics that it prints to `out` as JSON. Returns its exit code.

    That file is whole or absent: an older one goes first, and it is written after the command ended well. Of
    curves every row is whole, and they grow while the command runs. A command that was ended by a signal ends
    this process by the same one.

    Raises:
        NotPrinted: the command ended well, but a metric is missing or not finite.
        OSError: the command cannot be run, or a file not be written.
    """
    out.unlink(missing_ok=True)
    tables = [Curve(path, one.name) for path, one in curves]
    for table in tables:
        table.begin()
    reader, lock = Reader(wanted, [one for _, one in curves]), threading.Lock()

    def see(lines: bytes) -> None:
        with lock:
            found = reader.read(lines)
            for table in tables:
                table.add(found)

    code = _pass_through(command, see)
    if code < 0:
        _end_by(-code)
    if code == 0:
        write_whole(out, f"{json.dumps(reader.results(), indent=2)}\n".encode())
    return code


def _pass_through(command: Sequence[str], see: Callable[[bytes], None]) -> int:
    """Run the command with its output passed through. Returns its exit code, or less than 0 for a signal."""
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED)
    ends = _Ends()
    try:
        process = subprocess.Popen(
            command,
            stdout=ends.given[1],
            stderr=ends.given[2],
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, unblocked),
        )
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        raise
    finally:
        ends.close_given()
    pumps = [_Pump(source, target, see) for source, target in ends.sources]
    for thread in (*pumps, threading.Thread(target=_pass_signals, args=(process, ends), daemon=True)):
        thread.start()
    code = process.wait()
    for pump in pumps:
        pump.is_over.set()
    for pump in pumps:
        pump.join()
    return code


class _Ends:
    """What stands in for our standard output and error: a pipe, or a terminal where ours is one."""

    def __init__(self) -> None:
        self.given: dict[int, int] = {}
        self.sources: list[tuple[int, int]] = []
        for target in (1, 2):
            if target == 2 and os.isatty(1) and os.isatty(2):
                self.given[2] = self.given[1]  # one screen, on which both keep their order
                continue
            source, given = os.openpty() if os.isatty(target) else os.pipe()
            if os.isatty(target):
                tty.setraw(given)  # what a terminal does to its input and output, ours does
            self.given[target] = given
            self.sources.append((source, target))
        self.resize()

    def resize(self) -> None:
        """Have the command see a terminal of the size of ours."""
        for source, target in self.sources:
            if os.isatty(target):
                with contextlib.suppress(OSError):
                    size = fcntl.ioctl(target, termios.TIOCGWINSZ, b"\0" * 8)
                    fcntl.ioctl(source, termios.TIOCSWINSZ, size)

    def close_given(self) -> None:
        for given in set(self.given.values()):
            os.close(given)


def _pass_signals(process: subprocess.Popen[bytes], ends: _Ends) -> None:
    """Hand the command the signals that are sent to us; those of a terminal reach it by themselves."""
    while True:
        info = signal.sigwaitinfo(_PASSED)
        number = signal.Signals(info.si_signo)
        if number is signal.SIGWINCH:
            ends.resize()
        if info.si_code != _BY_KERNEL or number is signal.SIGWINCH:
            process.send_signal(number)
        if number is signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)


def _end_by(number: int) -> None:
    """End this process as the command ended, without a core file of our own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    with contextlib.suppress(OSError, ValueError):  # SIGKILL has no other way
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
