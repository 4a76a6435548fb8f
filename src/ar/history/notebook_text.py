"""The notebook as text that a person edits: a paragraph for each lesson."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ar.errors import BadNote
from ar.history.notebook import Entry, Lesson, Standing, find

HEAD = f"""\
# Each paragraph is a lesson. Change its words or its status ({", ".join(Standing)}),
# name more experiments that it rests on, add a paragraph for a new lesson, or
# delete one that is stale. Lines that begin with # are left out.
"""
_BEGINNING = re.compile(r"\[(?:(?P<name>[0-9a-f]{8,40}) )?(?P<standing>[a-z]+)\] *")
_CITES = "cites:"


def editable(lessons: Sequence[Lesson]) -> str:
    """The lessons that are not stale, oldest first."""
    return "\n".join([HEAD, *(_paragraph(item) for item in lessons if item.standing is not Standing.STALE)])


def _paragraph(lesson: Lesson) -> str:
    lines = [f"[{lesson.short} {lesson.standing}] {lesson.text}"]
    if lesson.is_foreign:
        lines.insert(0, "# foreign: a remote brought it")
    if lesson.cites:
        lines.append(f"{_CITES} {', '.join(lesson.cites)}")
    return "\n".join([*lines, ""])


def edited(text: str, lessons: Sequence[Lesson], who: str) -> list[Entry]:
    """What a person changed in the text that `editable` gave.

    Raises:
        BadNote: a status is none.
        NotFound: a paragraph names a lesson that there is none of.
    """
    entries, left = [], set()
    for paragraph in _paragraphs(text):
        entry = _entry(paragraph, who)
        if entry.of:
            lesson = find(lessons, entry.of)
            left.add(lesson.name)
            if _is_as_it_was(entry, lesson):
                continue
        entries.append(entry)
    gone = [item for item in lessons if item.standing is not Standing.STALE and item.name not in left]
    return entries + [Entry(who, standing=Standing.STALE, of=item.name) for item in gone]


def _paragraphs(text: str) -> Iterator[list[str]]:
    rows = [line.strip() for line in text.splitlines() if not line.startswith("#")]
    for part in re.split(r"\n{2,}", "\n".join(rows).strip()):
        if part:
            yield part.split("\n")


def _entry(paragraph: Sequence[str], who: str) -> Entry:
    cited = [line.removeprefix(_CITES) for line in paragraph if line.startswith(_CITES)]
    words = " ".join(line for line in paragraph if not line.startswith(_CITES))
    begins = _BEGINNING.match(words)
    standing = None
    if begins:
        try:
            standing = Standing(begins["standing"])
        except ValueError:
            raise BadNote(
                f"'{begins['standing']}' is no status of a lesson", f"one of: {', '.join(Standing)}"
            ) from None
    return Entry(
        who=who,
        text=words[begins.end() :] if begins else words,
        standing=standing,
        cites=tuple(name.strip() for line in cited for name in line.split(",") if name.strip()),
        of=(begins["name"] or "") if begins else "",
    )


def _is_as_it_was(entry: Entry, lesson: Lesson) -> bool:
    same = entry.text in ("", lesson.text) and entry.standing in (None, lesson.standing)
    return same and set(entry.cites) <= set(lesson.cites)
