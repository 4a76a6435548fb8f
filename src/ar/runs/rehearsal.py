"""A rehearsal: a pipeline as a worker runs it, for a few seconds; nothing of it is kept.

`rehearse` runs it in this process, `rehearse_apart` in one of its own, beside whatever else is going on.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ar.changes.seeding import seeded_tree
from ar.errors import ArError, BadState
from ar.formats import BadData, load_json
from ar.git.repo import Repo
from ar.history.reader import read_output
from ar.history.records import Status
from ar.local import claims
from ar.local.claims import Claim
from ar.project.pipeline_file import Declared
from ar.project.project import Project
from ar.project.values import flat, number
from ar.record import Record
from ar.redaction import redact
from ar.runs import denials, outcomes
from ar.runs.gpu_meter import Meter
from ar.runs.pipeline import Failure
from ar.runs.slots import Slot, every_gpu
from ar.runs.worker import Worker
from ar.stage.files import Request
from ar.text import one_line

SECONDS = 15.0  # most faults of a set-up show as soon as everything is imported and the data are opened
WAIT = 60.0  # seconds that one in a process of its own waits for a free GPU
_SET_UP = 60.0  # seconds for all but waiting and running
_GRACE = 5.0  # seconds to end in
_SHARE = 0.5  # of the machine that one in a process of its own may use
_NICE = 5


@dataclass(frozen=True)
class Rehearsal(Record):
    """How it ended.

    Args:
        status: `TIMED_OUT` where it was well under way.
        exit_code, reason, mend, log: as in `Note`.
        seconds, cpu_seconds: that its stages took.
        slot: the GPU that it had.
        measured: every number in the metrics files, where it came to its end.
    """

    status: Status
    reason: str = ""
    mend: str = ""
    exit_code: int | None = None
    log: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    slot: str = ""
    measured: tuple[float, ...] = ()


def rehearse(
    project: Project,
    seed: int | None,
    tree: str = "",
    slots: Sequence[Slot] = (),
    share: float = 1.0,
    begun: Callable[[Claim], None] = lambda claim: None,
) -> Rehearsal:
    """Run a pipeline, and say how that ended.

    Args:
        seed: the first that the campaign will use; None for the tree's own.
        tree: what to run; empty for the head's.
        slots: where a stage may train; none where it need not wait for any.
        share: of the machine that it may use where there are none.
        begun: told the claim before anything runs.

    Raises:
        BadState: the sandbox is not what the programme asks for, or no slot came free before it was to end.
    """
    repo, head = project.repo, project.repo.head()
    timeout = min(SECONDS, project.program.timeout() or SECONDS)
    program = replace(project.program, budget=replace(project.program.budget, timeout=timeout))
    name = name_of(os.getpid())
    rev = repo.commit_tree(seeded_tree(project, tree or repo.tree(head), seed), [head], "Rehearsal\n")
    if (lock := claims.lock(repo, name)) is None:
        raise BadState(f"another process has {name}", "run the command again")
    claim = Claim.begin(repo, name, repo.commit(rev), lock)
    worker = Worker(repo, slots)
    worker.share = share
    begun(claim)
    try:
        with worker.pipeline.workspace(name, rev, head) as workspace:
            outcome = worker.reproduce(claim, program, workspace)
            if isinstance(outcome, Failure) and not claim.begun and (asked := claim.requested):
                raise BadState(asked.why or "it was ended before it began", "try again later")
            found = _told(Project(repo, program), claim, outcome)
            inputs = Declared.read(repo, head).inputs
            lacks = (
                denials.missing(inputs, repo.root, workspace.root) if isinstance(outcome, Failure) else None
            )
            return replace(found, reason=lacks.what, mend=lacks.mend) if lacks else found
    finally:
        claim.let_go()
        worker.pipeline.close()


def name_of(process: int) -> str:
    """What the rehearsal of a process is called."""
    return f"rehearsal-{process}"


def _told(project: Project, claim: Claim, outcome: Failure | str) -> Rehearsal:
    note = outcomes.of_run(project, claim, outcome, Meter())[1]
    return Rehearsal(
        status=note.status,
        reason=note.reason,
        mend=note.mend,
        exit_code=note.exit_code,
        log=note.log,
        seconds=note.seconds or 0.0,
        cpu_seconds=note.cpu_seconds or 0.0,
        slot=note.slot,
        measured=() if isinstance(outcome, Failure) else tuple(_numbers(project, outcome)),
    )


def _numbers(project: Project, rev: str) -> Iterator[float]:
    files = {*Declared.read(project.repo, rev).metrics, *(it.file for it in project.program.written)}
    for file in sorted(files):
        with contextlib.suppress(ArError):
            values = flat(read_output(project.repo, rev, file) or b"", file).values()
            yield from (size for value in values if (size := number(value)) is not None)


# -- in a process of its own ------------------------------------------------------------------------------


def rehearse_apart(
    repo: Repo, tree: str, is_dropped: Callable[[], bool] = lambda: False, wait: float = WAIT
) -> Rehearsal:
    """`rehearse` for a tree, in a process of its own, which ends with us. On a GPU it waits for one that is
    free, else it runs beside all others, with a lower priority and half of the machine's memory.

    Args:
        is_dropped: whether the answer is not wanted any more.

    Raises:
        BadState: it could not begin, took too long, or was dropped.
    """
    command = [sys.executable, "-P", "-m", "ar.runs.rehearsal", str(repo.root), tree, str(wait)]
    deadline = time.monotonic() + wait + SECONDS + _SET_UP
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=said, stderr=errors, start_new_session=True
        )
        try:
            while process.poll() is None and time.monotonic() < deadline and not is_dropped():
                time.sleep(0.05)
        finally:
            in_time = process.poll() is not None
            _end(process)
        if not in_time:
            raise BadState("it was ended, for it took too long", "propose without a smoke run")
        return _answer(_whole(said), _whole(errors))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it as if we had died: its input closes."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(2 * _GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _whole(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


def _answer(said: str, errors: str) -> Rehearsal:
    with contextlib.suppress(BadData, TypeError, ValueError, KeyError):
        data = load_json(said)
        if "message" in data:
            raise BadState(str(data["message"]), str(data["mend"]))
        return Rehearsal.from_json(data)
    last = one_line((errors.strip().splitlines() or ["nothing"])[-1])
    raise BadState(f"it did not come to its end: {redact(last)[:300]}", "propose without a smoke run")


def main(argv: list[str]) -> int:
    """The process behind `rehearse_apart`: `python -m ar.runs.rehearsal ROOT TREE WAIT`."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    repo, tree, wait = Repo.open(Path(argv[1])), argv[2], float(argv[3])
    slots = every_gpu()
    if not slots:
        os.nice(_NICE)

    claimed: list[Claim] = []

    def ask(why: str) -> None:
        for claim in claimed:
            claims.ask(repo, claim.name, Request.CANCEL, why)

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(0, 1)
        ask("it was dropped")
        time.sleep(_GRACE if claimed else 0.0)
        os._exit(1)

    def hurry(claim: Claim) -> None:
        time.sleep(wait)
        if not claim.begun:
            ask(f"no GPU came free within {wait:g} s")

    def begun(claim: Claim) -> None:
        claimed.append(claim)
        if slots:
            threading.Thread(target=hurry, args=(claim,), daemon=True).start()

    threading.Thread(target=watch, daemon=True).start()
    try:
        project = Project.open(repo.root)
        found: dict[str, object] = rehearse(project, None, tree, slots, _SHARE, begun).to_json()
    except ArError as error:
        found = {"message": error.message, "mend": error.mend or ""}
    print(json.dumps(found), file=answer, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
