"""The ssh keys whose owners' results count on this machine: kept in the git directory, where no pull goes."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ar.errors import BadState
from ar.git.repo import Repo
from ar.git.signatures import PublicKey

_FILE = "trusted"


def path(repo: Repo) -> Path:
    """The file with a line for each key, as in ssh's `.pub` files; whoever owns the machine may edit it."""
    return repo.git_dir / "ar" / _FILE


def read(repo: Repo) -> dict[str, PublicKey]:
    """Fingerprint to key."""
    with contextlib.suppress(FileNotFoundError):
        lines = path(repo).read_text(encoding="utf-8", errors="replace").split("\n")
        return {key.fingerprint: key for line in lines if (key := PublicKey.parse(line))}
    return {}


def add(repo: Repo, key: PublicKey) -> None:
    """Trust a key from now on.

    Raises:
        BadState: the git directory cannot be written.
    """
    if key.fingerprint in read(repo):
        return
    try:
        with (repo.own_folder() / _FILE).open("a", encoding="utf-8") as file:
            file.write(f"{key.line}\n")
    except OSError as error:
        raise BadState(
            f"cannot write {path(repo)}: {error.strerror}", "check permissions and disk space"
        ) from None
