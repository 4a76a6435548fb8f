"""JSON, YAML, TOML and CSV that experiments, remotes or other programs wrote, read within bounds.

Whoever wrote them may mean harm: size, depth, number of values and range of numbers are bounded before
anything is made of them. Each reader ends with plain values or with `BadData`, whatever the bytes are.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import yaml

MOST_BYTES = 4_000_000
MOST_CODE = 1_000_000  # bytes of what is parsed in Python: TOML, and Python itself
MOST_VALUES = MOST_BYTES // 16  # keys, values and collections
MOST_TEXT = 16_000_000  # characters, each alias of YAML counted as the copy that it stands for
MOST_DEPTH = 100  # of collections in collections; DVC and Hydra nest a handful
MOST_ROWS = 1_000_000  # of a table
LARGEST = int(sys.float_info.max)  # of whole numbers: what is measured or set is compared as a float

_SUSPECT = re.compile(r"\\u[dD][89a-fA-F]|[0-9]{300}")  # half a character, a number beyond any float
# `a.b.c`, the time for which grows with the square of its length in tomllib.
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}""")


class BadData(ValueError):
    """Bytes that are not what they should be, or too much of it.

    Args:
        line: counted from 1; None where it is not one line's.
    """

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.line = line


def load_json(content: bytes | str, most: int = MOST_BYTES) -> Any:
    """The value that JSON text holds; NaN and infinities are read, as Python and DVC write them.

    Raises:
        BadData: it is none, or exceeds a bound.
    """
    text = _text(content, most)
    data = _parsed(text, json.loads)
    # Most files are small: what cannot exceed a bound by its text need not be looked through.
    openers = text.count("[") + text.count("{")
    if openers > MOST_DEPTH or openers + text.count(",") > most // 16 or _SUSPECT.search(text):
        check(data, most // 16)
    return data


def load_toml(content: bytes | str) -> dict[str, Any]:
    """The mapping that TOML text holds.

    Raises:
        BadData: it is none, or exceeds a bound.
    """
    import tomllib

    text = _text(content, MOST_CODE)
    if _LONG_KEY.search(text):
        raise BadData(f"nested more than {MOST_DEPTH} deep")
    data: dict[str, Any] = _parsed(text, tomllib.loads)
    check(data)
    return data


def _parsed(text: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(text)
    except RecursionError:
        raise BadData(f"nested more than {MOST_DEPTH} deep") from None
    except ValueError as error:
        raise BadData(str(error)) from None


class YamlLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as DVC reads it: its version 1.2, where `1e-4` is a number and `on` a word. A date stays text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


def _integer(loader: YamlLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "").lower()
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2], 10)
    return sign * int(digits if base == 10 else digits[2:], base)


_NUMBER = r"""[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
    |[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"""
# The scalars of YAML 1.2, as ruamel.yaml tells them, and the characters that each may begin with.
_RESOLVERS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("float", _NUMBER, "-+0123456789."),
    ("int", r"[-+]?0b[0-1_]+|[-+]?0o?[0-7_]+|[-+]?[0-9_]+|[-+]?0x[0-9a-fA-F_]+", "-+0123456789"),
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
)
for _tag, _pattern, _first in _RESOLVERS:
    _regex = re.compile(rf"(?:{_pattern})\Z", re.VERBOSE)
    YamlLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _regex, list(_first))
YamlLoader.add_constructor("tag:yaml.org,2002:int", _integer)


def load_yaml(content: bytes | str) -> Any:
    """The value that YAML text holds. An alias counts as the copy that it stands for.

    Raises:
        BadData: it is none, or exceeds a bound; or a collection holds itself.
    """
    text = _text(content, MOST_BYTES)
    try:
        _measure(text)
        data = yaml.load(text, Loader=YamlLoader)  # noqa: S506 - a safe loader, in C where there is one
    except BadData:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadData(what, mark.line + 1 if mark else None) from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # What PyYAML raises of `!!float ""`, `!!bool x`, `!!timestamp x` and their like.
        raise BadData(f"a value is not of the type that its tag says: {error}"[:200]) from None
    check(data)
    return data


def _measure(text: str) -> None:
    """Refuse YAML that would grow beyond the bounds, by its events, before anything is made of them."""
    total, anchors = [0, 0], dict[str, list[int] | None]()  # values and characters; None: still open
    above: list[tuple[str | None, list[int]]] = []  # anchor of each open collection, and the total before it

    for event in yaml.parse(text, Loader=YamlLoader):
        grown = [1, 1]
        if isinstance(event, yaml.AliasEvent):
            known = anchors.get(event.anchor or "", [0, 0])
            if known is None:
                raise BadData("a collection holds itself", _line(event))
            grown = known
        elif isinstance(event, yaml.ScalarEvent):
            grown = [1, 1 + len(event.value)]
            if event.anchor:
                anchors[event.anchor] = grown
        elif isinstance(event, yaml.CollectionStartEvent):
            above.append((event.anchor, total))
            if event.anchor:
                anchors[event.anchor] = None
            if len(above) > MOST_DEPTH:
                raise BadData(f"nested more than {MOST_DEPTH} deep", _line(event))
        total = [total[0] + grown[0], total[1] + grown[1]]
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = above.pop()
            if anchor:
                anchors[anchor] = [total[0] - before[0], total[1] - before[1]]
        if total[0] > 2 * MOST_VALUES or total[1] > MOST_TEXT:  # an end is an event, too
            raise BadData("it holds too much", _line(event))


def _line(event: yaml.Event) -> int | None:
    return event.start_mark.line + 1 if event.start_mark else None


def table(text: str, delimiter: str = "") -> Iterator[list[str]]:
    """The rows of a CSV or TSV file, its header first; empty lines are left out.

    What cannot be read ends it, such as a cell without an end: what came before counts.

    Args:
        delimiter: by default a tab where the first line has one, else a comma.
    """
    delimiter = delimiter or ("\t" if "\t" in text.partition("\n")[0] else ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for _, row in zip(range(MOST_ROWS), rows, strict=False):
            if row:
                yield row
    except csv.Error:
        return


def numbered(text: str) -> Iterator[tuple[int, list[str] | BadData]]:
    """The rows of a comma-separated table, each with the number of its first line, from 1; what is wrong in
    place of one that is none."""
    rows = csv.reader(io.StringIO(text, newline=""))
    while True:
        number = rows.line_num + 1
        try:
            yield number, next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, BadData(str(error), number)


def check(data: Any, most: int = MOST_VALUES) -> None:
    """Hold plain values, of whatever origin, against the bounds.

    Raises:
        BadData: they are too many, too deep, not plain, or a whole number is beyond any float.
    """
    waiting, count = [(data, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if isinstance(value, dict | list):
            if depth == MOST_DEPTH:
                raise BadData(f"nested more than {MOST_DEPTH} deep")
            waiting += [(item, depth + 1) for item in value]
            waiting += [(item, depth + 1) for item in value.values()] if isinstance(value, dict) else []
        elif isinstance(value, str):
            if not value.isascii():
                _text(value, MOST_TEXT)
        elif isinstance(value, int) and abs(value) > LARGEST:
            raise BadData("a whole number is beyond any float")
        if len(waiting) + count > 2 * most:
            raise BadData("it holds too much")


def _text(content: bytes | str, most: int) -> str:
    if len(content) > most:
        raise BadData(f"larger than {most // 1_000_000} MB")
    try:
        if isinstance(content, bytes):
            return content.decode("utf-8-sig")
        if not content.isascii():
            content.encode()
    except UnicodeError:
        raise BadData("not UTF-8 text") from None
    return content
