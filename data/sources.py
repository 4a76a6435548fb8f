"""Where documents come from: the standard library's own source, text files, or parquet files."""

from __future__ import annotations

import glob
import os
import platform
import sysconfig
from collections.abc import Iterator
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, Protocol

from data.download import Remote, fetch
from data.errors import LabError
from data.settings import DataSettings
from data.shards import split_of

# Not prose of the library: tests, tables of character sets, third-party code, generated text.
STDLIB_WITHOUT = {
    "test", "tests", "idle_test", "encodings", "idlelib", "site-packages", "dist-packages",
    "lib2to3", "pydoc_data", "turtledemo", "ensurepip", "__pycache__", "lib-dynload",
}  # fmt: skip


class Source(Protocol):
    """A corpus that can be read more than once, always in the same order."""

    @property
    def description(self) -> dict[str, Any]:
        """What the manifest records of it."""

    def documents(self) -> Iterator[str]:
        """The documents, one after the other."""


class TextFiles:
    """One document a file, in order of their paths."""

    def __init__(self, paths: list[Path], description: dict[str, Any]) -> None:
        self.paths = sorted(paths)
        self.description = description

    def documents(self) -> Iterator[str]:
        """Raises LabError on a file that is not UTF-8 text."""
        for path in self.paths:
            try:
                text = path.read_bytes().decode("utf-8")
            except UnicodeDecodeError as error:
                raise LabError(f"{path}: not UTF-8 text; leave it out of data.files") from error
            except OSError as error:
                raise LabError(f"{path}: {error.strerror}") from error
            if text.strip():
                yield text


class ParquetFiles:
    """One document a row of a text column, file by file."""

    def __init__(self, paths: list[Path], column: str, description: dict[str, Any]) -> None:
        self.paths = paths
        self.column = column
        self.description = description

    def documents(self) -> Iterator[str]:
        """Raises LabError on a file that is not parquet or lacks the column."""
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        for path in self.paths:
            try:
                file = pq.ParquetFile(path)
            except (pa.ArrowException, OSError) as error:
                raise LabError(f"{path}: cannot be read as parquet: {str(error).splitlines()[0]}") from error
            if self.column not in file.schema_arrow.names:
                raise LabError(
                    f"{path}: has no column {self.column!r} (data.text_column); "
                    f"it has {', '.join(file.schema_arrow.names)}"
                )
            for batch in file.iter_batches(columns=[self.column]):
                yield from (text for text in batch.column(0).to_pylist() if text)


def stdlib() -> TextFiles:
    """The Python files of the running interpreter's standard library, about 9 MB.

    Links are left out: they lead to the machine's own settings, which a sandbox hides.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in STDLIB_WITHOUT]
        paths += [
            path
            for path in (Path(folder, name) for name in names)
            if path.suffix == ".py"
            and not path.name.startswith("_sysconfigdata")  # holds paths of the machine
            and not path.is_symlink()
        ]
    if not paths:
        raise LabError(f"{root}: this Python comes without its source; use data.source: files")
    return TextFiles(paths, {"kind": "stdlib", "python": platform.python_version()})


def text_files(patterns: list[str]) -> TextFiles:
    """The files that match glob patterns, `**` included."""
    if not patterns:
        raise LabError("params.yaml: data.source is files, but data.files lists no glob pattern")
    paths: set[Path] = set()
    for pattern in patterns:
        found = {
            Path(name)
            for name in glob.glob(pattern, recursive=True)  # noqa: PTH207 (patterns may be absolute)
            if Path(name).is_file()
        }
        if not found:
            raise LabError(f"params.yaml: data.files: no file matches {pattern!r}")
        paths |= found
    return TextFiles(list(paths), {"kind": "files", "patterns": list(patterns)})


def parquet_files(entries: list[Any], column: str, downloads: Path) -> ParquetFiles:
    """Local parquet files and URLs, the latter fetched into `downloads` first."""
    if not entries:
        raise LabError("params.yaml: data.source is parquet, but data.parquet lists no path or URL")
    paths, recorded = [], []
    for entry in entries:
        remote = Remote.parse(entry)
        path, sha256 = fetch(remote, downloads)
        paths.append(path)
        recorded.append({"url": remote.url, "sha256": sha256})
    return ParquetFiles(paths, column, {"kind": "parquet", "files": recorded})


def out_of_reach(settings: DataSettings) -> list[str]:
    """Files of the corpus that the code under test must not read although they lie among what it may read.

    Of the standard library these are the held-out documents, and what Python compiled them to.
    """
    if settings.source == "files":
        return [str(path) for path in text_files(settings.files).paths]
    if settings.source != "stdlib":
        return []
    found: list[str] = []
    for path in stdlib().paths:
        text = path.read_bytes().decode("utf-8")
        if split_of(text, settings.val_fraction, settings.test_fraction) != "train":
            compiled = [cache_from_source(str(path), optimization=level) for level in ("", 1, 2)]
            found += [str(path), *compiled]
    return found


def open_source(settings: DataSettings, downloads: Path) -> Source:
    """The corpus that the group `data` of params.yaml asks for."""
    if settings.source == "stdlib":
        return stdlib()
    if settings.source == "files":
        return text_files(settings.files)
    return parquet_files(settings.parquet, settings.text_column, downloads)
