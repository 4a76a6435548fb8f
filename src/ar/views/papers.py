"""Cards of literature as people see them, with what experiments made of each."""

from __future__ import annotations

from ar.git.repo import Repo
from ar.history.citations import citing, verdicts
from ar.history.records import History
from ar.project import papers
from ar.project.papers import Card, Library
from ar.views.document import Items, Section


def listed(history: History, library: Library) -> list[str]:
    """A line a card, and one for each file that is none."""
    lines = [line(history, card) for card in library.cards.values()]
    lines += [f"{path} is no card: {why}" for path, why in library.refused.items()]
    return lines or ["There are no cards on the branch. To make one: ar read arXiv:ID > papers/NAME.md"]


def line(history: History, card: Card) -> str:
    """A card in a line: name, title, source, status, verdicts."""
    tried = verdicts(history, card.name)
    cells = (card.name, card.title, card.source, card.status, f"cited by {tried}" if tried else "")
    return "  ".join(filter(None, cells))


def whole(history: History, card: Card) -> list[str]:
    """A card with all that it says."""
    names = [f"{item.name} {item.outcome}" for item in citing(history, card.name)]
    facts = [f"  {key}: {value}" for key, value in card.facts]
    facts += [f"  experiments that cite it: {', '.join(names)}"] if names else []
    return [card.name, *facts, *(["", card.prose] if card.prose else []), ""]


def section(repo: Repo, history: History) -> list[Section]:
    """What became of the cards that experiments cite, for a report; empty where none is cited."""
    facts = [
        f"{card.title} ({card.source}): cited by {tried}"
        for card in papers.read(repo, history.head).cards.values()
        if (tried := verdicts(history, card.name))
    ]
    return [Section("The literature", (Items(tuple(facts)),))] if facts else []
