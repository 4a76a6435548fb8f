"""A command in the foreground: until it ends, the terminal and the signals are its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from ar.cli.stage import cannot_run

_TYPED = (signal.SIGINT, signal.SIGQUIT)  # a terminal sends them to the command, too
_LAST = (signal.SIGTERM, signal.SIGHUP)  # we are to end, and not only what runs
_SENT = (signal.SIGUSR1, signal.SIGUSR2)


class Foreground:
    """Runs a command with our own standard streams.

    Args:
        command: none for no command: then nothing but the signals is looked after.

    Raises:
        CannotRun: there is no such command, or it may not be run.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._level = 0
        for number in (*_TYPED, *_LAST, *_SENT):
            # Python's handlers are not inherited: the command begins with what is usual.
            signal.signal(number, self._handle)
        if command:
            try:
                self._process = subprocess.Popen(command)
            except OSError as error:
                raise cannot_run(command[0], error) from None

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def level(self) -> int:
        """How often the user has asked us to end, as `Engine.stop`. What is typed while the command runs is
        meant for that."""
        return self._level

    def wait(self) -> int:
        """The exit code of the command as a shell has it, when it has ended; 0 without one."""
        code = self._process.wait() if self._process else 0
        return code if code >= 0 else 128 - code

    def _handle(self, number: int, _frame: Any) -> None:
        if number in _LAST:
            self._level = 2
        if self._process and self.runs():
            if number not in _TYPED or not _has_terminal():
                self._process.send_signal(number)
        elif number == signal.SIGINT:
            self._level += 1
            if self._level >= 2:
                signal.signal(number, signal.SIG_DFL)
        elif number not in _LAST:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _has_terminal() -> bool:
    """Whether our process group is what a terminal sends its signals to."""
    for stream in range(3):
        with contextlib.suppress(OSError):
            return os.tcgetpgrp(stream) == os.getpgrp()
    return False
