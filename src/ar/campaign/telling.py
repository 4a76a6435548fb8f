"""A policy as it is, and word of what comes of it to whoever is not looking."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine, Policy
from ar.campaign.messenger import Messenger, Receiver
from ar.campaign.notices import Watch
from ar.errors import ArError
from ar.history.records import History


class Telling(Policy):
    """Another policy, which alone decides."""

    def __init__(self, policy: Policy, watch: Watch, messenger: Messenger) -> None:
        self._policy = policy
        self._watch = watch
        self._messenger = messenger
        self.experiments = policy.experiments
        self.engine: Engine | None = None  # that it was begun by

    def begin(self, engine: Engine, history: History) -> None:
        self.engine = engine
        self._watch.begin(history)
        self._policy.begin(engine, history)

    def step(self, engine: Engine, history: History, room: int) -> bool:
        for notice in self._watch.look(history):
            self._messenger.send(notice)
        for words in self._messenger.failures():
            engine.event(words)
        again = self._policy.step(engine, history, room)
        self.phase = self._policy.phase
        return again

    def awaits(self, engine: Engine, history: History) -> bool:
        return self._policy.awaits(engine, history)

    def is_due(self) -> bool:
        return self._policy.is_due()


@contextlib.contextmanager
def telling(
    campaign: Campaign, policy: Policy, receivers: Sequence[Receiver], say: Callable[[str], None]
) -> Iterator[Policy]:
    """The policy, such that receivers are told of promotions, of crashes in a row, and of the end of the
    `with` block, however that comes.

    Args:
        say: is given a line for what could not be delivered at the end.
    """
    if not receivers:
        yield policy
        return
    watch = Watch(campaign.program, campaign.repo.root.name)
    messenger = Messenger(receivers)
    told, reason = Telling(policy, watch, messenger), ""
    try:
        with messenger:
            try:
                yield told
                reason = told.engine.done.stopped if told.engine else ""
            except BaseException as error:
                reason = error.message if isinstance(error, ArError) else type(error).__name__
                raise
            finally:
                if told.engine is not None:
                    _last(campaign, watch, messenger, reason)
    finally:
        for words in messenger.failures():
            say(words)


def _last(campaign: Campaign, watch: Watch, messenger: Messenger, reason: str) -> None:
    with contextlib.suppress(ArError):
        history = campaign.history()
        for notice in (*watch.look(history), watch.ended(history, reason)):
            messenger.send(notice)
