"""Data that DVC keeps: beside the pipeline, by the `.dvc` files that stand for it in git, and what stages
make, by `dvc.lock`."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from ar.formats import BadData, load_yaml
from ar.git.repo import Repo
from ar.project.cache import Cache
from ar.project.pipeline_file import Declared, within


def missing(repo: Repo, rev: str) -> dict[str, list[str]]:
    """The `.dvc` files of a commit whose data stages read, each with the hashes that this machine's cache has
    not; those that it has whole are left out."""
    inputs, cache = Declared.read(repo, rev).inputs, Cache.of(repo.root)
    files = repo.named(rev, "*.dvc", hidden=True)
    contents = repo.read_many([(rev, path) for path in files])
    found = {
        file: [
            md5
            for path, md5 in _outs(file, content)
            if not cache.has(md5) and any(_meet(path, it) for it in inputs)
        ]
        for file, content in zip(files, contents, strict=True)
    }
    return {file: hashes for file, hashes in found.items() if hashes}


def missing_between(repo: Repo, rev: str) -> list[str]:
    """Hashes of what stages of a commit make for others, and this machine's cache has not: without them the
    stages that made them run again."""
    declared, cache = Declared.read(repo, rev), Cache.of(repo.root)
    read = {path for use in declared.uses for path in use.deps}
    return [md5 for path, md5 in kept(declared) if not cache.has(md5) and any(_meet(path, it) for it in read)]


def kept(declared: Declared) -> list[tuple[str, str]]:
    """Path and hash of each output that `dvc.lock` has, and DVC keeps."""
    return [
        (path, md5)
        for stage in declared.locked.values()
        for path, md5 in stage.outs.items()
        if md5 and path in declared.cached
    ]


def _meet(path: str, other: str) -> bool:
    """Whether one of two paths is the other, or lies in it."""
    return within(path, [other]) or within(other, [path])


def _outs(file: str, content: bytes | None) -> Iterator[tuple[str, str]]:
    """Path and hash of what a `.dvc` file stands for; nothing of what has no MD5 of DVC 3's."""
    data: Any = None
    with contextlib.suppress(BadData):
        data = load_yaml(content or b"")
    outs = data.get("outs") if isinstance(data, Mapping) else None
    for out in outs if isinstance(outs, list) else ():
        if isinstance(out, Mapping) and out.get("hash") == "md5" and isinstance(out.get("md5"), str):
            yield (
                posixpath.normpath(posixpath.join(posixpath.dirname(file), str(out.get("path")))),
                out["md5"],
            )
