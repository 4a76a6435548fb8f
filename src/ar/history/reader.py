"""Refs and notes to `History`: everything the repository knows, read straight from git.

DVC's own reader takes tens of milliseconds per experiment; this takes a few git processes for thousands.
A test holds the two to the same table.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from ar.errors import BadParams, nearest
from ar.git import refs
from ar.git.notes import Folders, together
from ar.git.objects import LATEST, Commit, MissingObject
from ar.git.repo import Repo
from ar.history import leases
from ar.history.attempts import Grouping, grouped
from ar.history.messages import FOREIGN_AGENT, Message
from ar.history.records import Elsewhere, Experiment, History, Note, Status
from ar.local import claims, joined, pulled
from ar.project import params
from ar.project.cache import Cache
from ar.project.identity import identity
from ar.project.pipeline_file import ARGS_FILE, Declared
from ar.project.program import CPU_SECONDS, PEAK_MEMORY
from ar.project.project import Project
from ar.project.values import Scalar, flat

_Values = dict[str, Scalar]  # by `file:dotted.key`
# Commit, status of one that waits, note, and whether it is foreign.
_Mark = tuple[str, Status | None, Mapping[str, object] | None, bool, Elsewhere | None]
# Status of one that waits, commit, baseline, as above.
_Place = tuple[Status | None, str, str, bool, Elsewhere | None]


@dataclass(frozen=True)
class _Snapshot:
    """What one reading found: what a commit holds never changes, and most notes are as they were.

    Args:
        files: the metrics and the parameters files that were read, and what of `ar`'s own figures.
        notes: all of them, as they lie in git.
        marked: name to experiment, with all that may change about it.
        experiments: what `history` is made of, in the order of the refs.
    """

    files: tuple[tuple[str, ...], ...] = ()
    notes: Folders = field(default_factory=dict)
    marked: Mapping[str, tuple[_Mark, Experiment]] = field(default_factory=dict)
    experiments: tuple[Experiment, ...] = ()
    grouping: Grouping | None = None
    history: History | None = None


@dataclass
class Memory:
    """What the last reading found. A reading replaces it whole, so that threads may share it."""

    last: _Snapshot = field(default_factory=_Snapshot)


def read(project: Project, memory: Memory | None = None) -> History:
    """The whole history, oldest first.

    Args:
        memory: of the last reading, so that only what is new since then is read.
    """
    memory = memory or Memory()
    last, head = memory.last, project.repo.head()
    now = _experiments(project, Declared.read(project.repo, head), last)
    old = last.history if last.history and last.history.head == head else None
    if old and all(a is b for a, b in zip_longest(now.experiments, last.experiments)):
        return old
    known = last.history.identities if last.history else {}
    imported = [run for run in now.experiments if run.is_imported]
    own = [run for run in now.experiments if not run.pulled and not run.is_imported]
    identities = _identities(project, {head, *(run.baseline for run in own)}, known)
    merged = project.repo.merged_parents(head)
    grouping = grouped(_by_identity(own, identities), project.program, merged, last.grouping)
    brought = [run for run in now.experiments if run.pulled and not run.is_imported]
    others = grouped(brought, project.program, merged).attempts
    told = [each for run in imported for each in grouped([run], project.program, merged).attempts]
    history = History(
        head=head,
        incumbent=identities[head],
        attempts=tuple(attempt for attempt in grouping.attempts if not attempt.rung),
        at_rungs=tuple(attempt for attempt in grouping.attempts if attempt.rung),
        sigma=grouping.sigma,
        identities=identities,
        pulled=others,
        imported=tuple(told),
    )
    memory.last = replace(now, history=history, grouping=grouping)
    return history


def _identities(project: Project, commits: set[str], known: Mapping[str, str]) -> dict[str, str]:
    """Identity of each commit's tree; a commit that is not in this clone has none."""
    found = {}
    for commit in sorted(commits):
        with contextlib.suppress(MissingObject):
            found[commit] = known.get(commit) or identity(project, commit)
    return found


def _by_identity(runs: Sequence[Experiment], identities: Mapping[str, str]) -> list[Experiment]:
    """The runs, those of a baseline under the identity that its tree has by what `program.md` says today."""
    told = {
        run.candidate: identities[run.baseline]
        for run in runs
        if run.measures_baseline and not run.rung and run.candidate and run.baseline in identities
    }
    return [
        run
        if told.get(run.candidate, run.candidate) == run.candidate or (run.rung and run.measures_baseline)
        else replace(run, candidate=told[run.candidate])
        for run in runs
    ]


def read_values(repo: Repo, revs: Sequence[str], files: Iterable[str]) -> list[_Values]:
    """Flat `file:key` values of parameters or metrics files at many revisions.

    A file that is missing or broken at a revision contributes nothing: old experiments must stay readable.
    """
    return [_flat_values(contents) for contents in _contents(repo, revs, files)]


def metric_values(repo: Repo, revs: Sequence[str], files: Iterable[str]) -> list[_Values]:
    """Metrics from the commits; what a commit does not keep itself, from DVC's cache."""
    values, cache = [], None
    for rev, contents in zip(revs, _contents(repo, revs, files), strict=True):
        metrics = _flat_values(contents)
        missing = [file for file, content in contents.items() if content is None]
        if missing and not _crashed(metrics):
            cache, declared = cache or Cache.of(repo.root), Declared.read(repo, rev)
            metrics |= _flat_values({file: cache.output(declared, file) for file in missing})
        values.append(metrics)
    return values


def read_output(repo: Repo, rev: str, path: str) -> bytes | None:
    """An output of a run, from its commit or from DVC's cache; None where neither has it."""
    content = repo.read(rev, path)
    return content if content is not None else Cache.of(repo.root).output(Declared.read(repo, rev), path)


def changed(project: Project, old: str, new: str, stat: bool = False) -> str:
    """The diff that matters between two commits: without outputs, `dvc.lock` and what DVC queues with it, and
    without the seed."""
    declared = Declared.read(project.repo, new)
    written = sorted(declared.outputs | {metric.file for metric in project.program.written})
    tree = _with_seed_of(project, new, old)
    return project.repo.diff(old, tree, exclude=[*declared.locks, ARGS_FILE, *written], stat=stat)


def _with_seed_of(project: Project, rev: str, other: str) -> str:
    """The tree of a commit with another one's seed; as it is where either has none."""
    seed, tree = project.program.seed, project.repo.tree(rev)
    if seed is None:
        return tree
    contents = [project.repo.read(one, seed.file) for one in (rev, other)]
    with contextlib.suppress(BadParams):
        own, wanted = (flat(content or b"", seed.file).get(seed.key) for content in contents)
        if contents[0] is not None and own is not None and wanted is not None and own != wanted:
            changed = params.update(contents[0], seed.file, {seed.key: wanted})
            return project.repo.write_tree(tree, {seed.file: changed})
    return tree


def _contents(repo: Repo, revs: Sequence[str], files: Iterable[str]) -> list[dict[str, bytes | None]]:
    """Each file's content at each revision."""
    names = list(dict.fromkeys(files))
    contents = iter(repo.read_many([(rev, name) for rev in revs for name in names]))
    return [dict(zip(names, contents, strict=False)) for _ in revs]


def _flat_values(contents: Mapping[str, bytes | None]) -> _Values:
    values: _Values = {}
    for name, content in contents.items():
        with contextlib.suppress(BadParams):
            values.update({f"{name}:{key}": value for key, value in flat(content or b"{}", name).items()})
    return values


def _crashed(metrics: Mapping[str, Scalar]) -> bool:
    return any(key.endswith(":crashed") for key in metrics)


def baseline_params(project: Project) -> _Values:
    """Parameters at the head, flat. Unlike old experiments', they must parse.

    Of the keys under `search:` some may be missing: a change has yet to make them.

    Raises:
        BadParams: a parameters file is broken, or lacks the seed that `program.md` names.
    """
    repo, program = project.repo, project.program
    [contents] = _contents(repo, [repo.head()], sorted(program.param_files))
    read = {name: flat(content, name) for name, content in contents.items() if content is not None}
    if seed := program.seed:
        held = read.get(seed.file, {})
        if seed.key not in held:
            what = f"{program.file} names {seed}, which {seed.file} does not hold at HEAD"
            raise BadParams(what, nearest(seed.key, held))
    return {f"{name}:{key}": value for name, values in read.items() for key, value in values.items()}


def head_seed(project: Project) -> int | None:
    """The seed that the head's parameters hold; None where the programme has none."""
    seed = project.program.seed
    value = baseline_params(project)[seed.flat] if seed else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _experiments(project: Project, declared: Declared, last: _Snapshot) -> _Snapshot:
    """All experiments, of which only those are read that are not as they were."""
    repo, program = project.repo, project.program
    metric_files = (*declared.metrics, *(metric.file for metric in program.written))
    param_files = (*declared.params, *sorted(program.param_files))
    ours = tuple(str(guard) for guard in program.guards if guard.is_ours)
    files = metric_files, param_files, ours
    old = last.marked if last.files == files else {}
    folders, places = repo.note_folders(last.notes), _places(repo)
    notes = together(folders)
    marks = {
        name: (rev, status, notes.get(rev), is_pulled, elsewhere)
        for name, (status, rev, _, is_pulled, elsewhere) in places.items()
    }
    fresh = [name for name, mark in marks.items() if name not in old or old[name][0] != mark]
    revs = [places[name][1] for name in fresh]
    measured = metric_values(repo, revs, metric_files)
    set_to = read_values(repo, revs, param_files)
    marked = {name: old[name] for name in marks if name in old}
    for name, metrics, values in zip(fresh, measured, set_to, strict=True):
        with contextlib.suppress(MissingObject):  # a ref to anything but a commit
            commit, baseline = repo.commit(places[name][1]), places[name][2]
            if baseline or commit.parents:
                made = _experiment(commit, name, baseline or commit.parents[0], marks[name], metrics, values)
                made = replace(made, metrics=made.metrics | _own_figures(made, ours))
                marked[name] = marks[name], made
    # A result whose metrics DVC keeps elsewhere may be fetched yet.
    kept = {
        name: it
        for name, it in marked.items()
        if it[1].metrics.keys() - ours or it[0][1] or it[1].is_imported
    }
    return _Snapshot(files, folders, kept, tuple(marked[name][1] for name in places if name in marked))


def _places(repo: Repo) -> dict[str, _Place]:
    """Name to status (None: it ended), commit and, where the ref says it, baseline of every experiment."""
    # Refs come in the order in which experiments move on: one that does so meanwhile is seen at least once.
    # What waits here may be handed over to a remote before it is taken.
    waiting = repo.refs(refs.QUEUE)
    places = dict(places_elsewhere(repo))
    found = waiting | repo.refs(refs.QUEUE, refs.RUNNING, refs.EXPS)
    others = pulled.foreign(repo, found)  # after the refs: a ref is marked before it appears
    for ref, rev in found.items():
        name = refs.name_of(ref)
        if ref.startswith(f"{refs.QUEUE}/"):
            places[name] = Status.QUEUED, rev, "", False, None
        elif ref.startswith(f"{refs.RUNNING}/"):
            status = Status.QUEUED if claims.is_waiting(repo, name) else Status.RUNNING
            places[name] = status, rev, "", False, None
        elif experiment := refs.ExperimentRef.parse(ref):
            known = places.get(name)
            if known is None or known[4] or ref not in others:
                places[name] = None, rev, experiment.baseline, ref in others, None
    return places


def places_elsewhere(repo: Repo) -> Iterator[tuple[str, _Place]]:
    """What waits or runs on remotes, as they were last looked at: foreign where nobody here takes part in the
    remote's campaign."""
    ours = joined.read(repo)
    queued = repo.refs(refs.at_remote("*", refs.QUEUE))
    for ref, rev in queued.items():
        if refs.is_name(name := refs.name_of(ref)):
            remote = refs.remote_in(ref)
            yield name, (Status.QUEUED, rev, "", remote not in ours, Elsewhere(remote))
    for ref, rev in repo.refs(refs.at_remote("*", refs.RUNNING)).items():
        if (held := leases.read(repo, refs.name_of(ref), rev)) is not None:
            remote, lease = refs.remote_in(ref), held.lease
            status = Status.QUEUED if lease.is_broken else Status.RUNNING
            where = Elsewhere(remote)
            if status is Status.RUNNING:
                where = Elsewhere(remote, lease.worker, lease.host, lease.device, lease.since)
            yield held.name, (status, held.queued, "", remote not in ours, where)


def _experiment(
    commit: Commit, name: str, baseline: str, mark: _Mark, metrics: _Values, params: _Values
) -> Experiment:
    _, status, raw, is_pulled, elsewhere = mark
    message, note = Message.parse(commit.message), _note(raw)
    end = note.status if note else Status.CRASHED if _crashed(metrics) else Status.SUCCEEDED
    if message.imported:
        end, metrics = Status.IMPORTED, {}  # whatever its files and its note say
        note = replace(note, status=end, verdict=None) if note else None
    said = {spec.name: getattr(message, spec.name) for spec in dataclasses.fields(Message)}
    return Experiment(
        **said | {"agent": message.agent or FOREIGN_AGENT},
        name=name,
        rev=commit.rev,
        baseline=baseline,
        status=status or end,
        created=commit.time,
        metrics={} if status else metrics,  # the tree of a waiting one still holds the baseline's
        params=params,
        note=note,
        pulled=is_pulled,
        elsewhere=elsewhere,
    )


def _own_figures(run: Experiment, names: Sequence[str]) -> _Values:
    """What `ar` measured of a run. A tenth of a second is the least that counts: the start of an interpreter
    is no cost of a change."""
    note = None if run.is_imported else run.note
    figures = {CPU_SECONDS: note.cpu_seconds, PEAK_MEMORY: note.peak_memory_mb} if note else {}
    known = {name: figures.get(name) for name in names}
    return {name: round(size, 1) for name, size in known.items() if size is not None}


def _note(data: Mapping[str, object] | None) -> Note | None:
    with contextlib.suppress(TypeError, ValueError, KeyError, AttributeError):
        note = Note.from_json(data or {})
        is_date = note.finished is not None and 0 <= note.finished <= LATEST
        return note if is_date else replace(note, finished=None)
    return None  # nobody wrote one, or something else did: the run still counts by its metrics
