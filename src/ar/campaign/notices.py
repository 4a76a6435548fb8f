"""What is worth telling somebody who is not looking: promotions, crashes in a row, the end of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

from ar.agents import holdout
from ar.history.attempts import effect, level
from ar.history.records import Attempt, Experiment, History, Status
from ar.project.program import Program
from ar.record import Record
from ar.redaction import redact
from ar.text import counted, one_line, shorten_middle

STORM = 5  # runs that ended in a row, each of them badly
_MOST = 500  # characters of a text


class NoticeKind(StrEnum):
    PROMOTED = "promoted"
    CRASHING = "crashing"
    ENDED = "ended"


@dataclass(frozen=True)
class Notice(Record):
    """Something that happened. Nothing of the holdout is in it, and no secret.

    Args:
        text: all of it in a line, for people.
        project: the name of its folder.
        name, title: of what was promoted, or of the last run that crashed; else empty.
        effect: what the promotion is worth, as the verdict has it.
        reason: of the last crash, or of the end.
        level: of the objective on the branch now, with its uncertainty.
        attempts, promoted: how many changes the campaign tried and took.
    """

    kind: NoticeKind
    text: str
    project: str
    name: str = ""
    title: str = ""
    effect: str = ""
    reason: str = ""
    level: str = ""
    attempts: int = 0
    promoted: int = 0

    def fields(self) -> dict[str, str | int]:
        """Every field, whatever it holds."""
        return {name: value if isinstance(value, int) else str(value) for name, value in asdict(self).items()}


class Watch:
    """Finds what is worth telling between one look at a campaign and the next."""

    def __init__(self, program: Program, project: str) -> None:
        self._program = program
        self._project = project
        self._promoted: set[str] = set()
        self._before: set[str] = set()  # runs that had ended
        self._storms = False  # one has been told of, and nothing has ended well since

    def begin(self, history: History) -> None:
        """What there is already is no news."""
        self._promoted = {attempt.name for attempt in history.promoted}
        self._before = {run.name for run in history.everything if run.status.ended}

    def look(self, history: History) -> list[Notice]:
        """What happened since the last look."""
        new = [attempt for attempt in history.promoted if attempt.name not in self._promoted]
        self._promoted |= {attempt.name for attempt in new}
        return [*(self._promotion(history, attempt) for attempt in new), *self._storm(history)]

    def ended(self, history: History, reason: str) -> Notice:
        """That the run is over, and why."""
        tried, promoted = counted(len(history.tried), "attempt"), len(history.promoted)
        said = f"ar run has ended{f': {reason}' if reason else ''}. {tried}, {promoted} promoted"
        return self._notice(NoticeKind.ENDED, history, said, reason=reason)

    def _promotion(self, history: History, attempt: Attempt) -> Notice:
        gain = effect(attempt, self._program)
        said = f"promoted {attempt.name}: {attempt.title} ({self._program.objective.key} {gain})"
        named = {"name": attempt.name, "title": attempt.title, "effect": gain}
        return self._notice(NoticeKind.PROMOTED, history, said, attempt.experiments, **named)

    def _storm(self, history: History) -> list[Notice]:
        """Word of runs that crash one after the other; once, until one ends well."""
        ended = [run for run in history.everything if run.status.ended and run.name not in self._before]
        ended = [run for run in ended if run.status.failed or run.status is Status.SUCCEEDED]
        latest = sorted(ended, key=lambda run: ((run.note and run.note.finished) or run.created, run.name))
        storms = len(latest) >= STORM and all(run.status.failed for run in latest[-STORM:])
        is_new, self._storms = storms and not self._storms, storms
        if not is_new:
            return []
        last = latest[-1]
        said = f"the last {STORM} runs crashed, {last.name} with: {last.reason}"
        named = {"name": last.name, "title": last.title, "reason": last.reason}
        return [self._notice(NoticeKind.CRASHING, history, said, latest[-STORM:], **named)]

    def _notice(
        self, kind: NoticeKind, history: History, said: str, runs: Iterable[Experiment] = (), **named: str
    ) -> Notice:
        runs = list(runs)

        def told(text: str) -> str:
            return shorten_middle(redact(holdout.hidden(one_line(text), self._program, runs)), _MOST)

        return Notice(
            kind,
            told(f"{self._project}: {said}"),
            told(self._project),
            **{name: told(text) for name, text in named.items()},
            level=level(history.now),
            attempts=len(history.tried),
            promoted=len(history.promoted),
        )
