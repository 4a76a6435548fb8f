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
import string
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
# text does the search look at a character more often than a fixed number of times. None that is possessive
# holds a choice: until 3.11.5, Python's `re` matches these wrongly.
_KEY = r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:[^-]++|-(?!----(?:BEGIN|END)))*"
_SHAPES = re.compile(
    rf"{_KEY}(?:-----END [A-Z ]++-----)?"
    r"|\bsk-[A-Za-z0-9_-]{20,}+"  # Anthropic, OpenAI, OpenRouter
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}+|\bgithub_pat_[A-Za-z0-9_]{20,}+|\bglpat-[A-Za-z0-9_-]{20,}+"
    r"|\bhf_[A-Za-z0-9]{20,}+|\bnpm_[A-Za-z0-9]{30,}+|\bpypi-[A-Za-z0-9_-]{40,}+"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[A-Za-z0-9_-]{30,}+|\bya29\.[A-Za-z0-9_-]{20,}+"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}+"
    r"|(?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-]*eyJ)[A-Za-z0-9_-]{13,}+"  # a signed JSON web token
    r"\.eyJ[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+"
)
# `token = …` alone is everyday code of a language model; these names are not. The value has letters and
# digits and nothing that an expression would have.
_NAMED = (
    r"(?:(?:api|access|auth|private|secret)[_-]?(?:key|token)|client[_-]?secret|password|passwd"
    r"|authorization)"
)
_ASSIGNED = re.compile(
    _NAMED + r"[\"']?\s*+[:=]\s*+[\"']?(?:bearer\s++|basic\s++)?"
    r"(?P<value>[A-Za-z0-9+/_~=-]{16,}+)(?P<after>[.(\[]?)",
    re.IGNORECASE,
)
_DIGIT, _LETTER = re.compile(r"\d"), re.compile(r"[A-Za-z]")
# What may break a value: white space; where there is a backslash also such as is written with one. That is
# tried apart: the letter behind a backslash may be a value's first.
_GAPS = re.compile(r"\s++")
_ESCAPED_GAPS = re.compile(r"(?:\s|\\[nrt]|\\(?=\s))+")

# Without one of these in it, a text has no secret by its shape: looked for first, as most texts have none.
_SIGNS = (
    "PRIVATE KEY-", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_", "npm_",
    "pypi-", "AKIA", "ASIA", "AIza", "ya29.", "xox", ".eyJ",
)  # fmt: skip
_SIGNS_OF_NAMES = ("key", "token", "secret", "passw", "authorization")
# The end of a text that more may make a secret of: a run of what keys are made of, a name that a value is to
# follow, a private key.
_RUN = string.ascii_letters + string.digits + "_+/=~.-"
_ASSIGNING = re.compile(_NAMED + r"[\"']?\s*+[:=]?\s*+[\"']?(?:bearer\s++|basic\s++)?\Z", re.IGNORECASE)
_KEY_BLOCK = re.compile(rf"{_KEY}(?:-----END[A-Z ]*+-{{0,4}})?\Z")
_KEY_LINE = re.compile(r"-{1,5}B[A-Z -]{0,60}\Z")
_SMALL, _MOST_KEPT = 1 << 9, 1 << 16  # characters

# How values may be written: case tells them apart, or (the latter) does not.
_Spellings = tuple[tuple[str, ...], tuple[str, ...]]
_handed: set[str] = set()


def hand(values: Iterable[str]) -> None:
    """Count these values of environment variables as secrets from here on: code that may print them has them,
    whatever the names of the variables."""
    _handed.update(values)


def is_secret(name: str) -> bool:
    """Whether the name of a variable or a setting says that its value is a secret."""
    return _NAME.search(name) is not None


def redact(
    text: str, environ: Mapping[str, str] | None = None, start: int = 0, unfinished: bool = False
) -> str:
    """The text with every secret in it replaced by `MARK`.

    Args:
        environ: whose values count as secrets where the names say so; None for this process's environment.
        start: where to begin; what comes before tells secrets that reach beyond it.
        unfinished: whether more is to come. The end is left out where that may make a secret of it.
    """
    known = _known(environ)
    secrets = _secrets(text, known)
    end = _settled(text, known, secrets) if unfinished else len(text)
    return _replaced(text, secrets, min(start, end), end)


class Redactor:
    """Takes secrets out of a text that comes in parts: what it gives out holds no secret and no beginning of
    one, and what it keeps has a bound. All parts together take time that grows with their length only.

    Args:
        environ: as for `redact`.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._values = _known(environ)
        self._parts: list[str] = []
        self._held = self._fresh = 0  # characters that were looked at and kept; that came since

    def feed(self, text: str) -> str:
        """What of the text so far no secret can begin in that is not all there."""
        self._parts.append(text)
        self._fresh += len(text)
        if 4 * self._fresh < self._held - _SMALL:
            return ""  # looked at whenever something comes, much that is kept would take its square in time
        text = "".join(self._parts)
        secrets = _secrets(text, self._values)
        end = _settled(text, self._values, secrets)
        rest = text[end:]
        if len(rest) > _MOST_KEPT:
            end = _begun(text, self._values)
            rest = _ESCAPED_GAPS.sub(lambda gap: gap.group()[:2], text[end:])
        self._parts, self._held, self._fresh = [rest], len(rest), 0
        return _replaced(text, secrets, 0, end)

    @property
    def kept(self) -> str:
        """What was not given out so far."""
        return "".join(self._parts)


def _known(environ: Mapping[str, str] | None) -> _Spellings:
    return _spellings(frozenset(_values(os.environ if environ is None else environ)))


def _secrets(text: str, known: _Spellings) -> list[tuple[int, int]]:
    """Where secrets are in a text, in order; those that overlap as one."""
    found = _places(text, known, _GAPS)
    if "\\" in text:
        found += _places(text, known, _ESCAPED_GAPS)
    if any(sign in text for sign in _SIGNS):
        found += [it.span() for it in _SHAPES.finditer(text)]
    if _may_assign(text):
        found += [it.span("value") for it in _ASSIGNED.finditer(text) if _is_secret(it)]
    return _merged(found)


def _may_assign(text: str) -> bool:
    lower = text.lower()
    return any(sign in lower for sign in _SIGNS_OF_NAMES)


def _is_secret(found: re.Match[str]) -> bool:
    value = found["value"]
    return not found["after"] and bool(_DIGIT.search(value)) and bool(_LETTER.search(value))


def _replaced(text: str, secrets: list[tuple[int, int]], start: int, end: int) -> str:
    """A part of a text, `MARK` in place of the secrets that reach into it."""
    parts, done = [], start
    for first, last in secrets:
        if last > start and first < end:
            parts += [text[done:first], MARK]
            done = min(last, end)
    return "".join([*parts, text[done:end]])


def _settled(text: str, known: _Spellings, secrets: list[tuple[int, int]]) -> int:
    """Up to where no secret begins that is not all there."""
    end = len(text[: min(_begun(text, known), _begun_shape(text))].rstrip(_RUN))
    return next((first for first, last in secrets if first < end < last), end)


def _begun_shape(text: str) -> int:
    """Where that begins which may become a secret by its shape; the text's length if nothing."""
    places = [len(text.rstrip(_RUN))]
    if _may_assign(text) and (assigned := _ASSIGNING.search(text[: places[0]])):
        places.append(assigned.start())
    places += [found.start() for found in (_KEY_BLOCK.search(text), _KEY_LINE.search(text)) if found]
    return min(places)


def _begun(text: str, known: _Spellings) -> int:
    """Where a known spelling begins that the text's end is not all of; the text's length if none."""
    first = len(text)
    if not any(known):
        return first
    for breaks, part in ((_GAPS, text), (_ESCAPED_GAPS, text.rstrip("\\"))):
        tight = _Tight(part, breaks)
        for within, spellings in zip((tight.text, tight.lower), known, strict=True):
            begun = min((_end_begins(within, spelling) for spelling in spellings), default=len(within))
            if begun < len(within):
                [(place, _)] = tight.outside([(begun, begun + 1)])
                first = min(first, place)
    return first


def _end_begins(text: str, spelling: str) -> int:
    """Where a text's end begins that is a beginning of the spelling; the text's length if none is."""
    at = text.find(spelling[0], max(0, len(text) - len(spelling) + 1))
    while at >= 0 and not spelling.startswith(text[at:]):
        at = text.find(spelling[0], at + 1)
    return at if at >= 0 else len(text)


def _values(environ: Mapping[str, str]) -> Iterator[str]:
    """Secret values of an environment, and those that were handed on: each of their lines, and the whole."""
    named = (value for name, value in environ.items() if is_secret(name))
    unnamed = (value for value in _handed if not _WORD.fullmatch(value))
    for value in itertools.chain(named, unnamed):
        for part in (value, *value.splitlines()):
            part = part.strip()
            if len(part) >= _SHORTEST and not _HARMLESS.fullmatch(part):
                yield part


@functools.lru_cache(maxsize=8)
def _spellings(values: frozenset[str]) -> _Spellings:
    """How values may be written, without white space."""
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


class _Tight:
    """A text without what may break a value."""

    def __init__(self, text: str, breaks: re.Pattern[str]) -> None:
        self.gaps = [found.span() for found in breaks.finditer(text)]
        self.text = breaks.sub("", text)
        self.lower = self.text.lower()
        if len(self.lower) != len(self.text):  # letters that have no lower case of one character
            self.lower = re.sub(r"[A-Z]+", lambda it: it.group().lower(), self.text)

    def outside(self, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Where spans of it are in the text with gaps; in order, and none empty."""
        removed, at = 0, 0
        for span in spans:
            places = []
            for place in (span[0], span[1] - 1):
                while at < len(self.gaps) and self.gaps[at][0] - removed <= place:
                    removed += self.gaps[at][1] - self.gaps[at][0]
                    at += 1
                places.append(place + removed)
            yield places[0], places[1] + 1


def _places(text: str, known: _Spellings, breaks: re.Pattern[str]) -> list[tuple[int, int]]:
    """Where known spellings are, wherever they are broken; those that overlap as one."""
    if not any(known):
        return []
    tight = _Tight(text, breaks)
    spans = [
        (at, at + len(spelling))
        for within, spellings in zip((tight.text, tight.lower), known, strict=True)
        for spelling in spellings
        for at in _each(within, spelling)
    ]
    return list(tight.outside(_merged(spans)))


def _each(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + len(part))


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
