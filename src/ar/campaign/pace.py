"""How fast one engine gets on, and how long it will yet take."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING

from ar.history.records import History, Status
from ar.project.program import Budget

if TYPE_CHECKING:
    from ar.runs.budget import Used

RUNS_A_CHANGE = 2  # until one has been tried, and how long that took is known
_LAST = 8  # runs that tell what the next one will take


@dataclass(frozen=True)
class Pace:
    """What an engine is to do, and has done so far.

    Args:
        jobs: how many experiments run at once.
        wanted: new changes that it is to try; None until the budget ends.
        proposed: names of those that it has queued.
        ended: runs that ended meanwhile.
        elapsed, searching: seconds since it began, and since it queued the first of the changes.
        hours: wall time after which it starts nothing new; None for no limit.
    """

    jobs: int = 1
    wanted: int | None = None
    proposed: frozenset[str] = frozenset()
    ended: int = 0
    elapsed: float = 0.0
    searching: float = 0.0
    hours: float | None = None

    def tried(self, history: History) -> int:
        """How many of the new changes have had a run."""
        mine = (item for item in history.attempts if item.name in self.proposed)
        return sum(any(run.status.ended for run in item.own) for item in mine)

    def left(self, history: History, budget: Budget, used: Used, base_runs: int) -> float | None:
        """Seconds until the engine will have ended; None while nothing says so.

        Args:
            base_runs: that the baseline still needs.
        """
        ends = []
        if self.hours is not None:
            ends.append(self.hours * 3600 - self.elapsed)
        if budget.hours is not None:
            ends.append((budget.hours - used.hours) * 3600)
        run_time = self._run_time(history)
        if run_time is not None and self.wanted is None:
            ends.append((budget.runs - used.runs) * run_time)
        elif run_time is not None and self.wanted is not None:
            tried = self.tried(history)
            queued = sum(not run.status.ended for run in history.everything)
            known = max(base_runs, queued) * run_time
            a_change = self.searching / tried if tried else RUNS_A_CHANGE * run_time
            more = known + max(0, self.wanted - tried) * a_change
            ends += [more] if more else []
        return max(0.0, min(ends)) if ends else None

    def _run_time(self, history: History) -> float | None:
        """Seconds from one run's end to the next one's; None while nothing says so."""
        if self.ended:
            return self.elapsed / self.ended
        duration = expected(history, "")
        return None if duration is None else duration / self.jobs


def expected(history: History, rung: str) -> float | None:
    """Seconds that a run of a scale takes, by the last ones that ended well; None where none did."""
    newest = (run for run in reversed(history.everything) if run.rung == rung)
    ended = (run.note for run in newest if run.status is Status.SUCCEEDED)
    durations = list(islice((note.seconds for note in ended if note and note.seconds), _LAST))
    return fmean(durations) if durations else None
