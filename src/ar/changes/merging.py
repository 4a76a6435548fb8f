"""Three-way merges of experiments' changes in git objects: files as text, parameters by key.

What the pipeline writes is never merged: a tree that was put together has no results until it has run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from ar.changes import composition
from ar.errors import BadParams
from ar.git.objects import TreeEntry
from ar.git.repo import Repo
from ar.project import params
from ar.project.pipeline_file import ARGS_FILE, LOCK_FILE, Declared
from ar.project.program import FILES as PROGRAM_FILES
from ar.project.project import Project
from ar.project.values import flat, get, parse

_HUNK = re.compile(rb"^<{7} .*?^>{7} [^\n]*\n?", re.MULTILINE | re.DOTALL)
MINE, BEFORE = "the branch", "before both"


@dataclass(frozen=True)
class Clash:
    """A place that both sides changed; `text` shows it as each side has it."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}\n{self.text}"


@dataclass(frozen=True)
class Merged:
    """A merge's tree, with our side's text where `clashes` says that the sides differ."""

    tree: str
    clashes: tuple[Clash, ...] = ()


def merge(project: Project, base: str, ours: str, other: str, name: str, *, yielding: bool = False) -> Merged:
    """What changed from `base` to `other`, done to `ours` (commits or trees).

    Whether that is in scope is for the one who proposes the tree to check.

    Args:
        name: what the other side is called where the sides clash.
        yielding: where both sides set a parameter, the other side's value counts.
    """
    repo, program = project.repo, project.program
    declared = Declared.read(repo, ours)
    before, mine, wanted = (repo.files(rev) for rev in (base, ours, other))
    changes: dict[str, bytes | TreeEntry | None] = {}
    clashes: list[Clash] = []
    for path in sorted(before.keys() | wanted.keys()):
        old, new, here = before.get(path), wanted.get(path), mine.get(path)
        if new in (old, here) or _is_ours(path) or declared.is_output(path):
            continue
        merged: bytes | TreeEntry | Clash | None = new
        is_source = old is not None and here is not None and composition.is_source(repo, ours, path)
        if path in program.param_files or is_source:
            merged = _parameters(project, path, (base, ours, other), name, yielding)
        elif here != old:
            merged = _text(repo, path, (old, here, new), name)
        if isinstance(merged, Clash):
            clashes.append(merged)
        else:
            changes[path] = merged
    return Merged(repo.write_tree(ours, changes), tuple(clashes))


def _is_ours(path: str) -> bool:
    return path in (*PROGRAM_FILES, ARGS_FILE) or PurePosixPath(path).name in (LOCK_FILE, ".gitignore")


def _parameters(
    project: Project, path: str, revs: tuple[str, str, str], name: str, yielding: bool
) -> bytes | Clash | None:
    """A parameters file merged by key; as text where the change adds or removes keys."""
    repo, program = project.repo, project.program
    before, mine, wanted = repo.read_many([(rev, path) for rev in revs])
    if before is None or mine is None or wanted is None:
        return Clash(path, f"the file is missing in {MINE} or in {name}")
    try:
        old, here, new = (flat(content, path) for content in (before, mine, wanted))
    except BadParams as error:
        return Clash(path, error.message)
    if old.keys() != new.keys() or not params.same_code(path, before, wanted):
        return _text(repo, path, tuple(repo.files(rev).get(path) for rev in revs), name)
    seed = program.seed.key if program.seed and program.seed.file == path else None
    values, lines = {}, []
    data = parse(wanted, path)
    for key, value in new.items():
        if value == old[key] or key == seed or (key in here and here[key] == value):
            continue
        if key in here and (yielding or here[key] == old[key]):
            values[key] = get(data, key)
        else:
            now = repr(here[key]) if key in here else "no such key"
            lines.append(f"{key}: {now} in {MINE}, {value!r} in {name}, {old[key]!r} {BEFORE}")
    return Clash(path, "\n".join(lines)) if lines else params.update(mine, path, values)


def _text(repo: Repo, path: str, sides: tuple[TreeEntry | None, ...], name: str) -> bytes | Clash | None:
    """A file merged by lines, or the hunks that do not merge."""
    if any(side is None or not side.is_file for side in sides):
        gone = [where for where, side in zip((BEFORE, MINE, name), sides, strict=True) if side is None]
        return Clash(path, f"missing in {', '.join(gone)}" if gone else "a link or a submodule")
    old, here, new = repo.read_many([(side.blob, "") for side in sides if side])
    content, clean = repo.merge_text(here or b"", old or b"", new or b"", (MINE, BEFORE, name))
    if clean:
        return content
    hunks = b"\n".join(match.group() for match in _HUNK.finditer(content))
    return Clash(path, hunks.decode(errors="replace").rstrip() or "not text")
