"""Earlier experiments, as an agent looks at them: in lists, one by one, and side by side."""

from __future__ import annotations

import functools

from ar.agents import holdout, side_by_side
from ar.agents.curve_tables import curves, pairs
from ar.agents.fence import fence
from ar.agents.rows import line
from ar.agents.schemas import MOST_LISTED
from ar.history.attempts import find
from ar.history.reader import changed
from ar.history.records import Attempt, Experiment, History
from ar.history.selection import Order, Selection
from ar.judge.reflection import reflect
from ar.project.pipeline_file import Declared
from ar.project.project import Project
from ar.project.values import number
from ar.text import one_line, quantity

_METRICS = 40
_LOG, _DIFF, _WORDS, _CURVE = 6_000, 12_000, 4_000, 2_000  # characters of an experiment's parts


class Experiments:
    """The experiments of one history. Every answer is data between tags, without the holdout."""

    def __init__(self, project: Project, history: History) -> None:
        self.project = project
        self.repo, self.program = project.repo, project.program
        self.history = history
        self.declared = Declared.read(project.repo, history.head)

    def listed(self, contains: str, outcome: str, sort: str, skip: int, limit: int) -> str:
        """A line each of those that were tried and fit."""
        tried = (item for item in self.history.attempts if not item.is_baseline)
        found = Selection(contains, outcome).of(tried, Order(sort))
        part = found[max(0, skip) :][: max(1, min(limit, MOST_LISTED))]
        lines = "\n".join(line(self.program, attempt) for attempt in part)
        return fence(lines or "none", f"{len(part)} of {len(found)} experiments, {sort} first")

    def opened(self, name: str) -> str:
        """All there is of one.

        Raises:
            NotFound: there is no such experiment.
        """
        attempt, run = find(self.history, name)
        hidden = functools.partial(holdout.hidden, program=self.program, runs=attempt.experiments)
        quoted = hidden if attempt.is_hearsay else str  # our own agents were never told
        facts = [quoted(line(self.program, attempt)), *self._values(attempt)]
        facts += [f"another tool says: {hidden(attempt.claimed)}"] if attempt.claimed else []
        facts += [f"judge: {hidden(attempt.verdict.reason)}"] if attempt.verdict else []
        if told := reflect(self.program, attempt):
            facts.append(f"looking back: {told.words}")
        elif run.expected:
            facts.append(f"expected: {run.expected}")
        change = changed(self.project, run.baseline, run.rev) or "nothing besides outputs"
        parts = [
            fence("\n".join(facts), run.name),
            fence(quoted(run.hypothesis) or "(none)", "its hypothesis", _WORDS),
            fence(change, "its change", _DIFF),
            *self._curves(run),
        ]
        if run.note and run.note.log:
            parts.append(fence(hidden(run.note.log), "the end of what it printed", _LOG))
        return "\n".join(parts)

    def compared(self, a: str, b: str) -> str:
        """Two of them side by side.

        Raises:
            NotFound: one of them does not exist.
        """
        (one, first), (two, second) = find(self.history, a), find(self.history, b)
        beside = pairs(self.repo, self.declared, self.program, first, second)
        diff = changed(self.project, first.rev, second.rev)
        return side_by_side.told(self.program, one, two, beside, diff)

    def _values(self, attempt: Attempt) -> list[str]:
        """Every metric but the holdout's, objective and guards first, a line a run."""
        lines = []
        for run in attempt.experiments:
            shown = [
                f"{one_line(name.rpartition(':')[2])} {quantity(value)}"
                for name in holdout.may_tell(self.program, [run])
                if (value := number(run.metrics.get(name))) is not None
            ][:_METRICS]
            seed = "" if run.seed is None else f", seed {run.seed}"
            lines.append(f"run {run.name}{seed}: {', '.join([run.status, *shown])}")
        return lines

    def _curves(self, run: Experiment) -> list[str]:
        tables = curves(self.repo, self.declared, self.program, run)
        return [fence("\n".join(map(" ".join, table)), f"its curve {path}", _CURVE) for path, table in tables]
