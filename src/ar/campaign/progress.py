"""What the engine tells whoever watches it: what happened, and how things stand."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from ar.campaign.campaign import Campaign
from ar.campaign.pace import Pace, expected
from ar.history.attempts import effect, level, objective
from ar.history.records import Attempt, Experiment, History, Outcome, Status
from ar.judge import rule
from ar.judge.evidence import Ledger
from ar.judge.findings import NoiseReport
from ar.project.program import Metric, Program
from ar.runs import queue
from ar.text import counted, quantity

if TYPE_CHECKING:
    from ar.runs.budget import Used


@dataclass(frozen=True)
class Running:
    """An experiment under way.

    Args:
        elapsed: seconds of all its stages so far.
        expected: seconds that it will take; None where no run of its scale has ended well yet.
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
        metric: the objective.
        best, baseline: level of the branch now and at first, each with its uncertainty; may be empty.
        spent, budget: runs.
        tried, wanted: how many of the new changes that the user asked for have had a run, and how many those
            are; None where the budget is the end.
        elapsed: seconds since the engine began.
        left: seconds until it will have ended; None where nothing says so.
        agent: who proposes.
        asking: what agents that take their time are doing.
        paid: what the agents spent; empty where nothing.
    """

    running: tuple[Running, ...] = ()
    queued: int = 0
    phase: str = ""
    verdicts: tuple[tuple[str, str, Outcome, str], ...] = ()
    metric: Metric | None = None
    best: str = ""
    baseline: str = ""
    spent: int = 0
    budget: int = 0
    tried: int = 0
    wanted: int | None = None
    elapsed: float = 0.0
    left: float | None = None
    agent: str = ""
    asking: str = ""
    paid: str = ""


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


def snapshot(campaign: Campaign, history: History, used: Used, pace: Pace) -> Snapshot:
    """How things stand now."""
    program = campaign.program
    running = _running(campaign, history, pace.jobs)
    decided = [item for item in history.attempts if item.is_decided]
    have, needed = _base_runs(program, history)
    return Snapshot(
        running=running,
        queued=sum(not run.status.ended for run in history.everything) - len(running),
        phase=f"measuring the baseline {have}/{needed}" if have < needed else "searching",
        verdicts=tuple((item.name, item.title, item.outcome, effect(item, program)) for item in decided[-6:]),
        best=level(history.now),
        baseline=level(history.first),
        metric=program.objective,
        spent=used.runs,
        budget=program.budget.runs,
        tried=pace.tried(history),
        wanted=pace.wanted,
        elapsed=pace.elapsed,
        left=pace.left(history, program.budget, used, max(0, needed - have)),
        agent=", ".join(spec.name for spec in program.agents),
        paid=campaign.books.read().words(len(history.promoted)),
    )


def _running(campaign: Campaign, history: History, jobs: int) -> tuple[Running, ...]:
    now = time.time()
    stages = queue.training(campaign.repo)
    return tuple(
        Running(
            name=run.name,
            title=run.title,
            seed=run.seed,
            elapsed=now - stages[run.name].began,
            expected=expected(history, run.rung),
            slot=stages[run.name].slot if jobs > 1 else "",
        )
        for run in history.everything
        if run.name in stages and not run.status.ended
    )


def _base_runs(program: Program, history: History) -> tuple[int, int]:
    """Runs of the branch as it is that ended well, and how many a search begins with."""
    needed = rule.LEAST_BASE if program.seed else rule.base_runs_needed(0, len(history.promoted))
    now = history.now
    base = (now.experiments if program.seed else now.base) if now else ()
    have = sum(run.status is Status.SUCCEEDED for run in base)
    return have, needed


def one_seed_line(ledger: Ledger, program: Program) -> str:
    """A warning where all runs of the branch gave one value; empty where they differ, or are too few."""
    values = [run.value for run in ledger.base if run.measured]
    if len(values) < rule.LEAST_BASE or len(set(values)) > 1:
        return ""
    said = f"{program.seed} changes nothing" if program.seed else "no seed: is named"
    mend = "let it seed the run" if program.seed else f"name the parameter that seeds a run in {program.file}"
    key, runs = program.objective.key, len(values)
    return f"all rests on one seed: {key} is the same to the last digit in {runs} runs, and {said}; {mend}"


def noise_line(report: NoiseReport, program: Program) -> str:
    """What the baseline's runs say of the noise, and what that lets the campaign find, in a sentence."""
    runs = f"{counted(report.runs, 'run')} of the branch"
    if report.sigma is None:
        return f"noise: not known yet, from {runs}"
    alone = f"σ = {quantity(report.sigma)} {program.objective.key} between runs"
    if program.seed is None:
        paired = "no seed to pair by"
    elif report.paired_sigma is None:
        paired = "pairing by seed not known to help yet"
    else:
        paired = f"σ = {quantity(report.paired_sigma)} paired by seed"
    effects = ", ".join(f"{quantity(size)} with {count}" for count, size in report.smallest.items())
    return f"noise: {alone}, {paired}; {runs}. Shows improvements of {effects} runs"


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
        word = "winner" if good else "superseded" if attempt.is_superseded else "discarded"
    return f"{word} {attempt.name}: {verdict.reason if verdict else ''}"
