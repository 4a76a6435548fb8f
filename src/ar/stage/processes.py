"""Processes of ours that may have outlived whoever started them.

Process ids are used again, after a reboot from the start: a process is the one that was meant only if boot
and start time are those that were written down, or (see `local.orphans`) if its environment names the
experiment.
"""

# Annotations are not postponed: see `files`.

import contextlib
import os
import signal
from typing import NamedTuple


def born(pid: int) -> str:
    """What tells a living process from any other that ever had its id: boot and start time; else empty."""
    with contextlib.suppress(OSError, IndexError):
        boot = contents("/proc/sys/kernel/random/boot_id").strip()
        # Fields of proc(5) after the second, the command's name, which may hold anything.
        state, *fields = contents(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return "" if state in "ZX" else f"{boot}/{fields[18]}"
    return ""


def contents(path: str) -> str:
    """The text of a file of `/proc`."""
    with open(path, "rb") as stream:
        return stream.read().decode(errors="replace")


class Process(NamedTuple):
    """A process that wrote itself down: `born` as above, and the name of its machine."""

    pid: int = 0
    born: str = ""
    host: str = ""

    @classmethod
    def me(cls) -> "Process":
        return cls(os.getpid(), born(os.getpid()), os.uname().nodename)

    @property
    def is_alive(self) -> bool:
        """Whether it still lives; always False where it is not known when it was born."""
        return bool(self.born) and born(self.pid) == self.born

    def tell(self, number: int = signal.SIGTERM) -> bool:
        """Send a signal to that process, and to no other. Whether it was there."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.is_alive:
                os.kill(self.pid, number)
                return True
        return False
