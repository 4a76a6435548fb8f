"""Where a client's calls meet the project: opened anew for each call, and nothing of it kept open between."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ar.agents import holdout
from ar.campaign.campaign import Campaign
from ar.errors import ArError
from ar.git import refs
from ar.git.repo import Repo
from ar.history.reader import Memory
from ar.history.records import History
from ar.local import locks
from ar.project.program import Program
from ar.project.project import Project
from ar.redaction import redact
from ar.runs.stop import WORKER
from ar.text import plain, shorten_middle

_MOST = 2_000  # characters of an error
_ASK = "ask the user to start"
_IDLE = "nothing on this machine runs experiments now"
START = f"{_IDLE}: {_ASK} ar run, or ar worker"
BUG = "this is a bug of ar's; try another call"


class Desk:
    """One project, for calls of any number of threads.

    Args:
        root: a folder of the project.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: tuple[Program, Memory] | None = None

    @contextlib.contextmanager
    def campaign(self) -> Iterator[Campaign]:
        """The campaign as it is by now.

        Raises:
            ArError: there is no project any more, or its programme cannot be used.
        """
        campaign = Campaign(Project.open(self._root))
        known = self._known
        if known is not None and known[0] == campaign.program:
            campaign.memory = known[1]  # only what is new since then is read
        else:
            self._known = campaign.program, campaign.memory
        try:
            yield campaign
        finally:
            campaign.pipeline.close()

    def marks(self) -> tuple[object, ...]:
        """What differs once anything has come to an experiment; cheap enough to be asked each second."""
        repo = self.repo()
        places = (refs.QUEUE, refs.RUNNING)
        moving = repo.refs(*places, *(refs.at_remote("*", place) for place in places))
        return repo.head(), repo.resolve(refs.NOTES), moving

    def repo(self) -> Repo:
        """The repository as it is by now."""
        return Repo.open(self._root)

    def says(self, error: Exception) -> str:
        """An error in words: what is wrong and what to do next. Nothing of the holdout, and no traceback."""
        if isinstance(error, ArError):
            text = str(error)
        else:
            lines = str(error).strip().splitlines() or [""]
            text = f"{type(error).__name__}: {lines[0]}\n  {BUG}"
        known = self._known
        if known is not None:
            told = known[1].last.history
            text = holdout.hidden(text, known[0], told.everything if told else ())
        return shorten_middle(redact(plain(text)), _MOST)


def is_at_work(repo: Repo) -> bool:
    """Whether anything on this machine runs experiments: an `ar run`, or an `ar worker`."""
    return any(locks.holder(repo, name) for name in locks.names(repo, "run", f"{WORKER}-*"))


def advice(campaign: Campaign, history: History, for_agents: bool = True) -> str:
    """What is to be done next, where that is plain: by an agent, or else by its user."""
    start = _ASK if for_agents else "start"
    if any(not run.status.ended for run in history.everything) and not is_at_work(campaign.repo):
        return f"{_IDLE}: {start} ar run, or ar worker"
    if history.now is None or history.now.value is None:
        return f"the branch is not measured yet: {start} ar baseline, or ar run"
    if any(map(history.waits_for_merge, history.winners)):
        return f"a winner waits to be merged: {'the user does that with' if for_agents else 'run'} ar promote"
    return ""
