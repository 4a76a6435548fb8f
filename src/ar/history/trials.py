"""Trial runs that agents made of changes before they proposed them, on `refs/ar/spend` with what agents cost.

They are no experiments and measure nothing, but take time on the machine, which the budget counts.
"""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass

from ar.formats import load_json
from ar.git import refs
from ar.git.repo import Repo
from ar.local import pulled
from ar.record import Record

_MARK = '"trial"'


@dataclass(frozen=True)
class Trial(Record):
    """One of them.

    Args:
        agent: who asked for it.
        seconds: that its stages took.
        finished: unix time.
        slot: the GPU that it had; empty on a CPU.
        host: where it ran.
    """

    agent: str
    seconds: float
    finished: float
    slot: str = ""
    host: str = ""


def record(repo: Repo, agent: str, seconds: float, finished: float, slot: str = "") -> None:
    """Write one down."""
    trial = Trial(agent, round(seconds, 3), round(finished, 3), slot, socket.gethostname())
    words = f"{agent} tried a change for {seconds:.1f} s"
    repo.append(refs.SPEND, f"{words}\n\n{json.dumps({'trial': trial.to_json()})}\n")


def read(repo: Repo) -> tuple[Trial, ...]:
    """All that were made; what only a remote says, and no trusted key signed, counts for nothing."""
    commits = {commit.rev: commit for commit in repo.log(refs.SPEND) if _MARK in commit.message}
    others = pulled.foreign(repo, {rev: rev for rev in commits})
    found = []
    for rev, commit in commits.items():
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            trial = Trial.from_json(load_json(commit.message.partition("\n\n")[2])["trial"])
            if rev not in others and 0 <= trial.seconds < trial.finished:
                found.append(trial)
    return tuple(found)
