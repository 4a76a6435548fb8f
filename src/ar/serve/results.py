"""What came of a call that did something, or waited."""

from __future__ import annotations

from dataclasses import dataclass

from ar.history.attempts import effect
from ar.history.records import Attempt, Verdict
from ar.project.program import Program
from ar.record import Record
from ar.serve.overview import is_settled
from ar.serve.words import Words, told_verdict


@dataclass(frozen=True)
class Proposed(Record):
    """What became of a proposal.

    Args:
        name: of the attempt; wait for it by that.
        is_new: whether this call queued it; false where the very same change was under way already.
        diff: what was queued, as a patch; shortened in the middle.
    """

    name: str
    title: str
    is_new: bool
    outcome: str
    at_work: bool
    diff: str
    advice: str


@dataclass(frozen=True)
class Waited(Record):
    """How an attempt stands after a wait.

    Args:
        is_settled: whether it ended or was decided; otherwise the time was up first.
        ended, left: runs that have ended, and that wait or run.
        verdict: its effect is oriented: below 0 is an improvement.
    """

    name: str
    title: str
    outcome: str
    is_settled: bool
    ended: int
    left: int
    effect: str
    verdict: Verdict | None
    at_work: bool
    advice: str


@dataclass(frozen=True)
class Noted(Record):
    """A lesson of the notebook as it stands.

    Args:
        lesson: its name, to say something of it later.
    """

    lesson: str
    text: str
    standing: str
    cites: tuple[str, ...]


@dataclass(frozen=True)
class Stopped(Record):
    """How a run ended that was stopped."""

    name: str
    status: str
    reason: str


@dataclass(frozen=True)
class Promoted(Record):
    """What was merged.

    Args:
        commit: the merge.
        branch: where it landed, if that is not the branch that is checked out.
    """

    name: str
    title: str
    commit: str
    branch: str


def waited(program: Program, attempt: Attempt, at_work: bool, advice: str) -> Waited:
    words = Words(program, [attempt])
    ended = sum(run.status.ended for run in attempt.own or attempt.experiments)
    return Waited(
        name=attempt.name,
        title=words(attempt.title),
        outcome=str(attempt.outcome),
        is_settled=is_settled(attempt),
        ended=ended,
        left=len(attempt.own or attempt.experiments) - ended,
        effect=effect(attempt, program),
        verdict=told_verdict(words, attempt.verdict),
        at_work=at_work,
        advice=advice,
    )
