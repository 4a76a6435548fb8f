"""The engine: keeps workers busy with what a policy wants run, until the budget, a limit or the user ends it.

It holds no state that matters. Each round reads the history from refs and notes and hands it to the policy,
which judges, promotes and queues; killed at any instant and started again, it carries on where the refs say
it was.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from ar.campaign import headway, kept, promotion
from ar.campaign.asking import Asking
from ar.campaign.campaign import Campaign
from ar.campaign.pace import Pace
from ar.campaign.progress import View, result_line, snapshot, verdict_line
from ar.campaign.sync import Sync
from ar.changes.proposal import Change
from ar.errors import BadParams, BadProposal, Exhausted, OutOfBudget
from ar.history.records import Attempt, Experiment, History, Status
from ar.local import locks
from ar.project.program import AgentSpec
from ar.redaction import redact
from ar.runs import budget, devices, recovery, sandbox, slots
from ar.runs.events import EventKind
from ar.runs.pool import Pool

BUSY = "another ar run is at work in this repository (process {pid}); stop that one first with Ctrl-C"


@dataclass
class Done:
    """What one engine did until it ended; `stopped` says why it did, if not because all was done."""

    proposed: int = 0
    promoted: int = 0
    ended: int = 0
    stopped: str = ""


class Policy:
    """What runs next: by itself nothing but what is queued already.

    All that a policy knows for long it reads from the history, so that a killed engine carries on.
    """

    phase = ""  # what it is about, for the view; empty for the engine's own words
    experiments: int | None = 0  # new changes that it is to try; None until the budget ends

    def begin(self, engine: Engine, history: History) -> None:
        """Put in order what an earlier engine left."""

    def step(self, engine: Engine, history: History, room: int) -> bool:  # noqa: ARG002
        """Judge, promote, and queue at most `room` runs. True where the history is not any more what was
        given: the engine looks again."""
        return False

    def awaits(self, engine: Engine, history: History) -> bool:  # noqa: ARG002
        """Whether something may come to be run, though nothing waits or runs now."""
        return False

    def is_due(self) -> bool:
        """Whether it wants to look again at once."""
        return False


class Hands(Protocol):
    """Workers elsewhere that somebody keeps for a run, on the queue of a remote.

    `size` is how many experiments they run at once at most, `busy` whether any may have one.
    """

    size: int

    @property
    def busy(self) -> bool: ...

    def drain(self) -> None:
        """Let them finish what they run, and claim nothing more."""

    def said(self) -> Iterator[str]:
        """What is worth a line since the last time."""


class Engine:
    """Runs a policy.

    Args:
        stop: asked between steps: 0 go on, 1 finish what runs and end, 2 end at once.
        jobs: how many experiments run at once.
        hours: wall time after which nothing new starts; None for no limit.
        only: name of the one experiment that its workers may take; empty for all that wait.
        hands: that work for it besides its own workers, on the queue of a remote.
    """

    def __init__(
        self,
        campaign: Campaign,
        policy: Policy,
        view: View,
        stop: Callable[[], int] = lambda: 0,
        *,
        jobs: int = 1,
        hours: float | None = None,
        only: str = "",
        hands: Hands | None = None,
    ) -> None:
        self.campaign = campaign
        self.policy = policy
        self.view = view
        self.stop = stop
        self.jobs = jobs
        self.hours = hours
        self.only = only
        self.hands = hands
        self.done = Done()
        self.asking = Asking(campaign)
        self.over = ""  # why the time is spent
        self._began = time.monotonic()
        self._proposed: dict[str, float] = {}  # name of a change to when it was queued
        self._used = budget.Used()
        self._told: dict[str, Status] = {}
        self._decided: set[str] = set()
        self.ended_before: frozenset[str] = frozenset()  # runs that had ended when this engine began
        remote = campaign.queue.remote
        places = slots.divide(jobs) if jobs else []
        self._classes = {"", *(devices.of_slot(slot.name).device_class for slot in places)}
        self._passed = ""  # why what waits does not run here, as last told
        self._pool = Pool(campaign.repo, places, workers=jobs, only=only, remote=remote)
        self._sync = Sync(campaign) if remote else None
        campaign.queue.tell = self.event

    def run(self) -> Done:
        """Run until all is done, or the budget, the limits or the user ends it.

        Raises:
            ArError: it cannot go on; everything measured so far is kept.
        """
        with locks.hold(self.campaign.repo, "run", busy=BUSY):
            return self.run_locked()

    def run_locked(self) -> Done:
        """`run`, for whoever holds the lock already."""
        settings = self.campaign.program.sandbox
        self.event(f"sandbox: {sandbox.find(settings).describe(settings)}")
        try:
            with self._sync or contextlib.nullcontext(), self._pool:
                self._begin()
                while self._round():
                    pass
        finally:
            self.asking.drop()
            self._tell_agents()
        reason = self.asking.given_up_for
        if reason is not None and not self.asking.anybody_left and not self.done.stopped:
            is_end = isinstance(reason, OutOfBudget) or (isinstance(reason, Exhausted) and self.done.ended)
            if not is_end:
                raise reason
            self.done.stopped = str(reason)
        return self.done

    # -- for policies -------------------------------------------------------------------------------------

    def event(self, words: str) -> None:
        """Tell something that is worth a line for ever."""
        self.view.event(words)

    def queued(self, name: str) -> None:
        """An experiment was queued: a worker may take it."""
        self._told.setdefault(name, Status.QUEUED)
        self._pool.wake()

    def pass_over(self, attempt: Attempt) -> None:
        """The last word on an attempt is not worth a line."""
        self._decided.add(attempt.name)

    @property
    def runs_in_time(self) -> float:
        """How many more runs will end before this engine's time does, at the pace so far."""
        elapsed = time.monotonic() - self._began
        if self.hours is None or not self.done.ended:
            return math.inf
        return (self.hours * 3600 - elapsed) * self.done.ended / elapsed

    def pending(self, history: History) -> list[Experiment]:
        """The runs that wait or are under way, of those that this engine is about."""
        return [
            run
            for run in history.everything
            if not run.status.ended
            and (not self.only or run.name == self.only)
            and (run.elsewhere is None or run.elsewhere.remote == self.campaign.queue.remote)
        ]

    def proposed(self, spec: AgentSpec, change: Change, name: str) -> None:
        """An agent's proposal was queued."""
        self.asking.succeeded(spec)
        self.done.proposed += 1
        self._proposed[name] = time.monotonic()
        self.queued(name)
        self.event(f"queued {name}: {change.proposal.title}")

    def propose_now(self, spec: AgentSpec) -> bool:
        """Ask an agent that answers at once, and queue what it proposes. False where it cannot."""
        try:
            change, name = self.campaign.queue_next(spec.name)
        except Exception as error:  # the agent's failure, never the campaign's
            self.asking.failed(spec, error)
            return False
        self.proposed(spec, change, name)
        return True

    # -- one round ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._recover()
        if self._sync:
            self.event(headway.begin(self.campaign))
        history = self.campaign.history()
        self._told = {run.name: run.status for run in history.everything if run.status.ended}
        self.ended_before = frozenset(self._told)
        self.policy.begin(self, history)
        self._decided = {item.name for item in history.at_every_scale if item.is_decided}
        self._pool.wake()

    def _round(self) -> bool:
        """Look, act, wait. False when it is time to end."""
        history = self.campaign.history()
        if self._sync and (words := headway.follow(self.campaign, history)):
            self.event(words)
            return True
        self._tell(history)
        level = self.stop()
        if level >= 2:
            self.done.stopped = "stopped at once; what was running is queued again"
            return False
        program = self.campaign.program
        self._used = budget.used(self.campaign.repo, history)
        spent_up = self._used.refusal(program, ("runs",))
        self.over = self.over or self._out_of_time() or self._used.refusal(program, budget.TIME)
        finishing = bool(level or self.over)
        if finishing:
            self._pool.drain()
            if self.hands:
                self.hands.drain()
        if self._take_answers():  # at the end, too: what came back has been paid for
            history = self.campaign.history()
        if finishing:
            self.asking.drop()
        # What waits for devices of another class takes no place from what can run here.
        waits = self.pending(history)
        ours = [it for it in waits if (self._sync or it.only_on in self._classes) and not it.only_at]
        room = 0 if finishing else self._most_pending(history) - len(ours)
        if self.policy.step(self, history, room):
            return True
        if finishing and not self._at_work():
            self.done.stopped = "stopped; run again to carry on" if level else self.over
            return False
        pending = self.pending(self.campaign.history())
        if spent_up and not self._used.busy and not any(run.rung for run in pending):
            self.done.stopped = spent_up
            return False
        if not pending and not self.policy.awaits(self, history):
            return bool(self.pending(history))  # what was under way has ended meanwhile: look again
        self._wait(history)
        return True

    def _at_work(self) -> bool:
        """Whether anything runs that is to be waited for: on a remote's queue, what is in our own hands."""
        if not self._sync:
            return bool(self._used.busy)
        return bool(self._pool.busy) or (self.hands is not None and self.hands.busy)

    def _slots(self, history: History) -> int:
        """How many experiments run at once: a remote's slots are those of all its workers."""
        slots = self.jobs + (self.hands.size if self.hands else 0)
        running = sum(run.status is Status.RUNNING for run in self.pending(history)) if self._sync else 0
        return max(slots, running)

    def _most_pending(self, history: History) -> int:
        """How many runs may be under way: one waits, or one a slot where an agent takes its time. On a
        remote's queue half as many wait as run, so that more workers find something to do."""
        slots = self._slots(history)
        return slots + (slots if self.asking.takes_time else max(1, slots // 2 if self._sync else 1))

    def _take_answers(self) -> bool:
        """Queue what agents that were asked have answered. True if anything was queued."""
        queued = False
        for spec, change in self.asking.answers():
            try:
                self.proposed(spec, *self.campaign.submit(change))
            except Exception as error:  # it costs no other answer
                self.asking.failed(spec, error, overtaken=isinstance(error, BadProposal | BadParams))
                if isinstance(error, BadProposal | BadParams):
                    words = kept.keep_answer(self.campaign, change, error.message)
                    if words:
                        self.event(words)
                continue
            queued = True
        return queued

    def _out_of_time(self) -> str:
        """Why this engine is to end by the clock; empty while it is not."""
        over = self.hours is not None and time.monotonic() - self._began > self.hours * 3600
        return f"the {self.hours:g} hours of this run are over; run again to carry on" if over else ""

    def _recover(self) -> None:
        mended = promotion.mend(self.campaign.pipeline)
        rest = recovery.recover(self.campaign.project, self.campaign.pipeline)
        for line in [*([mended] if mended else []), *rest]:
            self.event(f"recovered: {line}")

    # -- waiting and telling ------------------------------------------------------------------------------

    def _wait(self, history: History) -> None:
        """Until a worker reports, the user interrupts, or a few seconds have passed."""
        deadline = time.monotonic() + 5.0
        level = self.stop()
        while time.monotonic() < deadline:
            self._update(history)
            if not self._sync:  # elsewhere somebody may be free for what would only wait here
                self._pool.reinforce(self._waiting(history))
            events = self._pool.events(0.25)
            for event in events:
                if event.kind is EventKind.RETRIED:
                    self.event(f"{event.name}: {event.reason}; it is tried again")
                if event.kind is EventKind.PASSED and event.reason != self._passed:
                    self._passed = event.reason
                    self.event(f"{event.reason}; it waits for ar worker on a machine that has one")
                if event.kind is EventKind.TOLD:
                    self.event(event.reason)
                if event.kind is EventKind.LOST:
                    self.event(f"{event.name} is not published: {event.reason}")
                if event.kind is EventKind.DIED:
                    self._pool.blame(event.name)
                    self._recover()
                    self._pool.wake()
            self._tell_agents()
            if self._sync and self._sync.news.is_set():
                self._sync.news.clear()
                self._pool.wake()
                return
            if any(event.is_settled for event in events) or self.stop() != level or self.asking.ready:
                return
            if self.policy.is_due():
                return
            if any(event.kind is EventKind.STARTED for event in events):
                history = self.campaign.history()

    def _waiting(self, history: History) -> int:
        """How many experiments no worker of ours has taken yet."""
        taken = set(self._pool.busy.values())
        return sum(run.status is Status.QUEUED and run.name not in taken for run in self.pending(history))

    def _tell(self, history: History) -> None:
        for attempt in history.at_every_scale:
            for run in attempt.experiments:
                if run.status.ended and self._told.get(run.name) is not run.status:
                    self._told[run.name] = run.status
                    self.done.ended += 1
                    self.event(result_line(run, self.campaign.program))
            if attempt.is_decided and attempt.name not in self._decided:
                self._decided.add(attempt.name)
                self.event(verdict_line(attempt))

    def _tell_agents(self) -> None:
        helpers = [it.said() for it in (self._sync, self.hands) if it is not None]
        for words in (*self.asking.events(), *(words for said in helpers for words in said)):
            self.event(redact(words))

    def _update(self, history: History) -> None:
        now = time.monotonic()
        pace = Pace(
            jobs=max(1, self._slots(history)),
            wanted=self.policy.experiments,
            proposed=frozenset(self._proposed),
            ended=self.done.ended,
            elapsed=now - self._began,
            searching=now - next(iter(self._proposed.values()), now),
            hours=self.hours,
        )
        shown = snapshot(self.campaign, history, self._used, pace)
        phase = self.policy.phase or shown.phase
        self.view.update(replace(shown, phase=phase, asking=redact(self.asking.activity)))
