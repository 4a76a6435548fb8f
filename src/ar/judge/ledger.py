"""A campaign's history as the judge sees it, and the judge's step on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ar.history.attempts import objective, tried_again
from ar.history.records import Attempt, Decision, Experiment, History, Label, Outcome, Status, Verdict
from ar.judge import devices
from ar.judge.arithmetic import half_width
from ar.judge.contrast import compare, own_residual
from ar.judge.evidence import OPENING, Candidate, Ledger, Run, guard_means
from ar.judge.noise import noise_of
from ar.judge.rule import Action, Kind, next_action, overfitted
from ar.project.program import Program
from ar.project.values import number


def ledger(
    program: Program,
    history: History,
    attempt: Attempt | None = None,
    head_seed: int | None = None,
    screening: bool = False,
    device: str | None = None,
) -> Ledger:
    """The campaign as the judge sees it, with one attempt open. Runs under way are as good as spent.

    Args:
        head_seed: what the branch's parameters hold, for as long as no baseline run says where seeds begin.
        screening: whether the caller chooses, past the opening, which changes get a second run.
        device: the class whose runs are the evidence; None for that in which the attempt is judged.
    """
    if device is None:
        device = where(program, history, attempt) if attempt else devices.home(program, history)
    known, here = first_seed(history), devices.on(program, history, device)
    head, first = here.now, here.first
    if first is None and here is not history:  # the first incumbent that was measured there stands for it
        first = next((item for item in here.attempts if item.base), None)
    seen = _candidates(program, here)
    closed = tuple(
        seen[item.name]
        for item in here.attempts
        if item is not head
        and not (attempt and item.name == attempt.name)
        and (
            item.is_decided
            or item.outcome in (Outcome.BASELINE, Outcome.PROMOTED)
            or len(seen[item.name].runs) > 1
        )
        and item.outcome is not Outcome.TAMPERED
    )
    elsewhere = () if here is history else (run for run in history.experiments if run.seed is not None)
    return Ledger(
        budget=None if history.rung else program.budget.runs,
        spent=sum(not run.is_foreign for run in history.experiments),
        incumbent=seen[head.name] if head else Candidate(),
        candidate=seen.get(attempt.name, Candidate()) if attempt else None,
        closed=closed,
        promotions=sum(here is history or bool(item.own) for item in here.promoted),
        guards=tuple(guard.key for guard in program.guards),
        first_guards=guard_means(measurements(program, first.experiments)) if first else (),
        first_seed=head_seed if known is None else known,
        screening=screening,
        drifts=program.objective.is_time,
        device=device,
        asks_device=len(devices.classes(program, history)) > 1 and devices.is_measured(program, history),
        seeds_elsewhere=frozenset(run.seed for run in elsewhere if run.seed is not None),
    )


def where(program: Program, history: History, attempt: Attempt) -> str:
    """The class of devices that an attempt is judged on: of those that it was run on, the one that tells its
    effect most precisely, by the width of the 95 % interval. One on which it crashed comes first."""
    known = devices.classes(program, history)
    if len(known) == 1:
        return known[0]
    found = []
    for place, device in enumerate(known):
        seen = ledger(program, history, attempt, device=device)
        runs, base = seen.candidate.runs if seen.candidate else (), seen.base
        if not all(run.measured for run in runs):
            return device
        if runs:
            met = compare(runs, base, noise_of(seen), own_residual(runs, base)) if base else None
            width = half_width(met.error, met.df) if met and met.df else math.inf
            found.append((width, -len(runs), place))
    return known[min(found)[-1]] if found else devices.home(program, history)


def on_device(program: Program, history: History, attempt: Attempt, device: str) -> Attempt | None:
    """An attempt with those of its runs alone that a class of devices made; None where it has none there."""
    here = devices.on(program, history, device)
    if here is history:
        return attempt
    return next((item for item in here.attempts if item.name == attempt.name), None)


def _candidates(program: Program, history: History) -> dict[str, Candidate]:
    """Every attempt as the judge sees it, by name; the first of them, until enough were measured twice, are
    the opening, which no run has chosen."""
    found: dict[str, Candidate] = {}
    opened, seeded = 0, first_seed(history) is not None and not history.rung
    for item in history.attempts:
        change = candidate(program, item)
        if seeded and opened < OPENING and item.own and not item.is_foreign:
            change = replace(change, chosen=False)
            opened += change.opens and item.outcome is not Outcome.TAMPERED
        found[item.name] = change
    return found


def first_seed(history: History) -> int | None:
    """The lowest seed that the campaign's first baseline ran with, as its runs may end in any order; None
    before there is one."""
    runs = [run for run in history.experiments if run.measures_baseline]
    seeds = [run.seed for run in runs if run.seed is not None and run.baseline == runs[0].baseline]
    return min(seeds, default=None)


def candidate(program: Program, attempt: Attempt) -> Candidate:
    """An attempt as the judge sees it."""
    own, base = (measurements(program, runs) for runs in (attempt.own, attempt.base))
    return Candidate(own, base, simplification=any(run.simplification for run in attempt.own))


def measurements(program: Program, experiments: Sequence[Experiment]) -> tuple[Run, ...]:
    """The runs that ended, but those that failed and were tried again; of one seed measured twice, in two
    clones, the first."""
    first: dict[int | str, Experiment] = {}
    replaced = tried_again(experiments)
    for item in experiments:
        if item.status.ended and item.name not in replaced:
            first.setdefault(item.name if item.seed is None else item.seed, item)
    return tuple(_run(program, item) for item in first.values())


def _run(program: Program, experiment: Experiment) -> Run:
    value = objective(experiment, program)
    guards = [number(experiment.metrics.get(str(guard))) for guard in program.guards]
    known = [guard for guard in guards if guard is not None]
    if value is None or len(known) < len(guards):
        return Run(experiment.seed, 0.0, crashed=True)
    oriented = tuple(g.orient(v) for g, v in zip(program.guards, known, strict=True))
    when = experiment.note.finished if experiment.note else None
    return Run(experiment.seed, program.objective.orient(value), oriented, when=when)


def step(
    program: Program,
    history: History,
    attempt: Attempt,
    head_seed: int | None = None,
    flaw: str = "",
    screening: bool = False,
) -> Action:
    """The judge's next step for one open attempt, none of whose runs is under way.

    Args:
        head_seed, screening: as in `ledger`.
        flaw: why its numbers may not count; empty if they may.
    """
    if flaw:
        words, count = f"Refused: {flaw}.", len(attempt.experiments)
        return Action(Kind.DISCARD, Verdict(Decision.DISCARD, words, runs=count, label=Label.TAMPERED))
    device = where(program, history, attempt)
    action = next_action(ledger(program, history, attempt, head_seed, screening, device))
    here = on_device(program, history, attempt, device)
    runs = here.experiments if here else ()
    replaced = tried_again(runs)
    ended = [run for run in runs if run.status.ended and run.name not in replaced]
    failed = next((run for run in ended if objective(run, program) is None), None)
    if action.kind is Kind.DISCARD and failed is not None:
        return replace(action, verdict=replace(action.verdict, reason=_failure(failed)))
    if action.kind is Kind.PROMOTE and program.holdout is not None:
        unseen = replace(program, objective=program.holdout)
        if overfitted(ledger(unseen, history, attempt, head_seed, device=device)):
            # No number: verdicts reach agents, and nothing measured on the holdout may.
            words = "Overfitted: clearly worse on the holdout."
            verdict = replace(action.verdict, decision=Decision.DISCARD, reason=words, label=Label.OVERFITTED)
            return Action(Kind.DISCARD, verdict)
    return action


def _failure(run: Experiment) -> str:
    why = run.note.reason if run.note else ""
    if run.status is Status.SUCCEEDED:
        why = "its metrics are not in this clone; to get them: dvc fetch"
    ended = "was cancelled" if run.status is Status.CANCELLED else run.status
    return f"A run {ended}{f': {why}' if why else ''}."
