"""The ssh keys whose owners' results count on this machine: kept in the git directory, where no pull goes."""

from __future__ import annotations

from pathlib import Path

from ar.git.repo import Repo
from ar.git.signatures import PublicKey
from ar.local import lines

FILE = "trusted"


def path(repo: Repo) -> Path:
    """The file with a line for each key, as in ssh's `.pub` files; whoever owns the machine may edit it."""
    return lines.path(repo, FILE)


def read(repo: Repo) -> dict[str, PublicKey]:
    """Fingerprint to key."""
    return {key.fingerprint: key for line in lines.read(repo, FILE) if (key := PublicKey.parse(line))}


def add(repo: Repo, key: PublicKey) -> None:
    """Trust a key from now on.

    Raises:
        BadState: the git directory cannot be written.
    """
    if key.fingerprint not in read(repo):
        lines.append(repo, FILE, [key.line])
