"""Leases: who has an experiment of a remote's queue, as every clone of it can read.

A lease is a commit on the remote's `refs/ar/running/<name>`: its parent is the queued commit, its message
holds the record. Its holder puts another in its place before it runs out. Whether it has run out is judged by
how long a process has seen the very same commit there, by that process's own clock: those of two machines
may be minutes apart.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from ar.formats import BadData, load_json
from ar.git import refs
from ar.git.objects import Commit, MissingObject
from ar.git.repo import Repo
from ar.record import Record
from ar.text import one_line

_MOST = 4096  # characters of a lease


@dataclass(frozen=True)
class Lease(Record):
    """What the holder of an experiment says of itself.

    Args:
        worker: its clone, by the name that its notes have.
        host, pid, born: its process; see `stage.processes`.
        device: what it runs on, in words; empty where it does not say.
        since: unix time, by its own clock, at which it took the experiment.
        sequence: how often it has renewed the lease.
        seconds: for which the lease stands unchanged; 0 for one that was broken, so that anybody may take it.
        lost: how many holders before this one never came to an end with it.
    """

    worker: str
    host: str = ""
    pid: int = 0
    born: str = ""
    device: str = ""
    since: float = 0.0
    sequence: int = 0
    seconds: float = 0.0
    lost: int = 0

    @classmethod
    def parse(cls, commit: Commit) -> Self | None:
        """The lease that a commit is; None if it is none. Whoever can write to the remote has written it."""
        text = commit.message.strip().rpartition("\n")[2]
        if len(commit.parents) != 1 or len(text) > _MOST:
            return None
        with contextlib.suppress(BadData, TypeError, ValueError):
            made = cls.from_json(load_json(text))
            worker, host, device = (one_line(it)[:80] for it in (made.worker, made.host, made.device))
            return replace(made, worker=worker, host=host, device=device)
        return None

    def write(self, repo: Repo, queued: str) -> str:
        """Make a commit of it, on top of the queued one; no ref moves."""
        what = f"Held by {self.worker}" if self.seconds else "Held by nobody"
        message = f"{what}\n\n{json.dumps(self.to_json())}\n"
        return repo.commit_tree(repo.empty_tree(), [queued], message)

    @property
    def is_broken(self) -> bool:
        return not self.seconds > 0

    def is_of(self, other: Lease) -> bool:
        """Whether the same process holds it, since the same time: renewals are."""
        mine, theirs = ((it.worker, it.host, it.pid, it.born, it.since) for it in (self, other))
        return mine == theirs and not self.is_broken and not other.is_broken

    def renewed(self) -> Self:
        return replace(self, sequence=self.sequence + 1)

    def broken(self) -> Self:
        """The lease that takes this one's place when its holder is gone."""
        return replace(self, seconds=0.0, sequence=0, lost=self.lost + 1)


@dataclass(frozen=True)
class Held:
    """An experiment that somebody has, as a remote was last seen.

    Args:
        queued: commit of the experiment.
        rev: commit of the lease.
    """

    name: str
    queued: str
    rev: str
    lease: Lease

    def end(self, repo: Repo) -> str:
        """The ref that it has once it has ended."""
        return str(refs.ExperimentRef(repo.commit(self.queued).parents[0], self.name))


def held(repo: Repo, remote: str) -> dict[str, Held]:
    """Name to lease of what a remote had running when it was last looked at."""
    return of(repo, repo.refs(refs.at_remote(remote, refs.RUNNING)))


def of(repo: Repo, running: Mapping[str, str]) -> dict[str, Held]:
    """Name to lease of a remote's `refs/ar/running/<name>`, each with its commit."""
    found = (read(repo, refs.name_of(ref), rev) for ref, rev in running.items())
    return {one.name: one for one in found if one is not None}


def read(repo: Repo, name: str, rev: str) -> Held | None:
    """What a commit on a remote's `refs/ar/running/<name>` says; None if it is no lease."""
    with contextlib.suppress(MissingObject):
        commit = repo.commit(rev)
        lease = Lease.parse(commit)
        if lease is not None and refs.is_name(name):
            return Held(name, commit.parents[0], rev, lease)
    return None


@dataclass
class Watch:
    """When this process first saw each lease as it is now."""

    _since: dict[str, tuple[str, float]] = field(default_factory=dict)

    def see(self, found: Mapping[str, Held]) -> None:
        """Take note of what a remote has now."""
        now = time.monotonic()
        known = {name: self._since.get(name, ("", now)) for name in found}
        self._since = {
            name: known[name] if known[name][0] == one.rev else (one.rev, now) for name, one in found.items()
        }

    def has_run_out(self, one: Held) -> bool:
        """Whether a lease stood unchanged for longer than it says."""
        rev, since = self._since.get(one.name, ("", time.monotonic()))
        return one.lease.is_broken or (rev == one.rev and time.monotonic() - since > one.lease.seconds)
