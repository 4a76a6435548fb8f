"""What experiments made of a card of literature: the verdicts of those that cite it."""

from __future__ import annotations

from collections import Counter

from ar.history.records import Attempt, History


def citing(history: History, card: str) -> tuple[Attempt, ...]:
    """The attempts whose proposals cite a card, oldest first."""
    return tuple(attempt for attempt in history.attempts if card in attempt.first.sources)


def verdicts(history: History, card: str) -> str:
    """How those attempts ended, in a few words: `2 discarded, 1 promoted`; empty where nobody cites it."""
    counts = Counter(attempt.outcome for attempt in citing(history, card))
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
