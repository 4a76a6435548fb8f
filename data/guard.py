"""What code under test may not do, refused at Python's audit hooks and told to the harness.

Once armed, a process can no longer open held-out or any other shards, write outside its own folder,
start processes, load libraries by hand or use the network. Each attempt ends the run with its reason,
even where the code catches the exception.

This stops what Python can see, which is every honest mistake and the usual tricks. It is no wall
against native code: that is the sandbox's job, in which `ar` runs the whole stage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {  # audit event -> indices of its path arguments
    "os.remove": (0,), "os.rename": (0, 1), "os.link": (0, 1), "os.symlink": (0, 1), "os.mkdir": (0,),
    "os.rmdir": (0,), "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,),
    "os.setxattr": (0,), "shutil.rmtree": (0,), "shutil.move": (0, 1),
}  # fmt: skip
SPAWNS = {
    "subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system",
    "os.startfile", "os.kill", "os.killpg", "signal.pthread_kill",
}  # fmt: skip
NETWORK = {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"}


class RefusedError(Exception):
    """Raised in code under test that oversteps. The harness already knows."""


class Guard:
    """The rules for one process. `arm` installs them for good: audit hooks cannot be removed."""

    def __init__(self, shards: Path, folder: Path, may_spawn: bool, tell: Callable[[str], None]) -> None:
        """`shards` may not be read, only `folder` written; `tell` takes the reason of a refusal.

        `may_spawn` is for torch.compile, which runs compilers and keeps a cache.
        """
        self.shards = os.path.realpath(shards)
        self.root = os.path.realpath(".")
        self.folders = (os.path.realpath(folder), "/dev")
        self.may_spawn = may_spawn
        self.tell = tell

    def arm(self) -> None:
        """From now on."""
        sys.addaudithook(self.hook)

    def refuse(self, reason: str) -> None:
        """Ends the run."""
        self.tell(reason)
        raise RefusedError(reason)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        """Python calls it with every audited event."""
        if event == "open":
            path, _, flags = args
            if isinstance(path, (str, bytes, os.PathLike)):
                self.opened(os.fsdecode(path), int(flags or 0))
        elif event in CHANGES:
            for index in CHANGES[event]:
                if isinstance(args[index], (str, bytes, os.PathLike)):
                    self.written(os.fsdecode(args[index]), event)
        elif not self.may_spawn:
            if event in SPAWNS:
                self.refuse(f"code under test called {event}")
            elif event in NETWORK:
                self.refuse(f"code under test used the network ({event})")
            elif event == "ctypes.dlopen" and args[0] is not None:
                self.refuse(f"code under test loaded the library {args[0]}")

    def opened(self, path: str, flags: int) -> None:
        """A file is about to be opened."""
        real = os.path.realpath(path)
        if self.inside(real, (self.shards,)):
            self.refuse(f"code under test opened {os.path.relpath(real)}: shards are the harness's alone")
        parts = real.split("/")
        if parts[1:2] == ["proc"] and len(parts) > 3 and parts[2].isdigit() and int(parts[2]) != os.getpid():
            self.refuse(f"code under test opened {real}: another process")
        if flags & WRITES:
            self.written(path, "open")

    def written(self, path: str, event: str) -> None:
        """A file is about to be written, moved or removed."""
        real = os.path.realpath(path)
        cache = self.may_spawn and not self.inside(real, (self.root,))
        if not (cache or self.inside(real, self.folders)):
            self.refuse(f"code under test tried to change {path} ({event})")

    @staticmethod
    def inside(path: str, folders: tuple[str, ...]) -> bool:
        """Whether `path` is one of `folders` or in one."""
        return any(path == folder or path.startswith(folder + os.sep) for folder in folders)
