"""What processes hold that has no name: memfds, shared memory, unlinked files, what waits in sockets.

Pages of shared memory stay when nobody has them in his own memory, and so does what was sent and not
received: neither counts for any process. Standard library only: the launcher uses it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ar.stage.processes import contents

_SHARED = ("/memfd:", "/dev/zero", "/SYSV")  # by what /proc calls shared memory that no file system has
_PIDFD_GETFD = 438  # on all machines; linux/unistd.h
_QUEUES = (0x5411, 0x541B)  # SIOCOUTQ, for what others have yet to receive; FIONREAD, for us


class Unnamed(NamedTuple):
    """Bytes of memory and of disk that are held without a name."""

    memory: int = 0
    disk: int = 0


class _Held(NamedTuple):
    on_disk: bool
    size: int


def unnamed(pids: Iterable[int], device: int, folder: str) -> Unnamed:
    """What these processes hold without a name, each once. Where only a mapping tells of it, its whole length
    counts, touched or not.

    Args:
        device: of the disk that files count for, as `st_dev` has it.
        folder: that they were in.
    """
    files: dict[int, _Held] = {}  # by inode
    mapped: dict[int, _Held] = {}
    for pid in pids:
        files.update(_opened(pid, device))
        for inode, held in _mapped(pid, folder).items():
            mapped[inode] = max(held, mapped.get(inode, held))
    found = (mapped | files).values()
    return Unnamed(
        memory=sum(held.size for held in found if not held.on_disk),
        disk=sum(held.size for held in found if held.on_disk),
    )


def _opened(pid: int, device: int) -> dict[int, _Held]:
    """By a process's descriptors."""
    found: dict[int, _Held] = {}
    with contextlib.suppress(OSError), _process(pid) as process:
        for name in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{name}"
            with contextlib.suppress(OSError):
                file = os.stat(path)
                if stat.S_ISREG(file.st_mode) and not file.st_nlink:
                    if file.st_dev == device or os.readlink(path).startswith(_SHARED):
                        found[file.st_ino] = _Held(file.st_dev == device, file.st_blocks * 512)
                elif stat.S_ISSOCK(file.st_mode) or stat.S_ISFIFO(file.st_mode):
                    found[file.st_ino] = _Held(on_disk=False, size=_queued(process, int(name)))
    return found


@contextlib.contextmanager
def _process(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _queued(process: int, descriptor: int) -> int:
    """Bytes that wait in a socket or pipe of another process; 0 where the kernel does not let us ask."""
    ours = ctypes.CDLL(None).syscall(_PIDFD_GETFD, process, descriptor, 0)
    if ours < 0:
        return 0
    size, answer = 0, bytearray(4)
    try:
        for question in _QUEUES:
            with contextlib.suppress(OSError):
                fcntl.ioctl(ours, question, answer)
                size += int.from_bytes(answer, "little")
    finally:
        os.close(ours)
    return size


def _mapped(pid: int, folder: str) -> dict[int, _Held]:
    """By a process's mappings."""
    found: dict[int, _Held] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in contents(f"/proc/{pid}/maps").splitlines():
            if line.endswith("(deleted)"):
                place, _, _, _, inode, path = line.split(maxsplit=5)
                if path.startswith((folder, *_SHARED)):
                    first, _, last = place.partition("-")
                    before = found.get(int(inode), _Held(path.startswith(folder), 0))
                    size = before.size + int(last, 16) - int(first, 16)
                    found[int(inode)] = before._replace(size=size)
    return found
