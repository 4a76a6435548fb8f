"""Runs grouped into attempts: a change with all its seeds, what it came to, and the noise of one run."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from statistics import fmean

from ar.errors import NotFound, nearest
from ar.history.records import (
    Attempt,
    Decision,
    Experiment,
    History,
    Label,
    Outcome,
    Status,
    Verdict,
    own_class,
)
from ar.project.program import Metric, Program
from ar.project.values import number
from ar.text import quantity, signed

_AGE = operator.attrgetter("created", "name")


@dataclass(frozen=True)
class _Terms:
    """What an attempt of a scale rests on besides its runs.

    Args:
        merged: commits that the branch has merged.
        device: the campaign's own class of devices.
        sigmas: class of devices to the noise of one run there.
    """

    program: Program
    merged: Set[str]
    device: str
    sigmas: Mapping[str, float]


@dataclass(frozen=True)
class Grouping:
    """Runs grouped into attempts.

    Args:
        attempts: oldest first.
        sigma: the noise of one run at the base scale; None before there are replicates.
        terms: scale to what its attempts rest on besides their runs.
        made: scale and change to the attempt as its own runs make it.
    """

    attempts: tuple[Attempt, ...] = ()
    sigma: float | None = None
    terms: Mapping[str, _Terms] = field(default_factory=dict)
    made: Mapping[tuple[str, str], Attempt] = field(default_factory=dict)


def grouped(
    experiments: Iterable[Experiment], program: Program, merged: Set[str], last: Grouping | None = None
) -> Grouping:
    """The attempts that some runs are of.

    Args:
        merged: commits that the branch has merged.
        last: an earlier grouping, whose attempts are taken where they are as they were.
    """
    last = last or Grouping()
    scales: dict[str, dict[str, list[Experiment]]] = {"": {}}
    for run in sorted(experiments, key=_AGE):
        scales.setdefault(run.rung, {}).setdefault(run.candidate or run.rev, []).append(run)
    terms: dict[str, _Terms] = {}
    made: dict[tuple[str, str], Attempt] = {}
    for rung, groups in scales.items():
        # Every scale has its own noise, and its runs never count at another. So has every class of devices.
        own = own_class(run for runs in groups.values() for run in runs if run.status.ended)
        terms[rung] = _Terms(program, merged, own, _noise(groups.values(), program, own))
        known = last.made if terms[rung] == last.terms.get(rung) else {}
        for change, runs in groups.items():
            attempt = known.get((rung, change))
            if attempt is None or attempt.experiments != tuple(runs):
                attempt = _attempt(runs, terms[rung])
            made[rung, change] = attempt
    ordered = sorted(_with_fates(made.values()), key=_AGE)
    return Grouping(tuple(ordered), terms[""].sigmas.get(terms[""].device), terms, made)


def find(history: History, name: str) -> tuple[Attempt, Experiment]:
    """The experiment of that name (or unambiguous beginning of it, or revision), and its attempt.

    Raises:
        NotFound: none, or several.
    """
    known = (*history.at_every_scale, *history.pulled, *history.imported)
    pairs = [(attempt, run) for attempt in known for run in attempt.experiments]
    near = [pair for pair in pairs if pair[1].name == name] or [
        (attempt, run)
        for attempt, run in pairs
        if run.name.startswith(name) or (len(name) >= 6 and run.rev.startswith(name))
    ]
    if not near:
        mend = f"{nearest(name, [run.name for _, run in pairs])} See: ar show"
        raise NotFound(f"no experiment is called '{name}'", mend)
    if len({(attempt.candidate, attempt.rung) for attempt, _ in near}) > 1:
        names = ", ".join(run.name for _, run in near[:5])
        raise NotFound(f"'{name}' could be any of {names}", "give the whole name")
    return near[0]


def gain(history: History, attempt: Attempt, program: Program) -> float | None:
    """The attempt's mean minus that of its baseline, on one class of devices and oriented: below 0 is an
    improvement. None where one of them is not measured."""
    base, own = of_commit(history, attempt.baseline), history.devices[0]
    alike = [run for run in base.experiments if (run.device_class or own) == attempt.device] if base else []
    values = _measured(alike, program.objective)
    if not values or attempt.value is None:
        return None
    return program.objective.orient(attempt.value) - program.objective.orient(fmean(values))


def of_commit(history: History, commit: str) -> Attempt | None:
    """The attempt whose tree a commit of the branch has; where that is not known, the last to be promoted
    before anything was tried on that commit."""
    if found := history.of(history.identities.get(commit, "")):
        return found
    for item in history.attempts:
        if any(run.baseline == commit for run in item.base):
            return item
    if commit == history.head:
        return history.now
    begun = min((run.created for run in history.experiments if run.baseline == commit), default=0.0)
    promoted = (Outcome.PROMOTED, Outcome.REVERTED)
    merged = [item for item in history.attempts if item.outcome in promoted and item.created < begun]
    return merged[-1] if merged else None


def base_of(history: History, attempt: Attempt) -> Attempt:
    """The attempt at the base scale that a larger scale's belongs to; itself, where it is one.

    Raises:
        NotFound: it is not in this repository.
    """
    if not attempt.rung:
        return attempt
    base = history.of(attempt.candidate)
    if base is None:
        raise NotFound(f"{attempt.name} has no run at the base scale here", "see: ar show")
    return base


def objective(experiment: Experiment, program: Program) -> float | None:
    """The measured objective, in its own direction; None unless the run ended well and has it."""
    return next(iter(_measured([experiment], program.objective)), None)


def tried_again(runs: Sequence[Experiment]) -> set[str]:
    """Names of those that failed and were run again later with the same seed, oldest first as they come."""
    if len(runs) == 1:
        return set()  # so are most, and it is asked of each of thousands
    last = {run.seed: place for place, run in enumerate(runs)}
    return {
        run.name
        for place, run in enumerate(runs)
        if run.status.ended and run.status is not Status.SUCCEEDED and last[run.seed] > place
    }


def _measured(runs: Sequence[Experiment], metric: Metric) -> list[float]:
    """A metric of the runs that ended well and have it, in its own direction; of one seed the first."""
    found: dict[int | str, float] = {}
    for run in runs:
        value = number(run.metrics.get(str(metric))) if run.status is Status.SUCCEEDED else None
        if value is not None:
            found.setdefault(run.name if run.seed is None else run.seed, value)
    return list(found.values())


def origin(attempt: Attempt) -> str:
    """Whose word there is for an attempt of which nothing was measured here."""
    if attempt.outcome is Outcome.IMPORTED:
        return f"was imported from a record of {attempt.first.imported}'s"
    return "came from a remote"


def effect(attempt: Attempt, program: Program) -> str:
    """The verdict's effect with its error, in the metric's own direction, or what an audit found; empty
    without either."""
    found = attempt.verdict or attempt.audited
    if found is None or found.effect is None:
        return ""
    return signed(program.objective.orient(found.effect), found.standard_error)


def level(attempt: Attempt | None) -> str:
    """The attempt's value with its error; empty where it is not measured."""
    if attempt is None or attempt.value is None:
        return ""
    return quantity(attempt.value, attempt.standard_error)


def _noise(changes: Iterable[Sequence[Experiment]], program: Program, own: str) -> dict[str, float]:
    """Class of devices to the standard deviation of one run of one configuration there, pooled over all that
    have several.

    Args:
        changes: the runs of each.
    """
    pools: dict[str, tuple[float, int]] = {}
    for every in changes:
        if len(every) == 1 or not every[0].candidate:
            continue  # one run says nothing of noise
        devices: dict[str, list[Experiment]] = {}
        for run in every:
            devices.setdefault(run.device_class or own, []).append(run)
        for device, runs in devices.items():
            verdicts = [run.note.verdict for run in runs if run.note and run.note.verdict]
            is_tampered = any(verdict.label is Label.TAMPERED for verdict in verdicts)
            values = _measured(runs, program.objective)
            if values and not is_tampered:
                mean = fmean(values)
                squares, df = pools.get(device, (0.0, 0))
                squares += sum((value - mean) ** 2 for value in values)
                pools[device] = squares, df + len(values) - 1
    return {device: math.sqrt(squares / df) for device, (squares, df) in pools.items() if df}


def _attempt(runs: Sequence[Experiment], terms: _Terms) -> Attempt:
    program, sigmas = terms.program, terms.sigmas
    own = [run for run in runs if not run.measures_baseline]
    first = (own or runs)[0]
    verdict = next((run.note.verdict for run in own if run.note and run.note.verdict), None)
    is_tampered = verdict is not None and verdict.label is Label.TAMPERED
    device, alike = _most_alike(runs, program, terms.device)
    values = [] if is_tampered else _measured(alike, program.objective)
    guards = {str(guard): _measured(alike, guard) for guard in program.guards}
    return Attempt(
        name=first.name,
        title=first.title,
        agent=first.agent,
        baseline=first.baseline,
        candidate=first.candidate or first.rev,
        experiments=tuple(runs),
        value=fmean(values) if values else None,
        standard_error=sigmas[device] / math.sqrt(len(values)) if values and device in sigmas else None,
        guards={guard: fmean(measured) for guard, measured in guards.items() if measured},
        outcome=_outcome(runs, verdict, terms.merged),
        verdict=verdict,
        created=first.created,
        rung=first.rung,
        device=device,
    )


def _most_alike(
    runs: Sequence[Experiment], program: Program, own_device: str
) -> tuple[str, Sequence[Experiment]]:
    """The class of devices that most of the runs that ended well were measured on (of equally many the
    campaign's own), and the runs there."""
    classes: dict[str, list[Experiment]] = {own_device: []}
    for run in runs:
        classes.setdefault(run.device_class or own_device, []).append(run)
    return max(classes.items(), key=lambda item: len(_measured(item[1], program.objective)))


def _with_fates(attempts: Collection[Attempt]) -> list[Attempt]:
    """The attempts, with what became of winners that are in the branch otherwise than as they were."""
    promoted = [item for item in attempts if item.outcome is Outcome.PROMOTED]
    winners = [item for item in attempts if item.outcome is Outcome.WINNER]
    reverted = {run.reverts for item in promoted for run in item.experiments}
    stacked = {name for item in (*winners, *promoted) for name in item.stack}
    fates = {item.name: Outcome.REVERTED for item in promoted if item.name in reverted}
    for item in winners:
        if item.name in stacked:
            fates[item.name] = Outcome.STACKED
        elif item.verdict and item.verdict.label is Label.DOES_NOT_STACK:
            fates[item.name] = Outcome.LAPSED
    return [replace(item, outcome=fates[item.name]) if item.name in fates else item for item in attempts]


def _outcome(runs: Sequence[Experiment], verdict: Verdict | None, merged: Set[str]) -> Outcome:
    replaced = tried_again(runs)
    ends = [run.status for run in runs if not run.measures_baseline and run.name not in replaced]
    if all(run.is_imported for run in runs):
        return Outcome.IMPORTED
    if any(run.rev in merged for run in runs):
        return Outcome.PROMOTED
    if all(run.pulled for run in runs):
        return Outcome.PULLED
    if not ends:
        return Outcome.BASELINE
    if all(run.is_foreign or run.measures_baseline for run in runs):
        return Outcome.FOREIGN
    if verdict and verdict.label is Label.TAMPERED:
        return Outcome.TAMPERED
    if verdict and verdict.decision is Decision.PROMOTE:
        return Outcome.HOLDS if any(run.earlier for run in runs) else Outcome.WINNER
    if failed := [end for end in Status if end in ends and (end.failed or end is Status.CANCELLED)]:
        return Outcome(failed[0])  # the first of these in the enum's own order
    if verdict and verdict.decision is Decision.DISCARD:
        left = verdict.label in (Label.SUPERSEDED, Label.CONFLICTS)
        return Outcome.SUPERSEDED if left else Outcome.DISCARDED
    waiting = [end for end in (Status.RUNNING, Status.QUEUED) if end in ends]
    return Outcome(waiting[0]) if waiting else Outcome.OPEN
