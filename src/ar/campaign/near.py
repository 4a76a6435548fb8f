"""What is near to earlier attempts, sent back to its proposer with their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ar.agents import rows
from ar.agents.fence import fence
from ar.changes.likeness import Likeness
from ar.changes.proposal import Change
from ar.errors import BadProposal
from ar.history.records import Attempt, History
from ar.project.program import Program
from ar.text import one_line

_MOST = 5  # attempts that are named


class TooNear(BadProposal):
    """A change is near to what was tried. `told` has the results of that, as data."""

    def __init__(self, near: Sequence[Attempt], program: Program) -> None:
        mend = "propose something else, or say in `insist` why this one is worth a run"
        super().__init__(f"it is near to {_names(near)}", mend)
        lines = "\n".join(rows.line(program, attempt) for attempt in near[:_MOST])
        self.told = fence(lines, "what it is near to: name | title | effect | … | verdict | reason")


def checked(likeness: Likeness, change: Change, history: History) -> Change:
    """The change, if it is not near to what was tried, or its proposer insists; the reason stays with it.

    Raises:
        TooNear: it is, and nobody insists.
    """
    near = likeness.near(change, history)
    why = one_line(change.proposal.insist)
    if near and not why:
        raise TooNear(near, likeness.project.program)
    if not near:
        return change
    words = f"{change.proposal.hypothesis}\n\nNear to {_names(near)}, and tried since: {why}".strip()
    return replace(change, proposal=replace(change.proposal, hypothesis=words))


def _names(near: Sequence[Attempt]) -> str:
    more = f" and {len(near) - _MOST} more" if len(near) > _MOST else ""
    return ", ".join(attempt.name for attempt in near[:_MOST]) + more
