"""A project: the git repository it lies in, and what its programme says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ar.git.repo import Repo
from ar.project.program import Program
from ar.project.program_file import load


@dataclass(frozen=True)
class Project:
    """What almost everything here works on."""

    repo: Repo
    program: Program

    @classmethod
    def open(cls, start: Path | None = None) -> Self:
        """The project that `start` (default: the working directory) lies in.

        Raises:
            NotARepo: there is none.
            BadProgram: its `program.md` cannot be used.
        """
        repo = Repo.open(start)
        return cls(repo, load(repo.root))
