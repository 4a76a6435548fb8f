"""What the engine tells whoever watches it: what happened, and how things stand."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Protocol, Self

from ar.campaign.campaign import Campaign
from ar.history.attempts import effect, level, objective
from ar.history.records import Attempt, Experiment, History, Status
from ar.judge import rule
from ar.judge.findings import NoiseReport
from ar.project.program import Program
from ar.runs import queue
from ar.text import quantity

if TYPE_CHECKING:
    from ar.runs.budget import Used

from ar.history.records import Outcome


@dataclass(frozen=True)
class Running:
    """An experiment under way.

    Args:
        elapsed, expected: seconds; None where no run has ended yet to expect anything from.
        slot: where it trains, if there are several places.
    """

    name: str
    title: str
    seed: int | None
    elapsed: float
    expected: float | None = None
    slot: str = ""


@dataclass(frozen=True)
class Snapshot:
    """How a campaign stands at one instant.

    Args:
        phase: what the engine is about: "measuring the baseline 3/8".
        verdicts: name, title, outcome and effect of the latest ones, oldest first.
        best, baseline: level of the branch now and at first, each with its uncertainty; may be empty.
        spent, budget: runs.
        elapsed: seconds since the engine began.
        agent: who proposes.
        asking: what agents that take their time are doing.
    """

    running: tuple[Running, ...] = ()
    queued: int = 0
    phase: str = ""
    verdicts: tuple[tuple[str, str, Outcome, str], ...] = ()
    best: str = ""
    baseline: str = ""
    spent: int = 0
    budget: int = 0
    elapsed: float = 0.0
    hours_left: float | None = None
    agent: str = ""
    asking: str = ""


class View(Protocol):
    """Where the engine reports to, for the length of a `with` block."""

    def event(self, text: str) -> None:
        """Something happened that is worth a line for ever."""
        ...

    def update(self, snapshot: Snapshot) -> None:
        """How things stand now."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def snapshot(
    campaign: Campaign, history: History, used: Used, elapsed: float, hours: float | None, jobs: int
) -> Snapshot:
    """How things stand now.

    Args:
        elapsed: seconds since the engine began; `hours` is its limit.
    """
    program = campaign.program
    running = _running(campaign, history, jobs)
    decided = [item for item in history.attempts if item.is_decided]
    left = [
        limit - past
        for limit, past in ((hours, elapsed / 3600), (program.budget.hours, used.hours))
        if limit is not None
    ]
    return Snapshot(
        running=running,
        queued=sum(not run.status.ended for run in history.everything) - len(running),
        phase=_phase(program, history),
        verdicts=tuple((item.name, item.title, item.outcome, effect(item, program)) for item in decided[-6:]),
        best=level(history.now),
        baseline=level(history.first),
        spent=used.runs,
        budget=program.budget.runs,
        elapsed=elapsed,
        hours_left=max(0.0, min(left)) if left else None,
        agent=", ".join(spec.name for spec in program.agents),
    )


def _running(campaign: Campaign, history: History, jobs: int) -> tuple[Running, ...]:
    durations = [run.note.seconds for run in history.experiments if run.note and run.note.seconds]
    expected = fmean(durations[-8:]) if durations else None
    now = time.time()
    stages = queue.training(campaign.repo)
    return tuple(
        Running(
            name=run.name,
            title=run.title,
            seed=run.seed,
            elapsed=now - stages[run.name].since,
            expected=expected,
            slot=stages[run.name].slot if jobs > 1 else "",
        )
        for run in history.everything
        if run.name in stages and not run.status.ended
    )


def _phase(program: Program, history: History) -> str:
    needed = rule.LEAST_BASE if program.seed else rule.base_runs_needed(0, len(history.promoted))
    now = history.now
    base = (now.experiments if program.seed else now.base) if now else ()
    have = sum(run.status is Status.SUCCEEDED for run in base)
    return f"measuring the baseline {have}/{needed}" if have < needed else "searching"


def noise_line(report: NoiseReport, program: Program) -> str:
    """What the baseline's runs say of the noise, and what that lets the campaign find, in a sentence."""
    if report.sigma is None:
        return f"noise: not known yet, from {report.runs} runs of the branch"
    alone = f"σ = {quantity(report.sigma)} {program.objective.key} between runs"
    if program.seed is None:
        paired = "no seed to pair by"
    elif report.paired_sigma is None:
        paired = "pairing by seed not known to help yet"
    else:
        paired = f"σ = {quantity(report.paired_sigma)} paired by seed"
    effects = ", ".join(f"{quantity(size)} with {count}" for count, size in report.smallest.items())
    return f"noise: {alone}, {paired}; {report.runs} runs of the branch. Shows improvements of {effects} runs"


def result_line(run: Experiment, program: Program) -> str:
    """How a run ended, in one line."""
    value = objective(run, program)
    if value is not None:
        seed = "" if run.seed is None else f" seed {run.seed}"
        return f"{run.name}{seed}: {program.objective.key} {value:.5g}"
    return f"{run.name} {run.status}: {run.reason}"


def verdict_line(attempt: Attempt) -> str:
    """The judge's last word on an attempt, in one line."""
    verdict = attempt.verdict
    good = attempt.is_judged_good
    if attempt.rung:
        word = f"holds at {attempt.rung}:" if good else f"does not hold at {attempt.rung}:"
    else:
        word = "winner" if good else "discarded"
    return f"{word} {attempt.name}: {verdict.reason if verdict else ''}"
