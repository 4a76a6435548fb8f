"""A search through cards of literature by words: SQLite's FTS5, in memory, made anew for each question."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterable

from ar.errors import BadState
from ar.project.papers import Card
from ar.text import plain

_MOST_WORDS, _MOST_LETTERS = 30, 60  # of a question, and of a word in it
_WEIGHTS = (
    8.0,
    6.0,
    4.0,
    2.0,
    1.0,
    1.0,
)  # of the columns below: a hit in a title tells more than one in prose


def search(cards: Iterable[Card], question: str) -> list[Card]:
    """Those cards in which any word of a question stands, the best first; all of them for a question without
    words. A word's ending does not matter: `windows` finds `window`.

    Raises:
        BadState: this Python's SQLite has no FTS5.
    """
    known = list(cards)
    words = [word[:_MOST_LETTERS] for word in re.findall(r"\w+", plain(question))[:_MOST_WORDS]]
    if not words:
        return known
    with contextlib.closing(sqlite3.connect(":memory:")) as index:
        try:
            index.execute(
                "CREATE VIRTUAL TABLE cards USING fts5"
                "(name, title, claim, source, facts, prose, tokenize = 'porter unicode61')"
            )
        except sqlite3.OperationalError as error:
            raise BadState(
                f"this Python's SQLite cannot search cards: {error}", "use a Python whose SQLite has FTS5"
            ) from None
        index.executemany(
            "INSERT INTO cards(rowid, name, title, claim, source, facts, prose) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (place, card.name, card.title, card.claim, card.source, _rest(card), card.prose)
                for place, card in enumerate(known)
            ),
        )
        asked = " OR ".join(f'"{word}"' for word in words)
        order = f"bm25(cards, {', '.join(map(str, _WEIGHTS))}), rowid"
        rows = index.execute(f"SELECT rowid FROM cards WHERE cards MATCH ? ORDER BY {order}", (asked,))  # noqa: S608
        return [known[place] for (place,) in rows.fetchall()]


def _rest(card: Card) -> str:
    return " ".join((card.scale, card.code, card.status))
