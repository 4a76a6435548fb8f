"""What a branch kept: its commits as trees that the project, as it is by now, can run.

A loop's commits were made before there was a `program.md`, and perhaps before the stages. So a commit is
measured as the head with the commit's own version of what may change: files and parameters in scope. All
else, what measures above all, is the head's, so that values compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ar.errors import BadParams, NotFound
from ar.git.objects import TreeEntry
from ar.git.repo import Repo
from ar.history.records import Claim, Claimed, History
from ar.project import params
from ar.project.identity import identity
from ar.project.params import ParamKey
from ar.project.pipeline_file import Declared
from ar.project.project import Project
from ar.project.values import flat, get, parse
from ar.text import one_line

_MAIN = ("main", "master", "trunk")


@dataclass(frozen=True)
class Place:
    """The branch as it was at one commit.

    Args:
        commit: id of the commit.
        stand_in: the commit as which it is measured; the commit itself where that will do.
        candidate: identity of the tree that is measured.
    """

    commit: str
    stand_in: str
    candidate: str


@dataclass(frozen=True)
class Keep:
    """A commit that the branch kept, and the branch as it was before it.

    Args:
        claim: what a record that was imported says of it.
    """

    title: str
    before: Place
    after: Place
    claim: Claim | None = None


@dataclass(frozen=True)
class Branch:
    """The keeps, oldest first, and where the branch begins and ends.

    Args:
        left_out: titles of commits that are not measured, and why.
    """

    keeps: tuple[Keep, ...]
    first: Place
    last: Place
    left_out: tuple[tuple[str, str], ...] = ()


def kept(project: Project, history: History) -> Branch:
    """The keeps of the branch: of its commits those that an imported record calls kept; where none is
    imported, each that changed what a proposal may change.

    Raises:
        NotFound: there is none.
    """
    repo = project.repo
    claims = _claims(history)
    line = list(_line(repo, history.head))
    chosen = [rev for rev in line if rev in claims] if claims else line[: _length(repo, history.head, line)]
    if not chosen:
        raise NotFound(
            "no commit of this branch is one that was kept", "run: ar import FILE on the branch that it is of"
        )
    places = _Places(project, history.head)
    keeps, left_out = [], []
    for rev in reversed(chosen):
        commit = repo.commit(rev)
        title = one_line(commit.message.partition("\n")[0])
        try:
            before, after = places.of(commit.parents[0]), places.of(rev)
        except BadParams as error:
            left_out.append((title, error.message))
            continue
        if before.candidate == after.candidate:
            left_out.append((title, "it changes nothing that a run depends on and a proposal may change"))
            continue
        keeps.append(Keep(title, before, after, claims.get(rev)))
    if not keeps:
        raise NotFound(
            f"none of {len(chosen)} commits of this branch changes what is in scope", "see: ar doctor"
        )
    return Branch(tuple(keeps), keeps[0].before, places.of(history.head), tuple(left_out))


def _claims(history: History) -> dict[str, Claim]:
    """Commit to what is said of it, of those that were kept."""
    found: dict[str, Claim] = {}
    for attempt in history.imported:
        claim = attempt.claim
        if claim and claim.commit and claim.status is Claimed.KEPT:
            found.setdefault(claim.commit, claim)
    return found


def _line(repo: Repo, head: str) -> Iterator[str]:
    """The branch's own commits that have a parent, newest first."""
    while parents := repo.commit(head).parents:
        yield head
        head = parents[0]


def _length(repo: Repo, head: str, line: list[str]) -> int:
    """How many commits are the branch's own: those since it left the main branch; all, where it is that."""
    for name in _MAIN:
        main = repo.resolve(f"refs/heads/{name}") or repo.resolve(f"refs/remotes/origin/{name}")
        if main and not repo.is_ancestor(head, main) and (base := repo.merge_base(head, main)):
            return line.index(base) if base in line else len(line)
    return len(line)


class _Places:
    """The branch's commits as they are measured."""

    def __init__(self, project: Project, head: str) -> None:
        self.project = project
        self.head = head
        self._known: dict[str, Place] = {}

    def of(self, commit: str) -> Place:
        """A commit's.

        Raises:
            BadParams: its parameters cannot be read.
        """
        if commit not in self._known:
            stand_in = self._stand_in(commit)
            self._known[commit] = Place(commit, stand_in, identity(self.project, stand_in))
        return self._known[commit]

    def _stand_in(self, commit: str) -> str:
        repo, tree = self.project.repo, self._tree(commit)
        if same := next((rev for rev in (self.head, commit) if repo.tree(rev) == tree), ""):
            return same
        said = repo.commit(commit)
        title = said.message.partition("\n")[0]
        body = f"The branch as it was at {commit}, as the project at {self.head} measures it."
        # Dated as the commit, so that it is the same whenever it is made.
        return repo.commit_tree(tree, [commit], f"{title}\n\n{body}\n", said.time)

    def _tree(self, commit: str) -> str:
        repo, scope = self.project.repo, self.project.program.scope
        declared = Declared.read(repo, self.head)
        here, there = repo.files(self.head), repo.files(commit)
        changes: dict[str, bytes | TreeEntry | None] = {}
        for path in sorted(here.keys() | there.keys()):
            now, then = here.get(path), there.get(path)
            if now == then or declared.is_generated(path):
                continue
            if scope.may_edit(path):
                changes[path] = then
            elif path in self.project.program.param_files and now and then:
                changes[path] = self._params(path, commit)
        return repo.write_tree(self.head, changes)

    def _params(self, path: str, commit: str) -> bytes:
        """The head's file with the commit's values of what may be set."""
        program = self.project.program
        now, then = self.project.repo.read_many([(self.head, path), (commit, path)])
        here, there = flat(now or b"", path), flat(then or b"", path)
        data, values = parse(then or b"", path), {}
        for name in here.keys() & there.keys():
            key = ParamKey(path, name)
            if here[name] != there[name] and program.scope.allows_param(key) and key != program.seed:
                values[name] = get(data, name)
        return params.update(now or b"", path, values)
