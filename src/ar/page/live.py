"""A run that is under way on this machine: what it has printed, its curve so far, what it takes."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ar.campaign.campaign import Campaign
from ar.git.repo import Repo
from ar.history.attempts import find
from ar.history.curves import read_rows
from ar.local import claims
from ar.project.program import CurveFile, Program
from ar.runs.early_stop import read_inside
from ar.serve.words import LOG, Words
from ar.stage import files
from ar.stage.files import Plan, Stage
from ar.stage.processes import born

if TYPE_CHECKING:
    import psutil

_MOST_LOG = 64_000  # bytes of a log's end that are read


@dataclass(frozen=True)
class Live:
    """How a run stands.

    Args:
        log: the end of what it printed; never where there is a holdout, whose value nothing marks yet.
        rows: of its curve: the value, then each axis.
        cores: processor time over time.
        memory_mb: of all its processes, in 10⁶ bytes.
    """

    name: str
    log: str
    rows: tuple[tuple[float, ...], ...]
    cores: float | None
    memory_mb: float | None


def shown_curve(program: Program) -> CurveFile | None:
    """The curve that may be shown: the holdout's may not."""
    spec = program.curve
    return None if spec and program.holdout and spec.value == program.holdout.key else spec


def mark(repo: Repo, program: Program, name: str) -> tuple[object, ...]:
    """What differs once a run has printed or drawn more; empty where it does not run here."""
    stage = claims.stage(repo, name)
    if stage is None:
        return ()
    found: list[object] = [stage]
    paths = [claims.folder(repo, name) / "log"]
    curve, root = shown_curve(program), _root(repo, name)
    if curve and root:
        paths.append(root / curve.file)
    for path in paths:
        with contextlib.suppress(OSError):
            stat = path.lstat()
            found += [stat.st_size, stat.st_mtime_ns]
    return tuple(found)


def read(campaign: Campaign, name: str) -> Live | None:
    """How a run stands; None where it does not run here."""
    repo, program = campaign.repo, campaign.program
    stage = claims.stage(repo, name)
    if stage is None:
        return None
    attempt, _ = find(campaign.history(), name)
    printed = "" if program.holdout else _end(claims.folder(repo, name) / "log")
    cores, memory = _taken(stage)
    return Live(
        name=name,
        log=Words(program, [attempt])(printed, LOG),
        rows=tuple(map(tuple, curve_rows(repo, program, name, stage))),
        cores=cores,
        memory_mb=memory,
    )


def curve_rows(repo: Repo, program: Program, name: str, stage: Stage) -> list[list[float]]:
    """The rows of a running experiment's curve."""
    curve, root = shown_curve(program), _root(repo, name)
    if curve is None or root is None:
        return []
    content = read_inside(root, curve.file, int(stage.began * 1e9))
    return read_rows(content.decode(errors="replace"), (curve.value, *curve.against), growing=True)


def _root(repo: Repo, name: str) -> Path | None:
    """The project's root in the folder that an experiment runs in."""
    plan = files.read(Plan, claims.folder(repo, name) / files.PLAN)
    return Path(plan.workspace) / repo.prefix if plan else None


def _end(path: Path) -> str:
    """The end of a log that may be long."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _MOST_LOG))
        return stream.read(_MOST_LOG).decode(errors="replace")
    return ""


def _taken(stage: Stage) -> tuple[float | None, float | None]:
    """The cores and the memory that a stage's processes take; None where that cannot be told."""
    import psutil

    if born(stage.pid) != stage.born:
        return None, None
    seconds, memory = 0.0, 0
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(stage.pid)
        for process in (top, *top.children(recursive=True)):
            used = _of(process)
            seconds, memory = seconds + used[0], memory + used[1]
        return seconds / max(1.0, time.time() - stage.since), memory / 1e6
    return None, None


def _of(process: psutil.Process) -> tuple[float, int]:
    """Seconds of processor time, those of its ended children too, and bytes in memory."""
    import psutil

    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        return times.user + times.system + ended, process.memory_info().rss
    return 0.0, 0
