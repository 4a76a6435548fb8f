"""The branch's files, as an agent looks at them: from the head's tree in git, never from a working tree."""

from __future__ import annotations

import fnmatch

from ar.agents import holdout
from ar.agents.fence import fence
from ar.agents.schemas import MOST_LINES, BadInput
from ar.errors import NotFound, nearest
from ar.git.repo import Repo
from ar.project.pipeline_file import Declared
from ar.project.program import Program
from ar.redaction import redact
from ar.text import shorten_middle

_MOST = 32_000  # characters of one answer
_FILES, _HITS = 500, 60
_BIGGEST = 2_000_000  # bytes of a file that is worth reading as text


class BranchFiles:
    """The files of one commit. Every answer is data between tags, without secrets and the holdout."""

    def __init__(self, repo: Repo, program: Program, head: str) -> None:
        self.repo = repo
        self.program = program
        self.head = head
        self.files = repo.files(head)
        self.declared = Declared.read(repo, head)

    def listed(self, pattern: str) -> str:
        """Paths that fit a glob; those that a proposal may edit are marked."""
        found = [path for path in sorted(self.files) if _fits(path, pattern)]
        lines = [f"{'* ' if self.program.scope.covers(path) else '  '}{path}" for path in found[:_FILES]]
        if len(found) > _FILES:
            lines.append(f"… {len(found) - _FILES} more: give a narrower pattern")
        return fence("\n".join(lines) or "no file fits", "the files of the branch", _MOST)

    def read(self, path: str, start: int, lines: int) -> str:
        """A part of a text file.

        Raises:
            NotFound: there is no such file, or no agent may see it.
        """
        text = self._texts([path]).get(path)
        if text is None:
            near = nearest(path, self.files) if len(self.files) < 5_000 else "use list_files"
            raise NotFound(f"no text file of the branch is called '{path}'", near)
        if holdout.names_it(text, self.program) and self._is_result(path):
            raise NotFound(f"{path} holds values of the holdout, which no agent sees", "use show_experiment")
        whole = text.split("\n")
        first = max(1, start)
        part = whole[first - 1 :][: max(1, min(lines, MOST_LINES))]
        what = f"{path}, lines {first} to {first - 1 + len(part)} of {len(whole)}"
        return fence("\n".join(part), what, _MOST)

    def search(self, text: str, pattern: str) -> str:
        """Places where a text stands, whatever its case; files that runs write are left out."""
        if not text.strip():
            raise BadInput("the text to search for is empty", "say what to look for")
        paths = [path for path in sorted(self.files) if _fits(path, pattern) and not self._is_result(path)]
        wanted = text.lower()
        hits = [
            f"{path}:{place}: {shorten_middle(redact(line.strip()), 200)}"
            for path, content in self._texts(paths).items()
            for place, line in enumerate(content.split("\n"), 1)
            if wanted in line.lower()
        ]
        if len(hits) > _HITS:
            hits = [*hits[:_HITS], f"… {len(hits) - _HITS} more: give a narrower pattern"]
        return fence("\n".join(hits) or "nothing found", f"places with {text[:60]!r}", _MOST)

    def _texts(self, paths: list[str]) -> dict[str, str]:
        """Those of the paths that are text files of the head, whatever else the paths try to be."""
        known = [path for path in paths if path in self.files and self.files[path].is_file]
        contents = self.repo.read_many([(self.head, path) for path in known])
        return {
            path: content.decode(errors="replace")
            for path, content in zip(known, contents, strict=True)
            if content is not None and len(content) <= _BIGGEST and b"\0" not in content[:8000]
        }

    def _is_result(self, path: str) -> bool:
        """Whether runs write this file."""
        metric_files = (*self.declared.metrics, *(metric.file for metric in self.program.written))
        return self.declared.is_output(path) or path in metric_files


def _fits(path: str, pattern: str) -> bool:
    return not pattern or fnmatch.fnmatchcase(path, pattern) or path.startswith(f"{pattern.rstrip('/')}/")
