"""Refs: read in process, moved by git in transactions."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

from ar.errors import BadState, Conflict
from ar.git import refs
from ar.git.command import GitFailed, brief
from ar.git.objects import Commit, MissingObject, Objects
from ar.git.packed_refs import PackedRefs

ZERO = "0" * 40
RETRIES = 200  # of a compare-and-swap that everybody may try at once
_LOCKED_RETRIES = 20
_OBJECT_ID = re.compile(rb"[0-9a-f]{40}(?=\s|$)")


class References(Objects):
    """The refs of a project's repository."""

    def __init__(self, root: Path, top: Path, git_dir: Path) -> None:
        super().__init__(root, top, git_dir)
        self._packed_refs: tuple[tuple[int, int, int], PackedRefs] = (0, 0, 0), PackedRefs(b"")

    def branch(self) -> str | None:
        """The checked-out branch as a full ref name; None on a detached HEAD."""
        target = self.libgit2.lookup_reference("HEAD").raw_target
        return os.fsdecode(target) if isinstance(target, bytes) else None

    def head(self) -> str:
        """The commit that the campaign stands on: that of the checkout, or of the branch that it has gone on
        to without it."""
        here, ahead = self.checked_out(), self.resolve(self.ahead())
        return ahead if ahead and (self.is_apart() or self.is_ancestor(here, ahead)) else here

    def is_apart(self) -> bool:
        """Whether the campaign stands on a branch of its own, whatever the checkout does: others commit
        there, and are observed."""
        return self.has_ref(refs.OBSERVED) and self.branch() != refs.OBSERVED

    def stood_at(self) -> list[str]:
        """Commits that this checkout has stood at, oldest first, as far as git's reflog tells, and the
        present one: those that a reset has left behind, too."""
        entries = [str(entry.oid_new) for entry in self.libgit2.lookup_reference("HEAD").log()]
        return list(dict.fromkeys([*reversed(entries), self.checked_out()]))

    def ahead(self) -> str:
        """The branch, as a full ref name, on which the campaign goes on that the checkout cannot follow: the
        first whose name is free, or that is on one line with the checkout."""
        if self.is_apart():
            return refs.OBSERVED
        here, first = self.checked_out(), refs.ahead(self.branch() or self.checked_out())
        names = itertools.chain([first], (f"{first}-{count}" for count in itertools.count(2)))
        return next(name for name in names if self._on_one_line(here, self.resolve(name)))

    def _on_one_line(self, here: str, there: str | None) -> bool:
        return there is None or self.is_ancestor(here, there) or self.is_ancestor(there, here)

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

    def state(self, *spaces: str) -> str:
        """A digest of the refs below some spaces: another one where one of them has moved, or where git has
        packed them."""
        told = hashlib.blake2b(digest_size=16)
        for space in sorted(spaces):
            loose = sorted((ref, self._read_ref(ref)) for ref in self._loose(space))
            told.update(f"{loose}\0".encode(errors="surrogateescape"))
            told.update(self._in_one_file().lines(f"{space}/") + b"\0")
        return told.hexdigest()

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
        """Refs below a pattern that share git's one file."""
        first, star, _ = pattern.partition("*")
        packed = self._in_one_file()
        if not star:
            return packed.of(first) | packed.beginning(f"{first}/")
        is_below = _below(pattern)
        return {ref: value for ref, value in packed.beginning(first).items() if is_below(ref)}

    def _in_one_file(self) -> PackedRefs:
        """The refs that share git's one file, which is always replaced as a whole."""
        try:
            with (self.git_dir / "packed-refs").open("rb") as file:
                state = os.fstat(file.fileno())
                version = state.st_ino, state.st_size, state.st_mtime_ns
                if self._packed_refs[0] != version:
                    self._packed_refs = version, PackedRefs(file.read())
        except FileNotFoundError:
            return PackedRefs(b"")
        return self._packed_refs[1]

    def commits(self, *patterns: str) -> dict[str, Commit]:
        """Full ref name to its commit, for every ref below the patterns that names one, read as by `refs`."""
        found = {}
        for ref, rev in self.refs(*patterns).items():
            with contextlib.suppress(MissingObject):
                found[ref] = self.commit(rev)
        return found

    def has_ref(self, ref: str) -> bool:
        return self.libgit2.references.get(ref) is not None

    def push_reflog(self, ref: str, new: str, message: str) -> None:
        """Point `ref` at `new` and add a reflog entry, the way `git stash` stacks its entries."""
        self.run("update-ref", "--create-reflog", "-m", message, ref, new)

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
                pause(attempt)
        raise BadState(
            f"cannot write {names}: {brief(failure.said)}",
            f"check permissions and disk space of {self.git_dir}, and: git fsck",
        )

    def _value(self, ref: str) -> str:
        """What a ref holds; ZERO where there is none."""
        found = self.libgit2.references.get(ref)
        return ZERO if found is None else str(found.target)

    def append(self, ref: str, message: str) -> str:
        """Put a commit without files on top of a ref, whoever else does the same. Returns it."""
        for attempt in range(RETRIES):
            old = self.resolve(ref)
            commit = self.commit_tree(self.empty_tree(), [old] if old else [], message)
            try:
                self.update_refs((ref, commit, old or ZERO))
                return commit
            except Conflict:
                pause(attempt)
        raise Conflict(f"{ref} moved {RETRIES} times in a row", "run the command again")


def _below(pattern: str) -> Callable[[str], object]:
    """Whether a ref is one that a pattern names, or lies below it."""
    return re.compile("[^/]*".join(map(re.escape, pattern.split("*"))) + "(?:/|$)").match


def pause(attempt: int) -> None:
    """Wait for an instant that grows with the attempts and differs between processes."""
    time.sleep(random.uniform(0.001, 0.01 * min(attempt + 1, 10)))  # noqa: S311 - jitter, not a secret
