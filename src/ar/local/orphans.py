"""Processes of an experiment's run that outlived whoever started them."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from ar.local.claims import Claim
from ar.stage.processes import Process

_PATIENCE = 10.0  # seconds


def end_all(root: Path, claim: Claim) -> None:
    """End every process of a claimed experiment's run, and wait until they are gone."""
    import psutil

    def belongs(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                told = process.environ()
                mine = told.get("DVC_EXP_NAME") == claim.name and told.get("DVC_ROOT") == str(root)
                return mine or told.get("AR_LAUNCH") == str(claim.plan)
        return False

    stage = claim.stage
    command = Process(stage.pid, stage.born) if stage else Process()
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        left = [process for process in psutil.process_iter() if belongs(process)]
        if command.is_alive:
            with contextlib.suppress(psutil.Error):
                top = psutil.Process(command.pid)
                left += [top, *top.children(recursive=True)]
        if not left:
            break
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=0.5)
