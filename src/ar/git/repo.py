"""Git, and nothing but git: blobs, trees, commits, refs and notes of one project.

The only module that talks to git. Nothing here touches the user's working tree, index or stash; `advance.py`
brings those forward. Paths are relative to the project's root (the folder with `.dvc`), which may lie below
the top of the git repository.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import posixpath
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from subprocess import PIPE
from typing import Any, TypeVar

import pygit2
from git import Git, GitCommandError
from git.exc import GitCommandNotFound
from pygit2 import Oid
from pygit2.enums import DiffOption, FileMode, SortMode

from ar.errors import BadState, Conflict, NotARepo
from ar.git import refs
from ar.stage.processes import born

_Peeled = TypeVar("_Peeled", pygit2.Commit, pygit2.Tree, pygit2.Blob)
ZERO = "0" * 40
_NOTE_RETRIES = 200
_LOCKED_RETRIES = 20
_OBJECT_ID = re.compile(rb"[0-9a-f]{40}(?=\s|$)")
_FALLBACK_IDENTITY = {"name": "ar", "email": "ar@localhost"}


@dataclass(frozen=True)
class Commit:
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


class Repo:
    """One project inside one git repository.

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
        self._git = _Git(str(top))
        self._opened = _Opened()
        self._identity: dict[str, str] | None = None
        self._packed_refs: tuple[tuple[int, int, int], dict[str, str]] = (0, 0, 0), {}
        self._merged: tuple[str, set[str]] = "", set()
        self._notes: dict[Oid, dict[str, dict[str, Any]]] = {}

    @classmethod
    def open(cls, start: Path | None = None) -> Repo:
        """The project that `start` (default: the working directory) lies in.

        Raises:
            NotARepo: outside git, before the first commit, or without DVC.
        """
        here = (start or Path.cwd()).resolve()
        git = _Git(str(here))
        try:
            top, common = git.rev_parse("--show-toplevel", "--git-common-dir").splitlines()
        except GitCommandNotFound:
            raise NotARepo("git is not on PATH", "install git 2.30 or newer") from None
        except GitCommandError:
            raise NotARepo(f"{here} is not inside a git repository", "run: git init && dvc init") from None
        root = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), None)
        if root is None or not root.is_relative_to(top):
            raise NotARepo(f"no DVC project in {here} or above it", "run: dvc init")
        repo = cls(root, Path(top), (here / common).resolve())
        if repo.resolve("HEAD") is None:
            raise NotARepo("the git repository has no commit yet", "run: git add -A && git commit -m 'Start'")
        return repo

    # -- reading ------------------------------------------------------------------------------------------

    @property
    def _objects(self) -> pygit2.Repository:
        """Objects are read and written in process: a git process a piece would cost most of our time."""
        if self._opened.repository is None:
            try:
                self._opened.repository = pygit2.Repository(str(self.top))
            except pygit2.GitError as error:
                raise BadState(f"cannot open {self.top}: {error}", "run: git status") from None
        return self._opened.repository

    def _peel(self, rev: str, kind: type[_Peeled]) -> _Peeled:
        """The commit, tree or blob that a revision or object id names.

        Raises:
            MissingObject: there is none.
        """
        for attempt in range(2):
            try:
                return self._objects.revparse_single(rev).peel(kind)
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
            return str(self._peel(rev, pygit2.Commit).id)
        except MissingObject:
            return None

    def head(self) -> str:
        return str(self._peel("HEAD", pygit2.Commit).id)

    def branch(self) -> str | None:
        """The checked-out branch as a full ref name; None on a detached HEAD."""
        target = self._objects.lookup_reference("HEAD").raw_target
        return os.fsdecode(target) if isinstance(target, bytes) else None

    def is_ancestor(self, ancestor: str, rev: str) -> bool:
        """Whether a commit is another or reaches it; False where either is missing."""
        old, new = self.resolve(ancestor), self.resolve(rev)
        if old is None or new is None:
            return False
        return old == new or self._objects.descendant_of(new, old)

    def refs(self, *patterns: str) -> dict[str, str]:
        """Full ref name to object id, for every ref below the patterns, in alphabetical order; symbolic refs
        are left out.

        They are read in process, one pattern after another in alphabetical order: what moves on in that order
        meanwhile may be seen twice, but cannot be missed.

        Args:
            patterns: first parts of names; `*` stands for any one part.
        """
        found: dict[str, str] = {}
        for pattern in sorted(patterns):
            # Files before `packed-refs`: git packs a ref before it removes its file.
            loose = {ref: value for ref in self._loose(pattern) if (value := self._read_ref(ref))}
            found |= self._packed(pattern) | loose
        return dict(sorted(found.items()))

    def count_refs(self, *patterns: str) -> int:
        """How many refs there are below the patterns, without a look into them."""
        return len({ref for it in sorted(patterns) for ref in (*self._loose(it), *self._packed(it))})

    def _loose(self, pattern: str) -> list[str]:
        """Names of refs below a pattern that have a file of their own."""
        names, found = [pattern.partition("*")[0].rstrip("/")], list[str]()
        while names:
            name = names.pop()
            try:
                with os.scandir(self.git_dir / name) as entries:
                    for entry in entries:
                        (names if entry.is_dir() else found).append(f"{name}/{entry.name}")
            except NotADirectoryError:
                found.append(name)
            except FileNotFoundError:
                continue  # git removes folders that have become empty
            except OSError as error:
                raise BadState(
                    f"cannot read {error.filename}: {error.strerror}", "check its permissions"
                ) from None
        is_below = _below(pattern)
        return [ref for ref in found if is_below(ref) and not ref.endswith(".lock")]

    def _read_ref(self, ref: str) -> str | None:
        """What a ref's file says; None where it is gone, or holds no object id."""
        try:
            file = os.open(f"{self.git_dir}/{ref}", os.O_RDONLY)  # a sixth of the time of `Path.read_bytes`
        except FileNotFoundError:
            return None
        try:
            match = _OBJECT_ID.match(os.read(file, 64))
        finally:
            os.close(file)
        return match[0].decode() if match else None

    def _packed(self, pattern: str) -> dict[str, str]:
        """Refs below a pattern that share git's one file, which is always replaced as a whole."""
        try:
            with (self.git_dir / "packed-refs").open(encoding="utf-8", errors="surrogateescape") as file:
                state = os.fstat(file.fileno())
                version = state.st_ino, state.st_size, state.st_mtime_ns
                if self._packed_refs[0] != version:
                    rows = [line.rstrip("\n").split(" ", 1) for line in file if line[0] not in "#^"]
                    self._packed_refs = version, {ref: value for value, ref in rows}
        except FileNotFoundError:
            return {}
        is_below = _below(pattern)
        return {ref: value for ref, value in self._packed_refs[1].items() if is_below(ref)}

    def commits(self, *patterns: str) -> dict[str, Commit]:
        """Full ref name to its commit, for every ref below the patterns, read as by `refs`."""
        return {ref: self.commit(rev) for ref, rev in self.refs(*patterns).items()}

    def merges(self, head: str) -> list[tuple[str, tuple[str, ...]]]:
        """Every merge below `head`, newest first, with its parents."""
        walk = self._objects.walk(Oid(hex=head), SortMode.TOPOLOGICAL | SortMode.TIME)
        parents = ((str(found.id), tuple(map(str, found.parent_ids))) for found in walk)
        return [(rev, several) for rev, several in parents if len(several) > 1]

    def merged_parents(self, head: str) -> set[str]:
        """Every commit that a merge below `head` brought in."""
        if self._merged[0] != head:
            self._merged = head, {parent for _, parents in self.merges(head) for parent in parents[1:]}
        return self._merged[1]

    def commit(self, rev: str) -> Commit:
        return _commit(self._peel(rev, pygit2.Commit))

    def log(self, ref: str) -> list[Commit]:
        """Every commit that a ref reaches, oldest first; none where there is no such ref."""
        start = self.resolve(ref)
        if start is None:
            return []
        order = SortMode.TOPOLOGICAL | SortMode.REVERSE
        return [_commit(found) for found in self._objects.walk(Oid(hex=start), order)]

    def tree(self, rev: str) -> str:
        """The tree object of a commit, of the whole git repository."""
        return str(self._peel(rev, pygit2.Tree).id)

    def files(self, rev: str) -> dict[str, TreeEntry]:
        """Path to entry, for every file of the project in a commit or tree."""
        tree: pygit2.Object | None = self._peel(rev, pygit2.Tree)
        if self.prefix:
            tree = _entry(self._peel(rev, pygit2.Tree), self.prefix)
        return dict(_files(tree)) if isinstance(tree, pygit2.Tree) else {}

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
                        trees[rev] = self._peel(rev, pygit2.Tree)
                    found = _entry(trees[rev], self._path(path))
                else:
                    found = self._peel(rev, pygit2.Blob)
            contents.append(found.data if isinstance(found, pygit2.Blob) else None)
        return contents

    def changed(self, old: str, new: str) -> dict[str, TreeEntry | None]:
        """Path to the new entry (None: deleted) of every file that differs between two commits or trees.

        Files outside the project are in it too, as `../path`.
        """
        before, after = self._peel(old, pygit2.Tree), self._peel(new, pygit2.Tree)
        found: dict[str, TreeEntry | None] = {}
        for delta in before.diff_to_tree(after, DiffOption.INCLUDE_TYPECHANGE).deltas:
            file = delta.new_file
            inside = posixpath.relpath(os.fsdecode(file.raw_path), self.prefix or ".")
            found[inside] = TreeEntry(f"{file.mode:06o}", str(file.id)) if file.mode else None
        return found

    def sizes(self, blobs: Sequence[str]) -> list[int]:
        """Bytes of every blob."""
        return [self._peel(blob, pygit2.Blob).size for blob in blobs]

    def diff(self, old: str, new: str, exclude: Sequence[str] = (), stat: bool = False) -> str:
        """What changed between two commits, as a patch or as a `--stat`."""
        inside = [self._path("."), *(f":(exclude,literal){self._path(path)}" for path in exclude)]
        options = ["--no-color", "--no-ext-diff", *(["--stat"] if stat else []), "--end-of-options"]
        return self.run("diff", *options, old, new, "--", *inside)

    def is_dirty(self) -> bool:
        """Whether tracked files differ from HEAD, in the index or the working tree."""
        return bool(
            self.run("status", "--porcelain", "--untracked-files=no", env={"GIT_OPTIONAL_LOCKS": "0"})
        )

    # -- writing objects ----------------------------------------------------------------------------------

    def write_tree(self, base: str, changes: Mapping[str, bytes | TreeEntry | None]) -> str:
        """A tree: that of `base` with files replaced, added or (None) removed. Modes of old files stay,
        unless an entry gives another.
        """
        index = pygit2.Index()  # in memory: the user's is never read or written
        index.read_tree(self._peel(base, pygit2.Tree))
        entries: list[pygit2.IndexEntry] = []
        for path, new in changes.items():
            place = self._path(path)
            old = index[place].mode if place in index else FileMode.BLOB
            if isinstance(new, bytes):
                mode = old if old == FileMode.BLOB_EXECUTABLE else FileMode.BLOB
                entries.append(pygit2.IndexEntry(place, Oid(hex=self.write_blob(new)), mode))
            elif new is not None:
                entries.append(pygit2.IndexEntry(place, Oid(hex=new.blob), FileMode(int(new.mode, 8))))
            elif place in index:
                index.remove(place)
        for entry in entries:  # after the removals: a file may give way to a folder of its name
            index.add(entry)
        with _told(self.git_dir):
            return str(index.write_tree(self._objects))

    @contextlib.contextmanager
    def own_index(self, base: str | None = None) -> Iterator[dict[str, str]]:
        """An index beside the user's: the environment in which git uses it.

        Args:
            base: what it holds at first; None for the state of the user's own index.
        """
        with tempfile.TemporaryDirectory(prefix="ar-index-", dir=self._scratch()) as folder:
            path = Path(folder) / "index"
            env = {"GIT_INDEX_FILE": str(path)}
            if base is not None:
                self.run("read-tree", f"{base}^{{tree}}", env=env)
            else:
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy2(self.top / self.run("rev-parse", "--git-path", "index"), path)
            yield env

    def write_blob(self, content: bytes) -> str:
        with _told(self.git_dir):
            return str(self._objects.create_blob(content))

    def merge_text(
        self, ours: bytes, base: bytes, theirs: bytes, labels: tuple[str, str, str]
    ) -> tuple[bytes, bool]:
        """Three versions of a file merged by lines, and whether they merge; where not, with conflict markers
        that show all three, labelled in the order of the arguments.
        """
        with tempfile.TemporaryDirectory(prefix="ar-merge-", dir=self._scratch()) as folder:
            files = [Path(folder) / name for name in ("ours", "base", "theirs")]
            for file, content in zip(files, (ours, base, theirs), strict=True):
                file.write_bytes(content)
            names = [word for label in labels for word in ("-L", label)]
            try:
                self.run("merge-file", "--quiet", "--diff3", *names, *map(str, files))
                clean = True
            except GitFailed:
                clean = False
            return files[0].read_bytes(), clean

    def commit_tree(self, tree: str, parents: Sequence[str], message: str) -> str:
        """A commit object of `tree`; no ref moves."""
        author, committer = (self._signature(role) for role in ("AUTHOR", "COMMITTER"))
        text = message if message.endswith("\n") else f"{message}\n"
        full = [str(self._peel(parent, pygit2.Commit).id) for parent in parents]
        with _told(self.git_dir):
            return str(self._objects.create_commit(None, author, committer, text, Oid(hex=tree), full))

    def identity(self) -> dict[str, str]:
        """`name` and `email` as git is configured here; only those that are set."""
        if self._identity is None:
            found = {}
            for key in ("name", "email"):
                with contextlib.suppress(GitFailed):
                    found[key] = self.run("config", "--get", f"user.{key}")
            self._identity = found
        return self._identity

    def _signature(self, role: str) -> pygit2.Signature:
        """Who commits, which must work where nobody has told git who they are."""
        name, email = (
            os.environ.get(f"GIT_{role}_{key.upper()}") or self.identity().get(key) or fallback
            for key, fallback in _FALLBACK_IDENTITY.items()
        )
        return pygit2.Signature(name, email, int(time.time()), time.localtime().tm_gmtoff // 60)

    def append(self, ref: str, message: str) -> str:
        """Put a commit without files on top of a ref, whoever else does the same. Returns it."""
        empty = str(self._objects.TreeBuilder().write())
        for attempt in range(_NOTE_RETRIES):
            old = self.resolve(ref)
            commit = self.commit_tree(empty, [old] if old else [], message)
            try:
                self.update_refs((ref, commit, old or ZERO))
                return commit
            except Conflict:
                _pause(attempt)
        raise Conflict(f"{ref} moved {_NOTE_RETRIES} times in a row", "run the command again")

    def start(self, folder: Path) -> None:
        """Make an empty repository of a folder."""
        with _told(folder):
            pygit2.init_repository(str(folder), initial_head="experiment")

    def commit_in(self, top: Path, ref: str, parent: str, message: str, paths: Sequence[str]) -> str:
        """Point a new ref of another repository at a commit of its folder, by whoever commits here.

        Args:
            paths: what goes in besides the tracked files, from `top`; ignored and missing ones are left out.
        """
        theirs, git = pygit2.Repository(str(top)), _Git(str(top))
        new = [path for path in paths if os.path.lexists(top / path) and not theirs.path_is_ignored(path)]
        git.add("--update")
        if new:
            git.add("--", *new)
        tree = Oid(hex=git.write_tree())
        author, committer = (self._signature(role) for role in ("AUTHOR", "COMMITTER"))
        with _told(top):
            return str(theirs.create_commit(ref, author, committer, message, tree, [Oid(hex=parent)]))

    def take_over(self, top: Path, rev: str) -> None:
        """Copy a commit and all it needs from another repository, one that borrows our objects.

        Every object is hashed anew on its way. Parts come before what they are part of, so that what is here
        is whole, wherever a copy ends.
        """
        theirs = pygit2.Repository(str(top))

        def copy(oid: Oid) -> None:
            if oid in ours:
                return
            found = theirs[oid]
            if found.type_str == "commit":
                whole = found.peel(pygit2.Commit)
                for needed in (*whole.parent_ids, whole.tree_id):
                    copy(needed)
            elif isinstance(found, pygit2.Tree):
                for item in found:
                    if item.filemode != FileMode.COMMIT:
                        copy(item.id)
            ours.write(found.type, found.read_raw())

        with _told(self.git_dir):
            ours = self._objects.odb
            copy(Oid(hex=rev))

    # -- refs ---------------------------------------------------------------------------------------------

    def update_refs(self, *changes: tuple[str, str, str | None], reason: str = "ar") -> None:
        """Move refs in one transaction: each `(ref, new, old)`, all or none.

        Args:
            changes: `new` ZERO deletes; `old` is what the ref must hold now, ZERO for "must not exist",
                None for "whatever it holds".

        Raises:
            Conflict: a ref does not hold what was expected.
            BadState: git cannot write them.
        """
        lines = ["start"]
        for ref, new, old in changes:
            verb = "delete" if new == ZERO else "update"
            values = [value for value in (None if new == ZERO else new, old) if value is not None]
            lines.append(" ".join([verb, ref, *values]))
        lines += ["prepare", "commit", ""]
        names = ", ".join(ref for ref, _, _ in changes)
        for attempt in range(_LOCKED_RETRIES):
            try:
                self.run("update-ref", "-m", reason, "--stdin", stdin="\n".join(lines).encode())
                return
            except GitFailed as error:
                if any(old is not None and self._value(ref) != old for ref, _, old in changes):
                    raise Conflict(f"{names} moved while it was being written") from None
                # Another process holds the ref's lock file for an instant, or nothing can be written at all.
                failure = error
                _pause(attempt)
        raise BadState(
            f"cannot write {names}: {_brief(failure.said)}",
            f"check permissions and disk space of {self.git_dir}, and: git fsck",
        )

    def _value(self, ref: str) -> str:
        """What a ref holds; ZERO where there is none."""
        found = self._objects.references.get(ref)
        return ZERO if found is None else str(found.target)

    def has_ref(self, ref: str) -> bool:
        return self._objects.references.get(ref) is not None

    def push_reflog(self, ref: str, new: str, message: str) -> None:
        """Point `ref` at `new` and add a reflog entry, the way `git stash` stacks its entries."""
        self.run("update-ref", "--create-reflog", "-m", message, ref, new)

    # -- notes --------------------------------------------------------------------------------------------

    def notes(self) -> Mapping[str, dict[str, Any]]:
        """Commit id to its JSON note. A note that is not a JSON object is left out."""
        found: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(MissingObject):
            tree = self._peel(refs.NOTES, pygit2.Tree)
            folders = {}
            for item in tree:  # a folder for each first byte of a commit's id: most are as they were
                folders[item.id] = self._notes.get(item.id) or dict(_notes_in(item))
                found.update(folders[item.id])
            self._notes = folders
        return found

    def note(self, rev: str) -> dict[str, Any]:
        """The note of one commit; empty where there is none."""
        with contextlib.suppress(MissingObject):
            tree = self._peel(refs.NOTES, pygit2.Tree)
            for path in _note_paths(rev):
                blob = _entry(tree, path)
                if isinstance(blob, pygit2.Blob) and (note := _note(blob.data)) is not None:
                    return note
        return {}

    def update_note(self, rev: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Rewrite one note: read, change, write by compare-and-swap, again if somebody was faster.

        `git notes add` from two processes at once loses notes; this does not.
        """
        for attempt in range(_NOTE_RETRIES):
            old = self.resolve(refs.NOTES)
            content = json.dumps(change(self.note(rev)), ensure_ascii=False, indent=1).encode() + b"\n"
            commit = self.commit_tree(
                self._notes_tree(old, rev, content), [old] if old else [], f"Note on {rev[:12]}\n"
            )
            try:
                self.update_refs((refs.NOTES, commit, old or ZERO))
                return
            except Conflict:
                _pause(attempt)
        raise Conflict(f"{refs.NOTES} moved {_NOTE_RETRIES} times in a row", "run the command again")

    def _notes_tree(self, old: str | None, rev: str, content: bytes) -> str:
        """The notes with one replaced. Only its own folder is written anew, however many there are."""
        tree = self._peel(old, pygit2.Tree) if old else None
        folder, file = rev[:2], rev[2:]
        inner = _entry(tree, folder)
        with _told(self.git_dir):
            below = self._objects.TreeBuilder(*([inner] if isinstance(inner, pygit2.Tree) else []))
            below.insert(file, self._objects.create_blob(content), FileMode.BLOB)
            above = self._objects.TreeBuilder(*([tree] if tree is not None else []))
            if _entry(tree, rev) is not None:
                above.remove(rev)  # somebody's `git notes add` put it there
            above.insert(folder, below.write(), FileMode.TREE)
            return str(above.write())

    # -- plumbing -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, name: str, busy: str | None = None, keep: bool = True) -> Iterator[None]:
        """Hold one of our locks; the kernel drops it with its holder.

        Args:
            busy: raise `BadState` with this text (and the holder's process id for `{pid}`) where somebody
                else has it; None waits.
            keep: leave the file; False for a name that only this process will ever use.
        """
        path = self._scratch() / f"{name}.lock"
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
            except BlockingIOError:
                pid = read_json(path).get("pid", "unknown")
                raise BadState((busy or "").format(pid=pid)) from None
            file.truncate(0)
            json.dump({"pid": os.getpid(), "born": born(os.getpid())}, file)
            file.flush()
            try:
                yield
            finally:
                if not keep:
                    path.unlink(missing_ok=True)

    def locks(self, *patterns: str) -> list[str]:
        """Names of locks, held or not, that match any of the patterns."""
        found = [path.name for pattern in patterns for path in self._scratch().glob(f"{pattern}.lock")]
        return [name.removesuffix(".lock") for name in sorted(found)]

    def lock_holder(self, name: str) -> Mapping[str, Any] | None:
        """`pid` and `born` of the process that holds a lock; None where nobody does."""
        path = self._scratch() / f"{name}.lock"
        with contextlib.suppress(FileNotFoundError), path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return read_json(path)
        return None

    def log_file(self, name: str) -> Path:
        """Where a process of ours writes what it has to say besides its events."""
        return self._scratch() / name

    def _scratch(self) -> Path:
        folder = self.git_dir / "ar"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise BadState(
                f"cannot write to {self.git_dir}: {error.strerror}", "check permissions and disk space"
            ) from error
        return folder

    def _path(self, path: str) -> str:
        return str(PurePosixPath(self.prefix) / path) if self.prefix else path

    def run(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """What a git command at the top of the working tree printed, for what the methods above do not do.

        Raises:
            GitFailed: it exited with an error.
        """
        try:
            process = self._git.execute(["git", *args], istream=PIPE, as_process=True, env=env)
        except GitCommandNotFound:
            raise BadState("git is not on PATH", "install git 2.30 or newer") from None
        out, said = process.communicate(stdin)
        if process.returncode:
            words = said.decode(errors="replace")
            _raise_if_full(words)
            raise GitFailed(args[0], words)
        return str(out.decode(errors="surrogateescape")).removesuffix("\n")


class GitFailed(BadState):
    """A git command exited with an error. `said` is what it printed."""

    def __init__(self, command: str, said: str) -> None:
        super().__init__(f"git {command} failed: {_brief(said)}")
        self.said = said


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object from a file; empty where there is none."""
    with contextlib.suppress(OSError, ValueError):
        data = json.loads(path.read_text())
        if isinstance(data, dict):
            return data
    return {}


class _Opened(threading.local):
    """libgit2 wants a repository for each thread."""

    repository: pygit2.Repository | None = None


class MissingObject(BadState):
    """The repository lacks an object that something in it names."""

    def __init__(self, rev: str) -> None:
        super().__init__(
            f"git has no object '{rev}' here, or one of another kind",
            "bring it back from a clone: git fetch (or: ar pull); to see what else is missing: git fsck",
        )


def _below(pattern: str) -> Callable[[str], object]:
    """Whether a ref is one that a pattern names, or lies below it."""
    return re.compile("[^/]*".join(map(re.escape, pattern.split("*"))) + "(?:/|$)").match


def _commit(found: pygit2.Commit) -> Commit:
    parents = tuple(str(parent) for parent in found.parent_ids)
    return Commit(str(found.id), parents, float(found.commit_time), found.message)


def _entry(tree: pygit2.Tree | None, path: str) -> pygit2.Object | None:
    try:
        return tree[path] if tree is not None else None
    except KeyError:
        return None


def _files(tree: pygit2.Tree, folder: str = "") -> Iterator[tuple[str, TreeEntry]]:
    for item in tree:
        path = f"{folder}{item.name}"
        if isinstance(item, pygit2.Tree):
            yield from _files(item, f"{path}/")
        else:
            yield path, TreeEntry(f"{item.filemode:06o}", str(item.id))


def _notes_in(item: pygit2.Object, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Commit id to note: the id is the path, in as many parts as there are folders."""
    path = prefix + str(item.name)
    if isinstance(item, pygit2.Tree):
        for part in item:
            yield from _notes_in(part, path)
    elif isinstance(item, pygit2.Blob) and (note := _note(item.data)) is not None:
        yield path, note


def _note(content: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        note = json.loads(content)
        return note if isinstance(note, dict) else None
    return None


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Failures to write an object, in the user's words."""
    try:
        yield
    except (pygit2.GitError, OSError) as error:
        _raise_if_full(str(error))
        raise BadState(f"cannot write to {folder}: {error}", "check permissions and disk space") from None


class _Git(Git):
    """GitPython's command runner, with a full disk told apart from an answer that git gives by failing."""

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().execute(*args, **kwargs)
        except GitCommandError as error:
            _raise_if_full(str(error.stderr))
            raise


def _raise_if_full(said: str) -> None:
    if "No space left" in said or "Out of diskspace" in said:
        raise BadState("the disk is full", "free some space, then run the command again: nothing is lost")


def _note_paths(rev: str) -> tuple[str, str]:
    """Where git may keep a note: fanned out once, as we write it, or flat."""
    return f"{rev[:2]}/{rev[2:]}", rev


def _brief(text: str, limit: int = 400) -> str:
    return " ".join(text.split())[:limit]


def _pause(attempt: int) -> None:
    import random
    import time

    time.sleep(random.uniform(0.001, 0.01 * min(attempt + 1, 10)))  # noqa: S311 - jitter, not a secret
