"""The notebook in a briefing: what fits, by status and recency.

The digest is that of the last time that the history's table grew by a block, so that prompt caches can re-use
it; what was written since then is told besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ar.agents import holdout
from ar.agents.fence import fence
from ar.history.notebook import Lesson, Notebook, Standing, by_recency
from ar.history.records import History
from ar.project.program import Program
from ar.text import one_line, shorten_middle

# Characters that the lessons of each status may take together.
_ROOM = {Standing.SUPPORTED: 2_400, Standing.OPEN: 2_000, Standing.REFUTED: 1_200}
_ROOM_FOREIGN, _ROOM_FRESH = 1_000, 900
_MOST_SAID, _MOST_FRESH = 400, 240  # characters of one lesson
_CITED = 3  # names of experiments with each


def digest(program: Program, history: History, notebook: Notebook, until: float) -> str:
    """The notebook as it was at a time; empty where it was."""
    lessons = notebook.lessons(until)
    own = [lesson for lesson in lessons if not lesson.is_foreign]
    lines = [
        text
        for standing, room in _ROOM.items()
        for text in _fitting(program, history, by_recency(own, standing), room, _MOST_SAID)
    ]
    parts = (
        [fence("\n".join(lines), "the notebook: lesson | status | what it says | rests on")] if lines else []
    )
    foreign = by_recency([lesson for lesson in lessons if lesson.is_foreign], *_ROOM)
    if told := _fitting(program, history, foreign, _ROOM_FOREIGN, _MOST_SAID):
        parts.append(fence("\n".join(told), "foreign lessons: others say so, and nobody here has shown it"))
    return "\n".join(parts)


def fresh(program: Program, history: History, notebook: Notebook, since: float) -> str:
    """What was written since a time, the newest first; empty where nothing was."""
    lessons = [lesson for lesson in notebook.lessons() if lesson.changed > since and not lesson.is_foreign]
    lines = _fitting(program, history, by_recency(lessons, *Standing), _ROOM_FRESH, _MOST_FRESH)
    return fence("\n".join(lines), "new in the notebook") if lines else ""


def _fitting(
    program: Program, history: History, lessons: Sequence[Lesson], room: int, most: int
) -> list[str]:
    """A line each of as many lessons as there is room for, and how many more there are."""
    lines: list[str] = []
    for place, lesson in enumerate(lessons):
        text = _line(program, history, lesson, most)
        room -= len(text) + 1
        if room < 0:
            return [*lines, f"… {len(lessons) - place} more; `lessons` finds them"]
        lines.append(text)
    return lines


def _line(program: Program, history: History, lesson: Lesson, most: int) -> str:
    rests = _listed(lesson.cites)
    cells = (lesson.short, lesson.standing, shorten_middle(lesson.text, most), rests)
    text = " | ".join(one_line(cell) for cell in cells if cell)
    return holdout.hidden(text, program, history.experiments)


def line(program: Program, history: History, lesson: Lesson) -> str:
    """A lesson with all its words."""
    return _line(program, history, lesson, len(lesson.text))


def _listed(cites: Iterable[str]) -> str:
    """The newest names, and how many more there are."""
    names = list(cites)
    more = f" and {len(names) - _CITED} more" if len(names) > _CITED else ""
    return f"{', '.join(names[-_CITED:])}{more}"
