"""Refs and notes to `History`: everything the repository knows, read straight from git.

DVC's own reader takes tens of milliseconds per experiment; this takes a few git processes for thousands.
A test holds the two to the same table.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from statistics import fmean

from ar.errors import BadParams, NotFound, nearest
from ar.git import refs
from ar.git.repo import Commit, Repo
from ar.history.messages import FOREIGN_AGENT, Message
from ar.history.records import (
    Attempt,
    Decision,
    Experiment,
    History,
    Label,
    Note,
    Outcome,
    Status,
    Verdict,
)
from ar.local import claims
from ar.project.cache import Cache
from ar.project.identity import identity
from ar.project.pipeline_file import Declared
from ar.project.program import FILE as PROGRAM_FILE
from ar.project.program import ParamKey, Program
from ar.project.project import Project
from ar.project.values import Scalar, flat, number
from ar.text import signed

_Mark = tuple[str, Status | None, Mapping[str, object] | None]  # commit, status of one that waits, note


class Known:
    """What was read before: what a commit holds never changes, and most notes are as they were."""

    def __init__(self) -> None:
        self.files: tuple[object, ...] = ()
        self.experiments: dict[str, tuple[_Mark, Experiment]] = {}
        self.incumbent = "", ""
        self.history: History | None = None
        self.order: list[Experiment] = []


def read(project: Project, known: Known | None = None) -> History:
    """The whole history, oldest first.

    Args:
        known: from the last time, so that only what is new since then is read.
    """
    known = known or Known()
    head = project.repo.head()
    if known.incumbent[0] != head:
        known.incumbent = head, identity(project, head)
    declared = Declared.read(project.repo, head)
    experiments = _experiments(project, declared, known)
    old = known.history
    if old and old.head == head and all(a is b for a, b in zip_longest(experiments, known.order)):
        return old
    merged = project.repo.merged_parents(head)
    scales: dict[str, list[Experiment]] = {"": []}
    for experiment in sorted(experiments, key=lambda item: (item.created, item.name)):
        scales.setdefault(experiment.rung, []).append(experiment)
    # Every scale has its own noise, and its runs never count at another.
    sigmas = {rung: _noise(runs, project.program) for rung, runs in scales.items()}
    groups: dict[tuple[str, str], list[Experiment]] = {}
    for experiment in (run for runs in scales.values() for run in runs):
        groups.setdefault((experiment.rung, experiment.candidate or experiment.rev), []).append(experiment)
    attempts = _with_fates(
        [_attempt(runs, project.program, merged, sigmas[rung]) for (rung, _), runs in groups.items()]
    )
    attempts.sort(key=lambda attempt: (attempt.created, attempt.name))
    history = History(
        head=head,
        incumbent=known.incumbent[1],
        attempts=tuple(attempt for attempt in attempts if not attempt.rung),
        climbs=tuple(attempt for attempt in attempts if attempt.rung),
        sigma=sigmas[""],
    )
    known.history, known.order = history, experiments
    return history


def find(history: History, name: str) -> tuple[Attempt, Experiment]:
    """The experiment of that name (or unambiguous beginning of it, or revision), and its attempt.

    Raises:
        NotFound: none, or several.
    """
    known = (*history.attempts, *history.climbs)
    pairs = [(attempt, item) for attempt in known for item in attempt.experiments]
    exact = [pair for pair in pairs if pair[1].name == name]
    near = exact or [
        pair
        for pair in pairs
        if pair[1].name.startswith(name) or (len(name) >= 6 and pair[1].rev.startswith(name))
    ]
    if not near:
        raise NotFound(
            f"no experiment is called '{name}'",
            nearest(name, [item.name for _, item in pairs]) + " See: ar show",
        )
    if len({(attempt.candidate, attempt.rung) for attempt, _ in near}) > 1:
        raise NotFound(
            f"'{name}' could be any of {', '.join(item.name for _, item in near[:5])}", "give the whole name"
        )
    return near[0]


def base_of(history: History, attempt: Attempt) -> Attempt:
    """The attempt at the base scale that a larger scale's belongs to; itself, where it is one.

    Raises:
        NotFound: it is not in this repository.
    """
    if not attempt.rung:
        return attempt
    found = next((item for item in history.attempts if item.candidate == attempt.candidate), None)
    if found is None:
        raise NotFound(f"{attempt.name} has no run at the base scale here", "see: ar show")
    return found


def read_values(repo: Repo, revs: Sequence[str], files: Iterable[str]) -> list[dict[str, Scalar]]:
    """Flat `file:key` values of parameters or metrics files at many revisions.

    A file that is missing or broken at a revision contributes nothing: old experiments must stay readable.
    """
    return [_flat_values(contents) for contents in _contents(repo, revs, files)]


def metric_values(repo: Repo, revs: Sequence[str], files: Iterable[str]) -> list[dict[str, Scalar]]:
    """Metrics from the commits; what a commit does not keep itself, from DVC's cache."""
    values, cache = [], None
    for rev, contents in zip(revs, _contents(repo, revs, files), strict=True):
        found = _flat_values(contents)
        missing = [file for file, content in contents.items() if content is None]
        if missing and not _crashed(found):
            cache, declared = cache or Cache.of(repo.root), Declared.read(repo, rev)
            found |= _flat_values({file: cache.read(declared.md5(file)) for file in missing})
        values.append(found)
    return values


def read_output(repo: Repo, rev: str, path: str) -> bytes | None:
    """An output of a run, from its commit or from DVC's cache; None where neither has it."""
    content = repo.read(rev, path)
    md5 = "" if content is not None else Declared.read(repo, rev).md5(path)
    return Cache.of(repo.root).read(md5) if md5 else content


def _contents(repo: Repo, revs: Sequence[str], files: Iterable[str]) -> list[dict[str, bytes | None]]:
    """Each file's content at each revision."""
    names = list(dict.fromkeys(files))
    contents = iter(repo.read_many([(rev, name) for rev in revs for name in names]))
    return [dict(zip(names, contents, strict=False)) for _ in revs]


def _flat_values(contents: Mapping[str, bytes | None]) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {}
    for name, content in contents.items():
        with contextlib.suppress(BadParams):
            values.update({f"{name}:{key}": value for key, value in flat(content or b"{}", name).items()})
    return values


def _crashed(metrics: Mapping[str, Scalar]) -> bool:
    return any(key.endswith(":crashed") for key in metrics)


def baseline_params(project: Project) -> dict[str, Scalar]:
    """Parameters at the head, flat. Unlike old experiments', they must parse.

    Raises:
        BadParams: a parameters file is broken, or lacks a key that `program.md` names.
    """
    head = project.repo.head()
    files = sorted(project.program.param_files)
    values: dict[str, Scalar] = {}
    for name, content in zip(files, project.repo.read_many([(head, name) for name in files]), strict=True):
        if content is not None:
            values.update({f"{name}:{key}": value for key, value in flat(content, name).items()})
    named: list[ParamKey] = [
        *project.program.search,
        *([project.program.seed] if project.program.seed else []),
    ]
    for key in named:
        if key.flat not in values:
            keys = [name.partition(":")[2] for name in values if name.startswith(f"{key.file}:")]
            raise BadParams(
                f"{PROGRAM_FILE} names {key}, which {key.file} does not hold at HEAD", nearest(key.key, keys)
            )
    return values


# -- experiments ------------------------------------------------------------------------------------------


def _experiments(project: Project, declared: Declared, known: Known) -> list[Experiment]:
    metric_files = (*declared.metrics, *(metric.file for metric in project.program.metrics))
    param_files = (*declared.params, *project.program.param_files)
    old = known.experiments if known.files == (metric_files, param_files) else {}
    notes = project.repo.notes()
    places = _places(project.repo)
    marks = {name: (rev, status, notes.get(rev)) for name, (status, rev, _) in places.items()}
    fresh = [name for name, mark in marks.items() if name not in old or old[name][0] != mark]
    revs = [places[name][1] for name in fresh]
    measured = metric_values(project.repo, revs, metric_files)
    set_to = read_values(project.repo, revs, param_files)
    found = {name: old[name] for name in marks if name in old}
    for name, metrics, values in zip(fresh, measured, set_to, strict=True):
        commit, baseline = project.repo.commit(places[name][1]), places[name][2]
        if baseline or commit.parents:
            made = _experiment(commit, name, baseline or commit.parents[0], marks[name], metrics, values)
            found[name] = marks[name], made
    if fresh or found.keys() != old.keys():
        # A result whose metrics DVC keeps elsewhere may be fetched yet.
        known.experiments = {name: it for name, it in found.items() if it[1].metrics or it[0][1]}
        known.files = metric_files, param_files
    return [found[name][1] for name in places if name in found]


def _places(repo: Repo) -> dict[str, tuple[Status | None, str, str]]:
    """Name to status (None: it ended), commit and, where the ref says it, baseline of every experiment."""
    found: dict[str, tuple[Status | None, str, str]] = {}
    # Refs come in the order in which experiments move on: one that does so meanwhile is seen twice, not
    # never.
    for ref, rev in repo.refs(refs.QUEUE, refs.RUNNING, refs.EXPS).items():
        name = refs.name_of(ref)
        if ref.startswith(f"{refs.QUEUE}/"):
            found[name] = Status.QUEUED, rev, ""
        elif ref.startswith(f"{refs.RUNNING}/"):
            found[name] = Status.QUEUED if claims.is_waiting(repo, name) else Status.RUNNING, rev, ""
        elif experiment := refs.ExperimentRef.parse(ref):
            found[name] = None, rev, experiment.baseline
    return found


def _experiment(
    commit: Commit,
    name: str,
    baseline: str,
    mark: _Mark,
    metrics: dict[str, Scalar],
    values: dict[str, Scalar],
) -> Experiment:
    _, status, raw = mark
    message, note = Message.parse(commit.message), _note(raw)
    end = note.status if note else Status.CRASHED if _crashed(metrics) else Status.SUCCEEDED
    said = {spec.name: getattr(message, spec.name) for spec in dataclasses.fields(Message)}
    return Experiment(
        **said | {"agent": message.agent or FOREIGN_AGENT},
        name=name,
        rev=commit.rev,
        baseline=baseline,
        status=status or end,
        created=commit.time,
        metrics={} if status else metrics,  # the tree of a waiting one still holds the baseline's
        params=values,
        note=note,
    )


def _note(data: Mapping[str, object] | None) -> Note | None:
    if not data:
        return None
    try:
        return Note.from_json(data)
    except (TypeError, ValueError, KeyError, AttributeError):
        return None  # written by something else: the run still counts by its metrics


# -- attempts ---------------------------------------------------------------------------------------------


def objective(experiment: Experiment, program: Program) -> float | None:
    """The measured objective, in its own direction; None unless the run ended well and has it."""
    if experiment.status is not Status.SUCCEEDED:
        return None
    return number(experiment.metrics.get(str(program.objective)))


def effect(attempt: Attempt, program: Program) -> str:
    """The verdict's effect with its error, in the metric's own direction; empty without one."""
    verdict = attempt.verdict
    if verdict is None or verdict.effect is None:
        return ""
    return signed(program.objective.orient(verdict.effect), verdict.standard_error)


def _noise(experiments: Iterable[Experiment], program: Program) -> float | None:
    groups: dict[str, list[float]] = {}
    experiments = list(experiments)
    tampered = {
        run.candidate
        for run in experiments
        if run.note and run.note.verdict and run.note.verdict.label is Label.TAMPERED
    }
    for experiment in experiments:
        value = objective(experiment, program)
        if value is not None and experiment.candidate and experiment.candidate not in tampered:
            groups.setdefault(experiment.candidate, []).append(value)
    squares, df = 0.0, 0
    for values in groups.values():
        mean = fmean(values)
        squares += sum((value - mean) ** 2 for value in values)
        df += len(values) - 1
    return math.sqrt(squares / df) if df else None


def _attempt(runs: list[Experiment], program: Program, merged: set[str], sigma: float | None) -> Attempt:
    own = [run for run in runs if not run.measures_baseline]
    first = (own or runs)[0]
    verdict = next((run.note.verdict for run in own if run.note and run.note.verdict), None)
    values = [value for run in runs if (value := objective(run, program)) is not None]
    if verdict and verdict.label is Label.TAMPERED:
        values = []
    guards = {}
    for guard in program.guards:
        measured = [number(run.metrics.get(str(guard))) for run in runs if run.status is Status.SUCCEEDED]
        known = [value for value in measured if value is not None]
        if known:
            guards[str(guard)] = fmean(known)
    return Attempt(
        name=first.name,
        title=first.title,
        agent=first.agent,
        baseline=first.baseline,
        candidate=first.candidate or first.rev,
        experiments=tuple(runs),
        value=fmean(values) if values else None,
        standard_error=sigma / math.sqrt(len(values)) if values and sigma is not None else None,
        guards=guards,
        outcome=_outcome(own, runs, verdict, merged),
        verdict=verdict,
        created=first.created,
        rung=first.rung,
    )


def _with_fates(attempts: list[Attempt]) -> list[Attempt]:
    """The attempts, with what became of winners that are in the branch otherwise than as they were."""
    reverted = {
        run.reverts for item in attempts if item.outcome is Outcome.PROMOTED for run in item.experiments
    }
    won = [item for item in attempts if item.outcome in (Outcome.WINNER, Outcome.PROMOTED)]
    stacked = {name for item in won for name in item.stack}
    return [
        replace(item, outcome=Outcome.STACKED)
        if item.outcome is Outcome.WINNER and item.name in stacked
        else replace(item, outcome=Outcome.LAPSED)
        if item.outcome is Outcome.WINNER and item.verdict and item.verdict.label is Label.DOES_NOT_STACK
        else replace(item, outcome=Outcome.REVERTED)
        if item.outcome is Outcome.PROMOTED and item.name in reverted
        else item
        for item in attempts
    ]


def _outcome(
    own: list[Experiment], runs: list[Experiment], verdict: Verdict | None, merged: set[str]
) -> Outcome:
    if any(run.rev in merged for run in runs):
        return Outcome.PROMOTED
    if not own:
        return Outcome.BASELINE
    if verdict and verdict.label is Label.TAMPERED:
        return Outcome.TAMPERED
    decision = verdict.decision if verdict else Decision.OPEN
    if decision is Decision.PROMOTE:
        return Outcome.WINNER
    ends = [run.status for run in own]
    for status in (Status.CRASHED, Status.TIMED_OUT, Status.CANCELLED):
        if status in ends:
            return Outcome(status)
    if decision is Decision.DISCARD:
        return Outcome.DISCARDED
    for status in (Status.RUNNING, Status.QUEUED):
        if status in ends:
            return Outcome(status)
    return Outcome.OPEN
