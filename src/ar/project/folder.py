"""A folder as it is on disk, before git knows anything of it."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from ar.project.pipeline_file import LOCK_FILE, PIPELINE_FILE
from ar.project.program import FILE

_OURS = (PIPELINE_FILE, LOCK_FILE, FILE, ".gitignore", ".dvcignore")
# Folders of what is made anew, or has no part in the work.
_NEVER = re.compile(
    r"(.*/)?(\.[^/]+|__pycache__|venv|env|node_modules|wandb|mlruns|runs|outputs?|logs|lightning_logs"
    r"|checkpoints?|results?|figures?|plots?|artifacts|te?mp|build|dist)(/.*)?"
)


class Folder:
    """The files of a project's folder, as they are on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[str, list[str]] = {}

    def read(self, path: str) -> bytes | None:
        """The content of a file; None where there is none, or it lies outside."""
        try:
            return (self.root / path).read_bytes() if self._holds(path) else None
        except (OSError, ValueError):
            return None

    def inside(self, text: str, folder: str = "") -> str | None:
        """The file or folder of the project that a text names, from a folder or from the root; None where
        there is none, or none that could be an input.
        """
        for base in dict.fromkeys(("", folder)):
            path = posixpath.normpath(posixpath.join(base, text.partition("*")[0]))
            if path in (".", *_OURS) or path.startswith(("../", "/")) or _NEVER.fullmatch(path):
                continue
            try:
                if self._holds(path) and (self.root / path).exists():
                    return path
            except (OSError, ValueError):
                continue
        return None

    def files(self, path: str) -> list[str]:
        """A file, or the files of a folder that are not hidden, from the root. They are listed once."""
        if path not in self._files:
            self._files[path] = self._listed(path) if (self.root / path).is_dir() else [path]
        return self._files[path]

    def _listed(self, path: str) -> list[str]:
        place, found = self.root / path, list[str]()
        for folder, folders, names in os.walk(place):
            inner = Path(folder).relative_to(self.root).as_posix()
            names += [name for name in folders if (Path(folder) / name).is_symlink()]
            folders[:] = sorted(name for name in folders if not _NEVER.fullmatch(name))
            shown = (name for name in sorted(names) if not name.startswith("."))  # a hidden one may hold keys
            found += [f"{inner}/{name}" for name in shown if not name.endswith((".pyc", ".dvc"))]
        return found

    def links_out(self, path: str) -> list[str]:
        """Links of a folder that lead out of the project."""
        return [file for file in self.files(path) if not self._holds(file)]

    def _holds(self, path: str) -> bool:
        """Whether a path, and what it leads to, lies inside."""
        return (self.root / path).resolve().is_relative_to(self.root)

    def size(self, path: str) -> int:
        """Bytes of a file, or of the files of a folder."""
        return sum((self.root / file).lstat().st_size for file in self.files(path))
