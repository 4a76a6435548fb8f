"""Keeps the lease of one experiment of a remote's queue, in a thread, for as long as a process has it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ar.git import refs, remote
from ar.git.remote import Move, Refused, Unreachable
from ar.git.repo import Repo
from ar.history import exchange, leases
from ar.history.leases import Held
from ar.local import claims
from ar.stage.files import Request

LOST = "the lease was not renewed in time, and the experiment is somebody else's by now"


class Keeper:
    """Renews a lease three times in its length.

    Where another commit stands in the lease's place, somebody else has the experiment: it is ended here, and
    nothing of it is recorded. A remote that is out of reach is no reason to end anything: what counts is what
    it holds when it is back.

    Args:
        mine: the lease as it stands on the remote.
        tell: called with what is worth a line: the remote went out of reach, or came back.
    """

    def __init__(self, repo: Repo, remote: str, mine: Held, tell: Callable[[str], None]) -> None:
        self.repo = repo
        self.remote = remote
        self.held = mine
        self.tell = tell
        self.lost = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> Held:
        """Renew it no more. Returns the lease as it was left."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        return self.held

    def _keep(self) -> None:
        away, pause = False, self.held.lease.seconds / 3
        while not self._done.wait(pause / 4 if away else pause):
            try:
                self.lost = not self._renew()
            except (Unreachable, Refused) as error:
                if not away:
                    self.tell(f"{error.message}; {self.held.name} goes on, and its lease is renewed later")
                away = True
                continue
            if self.lost:
                claims.ask(self.repo, self.held.name, Request.DISOWN, LOST)
                return
            if away:
                self.tell(f"{self.remote} can be reached again")
            away = False

    def _renew(self) -> bool:
        old, lease = self.held, self.held.lease.renewed()
        rev = lease.write(self.repo, old.queued)
        if not remote.move(self.repo, self.remote, Move(refs.running(old.name), rev, old.rev)):
            there = standing(self.repo, self.remote, old)
            self.held = there or old
            return there is not None  # the answer to an earlier renewal was lost: this one is done next time
        self.held = Held(old.name, old.queued, rev, lease)
        self.repo.update_refs((refs.of_remote(refs.LEASES, self.remote, old.name), rev, None))
        return True


def standing(repo: Repo, there: str, known: Held) -> Held | None:
    """A lease of ours as it stands on the remote; None where it does not.

    Raises:
        Unreachable: nobody knows.
    """
    exchange.see(repo, there)
    found = leases.of(repo, exchange.waiting(repo, there, refs.RUNNING)).get(known.name)
    return found if found is not None and found.lease.is_of(known.lease) else None


def queue_of(repo: Repo, name: str) -> str:
    """The remote whose queue this clone has an experiment of; empty for one of its own queue."""
    for ref in repo.refs(refs.LEASES, refs.FINISHED):
        if refs.name_of(ref) == name:
            return ref.removeprefix(f"{refs.LEASES}/").removeprefix(f"{refs.FINISHED}/").rpartition("/")[0]
    return ""
