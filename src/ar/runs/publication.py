"""What a remote is told of an experiment's end: the experiment, its note and that nobody has it any more, in
one push.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ar.git import refs, remote
from ar.git.references import ZERO, pause
from ar.git.remote import Move, Refused
from ar.git.repo import Repo
from ar.history.leases import Held
from ar.history.records import Note
from ar.local.claims import Claim
from ar.runs.keeper import standing

_RACES = 20


@dataclass(frozen=True)
class Result:
    """A run's end that the remote is to have.

    Args:
        ref: of the experiment.
        rev: its commit.
        note: a commit on top of that one: the note in its tree, the experiment's ref in its message.
    """

    ref: str
    rev: str
    note: str

    @classmethod
    def of(cls, repo: Repo, claimed: Claim, rev: str, note: Note) -> Self:
        ref = str(refs.ExperimentRef(claimed.baseline, claimed.name))
        tree = repo.note_tree(None, rev, note.to_json())
        return cls(ref, rev, repo.commit_tree(tree, [rev], f"{ref}\n"))

    @classmethod
    def read(cls, repo: Repo, note: str) -> Self:
        """The result whose note a commit is."""
        commit = repo.commit(note)
        return cls(commit.message.strip(), commit.parents[0], note)


def publish(repo: Repo, there: str, worker: str, result: Result, lease: Held | None) -> bool:
    """Push a result. False where the experiment is somebody else's by now: then nothing is there of it.

    Args:
        worker: whose notes the result's one is put on top of.
        lease: as we last knew it; None where it is lost.

    Raises:
        Unreachable: nobody knows whether it was done; it can be tried again.
        Refused: the remote cannot be written.
    """
    name, notes = refs.name_of(result.ref), f"{refs.WORKERS_NOTES}/{worker}"
    mine = refs.at_remote(there, notes)
    text = f"Note on {result.rev[:12]}\n\n{result.ref}\n"
    for attempt in range(_RACES):
        tip = repo.resolve(mine)
        note = repo.commit_tree(repo.tree(result.note), [tip] if tip else [], text)
        if lease is not None:
            ended = Move(refs.running(name), ZERO, lease.rev)
            moves = Move(result.ref, result.rev, ZERO), Move(notes, note, tip or ZERO), ended
            if remote.move(repo, there, *moves, end=result.ref):
                repo.update_refs((mine, note, None))
                return True
        held = remote.look(repo, there, result.ref, notes)
        remote.mirror(repo, there, {f"{notes}*": f"{mine}*"})
        # The very same commit may be another worker's end of it: ours came with our note.
        if held.get(result.ref) == result.rev and any(it.message == text for it in repo.log(mine)):
            return True  # by an earlier push, whose answer was lost
        if lease is None:
            return False
        if result.ref in held:  # it had been queued once more: nobody needs to run it again
            remote.move(repo, there, Move(refs.running(name), ZERO, lease.rev))
            return False
        lease = standing(repo, there, lease)
        pause(attempt)
    raise Refused(f"{there} changed {_RACES} times in a row", "run the command again")
