"""Data that DVC keeps beside the pipeline, by the `.dvc` files that stand for it in git."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from ar.formats import BadData, load_yaml
from ar.git.repo import Repo
from ar.project.cache import Cache
from ar.project.pipeline_file import Declared, within


def missing(repo: Repo, rev: str) -> list[str]:
    """The `.dvc` files of a commit whose data stages read, and that this machine's cache has not."""
    inputs, cache = Declared.read(repo, rev).inputs, Cache.of(repo.root)
    files = repo.named(rev, "*.dvc", hidden=True)
    contents = repo.read_many([(rev, path) for path in files])
    return [
        file
        for file, content in zip(files, contents, strict=True)
        if any(
            not cache.has(md5) and any(within(it, [path]) or within(path, [it]) for it in inputs)
            for path, md5 in _outs(file, content)
        )
    ]


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
