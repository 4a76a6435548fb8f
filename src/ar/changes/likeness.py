"""How alike two changes are: their words and the lines they change, with numbers left out.

Identity (`project/identity.py`) knows a change that was tried exactly so. This knows its family: "scale by
1.3", "scale by 1.4".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

from ar.changes.proposal import Change
from ar.history.ideas import Idea
from ar.history.records import Attempt, History, Outcome
from ar.project.project import Project

# Shares of what two changes have together in all that either has.
_SAME_LINES = 0.8  # the same lines, with other numbers
_LIKE_LINES, _LIKE_WORDS = 0.3, 0.6  # partly the same lines, for the same reasons
_SAME_WORDS = 0.8  # the same title and the same reasons, wherever it is made
_MOST_LINES = 2_000  # of one change
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_WORD = re.compile(r"[^\W\d]{2,}")

_Lines = frozenset[tuple[str, str, str]]  # file, whether it comes or goes, text


class Likeness:
    """Tells which earlier attempts of one project a change is near to."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._lines: dict[tuple[str, str], _Lines] = {}
        seed = project.program.seed
        name = re.escape(seed.key.rpartition(".")[2]) if seed else ""
        self._seed = re.compile(rf"\s*[\"']?{name}[\"']?\s*[:=]") if name else None

    def near(self, change: Change, history: History) -> list[Attempt]:
        """Attempts of the same family, the nearest first; not those that it repairs."""
        lines = self._of(change.baseline, change.tree)
        parent = change.proposal.parent
        found = []
        for attempt in history.attempts:
            first = attempt.first
            repaired = attempt.outcome is Outcome.CRASHED and parent in (attempt.name, first.parent)
            if attempt.is_baseline or (parent and repaired):
                continue
            same = _share(lines, self._of(attempt.baseline, first.rev))
            title = _share(_words(change.proposal.title), _words(first.title))
            words = _share(_said(change.proposal), _said(first))
            if (
                same >= _SAME_LINES
                or (same >= _LIKE_LINES and max(title, words) >= _LIKE_WORDS)
                or min(title, words) >= _SAME_WORDS
            ):
                found.append((same + words, attempt))
        return [attempt for _, attempt in sorted(found, key=lambda pair: pair[0], reverse=True)]

    def _of(self, old: str, new: str) -> _Lines:
        """The lines that differ between two commits or trees, in files that a proposal may change."""
        if (old, new) not in self._lines:
            self._lines[old, new] = self._differing(old, new)
        return self._lines[old, new]

    def _differing(self, old: str, new: str) -> _Lines:
        repo, program = self.project.repo, self.project.program
        paths = [path for path in repo.changed(old, new) if program.may_change(path)]
        found: set[tuple[str, str, str]] = set()
        for path in paths:
            texts = [(repo.read(rev, path) or b"").decode(errors="replace") for rev in (old, new)]
            before, after = (Counter(text.splitlines()) for text in texts)
            for sign, lines in (("-", before - after), ("+", after - before)):
                found.update((path, sign, text) for line in lines if (text := self._plain(line)))
        return frozenset(sorted(found)[:_MOST_LINES])

    def _plain(self, line: str) -> str:
        """A line without its numbers and its indentation; empty for the seed's."""
        if self._seed is not None and self._seed.match(line):
            return ""
        return _NUMBER.sub("#", " ".join(line.split()))


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def _said(idea: Idea) -> frozenset[str]:
    return _words(f"{idea.title} {idea.hypothesis}")


def _share(one: Collection[object], other: Collection[object]) -> float:
    """Of all that either has, what both have."""
    whole = len({*one, *other})
    return len({*one} & {*other}) / whole if whole else 0.0
