"""Near misses: changes that are promising and not settled.

They looked better and were not confirmed, were undecided when the branch moved on, or were discarded before a
promotion changed what they touch. Once one of them was tried again, it is none any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from ar.git.objects import MissingObject
from ar.git.repo import Repo
from ar.history.attempts import gain
from ar.history.reader import read_values
from ar.history.records import Attempt, History, Label, Outcome
from ar.project.pipeline_file import Declared
from ar.project.program import EMBEDDED, Program
from ar.project.project import Project

PROMISING = 1.0  # standard errors that an unconfirmed change was better by, at least
HOPELESS = 1.0  # standard errors that an outdated one was worse by, at most


class Why(StrEnum):
    """Why a change is not settled."""

    LEFT_BEHIND = "looked better when the branch moved on"
    UNCONFIRMED = "looked better, was not confirmed"
    OUTDATED = "discarded before the branch changed what it touches"


@dataclass(frozen=True)
class NearMiss:
    """A change that may be worth another look.

    Args:
        effect: in standard errors where the verdict has them, oriented: below 0 is an improvement.
        here: it was measured against the branch as it is, so that the very same cannot be tried again.
    """

    attempt: Attempt
    why: Why
    effect: float
    here: bool


def near_misses(project: Project, history: History) -> list[NearMiss]:
    """All near misses, the most promising first. What the embedded agents tried is none: they propose it
    again where it promises most."""
    again = {item.first.parent for item in history.attempts} | retried(history)
    found = [
        miss
        for attempt in history.tried
        if attempt.name not in again and attempt.agent not in EMBEDDED and not attempt.first.reverts
        if (miss := _near_miss(project, history, attempt))
    ]
    return sorted(found, key=lambda miss: (miss.effect, miss.attempt.name))


def left_behind(history: History, program: Program) -> list[Attempt]:
    """What looked better than an earlier baseline when the branch moved on, the best first, and is not yet
    tried on the branch as it is. What the embedded agents tried they propose again where it promises most.
    """
    gains = {
        item.name: effect
        for item in behind(history)
        if _is_left_behind(item)
        and item.agent not in EMBEDDED
        and (effect := gain(history, item, program)) is not None
        and effect < 0
    }
    found = [item for item in history.attempts if item.name in gains]
    return sorted(found, key=lambda item: gains[item.name])


def behind(history: History) -> list[Attempt]:
    """Attempts against an earlier baseline that are not yet tried on the branch as it is."""
    tried = retried(history)
    return [
        item for item in history.attempts if not history.is_head(item.baseline) and item.name not in tried
    ]


def retried(history: History) -> set[str]:
    """Names of attempts whose change alone was carried onto a later branch, and judged or still will be."""
    return {
        item.stack[0]
        for item in history.attempts
        if len(item.stack) == 1 and (item.verdict is None or item.verdict.label is not Label.SUPERSEDED)
    }


def _is_left_behind(attempt: Attempt) -> bool:
    if attempt.outcome is not Outcome.SUPERSEDED or attempt.stack or attempt.first.reverts:
        return False
    return not (attempt.verdict and attempt.verdict.label is Label.CONFLICTS)


def _near_miss(project: Project, history: History, attempt: Attempt) -> NearMiss | None:
    here = history.is_head(attempt.baseline)
    if _is_left_behind(attempt) and not here:
        effect = gain(history, attempt, project.program)
        return (
            NearMiss(attempt, Why.LEFT_BEHIND, _scaled(attempt, effect), here)
            if effect and effect < 0
            else None
        )
    verdict = attempt.verdict
    if attempt.outcome is not Outcome.DISCARDED or verdict is None or verdict.effect is None:
        return None
    if verdict.label is not Label.PLAIN or verdict.failed_guard or not verdict.standard_error:
        return None
    score = verdict.effect / verdict.standard_error
    if score <= -PROMISING:
        return NearMiss(attempt, Why.UNCONFIRMED, score, here)
    doubtful = not here and not attempt.stack and score < HOPELESS and verdict.effect != 0
    if doubtful and _is_outdated(project, history, attempt):
        return NearMiss(attempt, Why.OUTDATED, score, here)
    return None


def _scaled(attempt: Attempt, effect: float) -> float:
    """A gain in standard errors, where they are known."""
    return effect / attempt.standard_error if attempt.standard_error else effect


def _is_outdated(project: Project, history: History, attempt: Attempt) -> bool:
    """Whether a promotion since has changed anything that the attempt changes."""
    own = touched(project, attempt)
    return any(own & touched(project, item) for item in _promoted_since(history, attempt))


def _promoted_since(history: History, attempt: Attempt) -> Iterator[Attempt]:
    return (item for item in history.promoted if item.created >= attempt.created and item is not attempt)


def touched(project: Project, attempt: Attempt) -> frozenset[str]:
    """Files and parameters that a change changes; nothing where its commits are not in this clone."""
    program, run = project.program, attempt.first
    moved = _touched(project.repo, run.baseline, run.rev, tuple(sorted(program.param_files)))
    return moved - {program.seed.flat} if program.seed else moved


@lru_cache(maxsize=4096)
def _touched(repo: Repo, old: str, new: str, param_files: tuple[str, ...]) -> frozenset[str]:
    """What differs between two commits, which never change."""
    try:
        declared = Declared.read(repo, new)
        files = {
            path
            for path in repo.changed(old, new)
            if not declared.is_generated(path) and path not in param_files and not path.startswith(".dvc/")
        }
        [before, after] = read_values(repo, [old, new], param_files)
    except MissingObject:
        return frozenset()
    moved = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return frozenset(files | moved)
