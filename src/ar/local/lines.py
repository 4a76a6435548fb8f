"""Files of lines in the git directory, where no pull writes: they are read whole, and grow by lines."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from ar.errors import writing
from ar.git.repo import Repo
from ar.stage.files import write_whole


def path(repo: Repo, name: str) -> Path:
    """Where the file of that name is, or would be."""
    return repo.git_dir / "ar" / name


def read(repo: Repo, name: str) -> list[str]:
    """The lines of a file; none where there is no such file."""
    with contextlib.suppress(FileNotFoundError):
        return path(repo, name).read_text(encoding="utf-8", errors="replace").split("\n")
    return []


def write(repo: Repo, name: str, lines: Iterable[str]) -> None:
    """Replace a file by other lines, all at once.

    Raises:
        BadState: the git directory cannot be written.
    """
    file = repo.own_folder() / name
    with writing(file):
        write_whole(file, "".join(f"{line}\n" for line in lines).encode())


def append(repo: Repo, name: str, lines: Iterable[str]) -> None:
    """Add lines; when this returns they are on disk.

    Raises:
        BadState: the git directory cannot be written.
    """
    file = repo.own_folder() / name
    with writing(file), file.open("a", encoding="utf-8") as stream:
        stream.write("".join(f"{line}\n" for line in lines))
        stream.flush()
        os.fsync(stream.fileno())
