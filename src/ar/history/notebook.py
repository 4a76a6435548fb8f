"""The notebook, on `refs/ar/notebook`: lessons that agents and people drew from experiments.

Each entry is a commit without files, with a line of JSON in its message: a new lesson, or what is to be said
of an earlier one by now. Nothing is ever taken out, so that two clones which wrote at once join by a merge. A
lesson's name is the id of the commit that began it.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from ar.errors import ArError, BadNote, NotFound
from ar.formats import BadData, load_json
from ar.git import refs
from ar.git.objects import Commit
from ar.git.repo import Repo
from ar.history import attempts
from ar.history.records import History
from ar.local import pulled
from ar.record import Record
from ar.redaction import redact
from ar.text import one_line, shorten_middle

MOST_TEXT = 600  # characters of a lesson
MOST_CITED = 20  # experiments that one entry names
_MOST_NAME = 120  # characters of an experiment's or an author's name
_SUBJECT = 72
_MOST_BROUGHT, _MOST_ENTRIES = 2_000, 10_000  # entries that one remote brings at once, and that a join leaves
_MOST_BYTES = 20_000  # of one entry's commit


class Standing(StrEnum):
    """What is thought of a lesson by now."""

    OPEN = "open"
    SUPPORTED = "supported"
    REFUTED = "refuted"
    STALE = "stale"  # about what is not so any more: nobody need read it


@dataclass(frozen=True)
class Entry(Record):
    """What one commit of the notebook says.

    Args:
        who: the agent's name, or a person's word for themselves.
        text: in one paragraph; empty where the lesson's stays.
        standing: None where the lesson's stays; of a new lesson, open.
        cites: names of experiments that bear on it.
        of: the earlier lesson that it is about; empty for a new one.
    """

    who: str
    text: str = ""
    standing: Standing | None = None
    cites: tuple[str, ...] = ()
    of: str = ""

    @classmethod
    def parse(cls, message: str) -> Self | None:
        """None for text that is no entry, or one beyond the bounds: whoever can push may have written it."""
        with contextlib.suppress(BadData, TypeError, ValueError):
            found = cls.from_json(load_json(message.partition("\n\n")[2], _MOST_BYTES))
            if len(found.text) <= MOST_TEXT and len(found.cites) <= MOST_CITED:
                cites = tuple(_short(name) for name in found.cites)
                return replace(found, who=_short(found.who), text=one_line(found.text), cites=cites)
        return None


@dataclass(frozen=True)
class Lesson(Record):
    """A lesson as it stands, after all that was said of it.

    Args:
        name: id of the commit that began it.
        cites: experiments that any of its entries names, oldest first.
        who, when: who wrote it first, and when in unix time.
        changed_by, changed: who had the last word on it, and when.
        is_foreign: only remotes that no trusted key vouches for say so.
    """

    name: str
    text: str
    standing: Standing
    cites: tuple[str, ...]
    who: str
    when: float
    changed_by: str
    changed: float
    is_foreign: bool = False

    @property
    def short(self) -> str:
        """The beginning of its name, as people and agents give it."""
        return self.name[:8]


@dataclass(frozen=True)
class Written:
    """An entry where it stands in the notebook.

    Args:
        rev: its commit.
        when: unix time.
        is_foreign: a remote brought it, and no trusted key vouches for it.
    """

    rev: str
    when: float
    entry: Entry
    is_foreign: bool = False


@dataclass(frozen=True)
class Notebook:
    """Everything that was written, in the order in which it counts."""

    written: tuple[Written, ...] = ()

    def lessons(self, until: float = math.inf) -> tuple[Lesson, ...]:
        """Every lesson as it stood at a time, oldest first.

        What a remote said of a lesson that counts here changes nothing of it.
        """
        known = [item for item in self.written if item.when <= until]
        found = {item.rev: _begun(item) for item in known if not item.entry.of and item.entry.text}
        for item in known:
            lesson = found.get(item.entry.of)
            if lesson is not None and (lesson.is_foreign or not item.is_foreign):
                found[lesson.name] = _told(lesson, item)
        return tuple(found.values())


def read(repo: Repo) -> Notebook:
    """The notebook; an empty one where nobody has begun it."""
    commits = repo.log(refs.NOTEBOOK)
    others = pulled.foreign(repo, {commit.rev: commit.rev for commit in commits})
    found = ((commit, Entry.parse(commit.message)) for commit in _in_order(commits))
    return Notebook(
        tuple(
            Written(commit.rev, commit.time, entry, commit.rev in others) for commit, entry in found if entry
        )
    )


def _in_order(commits: Sequence[Commit]) -> list[Commit]:
    """By time, but never before what they came after: whichever way two clones joined, both read the same."""
    places: dict[str, tuple[float, int, str]] = {}
    for commit in commits:  # parents come first
        before = [places[parent] for parent in commit.parents if parent in places]
        time = max([commit.time, *(place[0] for place in before)])
        depth = max((place[1] for place in before), default=0) + 1
        places[commit.rev] = time, depth, commit.rev
    return sorted(commits, key=lambda commit: places[commit.rev])


def _begun(item: Written) -> Lesson:
    entry, said = item.entry, (item.entry.who, item.when)
    standing = entry.standing or Standing.OPEN
    return Lesson(item.rev, entry.text, standing, entry.cites, *said, *said, is_foreign=item.is_foreign)


def _told(lesson: Lesson, item: Written) -> Lesson:
    entry = item.entry
    return replace(
        lesson,
        text=entry.text or lesson.text,
        standing=entry.standing or lesson.standing,
        cites=tuple(dict.fromkeys((*lesson.cites, *entry.cites))),
        changed_by=entry.who,
        changed=item.when,
        is_foreign=item.is_foreign,
    )


def find(lessons: Iterable[Lesson], name: str) -> Lesson:
    """The lesson of that name, or unambiguous beginning of it.

    Raises:
        NotFound: none, or several.
    """
    near = [lesson for lesson in lessons if name and lesson.name.startswith(name)]
    if len(near) != 1:
        what = f"'{name}' could be several lessons" if near else f"the notebook has no lesson '{name}'"
        raise NotFound(what, "see: ar notebook")
    return near[0]


def write(repo: Repo, history: History, entry: Entry) -> str:
    """Add an entry, whoever else does the same. Returns the name of the lesson that it is about.

    Raises:
        BadNote: it says nothing, or too much; or a lesson says the same.
        NotFound: a lesson or an experiment that it names.
    """
    lessons = read(repo).lessons()
    text = redact(one_line(entry.text))
    cites = tuple(dict.fromkeys(attempts.find(history, name)[0].name for name in entry.cites))
    if len(text) > MOST_TEXT:
        raise BadNote(f"a lesson has {len(text):,} characters", f"say it in {MOST_TEXT}")
    if len(cites) > MOST_CITED:
        raise BadNote(f"a lesson cites {len(cites)} experiments", f"name the {MOST_CITED} that tell most")
    about = find(lessons, entry.of) if entry.of else None
    entry = replace(entry, who=_short(entry.who), text=text, cites=cites, of=about.name if about else "")
    if about is None and not text:
        raise BadNote("a lesson needs words", "give them: ar note -m TEXT")
    if about is not None and _adds_nothing(about, entry):
        raise BadNote("that changes nothing of the lesson", "give other words, a status or experiments")
    same = [item for item in lessons if text and _folded(item.text) == _folded(text) and item != about]
    if same and not same[0].is_foreign:
        raise BadNote(f"the notebook says so already: {same[0].short}", "change its status instead")
    if about is not None:
        news = tuple(name for name in cites if name not in about.cites)
        entry = replace(entry, text="" if text == about.text else text, cites=news)
    subject = shorten_middle(
        entry.text or f"{about.short if about else ''} {entry.standing or 'cited'}", _SUBJECT
    )
    data = json.dumps(entry.to_json(), ensure_ascii=False)
    rev = repo.append(refs.NOTEBOOK, f"{subject}\n\n{data}\n")
    return entry.of or rev


def _adds_nothing(lesson: Lesson, entry: Entry) -> bool:
    return (
        entry.text in ("", lesson.text)
        and entry.standing in (None, lesson.standing)
        and set(entry.cites) <= set(lesson.cites)
        and not lesson.is_foreign  # saying the same of others' makes it ours
    )


def _folded(text: str) -> str:
    return one_line(text).casefold().rstrip(".")


def _short(name: str) -> str:
    return redact(one_line(name))[:_MOST_NAME]


def entries(repo: Repo, rev: str, without: str | None = None) -> int:
    """How many entries a version of the notebook has that another has not."""
    return sum(Entry.parse(commit.message) is not None for commit in repo.log(rev, without))


def fits(repo: Repo, theirs: str, ours: str | None) -> bool:
    """Whether a remote's notebook can be joined into ours and still be read."""
    beyond = [f"^{ours}"] if ours else []
    try:
        new = repo.run("rev-list", f"--max-count={_MOST_BROUGHT + 1}", theirs, *beyond).split()
        sizes = repo.run("cat-file", "--batch-check=%(objectsize)", stdin="\n".join(new).encode()).split()
        known = int(repo.run("rev-list", "--count", ours)) if ours else 0
    except ArError:
        return False
    return (
        len(new) <= _MOST_BROUGHT
        and known + len(new) <= _MOST_ENTRIES
        and all(size.isdigit() and int(size) <= _MOST_BYTES for size in sizes)
    )


def by_recency(lessons: Sequence[Lesson], *standings: Standing) -> list[Lesson]:
    """Those of some standings, what was changed last first."""
    found = (lesson for lesson in lessons if lesson.standing in standings)
    return sorted(found, key=lambda lesson: (-lesson.changed, lesson.name))
