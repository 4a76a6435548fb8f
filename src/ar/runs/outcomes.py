"""How a run ended: its commit and its note."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import statistics
import time
from dataclasses import replace
from pathlib import Path

from ar.errors import ArError
from ar.history import reader
from ar.history.messages import Message
from ar.history.records import Note, Status
from ar.local.claims import Claim
from ar.project.pipeline_file import ARGS_FILE
from ar.project.project import Project
from ar.project.values import Scalar, flat, is_infinite, number
from ar.redaction import redact
from ar.runs import denials, devices
from ar.runs.gpu_meter import Meter
from ar.runs.pipeline import Failure
from ar.stage import launcher
from ar.stage.files import Cause, Usage
from ar.text import plain

LOG_LIMIT = 16_000
_HALF = (
    4096  # characters at the head of a log's end among which half a secret, which none tells for one, may be
)
_BARE = re.compile(rb":\s*([-+]?(?:nan|inf|infinity))\b", re.IGNORECASE)
REFUSED = 77  # how a stage says that the code under test broke its rules: EX_NOPERM of sysexits(3)


def of_run(project: Project, claim: Claim, outcome: Failure | str, meter: Meter) -> tuple[str, Note]:
    """The commit and the note of a run that DVC made a commit of, or failed."""
    note, usage = _note(claim, meter), claim.usage or Usage()
    if isinstance(outcome, Failure):
        return crash_commit(project, claim), _failed(project, claim, outcome, usage, note)
    if words := _diverged(project, outcome):
        return outcome, replace(note, status=Status.DIVERGED, reason=words)
    if lacking := _lacking(project, outcome):
        words = f"the run ended, but {lacking}"
        return outcome, replace(note, status=Status.CRASHED, reason=words, lacking=lacking)
    if usage.left:
        return outcome, replace(note, reason=launcher.left_words(usage.left))
    return outcome, note


def _failed(project: Project, claim: Claim, failure: Failure, usage: Usage, note: Note) -> Note:
    """The note of a run that did not come to its end, with what it ended by."""
    if usage.cause is Cause.TIME:
        timeout = project.program.timeout(Message.parse(claim.message).rung)
        return replace(note, status=Status.TIMED_OUT, reason=f"ended after the time limit of {timeout:g} s")
    note = replace(note, status=Status.CRASHED)
    if usage.cause is not Cause.NONE:
        why = redact(plain(usage.why))
        return replace(note, reason=f"ended: {why}", refused=why if usage.cause is Cause.REFUSED else "")
    last = _last_words(note.log)
    said = [failure.reason, last]
    if usage.code == REFUSED:
        note = replace(note, refused=redact(last) or "the run's own checks refused it")
    elif denial := denials.of_run(project, claim, note.log):
        note, said = replace(note, mend=plain(denial.mend)), [plain(denial.what), last or failure.reason]
    return replace(note, reason=redact(": ".join(filter(None, said))))


def of_cancelled(project: Project, claim: Claim, why: str = "") -> tuple[str, Note]:
    """The commit and the note of a run that was ended or never let begin: by the user, or with a reason, as
    it was hopeless."""
    words = why or "stopped by the user" + ("" if claim.stage else " before it began")
    note = replace(_note(claim, Meter()), status=Status.CANCELLED, reason=words, hopeless=bool(why))
    return crash_commit(project, claim), note


def of_refused(project: Project, claim: Claim, flaw: str) -> tuple[str, Note]:
    """The commit and the note of what must not run here, as it is no experiment of this scope."""
    words = redact(plain(flaw))
    note = replace(_note(claim, Meter()), status=Status.CRASHED, reason=f"not run: {words}", refused=words)
    return crash_commit(project, claim), note


def _note(claim: Claim, meter: Meter) -> Note:
    stage, usage = claim.stage, claim.usage
    return Note(
        status=Status.SUCCEEDED,
        exit_code=usage.code if usage else None,
        log=tail(claim.log),
        seconds=round(usage.seconds, 3) if usage else None,
        cpu_seconds=round(usage.cpu_seconds, 3) if usage else None,
        peak_memory_mb=round(usage.peak_memory_mb, 3) if usage else None,
        gpu_memory_mb=round(max(meter.memory_mb), 1) if meter.memory_mb else None,
        gpu_percent=round(statistics.fmean(meter.percent), 1) if meter.percent else None,
        slot=stage.slot if stage else "",
        device=devices.of_slot(stage.slot) if stage else None,
        worker=f"{socket.gethostname()}:{os.getpid()}",
        finished=round(time.time(), 3),
        spend=Message.parse(claim.message).spend,
    )


def crash_commit(project: Project, claim: Claim) -> str:
    """A crash as a permanent commit: the tree that was tried, without its metrics."""
    files = {metric.file for metric in project.program.written} & project.repo.files(claim.rev).keys()
    changes: dict[str, bytes | None] = dict.fromkeys([ARGS_FILE, *files])
    changes[project.program.objective.file] = b'{"crashed": 1}\n'
    tree = project.repo.write_tree(claim.rev, changes)
    return project.repo.commit_tree(tree, [claim.baseline], claim.message)


def _diverged(project: Project, rev: str) -> str:
    """Which metric is NaN or infinite; empty if none is."""
    for metric in project.program.written:
        content = reader.read_output(project.repo, rev, metric.file) or b""
        try:
            value = flat(content, metric.file).get(metric.key)
        except ArError:
            # C's printf and awk write a bare nan, which is no JSON.
            value = bare[1].decode() if (bare := _BARE.search(content)) else None
        if is_infinite(value):
            return f"{metric} is {value}, no finite number"
    return ""


def _lacking(project: Project, rev: str) -> str:
    """What a finished run's metrics lack; empty if nothing."""
    for metric in project.program.written:
        content = reader.read_output(project.repo, rev, metric.file)
        if content is None:
            return f"no stage wrote {metric.file}, or none declares it"
        try:
            value: Scalar = flat(content, metric.file).get(metric.key)
        except ArError as error:
            return redact(error.message)
        if value is None:
            return f"{metric.file} has no '{metric.key}'"
        if number(value) is None:
            return f"{metric} is {redact(str(value))[:40]}, not a finite number"
    return ""


def tail(path: Path) -> str:
    """The end of a log, readable: of progress bars their last state, no escapes."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 4 * LOG_LIMIT))
        text = stream.read(4 * LOG_LIMIT).decode(errors="replace")
        if size > 4 * LOG_LIMIT:
            text = redact(text)[_HALF:]
        return redact(plain(text)).strip()[-LOG_LIMIT:]
    return ""


def _last_words(log: str) -> str:
    """The last line that the run itself printed, not DVC; empty if none."""
    dvcs = ("ERROR: failed to", "Running stage", "> ")
    own = (line.strip() for line in reversed(log.splitlines()) if not line.startswith(dvcs))
    return next(filter(None, own), "")[:200]
