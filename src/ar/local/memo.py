"""What can be worked out again, kept in the git directory until something that it rests on has changed.

It may be thrown away at any time: what is missing, broken or of another state is not there. Where it cannot
be written, it is not kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from ar.formats import BadData, load_json
from ar.git.repo import Repo
from ar.stage.files import write_whole

FOLDER = "memo"
_MOST = 8  # of one kind: the same for different questions


def read(repo: Repo, kind: str, question: str, state: str) -> Any:
    """The answer to a question that was kept in a state; None where there is none.

    Args:
        state: a digest of all that the answer rests on.
    """
    with contextlib.suppress(OSError, BadData):
        head, _, body = _file(repo, kind, question).read_bytes().partition(b"\n")
        if head.decode() == _headline(question, state, body):
            return load_json(body)
    return None


def write(repo: Repo, kind: str, question: str, state: str, answer: Any) -> None:
    """Keep an answer, in place of what was kept for the same question; of a kind the latest few stay."""
    file, body = _file(repo, kind, question), json.dumps(answer).encode()
    with contextlib.suppress(OSError):
        write_whole(file, _headline(question, state, body).encode() + b"\n" + body)
        for old in sorted(file.parent.iterdir(), key=lambda it: it.stat().st_mtime_ns)[:-_MOST]:
            old.unlink()


def _file(repo: Repo, kind: str, question: str) -> Path:
    return repo.git_dir / "ar" / FOLDER / kind / _digest(question.encode())


def _headline(question: str, state: str, body: bytes) -> str:
    return f"{_digest(question.encode())} {state} {_digest(body)}"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
