"""How a run ended: its commit and its note."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from dataclasses import replace
from pathlib import Path

from ar.errors import ArError
from ar.git.repo import read_json
from ar.history.messages import Message
from ar.history.records import Note, Status
from ar.local.claims import Claim
from ar.project.pipeline_file import ARGS_FILE
from ar.project.project import Project
from ar.project.values import Scalar, flat, number
from ar.redaction import redact
from ar.runs.pipeline import Failure
from ar.runs.slots import Meter
from ar.stage import launcher
from ar.text import plain

LOG_LIMIT = 16_000


def of_run(project: Project, claim: Claim, outcome: Failure | str, meter: Meter) -> tuple[str, Note]:
    """The commit and the note of a run that DVC made a commit of, or failed."""
    note = _note(claim, meter)
    usage = read_json(claim.folder / launcher.USAGE)
    if isinstance(outcome, Failure):
        status, reason = Status.CRASHED, _reason(outcome.reason, note.log)
        if usage.get("reason"):
            reason = f"ended: {plain(str(usage['reason']))}"
        if usage.get("timed_out"):
            timeout = project.program.timeout(Message.parse(claim.message).rung)
            status, reason = Status.TIMED_OUT, f"ended after the time limit of {timeout:g} s"
        return crash_commit(project, claim), replace(note, status=status, reason=reason)
    lacking = _lacking(project, outcome)
    if lacking:
        return outcome, replace(note, status=Status.CRASHED, reason=lacking)
    if usage.get("left"):
        return outcome, replace(note, reason=launcher.left_words(int(usage["left"])))
    return outcome, note


def of_cancelled(project: Project, claim: Claim) -> tuple[str, Note]:
    """The commit and the note of a run that was ended or never let begin; by the user, if nobody says why."""
    words = claim.why or "stopped by the user" + ("" if claim.begun else " before it began")
    note = replace(_note(claim, Meter()), status=Status.CANCELLED, reason=words)
    return crash_commit(project, claim), note


def _note(claim: Claim, meter: Meter) -> Note:
    usage = read_json(claim.folder / launcher.USAGE)
    now = time.time()
    return Note(
        status=Status.SUCCEEDED,
        log=_tail(claim.log),
        seconds=_rounded(usage.get("seconds")),
        cpu_seconds=_rounded(usage.get("cpu_seconds")),
        peak_memory_mb=_rounded(usage.get("peak_memory_mb")),
        gpu_memory_mb=meter.peak_memory_mb,
        gpu_percent=meter.mean_percent,
        slot=str(read_json(claim.folder / launcher.STAGE).get("slot") or ""),
        worker=f"{socket.gethostname()}:{os.getpid()}",
        finished=_rounded(now),
        spend=Message.parse(claim.message).spend,
    )


def crash_commit(project: Project, claim: Claim) -> str:
    """A crash as a permanent commit: the tree that was tried, without its metrics."""
    changes: dict[str, bytes | None] = {ARGS_FILE: None}
    files = project.repo.files(claim.rev)
    for metric in project.program.metrics:
        if metric.file in files:
            changes[metric.file] = None
    changes[project.program.objective.file] = b'{"crashed": 1}\n'
    tree = project.repo.write_tree(claim.rev, changes)
    return project.repo.commit_tree(tree, [claim.baseline], claim.message)


def _lacking(project: Project, rev: str) -> str:
    """What a finished run's metrics lack; empty if nothing."""
    for metric in project.program.metrics:
        content = project.repo.read(rev, metric.file)
        if content is None:
            continue  # kept in DVC's cache; `history` reads it there
        try:
            value: Scalar = flat(content, metric.file).get(metric.key)
        except ArError as error:
            return f"the run ended, but {error.message}"
        if value is None:
            return f"the run ended, but {metric.file} has no '{metric.key}'"
        if number(value) is None:
            return f"the run ended, but {metric} is {redact(str(value))[:40]}, not a finite number"
    return ""


def _tail(path: Path) -> str:
    """The end of a log, readable: of progress bars their last state, no escapes."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        size = stream.tell()
        stream.seek(max(0, size - 4 * LOG_LIMIT))
        content = stream.read()
        if size > 4 * LOG_LIMIT:
            content = re.sub(rb"\A\S{1,4096}", b"", content)  # half a secret could not be told for one
        return redact(plain(content.decode(errors="replace"))).strip()[-LOG_LIMIT:]
    return ""


def _reason(failure: str, log: str) -> str:
    """The failure with the last thing that the run itself said."""
    own = [
        line
        for line in log.splitlines()
        if line.strip() and not line.startswith(("ERROR: failed to", "Running stage", "> "))
    ]
    last = own[-1].strip()[:200] if own else ""
    return redact(f"{failure}: {last}" if last else failure)


def _rounded(value: object) -> float | None:
    return round(value, 3) if isinstance(value, int | float) else None
