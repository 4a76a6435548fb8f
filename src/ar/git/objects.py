"""A repository's objects, read and written in process: commits, trees, blobs."""

from __future__ import annotations

import contextlib
import os
import posixpath
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import pygit2
from pygit2 import Oid
from pygit2.enums import DiffOption, FileMode, SortMode

from ar.errors import BadState
from ar.git import command
from ar.git.command import GitFailed

_Peeled = TypeVar("_Peeled", pygit2.Commit, pygit2.Tree, pygit2.Blob)
LATEST = 253_000_000_000  # unix time of a day in the year 9987: no date is later, whoever wrote it
_FALLBACK_IDENTITY = {"name": "ar", "email": "ar@localhost"}


@dataclass(frozen=True)
class Commit:
    """A commit.

    Args:
        time: when it was made, in unix time; within the years that calendars know.
    """

    rev: str
    parents: tuple[str, ...]
    time: float
    message: str


@dataclass(frozen=True)
class TreeEntry:
    mode: str
    blob: str

    @property
    def is_file(self) -> bool:
        return self.mode in ("100644", "100755")


class MissingObject(BadState):
    """The repository lacks an object that something in it names."""

    def __init__(self, rev: str) -> None:
        super().__init__(
            f"git has no object '{rev}' here, or one of another kind",
            "bring it back from a clone: git fetch (or: ar pull); to see what else is missing: git fsck",
        )


class Objects:
    """The commits, trees and blobs that a project's repository holds.

    Args:
        root: the project's root folder, the one that holds `.dvc`.
        top: top of the git working tree.
        git_dir: the git directory shared by all working trees.
    """

    def __init__(self, root: Path, top: Path, git_dir: Path) -> None:
        self.root = root
        self.top = top
        self.git_dir = git_dir
        self.prefix = root.relative_to(top).as_posix() if root != top else ""
        self._opened = _Opened()
        self._identity: dict[str, str] | None = None
        self._merged: tuple[str, set[str]] = "", set()
        self._names: dict[tuple[Oid, str, bool], tuple[str, ...]] = {}

    @property
    def libgit2(self) -> pygit2.Repository:
        """This thread's libgit2. A git process for each object would cost most of our time."""
        if self._opened.repository is None:
            try:
                self._opened.repository = pygit2.Repository(str(self.top))
            except pygit2.GitError as error:
                raise BadState(f"cannot open {self.top}: {error}", "run: git status") from None
        return self._opened.repository

    def peel(self, rev: str, kind: type[_Peeled]) -> _Peeled:
        """The commit, tree or blob that a revision or object id names.

        Raises:
            MissingObject: there is none.
        """
        for attempt in range(2):
            try:
                return self.libgit2.revparse_single(rev).peel(kind)
            except (KeyError, pygit2.InvalidSpecError) as error:
                raise MissingObject(rev) from error
            except pygit2.GitError as error:
                # A pack that was open may have gone in a `git gc`.
                if attempt:
                    raise MissingObject(rev) from error
                self._opened.repository = None
        raise MissingObject(rev)

    def resolve(self, rev: str) -> str | None:
        """The commit that a revision names, or None."""
        try:
            return str(self.peel(rev, pygit2.Commit).id)
        except MissingObject:
            return None

    def checked_out(self) -> str:
        """The commit of the checkout."""
        return str(self.peel("HEAD", pygit2.Commit).id)

    def is_ancestor(self, ancestor: str, rev: str) -> bool:
        """Whether a commit is another or reaches it; False where either is missing."""
        old, new = self.resolve(ancestor), self.resolve(rev)
        if old is None or new is None:
            return False
        return old == new or self.libgit2.descendant_of(new, old)

    def merge_base(self, one: str, other: str) -> str | None:
        """The best commit that two commits both reach; None where they began apart."""
        found = self.libgit2.merge_base(one, other)
        return str(found) if found is not None else None

    def merges(self, head: str) -> list[tuple[str, tuple[str, ...]]]:
        """Every merge below `head`, newest first, with its parents."""
        walk = self.libgit2.walk(Oid(hex=head), SortMode.TOPOLOGICAL | SortMode.TIME)
        parents = ((str(found.id), tuple(map(str, found.parent_ids))) for found in walk)
        return [(rev, several) for rev, several in parents if len(several) > 1]

    def merged_parents(self, head: str) -> set[str]:
        """Every commit that a merge below `head` brought in."""
        if self._merged[0] != head:
            self._merged = head, {parent for _, parents in self.merges(head) for parent in parents[1:]}
        return self._merged[1]

    def commit(self, rev: str) -> Commit:
        return _commit(self.peel(rev, pygit2.Commit))

    def log(self, ref: str, without: str | None = None) -> list[Commit]:
        """Every commit that a ref reaches, and `without` does not, oldest first; none where there is no such
        ref.
        """
        start = self.resolve(ref)
        if start is None:
            return []
        walk = self.libgit2.walk(Oid(hex=start), SortMode.TOPOLOGICAL | SortMode.REVERSE)
        if without is not None:
            walk.hide(Oid(hex=without))
        return [_commit(found) for found in walk]

    def unreached(self, commits: Iterable[str], known: Iterable[str]) -> list[str]:
        """Those of some commits that no known one reaches, in their order; what is not here is left out."""
        walk = self.libgit2.walk(None, SortMode.NONE)
        wanted = list(commits)
        for revs, mark in ((wanted, walk.push), (known, walk.hide)):
            for rev in revs:
                if (found := self.resolve(rev)) is not None:
                    mark(Oid(hex=found))
        reached = {str(found.id) for found in walk}
        return [rev for rev in wanted if rev in reached]

    def tree(self, rev: str) -> str:
        """The tree object of a commit, of the whole git repository."""
        return str(self.peel(rev, pygit2.Tree).id)

    def files(self, rev: str) -> dict[str, TreeEntry]:
        """Path to entry, for every file of the project in a commit or tree."""
        tree: pygit2.Object | None = self.peel(rev, pygit2.Tree)
        if self.prefix:
            tree = entry(self.peel(rev, pygit2.Tree), self.prefix)
        return dict(files_below(tree)) if isinstance(tree, pygit2.Tree) else {}

    def named(self, rev: str, name: str, hidden: bool = False) -> tuple[str, ...]:
        """Paths of the project's files of a name, in a commit or tree.

        Args:
            name: a `*` at its beginning stands for anything.
            hidden: in hidden folders, too.
        """
        tree: pygit2.Object | None = self.peel(rev, pygit2.Tree)
        if self.prefix:
            tree = entry(self.peel(rev, pygit2.Tree), self.prefix)
        return self._named(tree, name, hidden) if isinstance(tree, pygit2.Tree) else ()

    def _named(self, tree: pygit2.Tree, name: str, hidden: bool) -> tuple[str, ...]:
        """Remembered by folder: from one commit to the next, few change."""
        found = self._names.get((tree.id, name, hidden))
        if found is None:
            paths = []
            for item in tree:
                own = item.name or ""
                if isinstance(item, pygit2.Tree) and (hidden or not own.startswith(".")):
                    paths += [f"{own}/{path}" for path in self._named(item, name, hidden)]
                elif isinstance(item, pygit2.Blob) and (
                    own == name or (name[:1] == "*" and own.endswith(name[1:]))
                ):
                    paths.append(own)
            found = self._names[tree.id, name, hidden] = tuple(paths)
        return found

    def read(self, rev: str, path: str) -> bytes | None:
        """Contents of a file in a commit or tree; None where it is missing."""
        return self.read_many([(rev, path)])[0]

    def read_many(self, wanted: Sequence[tuple[str, str]]) -> list[bytes | None]:
        """Contents of many (revision, path) pairs; without a path, of an object itself."""
        trees: dict[str, pygit2.Tree | None] = {}
        contents: list[bytes | None] = []
        for rev, path in wanted:
            found: pygit2.Object | None = None
            with contextlib.suppress(MissingObject):
                if path:
                    if rev not in trees:
                        trees[rev] = None
                        trees[rev] = self.peel(rev, pygit2.Tree)
                    found = entry(trees[rev], self.path(path))
                else:
                    found = self.peel(rev, pygit2.Blob)
            contents.append(found.data if isinstance(found, pygit2.Blob) else None)
        return contents

    def changed(self, old: str, new: str) -> dict[str, TreeEntry | None]:
        """Path to the new entry (None: deleted) of every file that differs between two commits or trees.

        Files outside the project are in it too, as `../path`.
        """
        before, after = self.peel(old, pygit2.Tree), self.peel(new, pygit2.Tree)
        found: dict[str, TreeEntry | None] = {}
        for delta in before.diff_to_tree(after, DiffOption.INCLUDE_TYPECHANGE).deltas:
            file = delta.new_file
            inside = posixpath.relpath(os.fsdecode(file.raw_path), self.prefix or ".")
            found[inside] = TreeEntry(f"{file.mode:06o}", str(file.id)) if file.mode else None
        return found

    def sizes(self, blobs: Sequence[str]) -> list[int]:
        """Bytes of every blob."""
        return [self.peel(blob, pygit2.Blob).size for blob in blobs]

    def write_tree(self, base: str, changes: Mapping[str, bytes | TreeEntry | None]) -> str:
        """A tree: that of `base` with files replaced, added or (None) removed. Modes of old files stay,
        unless an entry gives another.
        """
        index = pygit2.Index()  # in memory: the user's is never read or written
        index.read_tree(self.peel(base, pygit2.Tree))
        entries: list[pygit2.IndexEntry] = []
        for path, new in changes.items():
            place = self.path(path)
            old = index[place].mode if place in index else FileMode.BLOB
            if isinstance(new, bytes):
                mode = old if old == FileMode.BLOB_EXECUTABLE else FileMode.BLOB
                entries.append(pygit2.IndexEntry(place, Oid(hex=self.write_blob(new)), mode))
            elif new is not None:
                entries.append(pygit2.IndexEntry(place, Oid(hex=new.blob), FileMode(int(new.mode, 8))))
            elif place in index:
                index.remove(place)
        for added in entries:  # after the removals: a file may give way to a folder of its name
            index.add(added)
        with writing(self.git_dir):
            return str(index.write_tree(self.libgit2))

    def empty_tree(self) -> str:
        with writing(self.git_dir):
            return str(self.libgit2.TreeBuilder().write())

    def write_blob(self, content: bytes) -> str:
        with writing(self.git_dir):
            return str(self.libgit2.create_blob(content))

    def commit_tree(self, tree: str, parents: Sequence[str], message: str, when: float | None = None) -> str:
        """A commit object of `tree`; no ref moves.

        Args:
            when: unix time; None for now.
        """
        author, committer = (self.signature(role, when) for role in ("AUTHOR", "COMMITTER"))
        text = message if message.endswith("\n") else f"{message}\n"
        full = [str(self.peel(parent, pygit2.Commit).id) for parent in parents]
        with writing(self.git_dir):
            return str(self.libgit2.create_commit(None, author, committer, text, Oid(hex=tree), full))

    def identity(self) -> dict[str, str]:
        """`name` and `email` as git is configured here; only those that are set."""
        if self._identity is None:
            found = {}
            for key in ("name", "email"):
                with contextlib.suppress(GitFailed):
                    found[key] = self.run("config", "--get", f"user.{key}")
            self._identity = found
        return self._identity

    def signature(self, role: str, when: float | None = None) -> pygit2.Signature:
        """Who commits, which must work where nobody has told git who they are."""
        seconds = int(time.time() if when is None else when)
        name, email = (
            os.environ.get(f"GIT_{role}_{key.upper()}") or self.identity().get(key) or fallback
            for key, fallback in _FALLBACK_IDENTITY.items()
        )
        return pygit2.Signature(name, email, seconds, time.localtime(seconds).tm_gmtoff // 60)

    def path(self, path: str) -> str:
        """From the top of the repository, to a path of the project."""
        return str(PurePosixPath(self.prefix) / path) if self.prefix else path

    def run(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """What a git command at the top of the working tree printed; see `command.run`."""
        return command.run(self.top, *args, stdin=stdin, env=env)


class _Opened(threading.local):
    """libgit2 wants a repository for each thread."""

    repository: pygit2.Repository | None = None


def _commit(found: pygit2.Commit) -> Commit:
    parents = tuple(str(parent) for parent in found.parent_ids)
    when = float(min(max(found.commit_time, 0), LATEST))
    try:
        message = found.message
    except (LookupError, ValueError):  # in an encoding that nobody knows
        message = found.raw_message.decode(errors="replace")
    return Commit(str(found.id), parents, when, message)


def entry(tree: pygit2.Tree | None, path: str) -> pygit2.Object | None:
    """What lies at a path of a tree; None where nothing does."""
    try:
        return tree[path] if tree is not None else None
    except KeyError:
        return None


def files_below(tree: pygit2.Tree, folder: str = "") -> Iterator[tuple[str, TreeEntry]]:
    """Path and entry of every file, link and submodule."""
    for item in tree:
        path = f"{folder}{item.name}"
        if isinstance(item, pygit2.Tree):
            yield from files_below(item, f"{path}/")
        else:
            yield path, TreeEntry(f"{item.filemode:06o}", str(item.id))


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Failures to write an object, in the user's words."""
    try:
        yield
    except (pygit2.GitError, OSError) as error:
        command.raise_if_full(str(error))
        raise BadState(f"cannot write to {folder}: {error}", "check permissions and disk space") from None
