"""Which files of a pipeline's data are for training and which for validation, by what their paths say.

Only regular files of the project count, or of DVC's cache where it stands for them: a link that leads
anywhere else, a pipe or a device is passed over, and so is whatever lies beside the project.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from ar.project.cache import Cache
from ar.project.naming import words
from ar.project.pipeline_file import Declared

MOST_FILES = 20_000  # that are looked at

_TRAINING = {"train", "training", "trn"}
_VALIDATION = {"val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation", "holdout"}
_APART = {  # of a file that both sides may well have
    *("class", "classes", "config", "header", "license", "manifest", "meta", "metadata", "readme"),
    *("schema", "tokenizer", "vocab", "vocabulary"),
}
_NO_DATA = re.compile(  # code, text about data, and what runs leave
    r"\.(py|pyc|pyi|ipynb|r|jl|js|ts|c|h|cc|cpp|cu|java|go|rs|sh|awk|m|lua|md|rst|ya?ml|toml|cfg|ini|lock|dvc"
    r"|log|pkl|pickle|pt|pth|ckpt|joblib|so|gitignore)",
    re.IGNORECASE,
)


class Side(StrEnum):
    """What data is for."""

    TRAINING = "training"
    VALIDATION = "validation"


@dataclass(frozen=True)
class DataFile:
    """A file of one side.

    Args:
        path: from the project's root, as the pipeline names it.
        place: where its bytes are.
        size: in bytes.
    """

    path: str
    place: Path
    size: int


def side_of(path: str) -> Side | None:
    """What a file is for, by the last part of its path that says it; None where none does, or one says both.

    >>> side_of("data/train/val-like/0001.csv"), side_of("data/train_test.csv")
    (<Side.VALIDATION: 'validation'>, None)
    """
    for part in reversed(PurePosixPath(path).parts):
        found = set(words(part.replace("hold_out", "holdout").replace("held_out", "holdout")))
        sides = [bool(found & names) for names in (_TRAINING, _VALIDATION)]
        if any(sides):
            return None if all(sides) else Side.TRAINING if sides[0] else Side.VALIDATION
    return None


def split(root: Path, declared: Declared, until: float) -> dict[Side, list[DataFile]]:
    """The files of either side among what stages read and write, but for metrics and curves.

    Args:
        until: `time.monotonic()` after which no more are looked for.
    """
    passed = {*declared.metrics, *declared.plots, *declared.params}
    paths = {path for use in declared.uses for path in (*use.deps, *use.outs)} - passed
    found: dict[Side, dict[str, DataFile]] = {side: {} for side in Side}
    places = _places(root, declared, sorted(path for path in paths if _is_inside(path)))
    for looked, (name, place) in enumerate(places):
        if looked > MOST_FILES or time.monotonic() > until:
            break
        side = side_of(name)
        if side and place and not _NO_DATA.fullmatch(PurePosixPath(name).suffix) and not _is_apart(name):
            size = _size(place)
            if size:
                found[side].setdefault(name, DataFile(name, place, size))
    return {side: list(files.values()) for side, files in found.items()}


def _is_inside(path: str) -> bool:
    return bool(path) and not path.startswith(("/", "../")) and "://" not in path


def _is_apart(path: str) -> bool:
    return not _APART.isdisjoint(words(PurePosixPath(path).stem))


def _places(root: Path, declared: Declared, paths: Iterable[str]) -> Iterator[tuple[str, Path | None]]:
    """What the paths stand for, with where its bytes are: on disk, or else in DVC's cache. Folders, and what
    is nowhere in the project, have no place."""
    cache, top = Cache.of(root), root.resolve()

    def place_of(path: str) -> Path | None:
        with contextlib.suppress(OSError, RuntimeError):
            place = (root / path).resolve(strict=True)
            return place if place.is_relative_to(top) or cache.holds(place) else None
        return None

    for path in paths:
        with contextlib.suppress(OSError, ValueError):  # a name that no file can have
            if not os.path.lexists(root / path):
                yield from cache.files(declared, path)
                continue
        place = place_of(path)
        yield path, place
        if place and place.is_dir():
            for folder, folders, names in os.walk(root / path):  # which follows no links
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                inner = Path(folder).relative_to(root).as_posix()
                yield inner, None
                shown = (f"{inner}/{name}" for name in sorted(names) if not name.startswith("."))
                yield from ((name, place_of(name)) for name in shown)


def _size(place: Path) -> int:
    """Bytes of a regular file; 0 of anything else."""
    try:
        found = place.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
