"""Secrets found in text and taken out, before it is kept, sent or printed.

A secret is every value that a stage or an agent was handed, the value of an environment variable whose name
says so, whatever has the shape of a well-known kind of key, and a long value that a text itself assigns to a
name such as `api_key`. A value counts also in base64, in hexadecimal, URL-encoded, and with white space
within. Whatever the text, the time this takes grows with its length only: a stage chooses what it prints.
"""

from __future__ import annotations

import base64
import functools
import itertools
import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping

MARK = "[secret removed]"

_NAME = re.compile(
    r"KEY(?!BOARD|MAP|RING)|TOKEN(?!IZ)|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL", re.IGNORECASE
)
# What variables hold without being secrets: counts, switches, places on this machine. With a longer part, it
# may be a key that begins with a slash.
_HARMLESS = re.compile(r"\d{1,11}|true|false|enabled|disabled|(?:/[\w.-]{0,24})+", re.IGNORECASE)
# A setting such as a project's name, handed on under a name that promises no secret, is a word of every text.
_WORD = re.compile(r"[a-z]{1,12}|[A-Z]{1,12}")
_SHORTEST = 6
# Every repetition is bounded, takes a whole run of characters at once, or begins where a run does: from no
# text does the search look at a character more often than a fixed number of times.
_SHAPES = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:(?!-----(?:BEGIN|END)).)*+(?:-----END [A-Z ]++-----)?"
    r"|\bsk-[A-Za-z0-9_-]{20,}+"  # Anthropic, OpenAI, OpenRouter
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}+|\bgithub_pat_[A-Za-z0-9_]{20,}+|\bglpat-[A-Za-z0-9_-]{20,}+"
    r"|\bhf_[A-Za-z0-9]{20,}+|\bnpm_[A-Za-z0-9]{30,}+|\bpypi-[A-Za-z0-9_-]{40,}+"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[A-Za-z0-9_-]{30,}+|\bya29\.[A-Za-z0-9_-]{20,}+"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}+"
    r"|(?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-]*eyJ)[A-Za-z0-9_-]{13,}+"  # a signed JSON web token
    r"\.eyJ[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+",
    re.DOTALL,
)
# `token = …` alone is everyday code of a language model; these names are not. The value has letters and
# digits and nothing that an expression would have.
_ASSIGNED = re.compile(
    r"(?P<name>(?:api|access|auth|private|secret)[_-]?(?:key|token)|client[_-]?secret|password|passwd"
    r"|authorization)(?P<between>[\"']?\s*+[:=]\s*+[\"']?(?:bearer\s++|basic\s++)?)"
    r"(?P<value>[A-Za-z0-9+/_~=-]{16,}+)(?P<after>[.(\[]?)",
    re.IGNORECASE,
)
_DIGIT, _LETTER = re.compile(r"\d"), re.compile(r"[A-Za-z]")
# What may break a value: white space; where there is a backslash also such as is written with one. That is
# tried apart: the letter behind a backslash may be a value's first.
_GAPS = re.compile(r"\s++")
_ESCAPED_GAPS = re.compile(r"(?:\s|\\[nrt]|\\(?=\s))++")

_handed: set[str] = set()


def hand(values: Iterable[str]) -> None:
    """Count these values of environment variables as secrets from here on: code that may print them has them,
    whatever the names of the variables."""
    _handed.update(values)


def redact(text: str, environ: Mapping[str, str] | None = None) -> str:
    """The text with every secret in it replaced by `MARK`.

    Args:
        environ: whose values count as secrets where the names say so; None for this process's environment.
    """
    known = _spellings(frozenset(_values(os.environ if environ is None else environ)))
    text = _without(text, known, _GAPS)
    if "\\" in text:
        text = _without(text, known, _ESCAPED_GAPS)
    text = _SHAPES.sub(MARK, text)
    return _ASSIGNED.sub(_assigned, text)


def _assigned(found: re.Match[str]) -> str:
    name, between, value, after = found.group("name", "between", "value", "after")
    if after or not _DIGIT.search(value) or not _LETTER.search(value):
        return found.group()
    return f"{name}{between}{MARK}"


def _values(environ: Mapping[str, str]) -> Iterator[str]:
    """Secret values of an environment, and those that were handed on: each of their lines, and the whole."""
    named = (value for name, value in environ.items() if _NAME.search(name))
    unnamed = (value for value in _handed if not _WORD.fullmatch(value))
    for value in itertools.chain(named, unnamed):
        for part in (value, *value.splitlines()):
            part = part.strip()
            if len(part) >= _SHORTEST and not _HARMLESS.fullmatch(part):
                yield part


@functools.lru_cache(maxsize=8)
def _spellings(values: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """How values may be written, without white space: case tells them apart, or (the latter) does not."""
    exact, folded = set[str](), set[str]()
    for value in values:
        raw = value.encode(errors="surrogateescape")
        exact.add(value)
        for plain in (urllib.parse.quote, urllib.parse.quote_plus):
            exact.add(plain(raw, safe=""))
            exact.add(re.sub(r"%[0-9A-F]{2}", lambda it: it.group().lower(), plain(raw, safe="")))
        folded.add(raw.hex())
        exact.update(_base64(raw))
    tight = {_GAPS.sub("", spelling) for spelling in exact}
    return _long(tight), _long(folded)


def _long(spellings: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(it for it in spellings if len(it) >= _SHORTEST))


def _base64(raw: bytes) -> Iterator[str]:
    """The characters that a value alone decides, wherever in the encoded bytes it begins."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).decode()
        first = -(-8 * before // 6)
        last = 8 * (before + len(raw)) // 6
        yield encoded[first:last]
        yield encoded[first:last].translate(str.maketrans("+/", "-_"))


def _without(text: str, known: tuple[tuple[str, ...], tuple[str, ...]], breaks: re.Pattern[str]) -> str:
    """The text with `MARK` for each known spelling, wherever it is broken.

    Spellings that overlap go together: one may hold another.
    """
    exact, folded = known
    if not exact and not folded:
        return text
    gaps = [found.span() for found in breaks.finditer(text)]
    tight = breaks.sub("", text)
    lower = tight.lower()
    if len(lower) != len(tight):  # letters that have no lower case of one character
        lower = re.sub(r"[A-Z]+", lambda it: it.group().lower(), tight)
    spans = [
        (at, at + len(spelling))
        for within, spellings in ((tight, exact), (lower, folded))
        for spelling in spellings
        for at in _places(within, spelling)
    ]
    if not spans:
        return text
    parts, done = [], 0
    for start, end in _outside(_merged(spans), gaps):
        parts += [text[done:start], MARK]
        done = end
    return "".join([*parts, text[done:]])


def _places(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + len(part))


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _outside(spans: list[tuple[int, int]], gaps: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Where spans of a text without gaps are in the text with them; both in order."""
    removed, at = 0, 0
    for start, end in spans:
        places = []
        for place in (start, end - 1):
            while at < len(gaps) and gaps[at][0] - removed <= place:
                removed += gaps[at][1] - gaps[at][0]
                at += 1
            places.append(place + removed)
        yield places[0], places[1] + 1
