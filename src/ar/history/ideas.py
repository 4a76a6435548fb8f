"""What somebody wants tried: an idea in words, and the change that it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ar.history.spend import Spend
from ar.record import Record


@dataclass(frozen=True)
class Idea(Record):
    """What is tried and why, as its proposer put it. It stays with the change through every run of it.

    Args:
        title: what changes, at most 72 characters.
        hypothesis: why it should help, what in the history suggests it, what would refute it.
        agent: who proposes.
        parent: name of the experiment this one builds on or repairs.
        expected: expected effect in words or a number, as the agent gave it.
        simplification: declared to make things simpler at equal quality.
        spend: what it cost to come by, answers that were refused too; None where nobody asked a price.
        stack: names of the attempts whose changes it joins on a baseline that is not (all of) theirs.
        reverts: name of the promoted attempt that it takes out again.
        observed: id of the commit that somebody else made of it.
        sources: names of the cards of literature that it rests on.
    """

    title: str
    hypothesis: str = ""
    agent: str = ""
    parent: str = field(default="", kw_only=True)
    expected: str = field(default="", kw_only=True)
    simplification: bool = field(default=False, kw_only=True)
    spend: Spend | None = field(default=None, kw_only=True)
    stack: tuple[str, ...] = field(default=(), kw_only=True)
    reverts: str = field(default="", kw_only=True)
    observed: str = field(default="", kw_only=True)
    sources: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Edit(Record):
    """Replace the one occurrence of `old` in `path` by `new`; `old` empty creates the file."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Proposal(Idea):
    """A change to try.

    Args:
        params: dotted key of the parameters file to value.
        edits: text edits of files in scope.
        tree: where the change was made on files, the head's tree with it; `edits` and `params` come on top.
        insist: why it is worth a run although it is near to what was tried.
    """

    params: dict[str, Any] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    tree: str = ""
    insist: str = field(default="", kw_only=True)
