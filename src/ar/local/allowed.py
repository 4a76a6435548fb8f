"""What the owner of this machine has allowed a repository: kept in the git directory, where no pull goes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable

from ar.errors import writing
from ar.formats import BadData, load_json
from ar.git.repo import Repo
from ar.stage.files import write_whole

_FILE = "allowed.json"


def read(repo: Repo) -> frozenset[str]:
    """What is allowed, in the words in which it was asked for; nothing where the file is broken."""
    with contextlib.suppress(OSError, BadData):
        found = load_json((repo.git_dir / "ar" / _FILE).read_bytes())
        if isinstance(found, list):
            return frozenset(word for word in found if isinstance(word, str))
    return frozenset()


def add(repo: Repo, words: Iterable[str]) -> None:
    """Allow this, too.

    Raises:
        BadState: the git directory cannot be written.
    """
    path = repo.own_folder() / _FILE
    text = json.dumps(sorted(read(repo).union(words)), indent=1) + "\n"
    with writing(path):
        write_whole(path, text.encode())
