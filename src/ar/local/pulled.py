"""Which results a remote brought, and whose word there is for them: kept where no pull writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ar.git.repo import Repo
from ar.local import joined, lines, trusted

FILE, VOUCHED = "pulled", "vouched"


def read(repo: Repo) -> frozenset[str]:
    """All that a remote brought: full names of experiments' refs, ids of the commits of accounts."""
    return frozenset(lines.read(repo, FILE))


def foreign(repo: Repo, found: Mapping[str, str]) -> frozenset[str]:
    """Those of some refs that a remote brought and no trusted key vouches for.

    Args:
        found: each ref's commit; for a commit itself, that.
    """
    marked = read(repo) & found.keys()
    if not marked:
        return marked
    known = vouched(repo)
    return frozenset(name for name in marked if (name, found[name]) not in known)


def vouched(repo: Repo) -> frozenset[tuple[str, str]]:
    """Refs and commits for which there was the word of somebody whose key is still trusted, or that came from
    a remote whose campaign this clone still has a part in."""
    keys = {*trusted.read(repo), *map(joined.word, joined.read(repo))}
    rows = (line.split(" ") for line in lines.read(repo, VOUCHED))
    return frozenset((row[1], row[2]) for row in rows if len(row) == 3 and row[0] in keys)


def add(repo: Repo, names: Iterable[str]) -> None:
    """Mark what a remote brings, before it appears: whoever sees one of them sees whose it is.

    Raises:
        BadState: the git directory cannot be written.
    """
    lines.append(repo, FILE, names)


def vouch(repo: Repo, words: Iterable[tuple[str, str, str]]) -> None:
    """Let pulled results count as long as a key is trusted: its fingerprint, the ref and its commit. In place
    of a fingerprint may be the `joined.word` of a remote.

    Raises:
        BadState: the git directory cannot be written.
    """
    lines.append(repo, VOUCHED, map(" ".join, words))
