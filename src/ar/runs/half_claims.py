"""Claims of a remote's experiments that were cut short, by a kill or an outage: nobody here knows whether
they were made.
"""

from __future__ import annotations

from ar.git import refs, remote
from ar.git.references import ZERO
from ar.git.remote import Move
from ar.git.repo import Repo
from ar.history import leases
from ar.history.leases import Held
from ar.local import claims


def settle(repo: Repo, there: str) -> None:
    """See what became of this clone's, and let anybody take what they were for.

    Raises:
        Unreachable, Refused: not now; they stay.
    """
    for ref in repo.refs(refs.of_remote(refs.LEASES, there, "*")):
        name = refs.name_of(ref)
        if repo.has_ref(refs.running(name)) or (lock := claims.lock(repo, name)) is None:
            continue
        try:
            if (rev := repo.resolve(ref)) and not repo.has_ref(refs.running(name)):
                if (held := leases.read(repo, name, rev)) is not None:
                    _free(repo, there, held)
                repo.update_refs((ref, ZERO, None))
        finally:
            claims.unlock(lock)


def _free(repo: Repo, there: str, held: Held) -> None:
    queued, running = refs.queued(held.name), refs.running(held.name)
    now = remote.look(repo, there, queued, running, held.end(repo))
    if now.get(running) == held.rev:
        remote.move(repo, there, Move(running, held.lease.broken().write(repo, held.queued), held.rev))
    elif not now:  # it went from the queue, and came nowhere: see `remote.move`
        remote.move(repo, there, Move(queued, held.queued, ZERO))
