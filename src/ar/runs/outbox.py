"""Brings experiments to a remote's queue, each once, however many clones propose.

Whoever queues moves `refs/ar/put/last` by compare-and-swap, too: a clone that has not seen what was queued
last looks at it first. Only those who propose meet at that ref, never those who claim.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping

from ar.errors import Conflict
from ar.git import refs, remote
from ar.git.objects import Commit
from ar.git.references import ZERO, pause
from ar.git.remote import Move, Refused
from ar.git.repo import Repo
from ar.history import exchange, leases
from ar.history.messages import Message
from ar.history.records import Status
from ar.runs import queue
from ar.runs.pipeline import Pipeline

_RACES = 20


def put(repo: Repo, there: str, name: str, rev: str, tell: Callable[[str], None]) -> bool:
    """Queue a stash-shaped commit on a remote. False where another clone has queued the very same run of the
    same change: theirs counts.

    Raises:
        Unreachable, Refused: not now.
        Conflict: others queue all the time.
    """
    last = refs.at_remote(there, refs.LAST)
    known = _runs(repo, there).keys()
    for attempt in range(_RACES):
        old = repo.resolve(last) or ZERO  # first: whatever it stands for is in view by then
        # Whoever decided on this run may not have seen yet what came in since.
        if twin := _twin(repo, there, repo.commit(rev), known):
            tell(f"{twin} is the same run, queued from another clone: {name} is not needed")
            return False
        if remote.move(repo, there, Move(refs.queued(name), rev, ZERO), Move(refs.LAST, rev, old)):
            repo.update_refs((last, rev, None), (refs.at_remote(there, refs.queued(name)), rev, None))
            return True
        exchange.follow(repo, there)
        pause(attempt)
    raise Conflict(f"others queue on {there} all the time", "run the command again")


def hand_over(pipeline: Pipeline, there: str, tell: Callable[[str], None]) -> bool:
    """Bring what waits in a clone's own queue to a remote's. Whether there was anything.

    Raises:
        Unreachable: not now.
        Refused, Conflict: some of it stays here for now; the rest is there.
    """
    repo, failure = pipeline.repo, None
    found = {refs.name_of(ref): commit for ref, commit in repo.commits(refs.QUEUE).items()}
    ended = _ended(repo, there, found)
    for name in ended:
        queue.withdraw(pipeline, name, found.pop(name).rev)
    if ended:
        exchange.pull(repo, there)
    for name, commit in found.items():
        try:
            put(repo, there, name, commit.rev, tell)
        except (Refused, Conflict) as error:
            failure = error
            continue
        queue.withdraw(pipeline, name, commit.rev)
    if failure is not None:
        raise failure
    return bool(found or ended)


def _ended(repo: Repo, there: str, found: Mapping[str, Commit]) -> list[str]:
    """Which of what waits here has ended there: whoever handed it over was killed before it went here."""
    places = {
        str(refs.ExperimentRef(commit.parents[0], name)): name
        for name, commit in found.items()
        if commit.parents and refs.is_name(name)
    }
    known = remote.look(repo, there, *places) if places else {}
    return [name for ref, name in places.items() if ref in known]


def _runs(repo: Repo, there: str) -> dict[str, Commit]:
    """Every run that is known, by its name."""
    ended, waiting = repo.commits(refs.EXPS), repo.commits(refs.at_remote(there, refs.QUEUE), refs.RUNNING)
    runs = {name: repo.commit(held.queued) for name, held in leases.held(repo, there).items()}
    runs |= {refs.name_of(ref): commit for ref, commit in waiting.items()}
    # DVC keeps its own queue below `refs/exps`, too: what waits there would be its own twin.
    return runs | {it.name: commit for ref, commit in ended.items() if (it := refs.ExperimentRef.parse(ref))}


def _twin(repo: Repo, there: str, mine: Commit, known: Collection[str]) -> str:
    """The name of the same run of the same change, if there is one: with the same seed one that is under way
    or gave a result, else one that was not known."""
    ours = Message.parse(mine.message)
    alike = operator.attrgetter("candidate", "seed", "rung", "audit", "aa", "only_on", "only_at")
    is_fixed = ours.seed is not None and not ours.aa
    for name, commit in _runs(repo, there).items():
        if commit.parents[:1] != mine.parents[:1] or (name in known and not is_fixed):
            continue
        theirs = Message.parse(commit.message)
        if alike(theirs) == alike(ours) and (name not in known or not _failed(repo, commit)):
            return name
    return ""


def _failed(repo: Repo, commit: Commit) -> bool:
    """Whether a run has ended, and not well: it may be wanted once more."""
    return str(repo.note(commit.rev).get("status", Status.SUCCEEDED)) != Status.SUCCEEDED
