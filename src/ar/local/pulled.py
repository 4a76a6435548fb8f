"""Which experiments a remote brought: told apart from this machine's own where no pull writes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from ar.errors import BadState
from ar.git.repo import Repo

_FILE = "pulled"


def read(repo: Repo) -> frozenset[str]:
    """Full names of the refs of experiments that a remote brought."""
    with contextlib.suppress(FileNotFoundError):
        text = (repo.git_dir / "ar" / _FILE).read_text(encoding="utf-8", errors="replace")
        return frozenset(text.split("\n"))
    return frozenset()


def add(repo: Repo, names: Iterable[str]) -> None:
    """Mark refs, before they appear: whoever sees one of them sees whose it is.

    Raises:
        BadState: the git directory cannot be written.
    """
    lines = "".join(f"{name}\n" for name in names)
    path = repo.own_folder() / _FILE
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BadState(f"cannot write {path}: {error.strerror}", "check permissions and disk space") from None
