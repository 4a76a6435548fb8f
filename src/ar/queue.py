"""The queue: experiments wait, are claimed by one process, and end with exactly one outcome.

`refs/ar/queue/<name>` says that an experiment waits, `refs/ar/running/<name>` that somebody has it; a ref
moves from one to the other by compare-and-swap. Who has it is told by a lock on a file beside it, which the
kernel drops with its holder: so a claim whose lock is free is a dead process's, after a reboot too. DVC's own
queue is told of everything, so that `dvc queue` and `dvc exp show` agree.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ar import refs
from ar.errors import BadState, Conflict
from ar.messages import Message
from ar.pipeline import ARGS_FILE, Pipeline
from ar.program import Program
from ar.proposal import seeded_tree
from ar.records import Note
from ar.repo import ZERO, Repo


def put(
    repo: Repo, pipeline: Pipeline, program: Program, tree: str, baseline: str, message: Message, name: str
) -> str:
    """Queue one run of a tree. Returns the queued commit.

    The order makes every half-way state recoverable: a queue ref without DVC's entry is put again by
    `recover`, DVC's entry without a queue ref is never made. Nobody can claim the experiment in between.

    Raises:
        Conflict: the name is taken.
    """
    planted = seeded_tree(repo, program, tree, message.seed)
    planted = repo.write_tree(planted, {ARGS_FILE: pipeline.pack_arguments(name, baseline)})
    index = repo.commit_tree(repo.tree(baseline), [baseline], f"index on {baseline[:12]}\n")
    stash = repo.commit_tree(planted, [baseline, index], str(message))
    lock = _lock(repo, name)
    ended = any(refs.name_of(ref) == name for ref in repo.refs(refs.EXPS))
    if lock is None or ended or repo.has_ref(refs.running(name)):
        raise Conflict(f"an experiment called '{name}' exists", "choose another name")
    try:
        repo.update_refs((refs.queued(name), stash, ZERO), reason="ar: queue")
        pipeline.enqueue(name, stash, baseline, str(message))
    finally:
        _unlock(lock)
    return stash


@dataclass
class Claim:
    """An experiment that this process has, until `release`, `requeue` or death."""

    name: str
    rev: str
    baseline: str
    message: str
    folder: Path
    lock: IO[str]
    since: float

    def describe(self, **facts: Any) -> None:
        """Tell other processes what is going on, in the file that the lock is on."""
        self.lock.seek(0)
        self.lock.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": self.since, **facts}, self.lock)
        self.lock.flush()


def claim(repo: Repo, pipeline: Pipeline) -> Claim | None:
    """Take the oldest waiting experiment; None if there is none."""
    waiting = sorted(repo.commits(refs.QUEUE).items(), key=lambda item: (item[1].time, item[0]))
    for ref, commit in waiting:
        name = refs.name_of(ref)
        if not refs.is_name(name) or not commit.parents:
            continue
        lock = _lock(repo, name)
        if lock is None:
            continue
        try:
            repo.update_refs(
                (refs.running(name), commit.rev, ZERO), (ref, ZERO, commit.rev), reason="ar: claim"
            )
        except Conflict:
            _unlock(lock)
            continue
        if not pipeline.take(commit.rev) and commit.rev in pipeline.active():
            # `dvc queue start` was faster; `recover` clears the ref once its result is there.
            repo.update_refs((refs.queued(name), commit.rev, ZERO), (refs.running(name), ZERO, commit.rev))
            _unlock(lock)
            continue
        claimed = Claim(
            name, commit.rev, commit.parents[0], commit.message, claim_folder(repo, name), lock, time.time()
        )
        claimed.describe()
        return claimed
    return None


def finish(repo: Repo, claimed: Claim, rev: str, note: Note) -> None:
    """Record the one outcome of a claimed experiment, and let go of it.

    The note comes first, then the ref of the experiment appears as the claim's disappears, in one
    transaction: whoever sees the experiment sees how it ended.
    """
    repo.update_note(rev, lambda old: {**old, **note.to_json()})
    ref = str(refs.ExperimentRef(claimed.baseline, claimed.name))
    repo.update_refs(
        (ref, rev, ZERO), (refs.running(claimed.name), ZERO, claimed.rev), reason=f"ar: {note.status}"
    )
    _forget(claimed)


def requeue(repo: Repo, pipeline: Pipeline, claimed: Claim) -> None:
    """Give a claimed experiment back, as if it had never been taken."""
    repo.update_refs(
        (refs.queued(claimed.name), claimed.rev, ZERO),
        (refs.running(claimed.name), ZERO, claimed.rev),
        reason="ar: requeue",
    )
    pipeline.enqueue(claimed.name, claimed.rev, claimed.baseline, claimed.message)
    _forget(claimed)


def withdraw(repo: Repo, pipeline: Pipeline, name: str, rev: str) -> bool:
    """Take a waiting experiment out of the queue for good. False if it is not waiting any more."""
    try:
        repo.update_refs((refs.queued(name), ZERO, rev), reason="ar: withdraw")
    except Conflict:
        return False
    pipeline.take(rev)
    return True


def recover(repo: Repo, pipeline: Pipeline) -> list[str]:
    """Mend what killed processes left; says what it did, a line each. Safe at any time, from any process."""
    done = []
    ended = {ref.name: ref for ref in map(refs.ExperimentRef.parse, repo.refs(refs.EXPS)) if ref}
    for ref, rev in repo.refs(refs.RUNNING).items():
        name = refs.name_of(ref)
        lock = _lock(repo, name)
        if lock is None:
            continue  # alive
        commit = repo.commit(rev)
        claimed = Claim(name, rev, commit.parents[0], commit.message, claim_folder(repo, name), lock, 0.0)
        with contextlib.suppress(Conflict):
            if name in ended:
                repo.update_refs((ref, ZERO, rev), reason="ar: recover")
                _forget(claimed)
                done.append(f"{name} had ended; its claim is cleared")
            else:
                end_leftovers(claimed)
                requeue(repo, pipeline, claimed)
                done.append(f"{name} was running in a process that is gone; it is queued again")
    waiting = repo.refs(refs.QUEUE)
    if waiting:
        known = pipeline.queued() | pipeline.active()
        for ref, rev in waiting.items():
            name = refs.name_of(ref)
            with contextlib.suppress(Conflict):
                if name in ended:
                    repo.update_refs((ref, ZERO, rev), reason="ar: recover")
                    done.append(f"{name} was run by DVC's queue; taken over")
                elif rev not in known and (lock := _lock(repo, name)) is not None:
                    commit = repo.commit(rev)
                    pipeline.enqueue(name, rev, commit.parents[0], commit.message)
                    _unlock(lock)
                    done.append(f"{name} was missing in DVC's queue; put back")
    return done


def running(repo: Repo) -> dict[str, dict[str, Any]]:
    """Name to what its process says of itself, for every claimed experiment."""
    found: dict[str, dict[str, Any]] = {}
    for ref in repo.refs(refs.RUNNING):
        name = refs.name_of(ref)
        found[name] = {}
        with contextlib.suppress(OSError, ValueError):
            data = json.loads(_claim_file(repo, name).read_text())
            found[name] = data if isinstance(data, dict) else {}
    return found


def is_abandoned(repo: Repo, name: str) -> bool:
    """Whether a running experiment's process is gone."""
    lock = _lock(repo, name)
    if lock is None:
        return False
    lock.close()  # the file stays: it is the dead process's, for `recover` to clear
    return True


def end_leftovers(claimed: Claim) -> None:
    """End the processes of a run whose worker died, if any still live. Process ids are re-used: the start
    time that the launcher wrote down must match."""
    import psutil

    with contextlib.suppress(OSError, ValueError, KeyError, psutil.Error):
        facts = json.loads((claimed.folder / "stage.json").read_text())
        process = psutil.Process(int(facts["pid"]))
        if abs(process.create_time() - float(facts["started"])) < 1.0:
            for child in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.Error):
                    child.kill()


def claim_folder(repo: Repo, name: str) -> Path:
    """Private files of a running experiment: its log, what the launcher measured."""
    return repo.git_dir / "ar" / "running" / f"{name}.d"


def _claim_file(repo: Repo, name: str) -> Path:
    return repo.git_dir / "ar" / "running" / name


def _lock(repo: Repo, name: str) -> IO[str] | None:
    path = _claim_file(repo, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            lock = path.open("a+", encoding="utf-8")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                return None
            # Its last holder may have removed the file between our opening and locking it.
            if path.exists() and os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
                return lock
            lock.close()
    except OSError as error:
        raise BadState(f"cannot write {path}: {error.strerror}", "check permissions and disk space") from None


def _forget(claimed: Claim) -> None:
    import shutil

    shutil.rmtree(claimed.folder, ignore_errors=True)
    _unlock(claimed.lock)


def _unlock(lock: IO[str]) -> None:
    """The file goes first, so that whoever opens it next makes a new one."""
    with contextlib.suppress(OSError):
        Path(lock.name).unlink()
    lock.close()
