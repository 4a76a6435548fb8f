"""Locks that one of our processes holds, and the files beside them; all of it this machine's own."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator

from ar.errors import BadState
from ar.git.repo import Repo
from ar.stage import files
from ar.stage.processes import Process


@contextlib.contextmanager
def hold(repo: Repo, name: str, busy: str | None = None, keep: bool = True) -> Iterator[None]:
    """Hold one of our locks; the kernel drops it with its holder.

    Args:
        busy: raise `BadState` with this text (and the holder's process id for `{pid}`) where somebody
            else has it; None waits.
        keep: leave the file; False for a name that only this process will ever use.
    """
    path = repo.own_folder() / f"{name}.lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            other = files.read(Process, path)
            raise BadState((busy or "").format(pid=other.pid if other else "unknown")) from None
        file.truncate(0)
        json.dump(Process.me()._asdict(), file)
        file.flush()
        try:
            yield
        finally:
            if not keep:
                path.unlink(missing_ok=True)


def names(repo: Repo, *patterns: str) -> list[str]:
    """Names of locks, held or not, that match any of the patterns."""
    return sorted(path.stem for pattern in patterns for path in repo.own_folder().glob(f"{pattern}.lock"))


def holder(repo: Repo, name: str) -> Process | None:
    """The process that holds a lock, with empty fields where it has not said yet; None where nobody does."""
    path = repo.own_folder() / f"{name}.lock"
    with contextlib.suppress(FileNotFoundError), path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return files.read(Process, path) or Process()
    return None
