"""The remotes whose campaign this clone has a part in: kept in the git directory, where no pull goes.

Whoever may write to such a remote runs, judges and promotes for all of its clones: what comes from there
counts here as it is. A clone joins where its user names the remote to `ar run` or `ar worker`.
"""

from __future__ import annotations

from ar.git.repo import Repo
from ar.local import lines

FILE = "joined"


def read(repo: Repo) -> list[str]:
    """Their names; whoever owns the machine may take a line out of the file."""
    return [name for name in dict.fromkeys(lines.read(repo, FILE)) if name]


def add(repo: Repo, remote: str) -> None:
    """Take part in a remote's campaign from now on.

    Raises:
        BadState: the git directory cannot be written.
    """
    if remote not in read(repo):
        lines.append(repo, FILE, [remote])


def word(remote: str) -> str:
    """What stands for the remote where results are vouched for: no fingerprint of a key looks like it."""
    return f"remote:{remote}"
