"""What `.dvc` files have DVC do: bring data into the project from a URL, a repository, a database, a path."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ar.formats import BadData, load_yaml
from ar.git.repo import Repo

# Of a dependency, where it is found. The rest tells what was found there last: it changes with every update.
_PLACE = ("path", "repo", "db", "fs_config")
_LAST_SEEN = ("rev_lock",)


@dataclass(frozen=True)
class Import:
    """A `.dvc` file that is more than a note of what the cache holds.

    Args:
        sources: what it depends on, as JSON; of a file that cannot be read, the hash of its content.
        commands: it is a stage, as old projects have them.
    """

    file: str
    sources: tuple[str, ...]
    commands: tuple[str, ...] = ()


def read(repo: Repo, rev: str) -> tuple[Import, ...]:
    """Those of a commit, in order of their paths."""
    files = repo.named(rev, "*.dvc", hidden=True)
    found = []
    for path, content in zip(files, repo.read_many([(rev, path) for path in files]), strict=True):
        data: Any = None
        with contextlib.suppress(BadData):
            data = load_yaml(content or b"")
        if not isinstance(data, Mapping):
            found.append(Import(path, (json.dumps({"sha256": hashlib.sha256(content or b"").hexdigest()}),)))
            continue
        commands = data.get("cmd") or []
        commands = commands if isinstance(commands, list) else [commands]
        deps = data.get("deps") or []
        sources = tuple(map(_source, deps if isinstance(deps, list) else [deps]))
        if sources or commands:
            found.append(Import(path, sources, tuple(map(str, commands))))
    return tuple(found)


def _source(item: Any) -> str:
    if isinstance(item, Mapping):
        item = {key: item[key] for key in _PLACE if key in item}
        if isinstance(inner := item.get("repo"), Mapping):
            item["repo"] = {key: value for key, value in inner.items() if key not in _LAST_SEEN}
    return json.dumps(item, sort_keys=True, default=str)
