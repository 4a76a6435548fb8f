"""What a proposal may change: files by globs, parameters by keys or groups of them."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from functools import lru_cache

from ar.project.params import ParamKey
from ar.project.pipeline_file import LOCK_FILE, PIPELINE_FILE

FRAME = ("program.md", PIPELINE_FILE, LOCK_FILE)  # no proposal may edit a file of such a name
_FRAME_FOLDERS = (".dvc", ".git")


@dataclass(frozen=True)
class Scope:
    """File globs, and keys or groups of parameters."""

    files: tuple[str, ...] = ()
    params: tuple[ParamKey, ...] = ()

    def covers(self, path: str) -> bool:
        """Whether a glob matches the file."""
        return any(_pattern(glob).fullmatch(path) for glob in self.files)

    def reaches(self, path: str) -> bool:
        """Whether a glob matches the file, or what lies in the folder."""
        return self.covers(path) or self.covers(f"{path}/x")

    def may_edit(self, path: str) -> bool:
        """Whether a proposal may edit the file: it is covered, and no part of the fixed frame."""
        folder, _, name = path.rpartition("/")
        return self.covers(path) and name not in FRAME and folder.split("/")[0] not in _FRAME_FOLDERS

    def allows_param(self, key: ParamKey) -> bool:
        return any(key.is_under(group) for group in self.params)


@lru_cache(maxsize=512)
def _pattern(glob: str) -> re.Pattern[str]:
    """A glob in which `**` crosses folders and `*` does not.

    The globs of `.gitignore` would not do: there a folder that matches stands for all that it holds, so that
    `src/*` is all of `src`.
    """
    parts = []
    for piece in re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]*\])", glob):
        if piece.startswith("["):
            parts.append(fnmatch.translate(piece)[4:-3])
        else:
            wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
            parts.append(wild.get(piece, re.escape(piece)))
    return re.compile("".join(parts))
