"""Starts `ar` so that it is terminated with its parent: `python -m ar.cluster.tether PARENT ARGUMENT…`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2); it stays over exec


def main(argv: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == int(argv[1]):  # else it died before the kernel was told to tell us
        os.execv(sys.executable, [sys.executable, "-P", "-m", "ar", *argv[2:]])  # noqa: S606 - a list of arguments


if __name__ == "__main__":
    main(sys.argv)
