"""The processes of a campaign, for tests to kill, and what none may leave behind."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

KINDS = ("loop", "worker", "launcher", "training")


def processes_of(root: Path, victim: str, loop: int) -> Iterator[psutil.Process]:
    """Processes of one kind that belong to a project's campaign, or to those in the folders of one folder."""
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if (victim == "loop" and process.pid == loop) or (
                victim == "worker"
                and "ar.runs.worker" in command
                and any(is_in(word, root) for word in command)
            ):
                yield process
            elif victim == "launcher" and any("ar.stage.launcher" in word for word in command):
                if str(root) in process.environ().get("AR_LAUNCH", ""):
                    yield process
            elif victim == "training" and command[:1] == ["sleep"] and is_below(process, root):
                yield process
        except psutil.Error:
            continue


def is_in(path: str, root: Path) -> bool:
    return path == str(root) or path.startswith(f"{root}/")


def is_below(process: psutil.Process, root: Path) -> bool:
    return is_in(process.cwd(), root)


def everything_of(root: Path) -> list[str]:
    """Command lines of all processes that have anything to do with a project."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            told = process.environ()
            if process.pid != os.getpid() and (
                any(
                    str(root) in word
                    for word in [*words, told.get("DVC_ROOT", ""), told.get("AR_LAUNCH", "")]
                )
                or is_below(process, root)
            ):
                found.append(" ".join(words))
        except psutil.Error:
            continue
    return found


def check_nothing_left(root: Path) -> None:
    """No process of a project's is there any more, and no claim's folder or held lock."""
    assert everything_of(root) == []
    assert not list((root / ".dvc" / "tmp" / "ar" / "exps").glob("*"))
    assert not list((root / ".git" / "ar" / "running").glob("*"))
    assert not list((root / ".git").rglob("*.lock")) or only_ours(root)
    for token in (root / ".git" / "ar" / "slots").glob("*"):
        with token.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def only_ours(root: Path) -> bool:
    """The files that our own locks are held on stay; whether they are held is what counts."""
    for path in (root / ".git").rglob("*.lock"):
        assert path.parent.name == "ar", path
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True
