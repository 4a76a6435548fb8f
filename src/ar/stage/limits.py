"""What a stage uses while it runs, and whether that is too much.

Read from `/proc`, without privileges, so that the limits hold where no control group is at hand. Standard
library only: the launcher uses it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable

from ar.stage.files import Breach, Cause, Limits
from ar.stage.processes import contents
from ar.stage.unnamed import Unnamed, unnamed

INTERVAL = 0.1  # s, between two looks
_DISK_INTERVAL = 0.5
_SHARE = 0.02  # of the launcher's time that looking may take
_FLOOR = 300_000_000  # bytes that a run must leave free on the disk
_ENTRY = 1024  # bytes that any file or folder counts for, so that empty ones count too
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Monitor:
    """Looks at a running stage now and then.

    Args:
        used: bytes in the experiment's folder before the stage.
        bwrap: bubblewrap's process, whose sandbox's `/tmp` and `/dev/shm` count as memory; None without one.
    """

    def __init__(self, limits: Limits, folder: str, used: int, bwrap: int | None = None) -> None:
        self.limits = limits
        self.folder = folder
        self.used = used
        self.bwrap = bwrap
        self.unnamed = Unnamed()
        self._disk_due = time.monotonic() + _DISK_INTERVAL
        self._floor = min(_FLOOR, free(folder) // 2)

    def look(self) -> tuple[Breach | None, float]:
        """What it is to end for, if anything, and the seconds until the next look."""
        began = time.monotonic()
        pids = descendants(os.getpid(), self.limits.processes + 1)
        breach = self.processes(pids) or self.memory(pids)
        if not breach and began >= self._disk_due:
            self.unnamed = unnamed(pids, os.stat(self.folder).st_dev, self.folder)
            breach = self.disk() or self.memory(pids)
            took = time.monotonic() - began
            self._disk_due = time.monotonic() + max(_DISK_INTERVAL, took / _SHARE)
        took = time.monotonic() - began
        return breach, max(INTERVAL, min(took / _SHARE, 5.0))

    def disk(self) -> Breach | None:
        """Whether the folder has grown too much, or the disk is nearly full, whoever filled it."""
        if usage(self.folder) - self.used + self.unnamed.disk >= self.limits.disk:
            return Breach(Cause.EXCESS, f"it wrote more than {size(self.limits.disk)} to disk")
        left = free(self.folder)
        if left < self._floor:
            return Breach(Cause.MACHINE, f"the disk was nearly full: {size(left)} were free")
        return None

    def processes(self, pids: list[int]) -> Breach | None:
        if len(pids) <= self.limits.processes:
            return None
        return Breach(Cause.EXCESS, f"it started more than {self.limits.processes} processes")

    def memory(self, pids: list[int]) -> Breach | None:
        held = self._held_by_files() + self.unnamed.memory
        if resident(pids) + held <= self.limits.memory:
            return None
        # Pages that processes share were counted once for each: ask again, precisely.
        private, shared = proportional(pids)
        if private + max(shared, held) <= self.limits.memory:
            return None
        return Breach(Cause.EXCESS, f"it used more than {size(self.limits.memory)} of memory")

    def _held_by_files(self) -> int:
        held = 0
        for pid in children_of(self.bwrap)[:1] if self.bwrap else ():
            for path in ("/tmp", "/dev/shm"):
                inner = f"/proc/{pid}/root{path}"
                with contextlib.suppress(OSError):
                    if os.stat(inner).st_dev != os.stat(path).st_dev:  # it is the sandbox's own by now
                        found = os.statvfs(inner)
                        held += (found.f_blocks - found.f_bfree) * found.f_frsize
        return held


def descendants(pid: int, most: int = 10**9) -> list[int]:
    """Children of a process, their children, and so on; enough is found when there are `most`."""
    found: list[int] = []
    waiting = [pid]
    while waiting and len(found) < most:
        children = children_of(waiting.pop())
        found += children
        waiting += children
    return found


def children_of(pid: int) -> list[int]:
    """Processes that any thread of a process started; none where the system does not tell."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += map(int, contents(f"/proc/{pid}/task/{thread}/children").split())
    return found


def resident(pids: Iterable[int]) -> int:
    """Bytes in memory, pages that several processes share counted for each of them."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            total += int(contents(f"/proc/{pid}/statm").split()[1]) * _PAGE
    return total


def proportional(pids: Iterable[int]) -> tuple[int, int]:
    """Bytes in memory, private and shared ones, a shared page counted once in all; files' pages left out."""
    private = shared = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, KeyError):
            lines = map(str.split, contents(f"/proc/{pid}/smaps_rollup").splitlines())
            kilobytes = {name: amount for name, amount, *_ in lines}
            private += int(kilobytes["Pss_Anon:"]) * 1024
            shared += int(kilobytes["Pss_Shmem:"]) * 1024
    return private, shared


def spent(pids: Iterable[int]) -> tuple[float, int]:
    """Seconds of processor time of processes and their dead children, and the bytes that the largest held."""
    ticks = peak = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            ticks += sum(map(int, contents(f"/proc/{pid}/stat").rpartition(")")[2].split()[11:15]))
            status = contents(f"/proc/{pid}/status").partition("VmHWM:")[2]
            peak = max(peak, int(status.split()[0]) * 1024)
    return ticks / os.sysconf("SC_CLK_TCK"), peak


def usage(folder: str) -> int:
    """Bytes on disk under a folder, and those that its files could take; links are not followed."""
    total = 0
    waiting = [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    total += max(found.st_blocks * 512, found.st_size, _ENTRY)  # DVC copies holes, too
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return total


def free(folder: str) -> int:
    """Bytes that a user may still write to the disk that a folder is on."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def size(count: float) -> str:
    """Bytes for people: `24 GB`, `1.5 GB`, `300 MB`."""
    for unit, power in (("TB", 12), ("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {unit}"
    return f"{count:.0f} bytes"
