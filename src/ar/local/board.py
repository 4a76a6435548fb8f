"""The board: what agents that are being asked on this machine are about to work on.

Each question that is under way has a place on it, a file under a lock: the kernel drops that with the
process, so that nothing of one that was killed stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ar.errors import writing
from ar.formats import BadData, load_json
from ar.git.repo import Repo
from ar.record import Record
from ar.redaction import redact
from ar.text import one_line, plain, shorten_middle

MOST = 200  # characters of what one says


@dataclass(frozen=True)
class Post(Record):
    """What one agent says.

    Args:
        since: unix time.
    """

    agent: str
    text: str
    since: float


@dataclass
class Place:
    """One question's place, empty at first."""

    path: Path
    agent: str
    _file: IO[str] | None = field(default=None, init=False)

    def post(self, text: str) -> None:
        """Say what is being worked on, in the place of what was said before.

        Raises:
            BadState: the git directory cannot be written.
        """
        words = shorten_middle(one_line(redact(plain(text))), MOST)
        post = json.dumps(Post(self.agent, words, time.time()).to_json())
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.path.parent.with_name(f"board-{self.path.name}")
            file = fresh.open("w", encoding="utf-8")
            fcntl.flock(file, fcntl.LOCK_EX)  # before anybody can find it, and take it for a dead one's
            file.write(post)
            file.flush()
            fresh.replace(self.path)
            if self._file is not None:
                self._file.close()
            self._file = file

    def leave(self) -> None:
        """Take away what was said."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


@contextlib.contextmanager
def place(repo: Repo, agent: str) -> Iterator[Place]:
    """A place for a question to an agent, for the length of a `with` block."""
    held = Place(_folder(repo) / secrets.token_hex(8), agent)
    try:
        yield held
    finally:
        held.leave()


def read(repo: Repo, without: Place | None = None) -> tuple[Post, ...]:
    """What all others say, oldest first; what the dead left is cleared away."""
    found = []
    for path in _folder(repo).glob("*"):
        if without is not None and path == without.path:
            continue
        with contextlib.suppress(OSError, BadData, TypeError, ValueError), path.open("r+b") as file:
            if _is_free(file):
                path.unlink(missing_ok=True)
                continue
            found.append(Post.from_json(load_json(file.read())))
    return tuple(sorted(found, key=lambda post: post.since))


def _is_free(file: IO[bytes]) -> bool:
    """Whether nobody holds a place any more."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folder(repo: Repo) -> Path:
    return repo.git_dir / "ar" / "board"
