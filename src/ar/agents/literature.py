"""What an agent is told of the project's literature: that there are cards, and those that it asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ar.agents import holdout
from ar.agents.fence import fence
from ar.git.repo import Repo
from ar.history.citations import citing, verdicts
from ar.history.records import History
from ar.project import paper_search, papers
from ar.project.papers import Card
from ar.project.program import Program
from ar.text import counted, one_line, shorten_middle

_MOST_NAMED, _MOST_FOUND, _MOST_LISTED, _MOST_CITING = 40, 6, 60, 5
_PROSE, _MOST = 2_500, 24_000  # characters of one card's prose, and of an answer


def pointer(names: Sequence[str]) -> str:
    """That there are cards, and how to look; empty where there are none."""
    if not names:
        return ""
    more = [f"… {len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    listed = fence(", ".join([*names[:_MOST_NAMED], *more]), "names of the cards")
    return (
        f"The branch has {counted(len(names), 'card')} of literature, in {papers.FOLDER}/NAME.md; the tool"
        " `literature` searches them. Cite those that a proposal rests on: with its evidence, or by a line"
        f" `Source: NAME, NAME` of a command's message.\n{listed}"
    )


def found(repo: Repo, program: Program, history: History, question: str) -> str:
    """The cards that fit a question best, each with what experiments made of it.

    Raises:
        BadState: this Python cannot search.
    """
    cards = list(papers.read(repo, history.head).cards.values())
    hits = paper_search.search(cards, question)
    shown = [_whole(history, card) for card in hits[:_MOST_FOUND]] if question.strip() else []
    shown = shown or [_short(history, card) for card in hits[:_MOST_LISTED]]
    rest = len(hits) - (_MOST_FOUND if question.strip() else _MOST_LISTED)
    if rest > 0:
        shown.append(f"… {rest} more: give other words")
    text = holdout.hidden("\n\n".join(shown) or "none", program, history.experiments)
    return fence(text, f"{len(hits)} of {counted(len(cards), 'card')}, the best first", _MOST)


def known(repo: Repo, head: str, names: Iterable[str]) -> tuple[str, ...]:
    """Those of some names that are cards of the head."""
    wanted = tuple(names)
    return tuple(filter(papers.read(repo, head).cards.__contains__, wanted)) if wanted else ()


def _whole(history: History, card: Card) -> str:
    lines = [f"card {card.name}", *(f"{key}: {value}" for key, value in card.facts)]
    attempts = citing(history, card.name)
    if attempts:
        names = ", ".join(f"{one_line(item.name)} {item.outcome}" for item in attempts[-_MOST_CITING:])
        lines.append(f"experiments that cite it: {verdicts(history, card.name)}; the newest: {names}")
    else:
        lines.append("experiments that cite it: none")
    return "\n".join([*lines, shorten_middle(card.prose, _PROSE)]).rstrip()


def _short(history: History, card: Card) -> str:
    cells = (card.name, card.title, card.source, card.status, verdicts(history, card.name))
    return " | ".join(filter(None, cells))
