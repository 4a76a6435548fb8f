"""Values in what a program prints: of each name the last one, whichever common form it has.

val_bpb:    0.9979            a line of its own (autoresearch prints a block of them)
METRIC loss=0.31              as pi-autoresearch has them
step 40 | loss 2.31           in a longer line, for names that are asked for
{"test": {"acc": 0.93}}       JSON, as `test.acc`
epoch,loss                    the header of a table,
1,0.5                         and its last row
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Number = int | float

MOST_LINE = 1 << 16  # bytes of a line that are read
MOST_NAMES = 200  # that are kept where none was asked for
_DOUBTFUL = 400  # lines with a number, of which an error shows those that came closest
_SHOWN = 3

_NUMBER = rb"[-+]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[nN]a[nN]|[iI]nf(?:inity)?)"
_IS_NUMBER = re.compile(_NUMBER)
_UNIT = rb"[ \t]*[A-Za-z%/\xc2\xb5\xce\xbc]{0,12}"  # ms, %, ns/op, µs
_PAIR = re.compile(
    rb"^[ \t]*(?:METRIC[ \t]+)?([A-Za-z_][\w./%@-]{0,99})[ \t]*[:=][ \t]*("
    + _NUMBER
    + rb")"
    + _UNIT
    + rb"[ \t]*$",
    re.MULTILINE,
)
_JSON = re.compile(rb"^[ \t]*(\{[^\n]*\})[ \t]*$", re.MULTILINE)
_HEADING = rb'"?[A-Za-z_][\w./ %@()-]{0,99}"?'
_HEADER = re.compile(rb"^" + _HEADING + rb"(?:," + _HEADING + rb")+$", re.MULTILINE)
_ROW = re.compile(rb"^[^,\n]*(?:,[^,\n]*)+$", re.MULTILINE)
_STEPS = ("step", "iter", "iteration", "epoch", "batch")
_STEP = re.compile(
    rb"(?<![\w-])(?:" + "|".join(_STEPS).encode() + rb")\b[\"']?[ \t]*[:=#]?[ \t]*(\d{1,15})", re.IGNORECASE
)
_DIGIT = re.compile(rb"\d")
_WITHIN_NAME = re.compile(rb"[\w./-]")
_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class NotPrinted(ValueError):
    """A metric that was asked for is missing or no finite number; with the lines that came closest."""


@dataclass(frozen=True)
class Wanted:
    """A value to look for.

    Args:
        name: as it is printed, and as it is called in the metrics file.
        pattern: of a line; its first group, or all of it, is the number. None for the common forms.
    """

    name: str
    pattern: re.Pattern[str] | None = None

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """Read `NAME` or `NAME=REGEX`.

        Raises:
            ValueError: there is no name, or the expression is none.
        """
        name, equals, pattern = text.partition("=")
        if not name.strip():
            raise ValueError(f"'{text}' names no metric")
        try:
            return cls(name.strip(), re.compile(pattern) if equals else None)
        except re.error as error:
            raise ValueError(f"'{pattern}' is no regular expression: {error}") from None


@dataclass(frozen=True)
class Found:
    """A value, by where it stands in the text; `step` where its line counts any."""

    at: int
    name: str
    number: bytes
    step: int | None = None

    @property
    def value(self) -> Number:
        is_whole = re.fullmatch(rb"[-+]?\d{1,300}", self.number)
        return int(self.number) if is_whole else float(self.number)


class Lines:
    """Makes whole lines of what comes in pieces. Bars that rewrite their line end one each time."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, piece: bytes) -> bytes:
        """Read on. Returns the lines that have become whole."""
        text = self._rest + piece
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        self._rest = text[end:][:MOST_LINE]
        return text[:end]

    def end(self) -> bytes:
        """What is left: a last line without its end."""
        rest, self._rest = self._rest, b""
        return rest


class Reader:
    """Finds values in lines that a program prints.

    Args:
        wanted: the metrics; everything that stands on a line of its own where there is none.
        curves: of which not the last value counts, but all; they may be missing.
    """

    def __init__(self, wanted: Sequence[Wanted] = (), curves: Sequence[Wanted] = ()) -> None:
        self.wanted = tuple(wanted)
        self.values: dict[str, Number] = {}
        self._curves = frozenset(one.name for one in curves)
        self._header: tuple[str, ...] = ()
        self._doubtful: deque[bytes] = deque(maxlen=_DOUBTFUL)
        looked = {one.name: one for one in (*curves, *wanted)}.values()
        self._names = frozenset(one.name for one in looked if not one.pattern)
        self._patterns = [(one.name, one.pattern) for one in looked if one.pattern]
        self._within = [(name, _within(name)) for name in sorted(self._names)]

    def read(self, text: bytes) -> list[Found]:
        """Read whole lines. Returns those values in them that belong to curves, in order."""
        if b"\x1b" in text:
            text = _ESCAPE.sub(b"", text)
        text = text.replace(b"\r", b"\n")
        last: dict[str, Found] = {}
        points: dict[tuple[int, str], Found] = {}
        for one in (*self._forms(text), *self._inside(text), *self._matched(text)):
            if one.name in self._curves:
                line = text.rfind(b"\n", 0, one.at), one.name
                if line not in points or points[line].step is None:
                    points[line] = one
            if one.name not in last or one.at >= last[one.name].at:
                last[one.name] = one
        for name, one in last.items():
            if name in self.values or self.wanted or len(self.values) < MOST_NAMES:
                self.values[name] = one.value
        if any(one.name not in self.values for one in self.wanted):
            lines = text[-_DOUBTFUL * 1000 :].splitlines()[-_DOUBTFUL:]
            self._doubtful += [line for line in lines if _DIGIT.search(line)]
        return sorted(points.values(), key=lambda one: one.at)

    def _forms(self, text: bytes) -> Iterator[Found]:
        """Values of lines that are nothing but values."""
        if not self.wanted:
            yield from (Found(m.start(), m[1].decode(), m[2]) for m in _PAIR.finditer(text))
        tables = [(m.start(), _of_json(m[1])) for m in _JSON.finditer(text)] if b"{" in text else []
        for at, table in (*tables, *self._rows(text)):
            step = next((int(table[key]) for key in _STEPS if key in table), None)
            for name, number in table.items():
                if not self.wanted or name in self._names:
                    yield Found(at, name, number, step)

    def _rows(self, text: bytes) -> Iterator[tuple[int, Mapping[str, bytes]]]:
        """Rows of a table with a header, by its names."""
        if b"," not in text or (not self._header and not _HEADER.search(text)):
            return
        for match in _ROW.finditer(text):
            cells = [cell.strip(b' \t"') for cell in match[0].split(b",")]
            if _HEADER.fullmatch(match[0]) and not any(map(_IS_NUMBER.fullmatch, cells)):
                self._header = tuple(cell.decode(errors="replace") for cell in cells)
            elif len(cells) == len(self._header):
                pairs = zip(self._header, cells, strict=True)
                yield match.start(), {name: cell for name, cell in pairs if _IS_NUMBER.fullmatch(cell)}

    def _inside(self, text: bytes) -> Iterator[Found]:
        """Names that are looked for, anywhere in a line."""
        for name, pattern in self._within:
            if name in self._curves:
                for match in pattern.finditer(text):
                    if not _is_tail(text, match.start()):
                        yield Found(match.start(), name, match[1], _step(text, match.start(), match.end()))
                continue
            at = len(text)  # of a metric the last one is enough
            while (at := text.rfind(name.encode(), 0, at)) >= 0:
                if (found := pattern.match(text, at)) and not _is_tail(text, at):
                    yield Found(at, name, found[1])
                    break

    def _matched(self, text: bytes) -> Iterator[Found]:
        """What the user's own expressions match."""
        at = 0
        for line in text.split(b"\n") if self._patterns else ():
            shown = line[:MOST_LINE].decode(errors="replace")
            for name, pattern in self._patterns:
                if match := pattern.search(shown):
                    number = ((match[1] if pattern.groups else match[0]) or "").strip().encode()
                    if _IS_NUMBER.fullmatch(number):
                        yield Found(at, name, number, _step(line, 0, 0))
            at += len(line) + 1

    def results(self) -> dict[str, Number]:
        """The last value of each metric, or of all names where none was asked for.

        Raises:
            NotPrinted: one is missing or not finite, or there is none at all.
        """
        for one in self.wanted:
            if one.name not in self.values:
                raise NotPrinted(f"no {one.name} was printed{self._closest(one.name)}")
            if not math.isfinite(self.values[one.name]):
                raise NotPrinted(f"{one.name} is {self.values[one.name]}, which is no finite number")
        if not self.values:
            raise NotPrinted("no line of the form 'name: value' was printed")
        names = [one.name for one in self.wanted] or list(self.values)
        return {name: self.values[name] for name in names if math.isfinite(self.values[name])}

    def _closest(self, name: str) -> str:
        """The lines that are most like one with this name."""

        def likeness(line: str) -> float:
            words = re.split(r"[^\w.]+", line.lower())
            return max(difflib.SequenceMatcher(None, name.lower(), word).ratio() for word in words)

        lines = dict.fromkeys(line[:MOST_LINE].decode(errors="replace") for line in self._doubtful)
        best = sorted(lines, key=likeness, reverse=True)[:_SHOWN]
        if not best:
            return ": no line holds a number"
        return "; the lines that came closest:" + "".join(f"\n    {line.strip()[:200]}" for line in best)


def _within(name: str) -> re.Pattern[bytes]:
    """A name with its number. (It begins with the name itself: such expressions are the fastest.)"""
    return re.compile(
        re.escape(name.encode()) + rb"[\"']?(?:[ \t]*[:=][ \t]*|[ \t]+is[ \t]+|[ \t]+)(" + _NUMBER + rb")"
    )


def _is_tail(text: bytes, at: int) -> bool:
    """Whether what is there is the end of a longer name."""
    return at > 0 and _WITHIN_NAME.match(text, at - 1) is not None


def _step(text: bytes, start: int, stop: int) -> int | None:
    """What the line around a place counts."""
    end = text.find(b"\n", stop)
    match = _STEP.search(text, text.rfind(b"\n", 0, start) + 1, len(text) if end < 0 else end)
    return int(match[1]) if match else None


def _of_json(text: bytes) -> Mapping[str, bytes]:
    """The numbers of a line of JSON by their dotted keys; none where it is no JSON."""
    try:
        return dict(_leaves(json.loads(text, **_AS_WRITTEN)))
    except (ValueError, RecursionError):
        return {}


class _Literal(str):
    """A number of JSON as it is written."""

    __slots__ = ()


_AS_WRITTEN: Any = dict.fromkeys(("parse_int", "parse_float", "parse_constant"), _Literal)


def _leaves(data: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, _Literal):
            yield f"{prefix}{key}", value.encode()
