"""A document of plain sections, whatever it is written as.

Whatever stands in it may come from agents and experiments: it is escaped wherever it ends up.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass


@dataclass(frozen=True)
class Prose:
    """Markdown that people and agents wrote: shown as such, but without links, pictures and HTML."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list; `folded` under a line of its own."""

    items: tuple[str, ...]
    folded: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first column is text, the others are numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Code:
    """Lines as they are. `language` is diff or console."""

    text: str
    language: str


@dataclass(frozen=True)
class Picture:
    """An SVG picture."""

    svg: str
    caption: str

    @property
    def url(self) -> str:
        """Of an image: as such, what is inside cannot run or load anything, whatever it says."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"


Block = str | Prose | Items | Table | Code | Picture  # a string is a paragraph


@dataclass(frozen=True)
class Section:
    """A heading, of level 2 or 3, and what stands below it."""

    heading: str
    blocks: tuple[Block, ...]
    level: int = 2


@dataclass(frozen=True)
class Document:
    """The whole of it."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
