"""Keeps a clone and the remote that its campaign is shared on up to date with each other, beside the
engine.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Self

from ar.campaign.campaign import Campaign
from ar.errors import ArError
from ar.git import refs
from ar.git.repo import Repo
from ar.history import exchange
from ar.runs import outbox
from ar.runs.lookout import Lookout
from ar.runs.pipeline import Pipeline
from ar.runs.remote_queue import RemoteQueue

_LOOK = 0.25  # seconds between two thoughts of a look; the lookout says when it is time
_PAUSE = 5.0, 60.0  # seconds before what was not taken is brought again, at first and at most


class Sync:
    """A thread that looks at the remote, takes in what others did, and tells them what was judged here.

    It has a handle on the repository of its own. A remote that is out of reach is told once, and tried again.
    """

    def __init__(self, campaign: Campaign) -> None:
        self.remote = campaign.queue.remote
        self.news = threading.Event()  # something is other than it was
        self._repo = Repo.open(campaign.repo.root)
        self._told = deque[str]()
        self._queue = RemoteQueue(Pipeline(self._repo), self.remote, tell=self._told.append)
        self._lookout = Lookout(self._queue)
        self._failure = ""  # as last told
        self._again, self._pause = 0.0, _PAUSE[0]
        self._broken: Exception | None = None  # what ended the thread
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Come to have all that the remote has, and the other way round.

        Raises:
            ArError: the remote cannot be reached, or written.
        """
        exchange.pull(self._repo, self.remote)
        exchange.push(self._repo, self.remote, signing=False)
        exchange.follow(self._repo, self.remote)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Share what was judged last."""
        self._done.set()
        self._thread.join()
        try:
            exchange.follow(self._repo, self.remote)
            exchange.share(self._repo, self.remote)
        except ArError as error:
            self._told.append(f"{error.message}; what was done last is shared by: ar push {self.remote}")
        self._queue.pipeline.close()

    def said(self) -> Iterator[str]:
        """What is worth a line since the last time. Raises what ended the thread."""
        with contextlib.suppress(IndexError):
            while True:
                yield self._told.popleft()
        if self._broken is not None:
            raise self._broken

    def _run(self) -> None:
        try:
            self._keep_up()
        except Exception as error:  # nobody would learn of it in a thread
            self._broken = error

    def _keep_up(self) -> None:
        before = self._state()
        while not self._done.wait(_LOOK):
            found = self._lookout.finds()
            if self._lookout.is_away:
                continue
            self._give()
            now = self._state()
            if found or now != before:
                self.news.set()
            before = now

    def _give(self) -> None:
        """Bring the remote what only this clone has; what it does not take is tried again, less and less
        often."""
        if time.monotonic() < self._again:
            return
        try:
            try:
                outbox.hand_over(self._queue.pipeline, self.remote, self._told.append)
            finally:
                exchange.share(self._repo, self.remote)
        except ArError as error:
            if error.message != self._failure:
                self._told.append(error.message)
            self._failure, self._again = error.message, time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _PAUSE[1])
        else:
            self._failure, self._pause = "", _PAUSE[0]

    def _state(self) -> dict[str, str]:
        spaces = (refs.QUEUE, refs.RUNNING, refs.HEADS, refs.WORKERS_NOTES, refs.NOTES)
        return self._repo.refs(*(refs.at_remote(self.remote, space) for space in spaces))
