"""Processes of an experiment's run that outlived whoever started them."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from ar.stage.processes import Process

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE = 10.0  # seconds


def end_all(root: Path, name: str, stage: Process, plan: Path) -> int:
    """End every process of one experiment's run, and wait until they are gone. How many there were.

    Args:
        stage: that of the stage command; an empty one where none was started.
        plan: the launcher's file of what to do: it stands in the launcher's environment.
    """
    import psutil

    ended: set[int] = set()
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        left = [process for process in psutil.process_iter() if _belongs(process, root, name, plan)]
        if stage.is_alive:
            with contextlib.suppress(psutil.Error):
                top = psutil.Process(stage.pid)
                left += [top, *top.children(recursive=True)]
        if not left:
            break
        for process in left:
            ended.add(process.pid)
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=0.5)
    return len(ended)


def _belongs(process: Any, root: Path, name: str, plan: Path) -> bool:
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        told = process.environ()
        mine = told.get("DVC_EXP_NAME") == name and told.get("DVC_ROOT") == str(root)
        return bool(mine or told.get("AR_LAUNCH") == str(plan))
    return False
