"""The rows of a record as attempts: refs with the change and the hypothesis, and what the tool says of them.

A change is told from the commit that the row names (its tree against its parent's), from the parameters that
it set, or from the program that it wrote, on the branch as it is. It is held to what a proposal is held to;
of a commit, what lies outside the scope is left out. Where none of them tells it, the row is left out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ar.changes import own
from ar.changes.proposal import Change, prepare
from ar.errors import ArError, BadProposal
from ar.git import refs
from ar.git.references import ZERO
from ar.history.ideas import Proposal
from ar.history.messages import TITLE_LIMIT, Message, headed
from ar.history.records import Claim, Claimed, History, Note, Status
from ar.importing.rows import Fault, Log, Row
from ar.local import locks
from ar.project.identity import identity, is_edited
from ar.project.project import Project
from ar.project.values import Scalar
from ar.redaction import redact
from ar.text import listed, one_line, plain

_BATCH = 500  # refs of one transaction


@dataclass(frozen=True)
class Added:
    """An attempt that a record brings.

    Args:
        outside: how many of the files that its commit changed lie outside the scope, and were left out.
    """

    name: str
    title: str
    place: str
    claim: Claim
    outside: int = 0


@dataclass(frozen=True)
class Brought:
    """What came of a record.

    Args:
        known: how many of its attempts were here already.
        left_out: those whose change cannot be told or may not be made, and why.
    """

    added: tuple[Added, ...]
    known: int
    left_out: tuple[Fault, ...]

    @property
    def statuses(self) -> Counter[Claimed]:
        return Counter(item.claim.status for item in self.added)


@dataclass(frozen=True)
class _Made:
    added: Added
    change: Change
    when: float


@dataclass(frozen=True)
class _Source:
    """A record, and where its changes belong.

    Args:
        file: its name, for people.
        program_file: the file that its whole programs are; empty where that cannot be told.
        at: commit to a history that begins there.
    """

    project: Project
    log: Log
    file: str
    program_file: str
    at: dict[str, History] = field(default_factory=dict)

    def history(self, commit: str) -> History:
        if commit not in self.at:
            self.at[commit] = History(head=commit, incumbent=identity(self.project, commit))
        return self.at[commit]


def bring(project: Project, log: Log, file: str, dry_run: bool = False) -> Brought:
    """Make attempts of the rows that are not here yet.

    Args:
        file: the record's name, for people.
    """
    made: list[_Made] = []
    left_out: list[Fault] = []
    known = 0
    with locks.hold(project.repo, "import"):
        taken = {refs.name_of(ref) for ref in project.repo.refs(refs.EXPS)}
        source = _Source(project, log, file, _program_file(project, log.rows))
        for row in log.rows:
            name = refs.imported_name(str(log.tool), row.key)
            if name in taken:
                known += 1
                continue
            try:
                made.append(_make(source, row, name))
                taken.add(name)
            except ArError as error:
                left_out.append(Fault(row.place, redact(one_line(error.message))))
        if not dry_run:
            _record(project, log, made)
    return Brought(tuple(item.added for item in made), known, tuple(left_out))


def _make(source: _Source, row: Row, name: str) -> _Made:
    """A row's change, checked.

    Raises:
        ArError: it cannot be told, or may not be made.
    """
    repo, commit = source.project.repo, ""
    baseline, tree, outside, params, when, title = repo.head(), "", 0, {}, row.when, row.title
    if row.is_start:
        raise BadProposal("it measures what the tool began at, and tries nothing")
    if row.unknown:
        names = ", ".join(map(one_line, row.unknown[:5]))
        raise BadProposal(f"it set what is none of the project's parameters: {names}")
    if row.commit:
        commit, baseline, tree, outside = _of_commit(source.project, row.commit)
        found = repo.commit(commit)
        title, when = title or found.message.partition("\n")[0], found.time
    elif row.program:
        if not source.program_file:
            raise BadProposal("which file of the project its program is cannot be told")
        tree = repo.write_tree(baseline, {source.program_file: row.program.encode(errors="replace")})
    elif row.params:
        params = dict(row.params)
    else:
        raise BadProposal("its change is unknown: it names no commit of its own, and no parameter")
    proposal = _proposal(row, str(source.log.tool), title, tree, params)
    change = prepare(source.project, proposal, source.history(baseline))
    claim = Claim(
        status=row.status,
        metric=redact(one_line(row.metric))[:80],
        value=row.value,
        before=row.before,
        guards=dict(row.guards),
        commit=commit,
        source=redact(one_line(f"{source.file}, {row.place}"))[:200],
    )
    date = min(max(when or time.time(), 0.0), time.time())
    return _Made(Added(name, proposal.title, row.place, claim, outside), change, date)


def _proposal(row: Row, tool: str, title: str, tree: str, params: dict[str, Scalar]) -> Proposal:
    """What a row tried, in its own words; a title that is too long goes on in the hypothesis."""
    settings = [f"{key} = {one_line(str(value))}" for key, value in params.items()]
    title = one_line(redact(title)) or listed(settings, TITLE_LIMIT) or tool
    why = one_line(row.why) if "\n" not in row.why else plain(row.why).strip()
    title, why = headed(title, why)
    return Proposal(title=title, hypothesis=why, agent=tool, tree=tree, params=params)


def _of_commit(project: Project, said: str) -> tuple[str, str, str, int]:
    """A commit, its parent, the parent's tree with what the commit changed inside the scope, and how many
    files it changed outside of it.

    Raises:
        BadProposal: it is not here, has no parent, or changed nothing in the scope.
    """
    repo = project.repo
    rev = repo.resolve(said.lower())
    if rev is None or not rev.startswith(said.lower()):
        raise BadProposal(f"commit {said[:12]} is not in this clone")
    commit = repo.commit(rev)
    if not commit.parents:
        raise BadProposal(f"commit {said[:12]} has no parent")
    parent = commit.parents[0]
    tree, left_out = own.from_commit(project, rev, parent)
    if tree == repo.tree(parent):
        raise BadProposal(f"commit {said[:12]} changes nothing inside the scope")
    return rev, parent, tree, len(left_out)


def _program_file(project: Project, rows: Iterable[Row]) -> str:
    """The file of the branch that a tool's whole programs are: the only one in Python that may be edited, or
    the only one that is one of the programs; empty where none can be told."""
    programs = {row.program.strip() for row in rows if row.program}
    if not programs:
        return ""
    repo, head = project.repo, project.repo.head()
    paths = [
        path for path in repo.files(head) if path.endswith(".py") and project.program.scope.may_edit(path)
    ]
    if len(paths) > 1:
        contents = repo.read_many([(head, path) for path in paths])
        same = [(content or b"").decode(errors="replace").strip() in programs for content in contents]
        paths = [path for path, is_one in zip(paths, same, strict=True) if is_one]
    return paths[0] if len(paths) == 1 else ""


def _record(project: Project, log: Log, made: Sequence[_Made]) -> None:
    """Write commits and notes, then let the refs appear: whoever sees one sees that nobody measured it."""
    repo, program = project.repo, project.program
    for start in range(0, len(made), _BATCH):
        changes: list[tuple[str, str, str | None]] = []
        for item in made[start : start + _BATCH]:
            change, claim = item.change, item.added.claim
            # As a crash has it: DVC, too, shows no metric of an experiment that none was measured of.
            files = {metric.file for metric in program.written} & repo.files(change.tree).keys()
            mark = {program.objective.file: b'{"imported": 1}\n'}
            tree = repo.write_tree(change.tree, {**dict.fromkeys(files), **mark})
            edits = is_edited(project, change.baseline, change.tree)
            said = Message.of(change.proposal, change.candidate, None, edits=edits)
            message = replace(said, imported=str(log.tool))
            rev = repo.commit_tree(tree, [change.baseline], str(message), item.when)
            note = Note(Status.IMPORTED, claim=claim).to_json()
            repo.update_note(rev, lambda old, note=note: {**old, **note})  # type: ignore[misc]
            changes.append((str(refs.ExperimentRef(change.baseline, item.added.name)), rev, ZERO))
        repo.update_refs(*changes, reason=f"ar: import from {log.tool}")
