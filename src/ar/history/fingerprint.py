"""What a reading of the history goes by, in few bytes: where they are the same, it finds nothing new."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import ar
from ar.git import refs
from ar.history import reader
from ar.local import claims, joined, lines, pulled, trusted
from ar.project.cache import Cache
from ar.project.project import Project

_READ = (refs.EXPS, refs.QUEUE, refs.RUNNING, refs.NOTES, refs.SPEND)
# What commits are reached by may be fetched, too.
_BRANCHES = ("refs/heads", "refs/remotes", "refs/tags")
_OURS = (joined.FILE, pulled.FILE, pulled.VOUCHED, trusted.FILE)


def of(project: Project) -> str:
    """A digest of all that `reader.read` and the account of what was spent depend on: this code, the
    programme, the head, refs and what they name, whose results count, what waits here and elsewhere, which
    outputs DVC has. Two may stand for the same; one never stands for two."""
    repo = project.repo
    running = [refs.name_of(ref) for ref in repo.refs(refs.RUNNING)]
    parts = [
        str(_code(Path(ar.__file__).parent)),
        repo.head(),
        str(repo.branch()),
        repo.state(*_READ, *_BRANCHES),
        str([name for name in running if claims.is_waiting(repo, name)]),
        str(sorted(reader.places_elsewhere(repo), key=lambda item: item[0])),
        str(_written(Cache.of(repo.root).folder / "files" / "md5")),
    ]
    told = hashlib.blake2b(repr(parts).encode(errors="surrogateescape"), digest_size=16)
    for path in (
        repo.root / project.program.file,
        repo.git_dir / "shallow",
        *(lines.path(repo, name) for name in _OURS),
    ):
        told.update(b"\0" + _content(path))
    return told.hexdigest()


def _code(folder: Path) -> list[tuple[str, int, int]]:
    """Size and time of each of this program's files, in bytes and ns."""
    files = ((path, path.stat()) for path in sorted(folder.rglob("*.py")))
    return [(path.name, state.st_size, state.st_mtime_ns) for path, state in files]


def _written(folder: Path) -> list[tuple[str, int]]:
    """When each folder of a cache was last added to, in ns."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries)
    return []


def _content(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        return len(content).to_bytes(8, "big") + content
    return b""
