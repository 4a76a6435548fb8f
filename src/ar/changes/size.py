"""How much a change adds: room for an idea, not for a copy of the data that a score is taken on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ar.git.repo import Repo

MAX_ADDED_BYTES = 200_000


def added(repo: Repo, old: str, new: str, paths: Iterable[str]) -> int:
    """Bytes that files have more in one commit or tree than in another: lines, and names of new files.

    A line that moved, within a file or from one to another, adds nothing.
    """
    before, after = repo.files(old), repo.files(new)
    places = list(paths)
    sides = [
        [entry.blob for path in places if (entry := files.get(path)) is not None and entry.is_file]
        for files in (before, after)
    ]
    names = sum(len(path.encode(errors="surrogateescape")) for path in places if path not in before)
    growth = sum(repo.sizes(sides[1])) - sum(repo.sizes(sides[0]))
    if growth > MAX_ADDED_BYTES:  # at least so much: what is far too long is not read
        return growth + names
    known, found = (
        Counter(
            line
            for content in repo.read_many([(blob, "") for blob in blobs])
            for line in (content or b"").splitlines(keepends=True)
        )
        for blobs in sides
    )
    return names + sum(len(line) * count for line, count in (found - known).items())
