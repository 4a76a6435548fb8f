"""Lines of a message about a change that say something by themselves: `Expected: -0.01`, `Source: muon`."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

from ar.project import papers
from ar.text import one_line, plain

_MOST_EXPECTED = 200  # characters
_EDGE = f"{string.whitespace}*_"  # what decorates a value
_DECORATION = " #*_`>-\t"
# Possessive, as whoever wrote the line may have meant it to take for ever.
_BEGINS = r"^[\s*_-]*+(?P<key>{keys})[*_]*+\s*+:"
_FIELD = re.compile(_BEGINS.format(keys="title|expected|simplification|insist"), re.IGNORECASE)
# Of several cards' names only with commas between them: other words after `Source:` are prose.
_SOURCE = re.compile(_BEGINS.format(keys="sources?"), re.IGNORECASE)
_CARD = re.compile(r"`?(?P<name>[a-z0-9][a-z0-9._/-]*+)`?", re.IGNORECASE)


@dataclass(frozen=True)
class MessageLines:
    """A message, its lines sorted out.

    Args:
        rest: all other lines.
        sources: names of cards of literature.
    """

    rest: tuple[str, ...]
    title: str = ""
    expected: str = ""
    simplification: bool = False
    insist: str = ""
    sources: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is left of the message."""
        return "\n".join(self.rest).strip()


def read(message: str) -> MessageLines:
    """Sort out a message; of two lines that say the same the last one counts."""
    fields, sources, rest = dict[str, str](), list[str](), list[str]()
    for line in plain(message).strip().splitlines():
        if match := _FIELD.match(line):
            fields[match["key"].lower()] = one_line(line[match.end() :].strip(_EDGE))
        elif names := _cards(line):
            sources += names
        else:
            rest.append(line)
    return MessageLines(
        rest=tuple(rest),
        title=fields.get("title", "").strip(_DECORATION),
        expected=fields.get("expected", "")[:_MOST_EXPECTED],
        simplification=fields.get("simplification", "").lower().startswith("yes"),
        insist=fields.get("insist", ""),
        sources=tuple(dict.fromkeys(sources)),
    )


def bare(line: str) -> str:
    """A line on its own, without what decorates it."""
    return one_line(line).strip(_DECORATION)


def named(message: str, key: str) -> Iterator[str]:
    """What lines `key: …` of a message say."""
    begins = re.compile(_BEGINS.format(keys=re.escape(key)), re.IGNORECASE)
    for line in plain(message).splitlines():
        if match := begins.match(line):
            yield line[match.end() :].strip(_EDGE)


def _cards(line: str) -> list[str]:
    """The cards that a line `Source: …` names; none where it is prose."""
    match = _SOURCE.match(line)
    if match is None:
        return []
    found = [_CARD.fullmatch(part.strip()) for part in line[match.end() :].strip(_EDGE).split(",")]
    return [papers.named(one["name"].strip(".").lower()) for one in found if one] if all(found) else []
