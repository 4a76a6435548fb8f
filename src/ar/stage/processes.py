"""Processes of ours that may have outlived whoever started them.

Process ids are used again, after a reboot from the start: a process is the one that was meant only if boot
and start time are those that were written down, or if its environment names the experiment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE = 10.0


def born(pid: int) -> str:
    """What tells a living process from any other that ever had its id: boot and start time; else empty."""
    with contextlib.suppress(OSError, IndexError):
        boot = _read("/proc/sys/kernel/random/boot_id").strip()
        # Fields of proc(5) after the second, the command's name, which may hold anything.
        state, *fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return "" if state in "ZX" else f"{boot}/{fields[18]}"
    return ""


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def is_alive(facts: Mapping[str, Any]) -> bool:
    """Whether the process that these facts (`pid`, `born`) were written of still lives."""
    return bool(facts.get("born")) and born(int(facts["pid"])) == facts["born"]


def tell(facts: Mapping[str, Any], number: int = signal.SIGTERM) -> bool:
    """Send a signal to that process, and to no other. Whether it was there."""
    if not is_alive(facts):
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(int(facts["pid"]), number)
        return True
    return False


def end_run(root: Path, name: str, stage: Mapping[str, Any], plan: Path) -> int:
    """End every process of one experiment's run, and wait until they are gone. How many there were.

    Args:
        stage: what the launcher wrote of the command it started.
        plan: the launcher's file of what to do: it stands in the launcher's environment.
    """
    import psutil

    seen: set[int] = set()
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        left = [process for process in psutil.process_iter() if _belongs(process, root, name, plan)]
        if is_alive(stage):
            with contextlib.suppress(psutil.Error):
                top = psutil.Process(int(stage["pid"]))
                left += [top, *top.children(recursive=True)]
        if not left:
            break
        for process in left:
            seen.add(process.pid)
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=0.5)
    return len(seen)


def _belongs(process: Any, root: Path, name: str, plan: Path) -> bool:
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        told = process.environ()
        mine = told.get("DVC_EXP_NAME") == name and told.get("DVC_ROOT") == str(root)
        return bool(mine or told.get("AR_LAUNCH") == str(plan))
    return False
