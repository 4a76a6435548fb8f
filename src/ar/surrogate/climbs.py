"""The campaign's history as evidence about its ladder: which effects were measured where, and what a run
costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, median

from ar.history.records import Attempt, History, Outcome, Verdict
from ar.judge.evidence import MOST_RUNS
from ar.project.program import Program
from ar.surrogate.transfer import Forecast, Measured, Transfer

COST_RATIO = 4.0  # of a run to one at the rung below, until one was measured
DOUBT = 0.02  # an idea whose chance lies nearer to 0 or 1 than this is not in doubt


@dataclass(frozen=True)
class Climbs:
    """What is known of the ladder up to a target.

    Args:
        rungs: names, the base first; the last is the target.
        ideas: what was measured at the base, or above.
        verdicts: of each, by rung; None where the judge has said nothing that holds an effect.
        seconds: that one run takes at each rung.
        opened: whether the baseline was measured there.
        measuring: seconds that all runs between base and target took.
        start: an earlier fit, to begin from.
    """

    rungs: tuple[str, ...]
    ideas: tuple[Attempt, ...]
    verdicts: tuple[tuple[Verdict | None, ...], ...]
    seconds: tuple[float, ...]
    opened: tuple[bool, ...]
    measuring: float = 0.0
    start: Transfer | None = None

    @cached_property
    def fit(self) -> Transfer:
        rows = [[None if v is None else _measured(v) for v in row] for row in self.verdicts]
        return Transfer(rows, len(self.rungs), self.start)

    @cached_property
    def places(self) -> dict[str, int]:
        """Candidate to its place among the ideas."""
        return {item.candidate: place for place, item in enumerate(self.ideas)}

    @cached_property
    def noise(self) -> list[float]:
        """Standard error of an effect by one run at each rung; where none was made, as at the rung below."""
        found: list[float] = []
        for place in range(len(self.rungs)):
            sizes = [_one_run(row[place]) for row in self.verdicts if row[place] is not None]
            found.append(median(sizes) if sizes else found[-1] if found else math.nan)
        sizes = [size for size in found if not math.isnan(size)]
        return [next(iter(sizes), 1.0) if math.isnan(size) else size for size in found]

    @cached_property
    def worth(self) -> list[list[float]]:
        """What one more run of each idea at each rung adds to the expected gain at the target."""
        return self.fit.worth(self.noise)

    @cached_property
    def rates(self) -> list[list[float]]:
        """The same by the second. A rung's first idea does not pay for all of its baseline: those that are in
        doubt may follow."""
        doubtful = max(1, sum(DOUBT < chance < 1 - DOUBT for chance in self.fit.chances()))
        cost = [
            seconds * (1 if opened else 1 + MOST_RUNS / doubtful)
            for seconds, opened in zip(self.seconds, self.opened, strict=True)
        ]
        return [[value / one for value, one in zip(row, cost, strict=True)] for row in self.worth]

    @cached_property
    def forecasts(self) -> list[Forecast]:
        """Of each idea's effect at the target."""
        return [self.fit.forecast(place) for place in range(len(self.ideas))]

    def forecast(self, candidate: str) -> Forecast | None:
        """An idea's effect at the target; None for what was not measured anywhere."""
        place = self.places.get(candidate)
        return None if place is None else self.forecasts[place]


def climbs_of(program: Program, history: History, target: str) -> Climbs:
    """The evidence, from the judge's estimates alone.

    Args:
        target: name of the rung that counts.
    """
    names = [rung.name for rung in program.ladder]
    rungs = tuple(names[: names.index(target) + 1])
    ideas, verdicts = [], []
    for item in history.attempts:
        if not item.own or item.is_hearsay or item.outcome is Outcome.TAMPERED:
            continue
        found = [item, *(history.at_rung(item.candidate, name) for name in rungs[1:])]
        row = tuple(known(one.verdict) if one and one.own else None for one in found)
        if any(row):
            ideas.append(item)
            verdicts.append(row)
    seconds: list[float] = []
    opened, measuring = [], 0.0
    for name in rungs:
        attempts = (
            history.attempts if name == rungs[0] else [it for it in history.at_rungs if it.rung == name]
        )
        runs = [run for item in attempts for run in item.experiments]
        took = [run.note.seconds for run in runs if run.note and run.note.seconds]
        measuring += sum(took) if name not in (rungs[0], target) else 0.0
        seconds.append(fmean(took) if took else COST_RATIO * seconds[-1] if seconds else 1.0)
        opened.append(any(run.measures_baseline and run.status.ended for run in runs))
    return Climbs(rungs, tuple(ideas), tuple(verdicts), tuple(seconds), tuple(opened), measuring)


def known(verdict: Verdict | None) -> Verdict | None:
    """A verdict, if it holds an effect."""
    if verdict is None or verdict.effect is None or verdict.standard_error is None or not verdict.df:
        return None
    return verdict


def _measured(verdict: Verdict) -> Measured:
    assert verdict.effect is not None and verdict.standard_error is not None
    error = verdict.standard_error
    base = error / math.sqrt(2)
    if not verdict.paired:
        base = min(error, (verdict.sigma or 0.0) / math.sqrt(max(1, verdict.base_runs)))
    return Measured(verdict.effect, error, base)


def _one_run(verdict: Verdict | None) -> float:
    assert verdict is not None and verdict.standard_error is not None
    if verdict.sigma is None:
        return verdict.standard_error
    return verdict.sigma * math.sqrt(2 if verdict.paired else 1 + 1 / max(1, verdict.base_runs))
