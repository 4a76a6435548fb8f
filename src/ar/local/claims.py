"""Claims: who has a running experiment, and what is asked of it.

A claim is a lock on a file of the experiment's name: the kernel drops it with its holder, so that a free lock
is a dead process's, after a reboot too. Beside the file lies the claim's folder, where worker, launcher and
whoever wants the run to end leave word for each other: see `stage.files`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from ar.errors import writing
from ar.git.objects import Commit
from ar.git.repo import Repo
from ar.stage import files
from ar.stage.files import Request, Requested, Stage, Usage
from ar.stage.processes import Process


@dataclass
class Claim:
    """An experiment that this process has, until it lets go or dies."""

    name: str
    rev: str
    baseline: str
    message: str
    folder: Path
    lock: IO[str]

    @classmethod
    def begin(cls, repo: Repo, name: str, commit: Commit, held: IO[str]) -> Self:
        """Make a claim of a lock: with an empty folder, and word of who we are in the file under the lock.

        Args:
            commit: the queued one; its first parent is the baseline.
        """
        place = folder(repo, name)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        held.seek(0)
        held.truncate()
        json.dump(Process.me()._asdict(), held)
        held.flush()
        return cls(name, commit.rev, commit.parents[0], commit.message, place, held)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def plan(self) -> Path:
        """The launcher's file."""
        return self.folder / files.PLAN

    @property
    def begun(self) -> bool:
        """Whether a stage command was started."""
        return (self.folder / files.STAGE).exists()

    @property
    def stage(self) -> Stage | None:
        return files.read(Stage, self.folder / files.STAGE)

    @property
    def usage(self) -> Usage | None:
        """What its stages used; None where the launcher was killed, or never started one."""
        return files.read(Usage, self.folder / files.USAGE)

    @property
    def requested(self) -> Requested | None:
        """What is asked of it, where it is not too late for that."""
        left = files.read(Requested, self.folder / files.REQUEST)
        return left if left and (left.request.ends_training or not self.begun) else None

    def begin_again(self) -> None:
        """Forget what the launcher left of a first try."""
        for name in (files.STAGE, files.USAGE):
            (self.folder / name).unlink(missing_ok=True)

    def let_go(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        unlock(self.lock)


def folder(repo: Repo, name: str) -> Path:
    """Private files of a claimed experiment: its log, what the launcher measured."""
    return _file(repo, name).with_name(f"{name}.d")


def owner(repo: Repo, name: str) -> Process | None:
    """The process that claimed it; None where unknown."""
    return files.read(Process, _file(repo, name))


def stage(repo: Repo, name: str) -> Stage | None:
    """The stage that was started; None before that."""
    return files.read(Stage, folder(repo, name) / files.STAGE)


def is_waiting(repo: Repo, name: str) -> bool:
    """Whether a claimed experiment is set up on this machine, but does not train yet."""
    place = folder(repo, name)
    return place.is_dir() and not (place / files.STAGE).exists()


def asked(repo: Repo, name: str) -> Request | None:
    """The request that was left for whoever has an experiment."""
    left = files.read(Requested, folder(repo, name) / files.REQUEST)
    return left.request if left else None


def ask(repo: Repo, name: str, request: Request, why: str = "") -> bool:
    """Leave a request for whoever has an experiment. Whether it stands: somebody here has it, and no stronger
    request was left."""
    return files.leave_request(folder(repo, name), request, why)


def is_abandoned(repo: Repo, name: str) -> bool:
    """Whether a running experiment's process is gone."""
    held = lock(repo, name)
    if held is None:
        return False
    held.close()  # the file stays: it is the dead process's, for `recovery` to clear
    return True


def lock(repo: Repo, name: str) -> IO[str] | None:
    """The lock of an experiment; None where somebody else has it.

    Raises:
        BadState: the git directory cannot be written.
    """
    path = _file(repo, name)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            held = path.open("a+", encoding="utf-8")
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.close()
                return None
            with contextlib.suppress(FileNotFoundError):
                # Its last holder may have removed the file between our opening and locking it.
                if os.fstat(held.fileno()).st_ino == path.stat().st_ino:
                    return held
            held.close()


def unlock(held: IO[str]) -> None:
    """The file goes first, so that whoever opens it next makes a new one."""
    with contextlib.suppress(OSError):
        Path(held.name).unlink()
    held.close()


def names(repo: Repo) -> set[str]:
    """Every name that has a claim's file or folder here, whatever became of it."""
    return {path.name.removesuffix(".d") for path in _file(repo, "x").parent.glob("*")}


def _file(repo: Repo, name: str) -> Path:
    return repo.git_dir / "ar" / "running" / name
