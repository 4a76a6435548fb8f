"""Where an observation of others' commits began: what there was by then is none of them."""

from __future__ import annotations

from ar.git import refs
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.local import lines

_FILE = "observed"


def begin(repo: Repo) -> None:
    """Begin to observe the checkout, or carry on where that was cut off. From here on the campaign stands on
    a branch of its own.

    Raises:
        BadState: the git directory cannot be written.
    """
    is_new = repo.resolve(refs.OBSERVED) is None
    if is_new or not lines.path(repo, _FILE).exists():
        tips = repo.refs("refs/heads", "refs/remotes", "refs/tags").values()
        lines.write(repo, _FILE, dict.fromkeys([*tips, *repo.stood_at()]))
    if is_new:
        repo.update_refs((refs.OBSERVED, repo.head(), ZERO), reason="ar: observe")


def fresh(repo: Repo) -> list[str]:
    """Commits that were made in the checkout since, oldest first."""
    return repo.unreached(repo.stood_at(), filter(None, lines.read(repo, _FILE)))


def end(repo: Repo) -> None:
    """All that was observed is decided: the next observation begins anew."""
    lines.path(repo, _FILE).unlink(missing_ok=True)
