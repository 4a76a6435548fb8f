"""What a proposal may change: files by globs, parameters by keys or groups of them."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from ar.project.params import ParamKey
from ar.project.pipeline_file import LOCK_FILE, PIPELINE_FILE

# Git reads `.git`, `.gitattributes` and the like in any folder, DVC `.dvc`, `.dvcignore`, every `*.dvc` and
# `dvc.yaml`; git-lfs reads `.lfsconfig`. `git~1` is how Windows shortens `.git`. Python runs bytecode
# in place of the source that people read.
_OBEYED = re.compile(
    rf"\.git.*|\.dvc.*|.*\.dvc|git~\d+|\.lfsconfig|\.mailmap|__pycache__|.*\.py[co]"
    rf"|program\.md|{re.escape(PIPELINE_FILE)}|{re.escape(LOCK_FILE)}",
    re.DOTALL,
)


def is_obeyed(path: str) -> bool:
    """Whether git, DVC, Python or `ar` take orders from a file, or from what lies in a folder of its path.

    Spellings that some file system takes for the same name count too: another case, full-width letters,
    characters that do not show, and on Windows dots and spaces at the end and streams after a colon
    (`core.protectHFS` and `core.protectNTFS` in `git help config`).
    """
    return any(_OBEYED.fullmatch(_as_opened(part)) for part in re.split(r"[/\\]", path))


def _as_opened(name: str) -> str:
    shown = "".join(char for char in name if unicodedata.category(char) not in ("Cf", "Cc"))
    return unicodedata.normalize("NFKC", shown).casefold().partition(":")[0].strip().rstrip(". ")


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
        """Whether a proposal may edit the file: it is covered, and nothing that other programs obey."""
        return self.covers(path) and not is_obeyed(path)

    def allows_param(self, key: ParamKey) -> bool:
        """Whether a proposal may set the key; of a file that other programs obey it may set none."""
        return not is_obeyed(key.file) and any(key.is_under(group) for group in self.params)


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
