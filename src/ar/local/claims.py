"""Claims: who has a running experiment, and what is asked of it.

A claim is a lock on a file of the experiment's name: the kernel drops it with its holder, so that a free lock
is a dead process's, after a reboot too. Beside the file lies the claim's folder, where worker, launcher and
whoever wants the run to end leave word for each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Self

from ar.errors import BadState
from ar.git.repo import Commit, Repo, read_json
from ar.stage import launcher, processes

_WHY = "why"  # in the claim's folder: the reason for what is asked


class Ask(StrEnum):
    """What somebody wants of a claimed experiment. The first two are heeded only before training begins."""

    YIELD = "yield"  # back to the queue
    WITHDRAW = "withdraw"  # out of the queue, as if it had never been in it
    REQUEUE = "requeue"  # end it; back to the queue
    CANCEL = "cancel"  # end it for good, and record that


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
        """Make a claim of a lock: with an empty folder, and word of who we are in the file under the lock."""
        place = folder(repo, name)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        me = {"pid": os.getpid(), "born": processes.born(os.getpid()), "host": socket.gethostname()}
        held.seek(0)
        held.truncate()
        json.dump(me, held)
        held.flush()
        return cls(name, commit.rev, commit.parents[0], commit.message, place, held)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def begun(self) -> bool:
        """Whether a stage command was started."""
        return (self.folder / launcher.STAGE).exists()

    @property
    def heeded(self) -> Ask | None:
        """What was asked of it, where it is not too late for that."""
        with contextlib.suppress(OSError, ValueError):
            what = Ask((self.folder / launcher.ASK).read_text())
            return what if what in (Ask.REQUEUE, Ask.CANCEL) or not self.begun else None
        return None

    @property
    def why(self) -> str:
        """The reason that was left with what was asked; empty where none was."""
        with contextlib.suppress(OSError):
            return (self.folder / _WHY).read_text()
        return ""

    def begin_again(self) -> None:
        """Forget what the launcher left of a first try."""
        for name in (launcher.STAGE, launcher.USAGE):
            (self.folder / name).unlink(missing_ok=True)

    def let_go(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        unlock(self.lock)


def folder(repo: Repo, name: str) -> Path:
    """Private files of a claimed experiment: its log, what the launcher measured."""
    return _file(repo, name).with_name(f"{name}.d")


def owner(repo: Repo, name: str) -> Mapping[str, Any]:
    """What the claiming process says of itself: `pid`, `born`, `host`; empty where unknown."""
    return read_json(_file(repo, name))


def stage(repo: Repo, name: str) -> Mapping[str, Any]:
    """What the launcher says of the stage it started: `pid`, `born`, `since`, `slot`; empty before that."""
    return read_json(folder(repo, name) / launcher.STAGE)


def is_waiting(repo: Repo, name: str) -> bool:
    """Whether a claimed experiment is set up on this machine, but does not train yet."""
    place = folder(repo, name)
    return place.is_dir() and not (place / launcher.STAGE).exists()


def ask(repo: Repo, name: str, what: Ask, why: str = "") -> bool:
    """Leave word for whoever has an experiment, and why. False where nobody here has it."""
    return _ask(folder(repo, name), what, why)


def _ask(place: Path, what: Ask, why: str) -> bool:
    fresh = place / f"{launcher.ASK}.{os.getpid()}"
    try:
        if why:
            (place / _WHY).write_text(why)
        fresh.write_text(what)
        fresh.replace(place / launcher.ASK)
    except OSError:
        return False
    return True


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
    try:
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
    except OSError as error:
        raise BadState(f"cannot write {path}: {error.strerror}", "check permissions and disk space") from None


def unlock(held: IO[str]) -> None:
    """The file goes first, so that whoever opens it next makes a new one."""
    with contextlib.suppress(OSError):
        Path(held.name).unlink()
    held.close()


def names(repo: Repo) -> set[str]:
    """Every name that has a claim's file or folder here, whatever became of it."""
    with contextlib.suppress(OSError):
        return {path.name.removesuffix(".d") for path in _file(repo, "x").parent.iterdir()}
    return set()


def _file(repo: Repo, name: str) -> Path:
    return repo.git_dir / "ar" / "running" / name
