"""Memory that the harness shares with a process of the code under test: numbers, never parsed.

It has no name in any file system and, on Linux, a size that the other side cannot change.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import tempfile


class Buffer:
    """`size` bytes; pages that nobody touches cost nothing."""

    def __init__(self, size: int) -> None:
        if sys.platform == "linux":
            self.descriptor = os.memfd_create("lab", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        else:
            with tempfile.TemporaryFile() as file:
                self.descriptor = os.dup(file.fileno())
        os.ftruncate(self.descriptor, size)
        if sys.platform == "linux":  # a file that shrank would end the harness with a signal
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)
        self.map = mmap.mmap(self.descriptor, size)
