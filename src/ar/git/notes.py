"""One JSON note on each commit that has one, as `git notes --ref ar` shows them."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import pygit2
from pygit2 import Oid
from pygit2.enums import FileMode

from ar.errors import Conflict
from ar.formats import BadData, load_json
from ar.git import refs
from ar.git.objects import MissingObject, entry, writing
from ar.git.references import RETRIES, ZERO, References, pause

_ID = re.compile(r"[0-9a-f]{40}")
_LONGEST_PATH = 40 + 19  # of a note: in as many folders as an id has bytes
# Name and object of an entry of the notes' tree to the notes in it: git and we make a folder for each first
# byte of a commit's id, and so most are as they were when one note has changed.
Folders = Mapping[tuple[str, Oid], dict[str, dict[str, Any]]]


class Notes(References):
    """The notes of a project's repository."""

    def notes(self) -> dict[str, dict[str, Any]]:
        """Commit id to its JSON note. A note that is not a JSON object is left out."""
        return together(self.note_folders({}))

    def note_folders(self, known: Folders) -> Folders:
        """All notes, as they lie in the notes' tree: `together` makes one mapping of them.

        Args:
            known: what this returned before, of any repository: what is as it was is not read again.
        """
        found: dict[tuple[str, Oid], dict[str, dict[str, Any]]] = {}
        with contextlib.suppress(MissingObject):
            for item in self.peel(refs.NOTES, pygit2.Tree):
                key = str(item.name), item.id
                found[key] = known.get(key) or _notes_in(item)
        return found

    def note(self, rev: str) -> dict[str, Any]:
        """The note of one commit; empty where there is none."""
        return self.note_in(refs.NOTES, rev)

    def note_in(self, version: str | None, rev: str) -> dict[str, Any]:
        """The note that one version of the notes has of a commit; empty where there is none."""
        with contextlib.suppress(MissingObject):
            tree = self.peel(version, pygit2.Tree) if version else None
            for path in _note_paths(rev):
                blob = entry(tree, path)
                if isinstance(blob, pygit2.Blob) and (note := _note(blob.data)) is not None:
                    return note
        return {}

    def update_note(self, rev: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Rewrite one note: read, change, write by compare-and-swap, again if somebody was faster.

        `git notes add` from two processes at once loses notes; this does not.
        """
        for attempt in range(RETRIES):
            old = self.resolve(refs.NOTES)
            content = _text(change(self.note(rev)))
            commit = self.commit_tree(
                self._notes_tree(old, rev, content), [old] if old else [], f"Note on {rev[:12]}\n"
            )
            try:
                self.update_refs((refs.NOTES, commit, old or ZERO))
                return
            except Conflict:
                pause(attempt)
        raise Conflict(f"{refs.NOTES} moved {RETRIES} times in a row", "run the command again")

    def note_tree(self, old: str | None, rev: str, note: Mapping[str, Any]) -> str:
        """The notes of a version with one replaced, as a tree."""
        return self._notes_tree(old, rev, _text(note))

    def notes_at(self, version: str) -> dict[str, dict[str, Any]]:
        """Commit id to its JSON note, in one version of the notes."""
        found = ((path.replace("/", ""), blob) for path, blob in _blobs(self.peel(version, pygit2.Tree)))
        read = ((rev, _note(blob.data)) for rev, blob in found)
        return {rev: note for rev, note in read if note is not None}

    def note_files(self, rev: str | None) -> dict[str, tuple[str, str]]:
        """Commit id to the path and the blob of its note, in one version of the notes."""
        with contextlib.suppress(MissingObject):
            found = _blobs(self.peel(rev, pygit2.Tree)) if rev else ()
            return {path.replace("/", ""): (path, str(blob.id)) for path, blob in found}
        return {}

    def join_notes(
        self,
        ours: str | None,
        theirs: str,
        join: Callable[[bytes | None, bytes, bytes], bytes],
        kept: Container[str] = (),
    ) -> str:
        """A tree with every note of two versions.

        Args:
            ours: None where there are none yet.
            kept: commits whose notes stay as ours are, there or not.
            join: one note from what the versions' common ancestor (None: nothing), ours and theirs have.
        """
        base = self.note_files(self.merge_base(ours, theirs) if ours else None)
        mine, other = self.note_files(ours), self.note_files(theirs)
        index = pygit2.Index()
        if ours:
            index.read_tree(self.peel(ours, pygit2.Tree))
        for rev, (path, blob) in other.items():
            if rev in kept:
                continue
            if rev in mine and mine[rev][1] != blob:
                blobs = (base[rev][1] if rev in base else ZERO, mine[rev][1], blob)
                before, here, there = self.read_many([(each, "") for each in blobs])
                path, blob = mine[rev][0], self.write_blob(join(before, here or b"", there or b""))
            if rev not in mine or mine[rev][1] != blob:
                index.add(pygit2.IndexEntry(path, Oid(hex=blob), FileMode.BLOB))
        with writing(self.git_dir):
            return str(index.write_tree(self.libgit2))

    def _notes_tree(self, old: str | None, rev: str, content: bytes) -> str:
        """The notes with one replaced. Only its own folder is written anew, however many there are."""
        tree = self.peel(old, pygit2.Tree) if old else None
        folder, file = rev[:2], rev[2:]
        inner = entry(tree, folder)
        with writing(self.git_dir):
            below = self.libgit2.TreeBuilder(*([inner] if isinstance(inner, pygit2.Tree) else []))
            below.insert(file, self.libgit2.create_blob(content), FileMode.BLOB)
            above = self.libgit2.TreeBuilder(*([tree] if tree is not None else []))
            if entry(tree, rev) is not None:
                above.remove(rev)  # somebody's `git notes add` put it there
            above.insert(folder, below.write(), FileMode.TREE)
            return str(above.write())


def together(folders: Folders) -> dict[str, dict[str, Any]]:
    """Commit id to its JSON note, of all folders."""
    return {rev: note for folder in folders.values() for rev, note in folder.items()}


def _notes_in(item: pygit2.Object) -> dict[str, dict[str, Any]]:
    """Commit id to note, of one entry of the notes' tree."""
    found = ((path.replace("/", ""), _note(blob.data)) for path, blob in _blobs_at(item, ""))
    return {rev: note for rev, note in found if note is not None}


def _blobs(tree: pygit2.Tree) -> Iterator[tuple[str, pygit2.Blob]]:
    """Path and content of every note: the path is the commit's id, in as many parts as there are folders."""
    for item in tree:
        yield from _blobs_at(item, "")


def _blobs_at(item: pygit2.Object, folder: str) -> Iterator[tuple[str, pygit2.Blob]]:
    path = f"{folder}{item.name}"
    if len(path) > _LONGEST_PATH:
        return
    if isinstance(item, pygit2.Tree):
        for part in item:
            yield from _blobs_at(part, f"{path}/")
    elif isinstance(item, pygit2.Blob) and _ID.fullmatch(path.replace("/", "")):
        yield path, item


def _text(note: Mapping[str, Any]) -> bytes:
    return json.dumps(note, ensure_ascii=False, indent=1).encode() + b"\n"


def _note(content: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(BadData):
        note = load_json(content)
        return note if isinstance(note, dict) else None
    return None


def _note_paths(rev: str) -> tuple[str, str]:
    """Where git may keep a note: fanned out once, as we write it, or flat."""
    return f"{rev[:2]}/{rev[2:]}", rev
