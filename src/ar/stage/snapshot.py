"""What a stage did to its folder, compared before and after: a stage writes its outputs, and nothing else.

DVC saves outputs from outside the sandbox and follows links. So among its outputs a stage must leave no link
that leads out of them and nothing that is neither file nor folder. Whatever else was there must be as it was,
and what is new there goes: the next stage would read it, and be another than the one that is judged. Standard
library only: the launcher uses it.
"""

# Annotations are not postponed: see `files`.

import contextlib
import os
import stat
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_KEPT_OUT = {".git", ".dvc"}


class Mark(NamedTuple):
    """One file, link or folder. What was written to has another mark, whatever its times were set to."""

    kind: int
    inode: int
    size: int
    changed: int
    links: int
    target: str = ""

    @classmethod
    def of(cls, entry: os.DirEntry[str]) -> "Mark":
        found = entry.stat(follow_symlinks=False)
        kind = stat.S_IFMT(found.st_mode)
        target = os.readlink(entry) if kind == stat.S_IFLNK else ""
        if kind == stat.S_IFDIR:  # its entries are marked themselves
            return cls(kind, found.st_ino, 0, 0, 0)
        return cls(kind, found.st_ino, found.st_size, found.st_ctime_ns, found.st_nlink, target)


Marks = dict[str, Mark]


def take(folder: str) -> Marks:
    """Everything in a folder, by path; git's and DVC's own folders are single entries."""
    marks, waiting = {}, [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                marks[entry.path] = Mark.of(entry)
                if entry.is_dir(follow_symlinks=False) and entry.name not in _KEPT_OUT:
                    waiting.append(entry.path)
    return marks


class May(NamedTuple):
    """What a stage may do to its folder, in absolute paths.

    Args:
        write: its outputs.
        rewrite: what may change besides, though no stage declares it.
        fixed: what may not, though `rewrite` has it.
    """

    write: list[str]
    rewrite: list[str] = []  # noqa: RUF012  (never changed)
    fixed: list[str] = []  # noqa: RUF012


class Found(NamedTuple):
    """What a stage did that it may not do, in words, empty if nothing; and what it made that is no output."""

    flaw: str = ""
    strays: tuple[str, ...] = ()


def compare(folder: str, before: Marks, may: May) -> Found:
    """Hold what a stage left against how its folder was before."""
    try:
        after = take(folder)
    except OSError as error:
        return Found(f"its folder cannot be read: {error.strerror}")
    names = Counter(mark.inode for mark in after.values() if mark.kind != stat.S_IFDIR)
    above = {folder, *(parent for path in may.write for parent in _parents(path, folder))}
    strays: list[str] = []
    for path, old in before.items():
        if inside(path, may.write) or (path in above and _is_folder(old) and _is_folder(after.get(path))):
            continue
        free = inside(path, may.rewrite) and not inside(path, may.fixed)
        if after.get(path) != old and not (free and os.path.basename(path) not in _KEPT_OUT):
            return Found(f"it changed {os.path.relpath(path, folder)}, which is none of its outputs")
    for path, mark in after.items():
        if inside(path, may.write) or path in before:
            if flaw := _flaw(folder, path, mark, before.get(path), names, may.write):
                return Found(f"it left {flaw}: {os.path.relpath(path, folder)}")
        elif not (path in above and _is_folder(mark)) and not (strays and inside(path, strays)):
            strays.append(path)
    return Found(strays=tuple(strays))


def _parents(path: str, top: str) -> Iterator[str]:
    while inside(path := os.path.dirname(path), [top]):
        yield path


def _is_folder(mark: Mark | None) -> bool:
    return mark is not None and mark.kind == stat.S_IFDIR


def clear(folder: str, before: Marks) -> None:
    """Remove what a refused run made: DVC looks through the folder once more, and would wait at a pipe."""
    top = os.path.realpath(folder)
    folders = [path for path, mark in before.items() if mark.kind == stat.S_IFDIR]
    for place in (folder, *folders):
        usual = os.path.join(top, os.path.relpath(place, folder)) if place != folder else top
        if os.path.basename(place) in _KEPT_OUT or os.path.realpath(place) != usual:
            continue  # where a folder was, a link may lead anywhere now
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                old = before.get(entry.path)
                if old is None or old.kind != stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode):
                    remove(entry.path)


def remove(path: str) -> None:
    """Remove a file, a link or a folder, also one that is closed, or nested deeper than Python can follow."""
    for tool in (["rm", "-rf"], ["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        if os.path.lexists(path) and not (tool[0] == "chmod" and os.path.islink(path)):
            subprocess.run([*tool, "--", path], capture_output=True, check=False)


def leads_to(marks: Marks, folder: str) -> bool:
    """Whether a link among them leads into a folder."""
    links = (path for path, mark in marks.items() if mark.kind == stat.S_IFLNK)
    return any(inside(os.path.realpath(path), (os.path.realpath(folder),)) for path in links)


def _flaw(
    folder: str, path: str, mark: Mark, old: Mark | None, names: Counter[int], outputs: list[str]
) -> str:
    if mark.kind == stat.S_IFLNK:
        known = old is not None and old.target == mark.target
        places = (os.path.realpath(folder) + output.removeprefix(folder) for output in outputs)
        if not known and not inside(os.path.realpath(path), places):
            return "a link that leads out of its outputs"
    elif mark.kind not in (stat.S_IFREG, stat.S_IFDIR):
        return "something that is neither file nor folder"
    elif mark.kind == stat.S_IFREG and mark.links > names[mark.inode]:  # it has names elsewhere
        known = old is not None and old.inode == mark.inode and old.links >= mark.links
        return "" if known else "a hard link to a file outside its folder"
    return ""


def inside(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of the folders, or in one of them."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
