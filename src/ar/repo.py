"""Git, and nothing but git: blobs, trees, commits, refs and notes of one project.

The only module that talks to git. Nothing here touches the user's working tree, index or stash, save
`fast_forward`, which moves a clean checkout along its own branch. Paths are relative to the project's root
(the folder with `.dvc`), which may lie below the top of the git repository.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import posixpath
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from git import Git, GitCommandError
from git.exc import GitCommandNotFound

from ar import refs
from ar.errors import ArError, BadState, CannotPromote, Conflict, NotARepo

ZERO = "0" * 40
_NOTE_RETRIES = 200
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

    def resolve(self, rev: str) -> str | None:
        """The commit that a revision names, or None."""
        try:
            return str(self._git.rev_parse("--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}"))
        except GitCommandError:
            return None

    def head(self) -> str:
        rev = self.resolve("HEAD")
        assert rev is not None  # `open` refused an unborn branch
        return rev

    def branch(self) -> str | None:
        """The checked-out branch as a full ref name; None on a detached HEAD."""
        try:
            return str(self._git.symbolic_ref("--quiet", "HEAD"))
        except GitCommandError:
            return None

    def is_ancestor(self, ancestor: str, rev: str) -> bool:
        try:
            self._git.merge_base("--is-ancestor", ancestor, rev)
        except GitCommandError:
            return False
        return True

    def refs(self, prefix: str) -> dict[str, str]:
        """Full ref name to object id, for every ref below `prefix`."""
        lines = self._git.for_each_ref(prefix, format="%(refname) %(objectname)").splitlines()
        return dict(line.rsplit(" ", 1) for line in lines)

    def commits(self, prefix: str) -> dict[str, Commit]:
        """Full ref name to its commit, for every ref below `prefix`, in one git process."""
        separator = "\x1e"
        fields = "%00".join(
            ["%(refname)", "%(objectname)", "%(parent)", "%(committerdate:unix)", "%(contents)"]
        )
        text = self._git.for_each_ref(prefix, format=f"{fields}%1e", strip_newline_in_stdout=False)
        found = {}
        for record in text.split(separator)[:-1]:
            ref, rev, parents, when, message = record.lstrip("\n").split("\0", 4)
            if when:  # a ref to anything but a commit has no committer
                found[ref] = Commit(rev, tuple(parents.split()), float(when), message)
        return found

    def merged_parents(self, head: str) -> set[str]:
        """Every commit that a merge below `head` brought in."""
        lines = self._git.rev_list("--merges", "--parents", head).splitlines()
        return {parent for line in lines for parent in line.split()[2:]}

    def commit(self, rev: str) -> Commit:
        text = self._git.show("--no-patch", "--format=%H%x00%P%x00%ct%x00%B", "--end-of-options", rev)
        full, parents, when, message = text.split("\0", 3)
        return Commit(full, tuple(parents.split()), float(when), message)

    def log(self, ref: str) -> list[Commit]:
        """Every commit that a ref reaches, oldest first; none where there is no such ref."""
        if not self.has_ref(ref):
            return []
        text = self._git.log("--reverse", "--topo-order", "--format=%H%x00%P%x00%ct%x00%B%x1e", ref, "--")
        fields = [record.lstrip("\n").split("\0", 3) for record in text.split("\x1e")[:-1]]
        return [
            Commit(rev, tuple(parents.split()), float(when), message)
            for rev, parents, when, message in fields
        ]

    def tree(self, rev: str) -> str:
        """The tree object of a commit, of the whole git repository."""
        return str(self._git.rev_parse("--verify", "--end-of-options", f"{rev}^{{tree}}"))

    def files(self, rev: str, under: str = "") -> dict[str, TreeEntry]:
        """Path to entry, for every file of the project in a commit or tree."""
        spec = f"{rev}:{self.prefix}" if self.prefix else rev
        args = ["-r", "-z", "--end-of-options", spec]
        text = self._git.ls_tree(*args, *(["--", under] if under else []))
        found = {}
        for line in text.split("\0"):
            if line:
                meta, path = line.split("\t", 1)
                mode, _, blob = meta.split()
                found[path] = TreeEntry(mode, blob)
        return found

    def read(self, rev: str, path: str) -> bytes | None:
        """Contents of a file in a commit or tree; None where it is missing."""
        return self.read_many([(rev, path)])[0]

    def read_many(self, wanted: Sequence[tuple[str, str]]) -> list[bytes | None]:
        """Contents of many (revision, path) pairs, in one git process."""
        names = [f"{rev}:{self._path(path)}" if path else rev for rev, path in wanted]
        odd = [name for name in names if "\n" in name]
        if odd:
            raise ArError(f"a path with a line break cannot be read from git: {odd[0]!r}")
        if not names:
            return []
        out = subprocess.run(
            ["git", "cat-file", "--batch"],
            cwd=self.top,
            input="".join(f"{name}\n" for name in names).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        ).stdout
        contents: list[bytes | None] = []
        at = 0
        for _ in names:
            end = out.index(b"\n", at)
            header = out[at:end]
            at = end + 1
            if header.endswith((b" missing", b" ambiguous")):
                contents.append(None)
                continue
            size = int(header.rsplit(b" ", 1)[1])
            contents.append(out[at : at + size])
            at += size + 1
        return contents

    def changed(self, old: str, new: str) -> dict[str, TreeEntry | None]:
        """Path to the new entry (None: deleted) of every file that differs between two commits or trees.

        Files outside the project are in it too, as `../path`.
        """
        options = ["-r", "-z", "--no-renames", "--end-of-options"]
        fields = self._git.diff_tree(*options, old, new, strip_newline_in_stdout=False).split("\0")
        found: dict[str, TreeEntry | None] = {}
        for meta, path in zip(fields[0::2], fields[1::2], strict=False):
            _, mode, _, blob, _ = meta.split()
            inside = posixpath.relpath(path, self.prefix or ".")
            found[inside] = TreeEntry(mode, blob) if int(mode) else None
        return found

    def sizes(self, blobs: Sequence[str]) -> list[int]:
        """Bytes of every blob."""
        lines = "".join(f"{blob}\n" for blob in blobs).encode()
        return [
            int(size) for size in self.run("cat-file", "--batch-check=%(objectsize)", stdin=lines).split()
        ]

    def diff(self, old: str, new: str, exclude: Sequence[str] = (), stat: bool = False) -> str:
        """What changed between two commits, as a patch or as a `--stat`."""
        paths = [f":(exclude,literal){self._path(path)}" for path in exclude]
        options = ["--stat"] if stat else []
        return str(
            self._git.diff(
                "--no-color",
                "--no-ext-diff",
                *options,
                "--end-of-options",
                old,
                new,
                "--",
                self._path("."),
                *paths,
            )
        )

    def is_dirty(self) -> bool:
        """Whether tracked files differ from HEAD, in the index or the working tree."""
        return bool(self._git.status("--porcelain", "--untracked-files=no", env={"GIT_OPTIONAL_LOCKS": "0"}))

    # -- writing objects ----------------------------------------------------------------------------------

    def write_tree(self, base: str, changes: Mapping[str, bytes | TreeEntry | None]) -> str:
        """A tree: that of `base` with files replaced, added or (None) removed. Modes of old files stay,
        unless an entry gives another.

        An index of its own holds it in between, so that the user's is never read or written.
        """
        with self.own_index(base) as env:
            if changes:
                modes = self._modes(base, changes)
                # Removed ones first: a file may give way to a folder of its name.
                lines = [f"0 {ZERO}\t{self._path(path)}\0" for path, new in changes.items() if new is None]
                for path, new in changes.items():
                    if isinstance(new, bytes):
                        new = TreeEntry(modes.get(path, "100644"), self.write_blob(new))
                    if new is not None:
                        lines.append(f"{new.mode} {new.blob}\t{self._path(path)}\0")
                self.run("update-index", "-z", "--index-info", stdin="".join(lines).encode(), env=env)
            return str(self._git.write_tree(env=env))

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
                self._git.read_tree(f"{base}^{{tree}}", env=env)
            else:
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy2(self.top / self._git.rev_parse("--git-path", "index"), path)
            yield env

    def _modes(self, base: str, paths: Iterable[str]) -> dict[str, str]:
        text = self._git.ls_tree("-r", "-z", "--end-of-options", base, "--", *map(self._path, paths))
        modes = {}
        for line in filter(None, text.split("\0")):
            meta, path = line.split("\t", 1)
            mode = meta.split()[0]
            if mode in ("100644", "100755"):
                modes[self._unprefixed(path)] = mode
        return modes

    def write_blob(self, content: bytes) -> str:
        return self.run("hash-object", "-w", "--stdin", stdin=content)

    def commit_tree(self, tree: str, parents: Sequence[str], message: str) -> str:
        """A commit object of `tree`; no ref moves."""
        args = [arg for parent in parents for arg in ("-p", parent)]
        return self.run("commit-tree", tree, *args, "-F", "-", stdin=message.encode(), env=self._identity())

    def identity(self) -> dict[str, str]:
        """`name` and `email` as git is configured here; only those that are set."""
        found = {}
        for key in ("name", "email"):
            with contextlib.suppress(GitCommandError):
                found[key] = str(self._git.config("--get", f"user.{key}"))
        return found

    def _identity(self) -> dict[str, str]:
        """Environment for a commit of ours, which must work where nobody has told git who they are."""
        known = self.identity()
        return {
            variable: fallback
            for key, fallback in _FALLBACK_IDENTITY.items()
            for role in ("AUTHOR", "COMMITTER")
            if key not in known and not os.environ.get(variable := f"GIT_{role}_{key.upper()}")
        }

    def append(self, ref: str, message: str) -> str:
        """Put a commit without files on top of a ref, whoever else does the same. Returns it."""
        empty = self.run("mktree", stdin=b"")
        for attempt in range(_NOTE_RETRIES):
            old = self.resolve(ref)
            commit = self.commit_tree(empty, [old] if old else [], message)
            try:
                self.update_refs((ref, commit, old or ZERO))
                return commit
            except Conflict:
                _pause(attempt)
        raise Conflict(f"{ref} moved {_NOTE_RETRIES} times in a row", "run the command again")

    # -- refs ---------------------------------------------------------------------------------------------

    def update_refs(self, *changes: tuple[str, str, str | None], reason: str = "ar") -> None:
        """Move refs in one transaction: each `(ref, new, old)`, all or none.

        Args:
            changes: `new` ZERO deletes; `old` is what the ref must hold now, ZERO for "must not exist",
                None for "whatever it holds".

        Raises:
            Conflict: a ref does not hold what was expected.
        """
        lines = ["start"]
        for ref, new, old in changes:
            verb = "delete" if new == ZERO else "update"
            values = [value for value in (None if new == ZERO else new, old) if value is not None]
            lines.append(" ".join([verb, ref, *values]))
        lines += ["prepare", "commit", ""]
        for attempt in range(20):
            try:
                self.run("update-ref", "-m", reason, "--stdin", stdin="\n".join(lines).encode())
                return
            except BadState as error:
                # Another process holds the ref's lock file for an instant: that is no verdict on its value.
                if "Unable to create" not in error.message or attempt == 19:
                    names = ", ".join(ref for ref, _, _ in changes)
                    raise Conflict(f"{names} moved while it was being written: {error.message}") from None
                _pause(attempt)

    def has_ref(self, ref: str) -> bool:
        try:
            self._git.show_ref("--verify", "--quiet", ref)
        except GitCommandError:
            return False
        return True

    def push_reflog(self, ref: str, new: str, message: str) -> None:
        """Point `ref` at `new` and add a reflog entry, the way `git stash` stacks its entries."""
        self._git.update_ref("--create-reflog", "-m", message, ref, new)

    def fast_forward(self, branch: str | None, new: str, old: str) -> None:
        """Move the checked-out branch and its checkout forward to `new`, a descendant of `old`.

        Unrelated uncommitted changes stay; where they overlap, nothing at all changes.

        Raises:
            CannotPromote: uncommitted changes are in the way, or the branch has moved.
        """
        if self.branch() != branch or self.head() != old:
            raise Conflict("the branch moved while it was being promoted to", "run: ar promote again")
        try:
            self._git.merge("--ff-only", "--quiet", new)
        except GitCommandError as error:
            detail = str(error.stderr).strip()
            raise CannotPromote(
                f"your uncommitted changes are in the way: {_brief(detail)}",
                "commit or stash them, then run: ar promote",
            ) from None

    # -- notes --------------------------------------------------------------------------------------------

    def notes(self) -> dict[str, dict[str, Any]]:
        """Commit id to its JSON note. A note that is not a JSON object is left out."""
        if not self.has_ref(refs.NOTES):
            return {}
        text = self._git.ls_tree("-r", "-z", refs.NOTES)
        entries = [line.split("\t", 1) for line in text.split("\0") if line]
        blobs = self.read_many([(meta.split()[2], "") for meta, _ in entries])
        found = {}
        for (_, path), blob in zip(entries, blobs, strict=True):
            with contextlib.suppress(ValueError):
                note = json.loads(blob or b"")
                if isinstance(note, dict):
                    found[path.replace("/", "")] = note
        return found

    def note(self, rev: str) -> dict[str, Any]:
        """The note of one commit; empty where there is none."""
        for path in _note_paths(rev):
            blob = self.read_many([(f"{refs.NOTES}:{path}", "")])[0]
            if blob is not None:
                with contextlib.suppress(ValueError):
                    note = json.loads(blob)
                    return note if isinstance(note, dict) else {}
        return {}

    def update_note(self, rev: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Rewrite one note: read, change, write by compare-and-swap, again if somebody was faster.

        `git notes add` from two processes at once loses notes; this does not.
        """
        for attempt in range(_NOTE_RETRIES):
            old = self.resolve(refs.NOTES)
            content = json.dumps(change(self.note(rev)), ensure_ascii=False, indent=1).encode() + b"\n"
            fanned, flat = _note_paths(rev)
            tree = self._notes_tree(old, {fanned: content, flat: None})
            commit = self.commit_tree(tree, [old] if old else [], f"Note on {rev[:12]}\n")
            try:
                self.update_refs((refs.NOTES, commit, old or ZERO))
                return
            except Conflict:
                _pause(attempt)
        raise Conflict(f"{refs.NOTES} moved {_NOTE_RETRIES} times in a row", "run the command again")

    def _notes_tree(self, old: str | None, changes: Mapping[str, bytes | None]) -> str:
        whole = Repo(self.top, self.top, self.git_dir)  # notes lie at the top, whatever the project's folder
        return whole.write_tree(old or self.run("mktree", stdin=b""), changes)

    # -- plumbing -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, name: str, busy: str | None = None) -> Iterator[None]:
        """Hold one of our locks; the kernel drops it with its holder.

        Args:
            busy: raise `BadState` with this text (and the holder's process id for `{pid}`) where somebody
                else has it; None waits.
        """
        path = self._scratch() / f"{name}.lock"
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
            except BlockingIOError:
                file.seek(0)
                raise BadState((busy or "").format(pid=file.read().strip() or "unknown")) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

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

    def _unprefixed(self, path: str) -> str:
        return path.removeprefix(f"{self.prefix}/") if self.prefix else path

    def run(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """What a git command at the top of the working tree printed, for what the methods above do not do.

        Raises:
            GitFailed: it exited with an error.
        """
        done = subprocess.run(
            ["git", *args],
            cwd=self.top,
            input=stdin,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C", **(env or {})},
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            _raise_if_full(said)
            raise GitFailed(args[0], said)
        return done.stdout.decode(errors="surrogateescape").removesuffix("\n")


class GitFailed(BadState):
    """A git command exited with an error. `said` is what it printed."""

    def __init__(self, command: str, said: str) -> None:
        super().__init__(f"git {command} failed: {_brief(said)}")
        self.said = said


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
