"""The notebook as people see it: lines for a terminal, a section of the report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from ar.history.notebook import Lesson, Standing, by_recency
from ar.text import counted
from ar.views.document import Block, Items, Section

_SHOWN = (Standing.SUPPORTED, Standing.OPEN, Standing.REFUTED)
_MOST = 100  # lessons that a report quotes


def notebook_lines(lessons: Sequence[Lesson]) -> list[str]:
    """Every lesson, those of most use first."""
    if not lessons:
        return ["The notebook is empty. To write into it: ar note -m TEXT"]
    lines = []
    for lesson in by_recency(lessons, *_SHOWN, Standing.STALE):
        lines += [f"{lesson.short}  {lesson.standing}: {lesson.text}", f"          {_from(lesson)}"]
    return lines


def section(lessons: Sequence[Lesson]) -> list[Section]:
    """The lessons that are not stale; nothing where there are none."""
    blocks: list[Block] = []
    for standing in _SHOWN:
        found = by_recency(lessons, standing)
        if not found:
            continue
        more = f", of which the newest {_MOST}" if len(found) > _MOST else ""
        items = tuple(f"{lesson.text} ({_from(lesson)})" for lesson in found[:_MOST])
        blocks += [f"{standing.capitalize()}: {counted(len(found), 'lesson')}{more}.", Items(items)]
    return [Section("The notebook", tuple(blocks))] if blocks else []


def _from(lesson: Lesson) -> str:
    """Whose it is, and what it rests on."""
    day = datetime.fromtimestamp(lesson.changed, UTC).strftime("%Y-%m-%d")
    who = lesson.who if lesson.who == lesson.changed_by else f"{lesson.who}, then {lesson.changed_by}"
    parts = ["foreign"] if lesson.is_foreign else []
    parts += [f"by {who}, {day}"]
    parts += [f"rests on {', '.join(lesson.cites)}"] if lesson.cites else []
    return "; ".join(parts)
