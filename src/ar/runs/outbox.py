"""Brings experiments to a remote's queue, each once, however many clones propose.

Whoever queues moves `refs/ar/put/last` by compare-and-swap, too: a clone that has not seen what was queued
last looks at it first. Only those who propose meet at that ref, never those who claim.
"""

from __future__ import annotations

from collections.abc import Callable

from ar.errors import Conflict
from ar.git import refs, remote
from ar.git.references import ZERO, pause
from ar.git.remote import Move
from ar.git.repo import Repo
from ar.history import exchange, leases
from ar.history.messages import Message

_RACES = 20


def put(repo: Repo, there: str, name: str, rev: str, tell: Callable[[str], None]) -> None:
    """Queue a stash-shaped commit on a remote. Nothing is queued where another clone has queued the very same
    run of the same change since we last looked: theirs counts.

    Raises:
        Unreachable, Refused: not now.
        Conflict: others queue all the time.
    """
    last = refs.at_remote(there, refs.LAST)
    known = _known(repo, there)
    for attempt in range(_RACES):
        old = repo.resolve(last) or ZERO
        if remote.move(repo, there, Move(refs.queued(name), rev, ZERO), Move(refs.LAST, rev, old)):
            repo.update_refs((last, rev, None), (refs.at_remote(there, refs.queued(name)), rev, None))
            return
        exchange.follow(repo, there)
        if twin := _twin(repo, there, rev, known):
            tell(f"{twin} is the same run, queued from another clone: {name} is not needed")
            return
        pause(attempt)
    raise Conflict(f"others queue on {there} all the time", "run the command again")


def _known(repo: Repo, there: str) -> set[str]:
    spaces = [refs.at_remote(there, space) for space in (refs.QUEUE, refs.RUNNING)]
    return {refs.name_of(ref) for ref in repo.refs(*spaces, refs.EXPS)}


def _twin(repo: Repo, there: str, rev: str, known: set[str]) -> str:
    """The name of the same run of the same change, if there is one that was not known."""
    found = repo.commits(refs.EXPS, refs.at_remote(there, refs.QUEUE))
    runs = [(refs.name_of(ref), commit) for ref, commit in found.items()]
    runs += [(name, repo.commit(held.queued)) for name, held in leases.held(repo, there).items()]
    mine = repo.commit(rev)
    for name, commit in runs:
        if name not in known and commit.parents[:1] == mine.parents[:1]:
            said = [Message.parse(it.message) for it in (mine, commit)]
            ours, theirs = ((it.candidate, it.seed, it.rung, it.audit, it.aa) for it in said)
            if ours == theirs:
                return name
    return ""
