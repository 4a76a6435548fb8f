"""The project's cards of literature, `papers/NAME.md`: YAML front matter says what a paper claims and where
that stands here, the prose after it what we make of it.

They are read from a commit, as data: bounded, never followed through a link, nothing outside of that folder.
What experiments made of a card is not written into it: it follows from their verdicts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Self

from ar import formats
from ar.errors import ArError, nearest
from ar.formats import BadData
from ar.git.repo import Repo
from ar.record import Record
from ar.text import one_line, plain, shorten_middle

FOLDER = "papers"
MOST_CARDS = 500
MOST_BYTES = 20_000  # of one card's file
MOST_PROSE = 8_000  # characters
_MOST_FIELD = 600  # characters of one field
_MOST_NAME = 80
_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{_MOST_NAME - 1}}}")
_FILE = re.compile(rf"{FOLDER}/(?P<name>[^/]+)\.md")
_FRONT = re.compile(
    r"\A---[ \t]*\r?\n(?P<yaml>.*?)^---[ \t]*\r?$\n?(?P<prose>.*)\Z", re.DOTALL | re.MULTILINE
)


class BadCard(ArError):
    """A card that cannot be read."""


@dataclass(frozen=True)
class Card(Record):
    """What one paper, post or log is known to say, in few words.

    Args:
        name: of its file, without folder and ending; how proposals cite it.
        source: `arXiv:…`, `doi:…` or a URL.
        claim: what it says helps, or does not.
        scale: on what it was tested.
        code: where the project has it.
        status: where it stands in the project, in its author's words.
        prose: the rest.
    """

    name: str
    title: str
    source: str
    claim: str = ""
    scale: str = ""
    code: str = ""
    status: str = ""
    prose: str = ""

    @classmethod
    def parse(cls, name: str, content: bytes) -> Self:
        """The card that a file's content is.

        Raises:
            BadCard: it is none, and why.
        """
        if len(content) > MOST_BYTES:
            raise BadCard(f"has {len(content):,} bytes", f"say it in {MOST_BYTES:,}")
        found = _FRONT.match(content.decode(errors="replace").lstrip("\ufeff"))
        if not found:
            raise BadCard("does not start with YAML between two lines of ---", "see: docs/agents.md")
        try:
            said = formats.load_yaml(found["yaml"])
        except BadData as error:
            raise BadCard(f"its front matter is not YAML: {error}", "mend it there") from None
        if not isinstance(said, Mapping):
            raise BadCard("its front matter is no mapping", "see: docs/agents.md")
        for key, value in said.items():
            if key not in KEYS:
                raise BadCard(f"has an unknown key '{one_line(str(key))[:40]}'", nearest(str(key), KEYS))
            if isinstance(value, list | dict):
                raise BadCard(f"its {key} is no plain text", "say it in a sentence")
        words = {key: _field(value) for key, value in said.items()}
        if missing := [key for key in ("title", "source") if not words.get(key)]:
            raise BadCard(f"lacks its {missing[0]}", f"add {missing[0]}: …")
        return cls(name, prose=shorten_middle(plain(found["prose"]).strip(), MOST_PROSE), **words)

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """What the front matter says, in its order, without what is empty."""
        return tuple((key, value) for key in KEYS if (value := getattr(self, key)))


KEYS = tuple(spec.name for spec in fields(Card) if spec.name not in ("name", "prose"))


def _field(value: object) -> str:
    return shorten_middle(one_line("" if value is None else str(value)), _MOST_FIELD)


@dataclass(frozen=True)
class Library:
    """The cards of one commit, by name, and why other files of the folder are none."""

    cards: dict[str, Card] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def read(repo: Repo, rev: str) -> Library:
    """The cards of a commit or tree. What cannot be read is left out, and said."""
    entries = repo.files(rev)
    found = {match["name"]: path for path in entries if (match := _FILE.fullmatch(path))}
    cards, refused, wanted = dict[str, Card](), dict[str, str](), list[str]()
    for name, path in sorted(found.items()):
        if not is_name(name):
            refused[path] = "a card's name has small letters, digits, dots and dashes only"
        elif not entries[path].is_file:
            refused[path] = "is no file of its own"
        elif len(wanted) == MOST_CARDS:
            refused[path] = f"a project has at most {MOST_CARDS} cards"
        else:
            wanted.append(name)
    sizes = repo.sizes([entries[found[name]].blob for name in wanted])
    small = [name for name, size in zip(wanted, sizes, strict=True) if size <= MOST_BYTES]
    refused |= {found[name]: f"has more than {MOST_BYTES:,} bytes" for name in wanted if name not in small}
    contents = repo.read_many([(rev, found[name]) for name in small])
    for name, content in zip(small, contents, strict=True):
        try:
            cards[name] = Card.parse(name, content or b"")
        except BadCard as error:
            refused[found[name]] = error.message
    return Library(cards, refused)


def is_name(text: str) -> bool:
    """Whether it can be a card's name."""
    return bool(_NAME.fullmatch(text))


def named(text: str) -> str:
    """The name in what somebody cites a card by: its name, or the path of its file."""
    return text.strip().removeprefix(f"{FOLDER}/").removesuffix(".md")


def rendered(card: Card) -> str:
    """A card as the text of its file, its empty fields too, for whoever fills them."""
    lines = [f"{key}: {json.dumps(getattr(card, key), ensure_ascii=False)}" for key in KEYS]
    return "\n".join(["---", *lines, "---", "", card.prose.strip(), ""])
