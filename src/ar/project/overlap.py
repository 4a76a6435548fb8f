"""What training and validation data have in common: whole files first, then lines or blocks of bytes.

Of each side the items with the smallest hashes are kept, so that both keep the same ones where they have the
same: a bottom-k sample (Broder, On the resemblance and containment of documents, 1997; Cohen and Kaplan,
Summarizing data using bottom-k sketches, 2007). Up to its largest hash such a sample is complete, and the
count of what both hold is exact there. Whatever the bytes are, they are only hashed.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import heapq
import os
import re
import stat
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ar.project.pipeline_file import Declared
from ar.project.splits import DataFile, Side, split

SECONDS = 2.0  # that all of it may take
SAMPLE = 20_000  # distinct items of a side that are kept
LEAST_SHARE = 0.01  # of the validation's items: below, repeats are those that any data has
LEAST_FILE = 64  # bytes: a smaller file says nothing
LEAST_LINE = 40  # bytes of a line of prose
LEAST_ROW = 12  # bytes of a row of a table, and of a row of an array
BLOCK = 512  # bytes of what has no lines and no rows
DISTINCT = 4  # different bytes that a block has at most where it says nothing, as one of zeros does
_CHUNK = 1 << 20  # bytes read at once; a longer line or row is passed over
_MOST_HEADER = 10_000  # bytes before the values of an array
_ROWS, _LINES = (".csv", ".tsv", ".jsonl", ".ndjson"), (".txt", ".text")
_HEADED = (".csv", ".tsv")
_BLOCKS = (".npy", ".bin", ".dat", ".raw")
_NUMBERS = re.compile(r"[<>|=]?[biufcSU](\d+)")


class Kind(StrEnum):
    """What is compared."""

    FILE = "file"
    LINE = "line"
    BLOCK = "block"


@dataclass(frozen=True)
class Overlap:
    """What came of comparing items of one kind.

    Args:
        sampled: different ones of the validation side that were compared.
        shared: those of them that the training side has, too.
        training, validation: two files that have one in common, those with most; empty where none is shared.
        training_place, validation_place: of that one in each: its line, counted from 1, or its block.
        partly: time was up before all was read.
    """

    kind: Kind
    sampled: int
    shared: int = 0
    training: str = ""
    validation: str = ""
    training_place: int = 0
    validation_place: int = 0
    partly: bool = False

    @property
    def share(self) -> float:
        return self.shared / self.sampled if self.sampled else 0.0

    @property
    def is_much(self) -> bool:
        """Whether it is more than data without any leak repeat."""
        return self.share >= LEAST_SHARE


def find(root: Path, declared: Declared, seconds: float = SECONDS) -> list[Overlap]:
    """What was compared of a project's data, by kind; nothing where its paths do not tell the sides apart."""
    began = time.monotonic()
    sides = split(root, declared, began + seconds / 4)
    training, validation = sides[Side.TRAINING], sides[Side.VALIDATION]
    if not training or not validation:
        return []
    whole, same = _whole(training, validation, began + seconds / 2)
    found = [whole]
    for kind, endings in ((Kind.LINE, (*_ROWS, *_LINES)), (Kind.BLOCK, _BLOCKS)):
        groups = [_ending_in(endings, files, same) for files in (training, validation)]
        left = (began + seconds - time.monotonic()) / (2 if kind is Kind.LINE else 1)
        if all(groups):
            # The validation side is the smaller one as a rule: what it leaves of its half is the other's.
            now = time.monotonic()
            theirs = _Sample.of(groups[1], kind, now + left / 2)
            ours = _Sample.of(groups[0], kind, now + left)
            found += [compared] if (compared := _compare(kind, ours, theirs)) else []
    return [one for one in found if one.sampled]


def _ending_in(endings: Sequence[str], files: Sequence[DataFile], same: set[str]) -> list[DataFile]:
    return [
        file for file in files if file.path not in same and PurePosixPath(file.path).suffix.lower() in endings
    ]


def _whole(
    training: Sequence[DataFile], validation: Sequence[DataFile], until: float
) -> tuple[Overlap, set[str]]:
    """Files that both sides have, byte for byte, and the paths of those. Only equal sizes are read."""
    by_size: dict[int, list[DataFile]] = defaultdict(list)
    for file in training:
        by_size[file.size].append(file)
    hashes: dict[Path, bytes | None] = {}

    def digest(file: DataFile) -> bytes | None:
        if file.place not in hashes:
            hashes[file.place] = _digest(file, until)
        return hashes[file.place]

    same, pairs, counted = set[str](), list[tuple[DataFile, DataFile]](), 0
    for file in validation:
        counted += file.size >= LEAST_FILE
        for other in by_size[file.size] if file.size >= LEAST_FILE else ():
            if (own := digest(file)) is not None and own == digest(other):
                pairs.append((other, file))
                same |= {other.path, file.path}
                break
    partly = time.monotonic() > until
    if not pairs:
        return Overlap(Kind.FILE, counted, partly=partly), same
    train, val = pairs[0]
    return Overlap(Kind.FILE, counted, len(pairs), train.path, val.path, 1, 1, partly), same


def _digest(file: DataFile, until: float) -> bytes | None:
    """None where it cannot be read, or not in time."""
    made = hashlib.blake2b(digest_size=16)
    with contextlib.suppress(OSError), _opened(file) as data:
        while chunk := data.read(_CHUNK):
            made.update(chunk)
            if time.monotonic() > until:
                return None
        return made.digest()
    return None


@contextlib.contextmanager
def _opened(file: DataFile) -> Iterator[BinaryIO]:
    """The file, if it is still a regular one: opening a pipe would wait for ever.

    Raises:
        OSError: it is not, or cannot be opened.
    """
    number = os.open(file.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(number, "rb", buffering=0) as data:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(f"{file.path} is no regular file")
        yield data


class _Sample:
    """The items of a side with the smallest hashes, each with the file and the place of its first one."""

    def __init__(self) -> None:
        self.places: dict[int, tuple[str, int]] = {}
        self.partly = False
        self._largest: list[int] = []  # a heap of the negated hashes that are kept
        self.below = 1 << 64  # hashes from here on are not kept

    @classmethod
    def of(cls, files: Sequence[DataFile], kind: Kind, until: float) -> _Sample:
        sample = cls()
        items = _lines if kind is Kind.LINE else _blocks
        for file in files:
            with contextlib.suppress(OSError), _opened(file) as data:
                for place, item in items(file, data):
                    if item:
                        sample.add(hash(item) & 0xFFFFFFFFFFFFFFFF, file.path, place)
                    if place % 1000 == 0 and time.monotonic() > until:
                        sample.partly = True
                        break
            if time.monotonic() > until:
                sample.partly = sample.partly or file is not files[-1]
                break
        return sample

    def add(self, key: int, path: str, place: int) -> None:
        if key >= self.below or key in self.places:
            return
        self.places[key] = path, place
        heapq.heappush(self._largest, -key)
        if len(self.places) > SAMPLE:
            self.below = -heapq.heappop(self._largest)
            del self.places[self.below]


def _compare(kind: Kind, training: _Sample, validation: _Sample) -> Overlap | None:
    below = min(training.below, validation.below)
    keys = [key for key in validation.places if key < below]
    shared = [key for key in keys if key in training.places]
    partly = training.partly or validation.partly
    if not shared:
        return Overlap(kind, len(keys), partly=partly)
    pairs = Counter((training.places[key][0], validation.places[key][0]) for key in shared)
    pair = pairs.most_common(1)[0][0]
    places = [
        (validation.places[key][1], training.places[key][1])
        for key in shared
        if (training.places[key][0], validation.places[key][0]) == pair
    ]
    theirs, ours = min(places)
    return Overlap(kind, len(keys), len(shared), *pair, ours, theirs, partly)


def _lines(file: DataFile, data: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Line number and line; an empty one for a header and whatever is too short to tell anything."""
    ending = PurePosixPath(file.path).suffix.lower()
    least = LEAST_ROW if ending in _ROWS else LEAST_LINE
    number, rest, is_long = 0, b"", False
    while chunk := data.read(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            says = not is_long and not (number == 1 and ending in _HEADED) and len(line.strip()) >= least
            yield number, line.strip() if says else b""
            is_long = False
        if len(rest) > _CHUNK:
            rest, is_long = b"", True
    if not is_long:
        yield number + 1, rest.strip() if len(rest.strip()) >= least else b""


def _blocks(file: DataFile, data: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each row of an array, or block of a fixed size; no bytes where it says nothing."""
    size = BLOCK
    if file.path.lower().endswith(".npy"):
        size = _row_size(data)
    if not size:
        return
    number, rest = 0, b""
    while chunk := data.read(_CHUNK):
        whole = rest + chunk
        end = len(whole) // size * size
        for start in range(0, end, size):
            number += 1
            block = whole[start : start + size]
            yield number, block if len(set(block)) > DISTINCT else b""
        rest = whole[end:]


def _row_size(data: BinaryIO) -> int:
    """Bytes of a row of the array that begins here, which is then read from its first value on; 0 where it is
    none of numbers: pickled objects are no data to us."""
    with contextlib.suppress(ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        if data.read(6) != b"\x93NUMPY":
            return 0
        width = 2 if data.read(2)[0] == 1 else 4
        length = int.from_bytes(data.read(width), "little")
        if length > _MOST_HEADER:
            return 0
        header = ast.literal_eval(data.read(length).decode("latin-1").strip())
        kind, shape = _NUMBERS.fullmatch(header["descr"]), header["shape"]
        if not kind or header["fortran_order"]:
            return 0
        size = int(kind[1]) * (4 if "U" in header["descr"] else 1)
        for extent in shape[1:]:
            size *= extent
        if 0 < size < LEAST_ROW:
            return BLOCK
        return size if 0 < size <= _CHUNK else 0
    return 0
