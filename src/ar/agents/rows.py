"""Experiments on a line each, as prompts and tools tell them. Nothing of the holdout is in it."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

from ar.agents import holdout
from ar.history.attempts import effect
from ar.history.records import Attempt, History, Label, Status
from ar.project.program import Program
from ar.project.values import number
from ar.text import one_line, shorten_middle

_REASON, _SHORT_TITLE = 120, 48


def ended(history: History) -> list[Attempt]:
    """Changes of which a run has ended, in the order in which the first of them did: new ones come last."""
    found = [(time, item) for item in history.attempts if (time := ended_at(item)) is not None]
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


def ended_at(attempt: Attempt) -> float | None:
    """When the first run of a change ended, in unix time; None for a baseline, and before one has."""
    if attempt.is_baseline:
        return None
    runs = [run for run in attempt.own if run.status.ended]
    return min(((run.note and run.note.finished) or run.created for run in runs), default=None)


def line(program: Program, attempt: Attempt) -> str:
    """All of an experiment that fits on a line."""
    label = attempt.verdict.called if attempt.verdict else ""
    cells = [
        attempt.name,
        attempt.title,
        effect(attempt, program),
        *(_guard(attempt, str(guard)) for guard in program.guards),
        f"{attempt.outcome} ({label})" if label else attempt.outcome,
        reason(program, attempt),
    ]
    return " | ".join(map(one_line, cells))


def brief(program: Program, attempt: Attempt, error: bool = True) -> str:
    """The least of an experiment that is worth a line.

    Args:
        error: with the effect's standard error.
    """
    title = shorten_middle(one_line(attempt.title), _SHORT_TITLE)
    gain = effect(attempt, program)
    gain = gain if error else gain.partition(" ")[0]
    return f"{one_line(attempt.name)} | {title} | {gain} | {attempt.outcome}"


def _guard(attempt: Attempt, metric: str) -> str:
    """The mean over the runs that ended well."""
    runs = [run for run in attempt.own if run.status is Status.SUCCEEDED]
    values = [value for run in runs if (value := number(run.metrics.get(metric))) is not None]
    return f"{fmean(values):.4g}" if values else ""


def reason(program: Program, attempt: Attempt) -> str:
    """How the run failed, or what the verdict rests on: `n=2 z=1.04`."""
    failed = next((run.note.reason for run in attempt.own if run.note and run.note.reason), "")
    verdict = attempt.verdict
    if not failed and verdict is not None:
        if verdict.effect == 0.0 and verdict.runs:
            return f"n={verdict.runs}, no effect: identical result"
        if verdict.z is not None:
            guard = f" worse: {verdict.failed_guard}" if verdict.failed_guard else ""
            return shorten_middle(f"n={verdict.runs} z={verdict.z:.2f}{guard}", _REASON)
    said = failed or (verdict.reason if verdict else "")
    return shorten_middle(one_line(holdout.hidden(said, program, attempt.experiments)), _REASON)


def best(attempts: Iterable[Attempt], count: int) -> list[Attempt]:
    """Those with the most convincing improvements, the best first; of the holdout's victims none."""
    better = [
        (attempt.verdict.effect / (attempt.verdict.standard_error or 1e-300), attempt)
        for attempt in attempts
        if attempt.verdict
        and attempt.verdict.effect is not None
        and attempt.verdict.effect < 0
        and attempt.verdict.label is not Label.OVERFITTED
    ]
    return [attempt for _, attempt in sorted(better, key=lambda pair: pair[0])[:count]]
