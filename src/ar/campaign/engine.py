"""The loop: propose, queue, run, judge, promote, until the budget ends.

It holds no state that matters. Each round reads the history from refs and notes, asks the judge for the next
step of every open candidate, and queues what is wanted; killed at any instant and started again, it carries
on where the refs say it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean

from ar.agents import is_instant
from ar.campaign import promote, rebase
from ar.campaign.asking import Asking
from ar.campaign.campaign import Campaign, is_open, waits_for_merge
from ar.campaign.ladder import Climb, Step
from ar.campaign.progress import Running, Snapshot, View
from ar.changes.proposal import Change
from ar.errors import BadProposal, BadState, CannotClimb, OutOfBudget
from ar.history.attempts import effect, objective
from ar.history.records import (
    Attempt,
    Decision,
    Experiment,
    History,
    Label,
    Outcome,
    Status,
    Verdict,
)
from ar.judge import rule
from ar.judge.evidence import Run
from ar.judge.findings import NoiseReport
from ar.judge.rule import Kind
from ar.project.program import AgentSpec, Program
from ar.redaction import redact
from ar.runs import budget, queue, recovery, sandbox, slots
from ar.runs.budget import Used
from ar.runs.events import EventKind
from ar.runs.pool import Pool
from ar.text import quantity

BUSY = "another ar run is at work in this repository (process {pid}); stop that one first with Ctrl-C"
MAX_BASELINE_CRASHES = 2


@dataclass(frozen=True)
class Limits:
    """What one `ar run` may do.

    Args:
        experiments: how many new changes to propose; None until the programme's budget ends.
        hours: wall time; None for no limit.
        jobs: how many experiments run at once.
        promote: merge winners, and try those that the branch left behind on the branch as it is.
    """

    experiments: int | None = None
    hours: float | None = None
    jobs: int = 1
    promote: bool = True


@dataclass
class Session:
    """What one `ar run` did."""

    proposed: int = 0
    promoted: int = 0
    ended: int = 0
    stopped: str = ""


class Loop:
    """`ar run`.

    Args:
        stop: asked between steps: 0 go on, 1 finish what runs and end, 2 end at once.
    """

    def __init__(
        self, campaign: Campaign, limits: Limits, view: View, stop: Callable[[], int] = lambda: 0
    ) -> None:
        self.campaign = campaign
        self.project = campaign.project
        self.repo = campaign.repo
        self.program = campaign.program
        self.limits = limits
        self.view = view
        self.stop = stop
        self.done = Session()
        self.began = time.monotonic()
        self.told: dict[str, str] = {}
        self.decided: set[str] = set()
        self.told_noise = False
        self.over = ""  # why the time is spent
        self.used = budget.Used()
        self.pool = Pool(self.repo, slots.divide(limits.jobs), workers=limits.jobs)
        self.asking = Asking(campaign)
        self.ladder: dict[str, Climb] = {}
        self.stuck: set[str] = set()  # names of winners that a rung has no budget left for

    def run(self) -> Session:
        """Run until the budget, the limits or the user ends it.

        Raises:
            ArError: it cannot go on; everything measured so far is kept.
        """
        with self.repo.lock("run", busy=BUSY):
            self.view.event(f"sandbox: {sandbox.find(self.program.sandbox).describe(self.program.sandbox)}")
            try:
                with self.pool:
                    self._begin()
                    while self._round():
                        pass
            finally:
                self.asking.drop()
                self._tell_events()
        reason = self.asking.first_given_up
        if reason is not None and not self.asking.anybody_left and not self.done.stopped:
            if not isinstance(reason, OutOfBudget):
                raise reason
            self.done.stopped = str(reason)
        return self.done

    def _begin(self) -> None:
        self._recover()
        history = self.campaign.history()
        self._close_stale(history)
        self.told = {run.name: str(run.status) for run in history.everything if run.status.ended}
        self.decided = {item.name for item in _all(history) if item.is_decided}
        self.pool.wake()

    def _round(self) -> bool:
        """Look, act, wait. False when it is time to end."""
        history = self.campaign.history()
        self._tell(history)
        level = self.stop()
        if level >= 2:
            self.done.stopped = "stopped at once; what was running is queued again"
            return False
        self.used = budget.used(self.repo, history)
        spent_up = self.used.refusal(self.program.budget, ("runs",))
        self.over = self.over or self._out_of_time() or self.used.refusal(self.program.budget, budget.TIME)
        finishing = bool(level or self.over)
        if finishing:
            self.pool.drain()
            self.asking.drop()
        elif self._take_answers():
            history = self.campaign.history()
        if self._advance(history, 0 if finishing else self._ahead() - len(self._pending(history))):
            return True  # a verdict or the head changed: look again
        if finishing and not self.used.busy:
            self.done.stopped = "stopped; run again to carry on" if level else self.over
            return False
        pending = self._pending(self.campaign.history())
        if spent_up and not self.used.busy and not any(run.rung for run in pending):
            self.done.stopped = spent_up
            return False
        if not pending and not self._may_propose_later(history):
            return bool(self._pending(history))  # what was under way has ended meanwhile: look again
        self._wait(history)
        return True

    def _recover(self) -> None:
        mended = promote.mend(self.campaign.pipeline)
        rest = recovery.recover(self.project, self.campaign.pipeline)
        for line in [*([mended] if mended else []), *rest]:
            self.view.event(f"recovered: {line}")

    # -- one round ----------------------------------------------------------------------------------------

    def _advance(self, history: History, room: int) -> bool:
        """Judge, promote, and queue what the judge and the agent want, at most `room` runs.

        True if a verdict or a promotion changed the history.
        """
        for attempt in history.attempts:
            if is_open(attempt, history) and not any(not run.status.ended for run in attempt.experiments):
                if self._judge(history, attempt, room):
                    return True
            elif self.limits.promote and waits_for_merge(attempt, history):
                moved = self._promote(history, attempt, room)
                if moved is not None:
                    return moved
        self._close_stale(history)
        return self._fill(history, room)

    def _judge(self, history: History, attempt: Attempt, room: int) -> bool:
        """Take the judge's next step for an open candidate. True if it changed the history."""
        action = self.campaign.step(history, attempt)
        if action.kind is Kind.PROMOTE or action.kind is Kind.DISCARD:
            verdict = rebase.explain(self.campaign, history, attempt, action)
            rebase.close(self.campaign, history, attempt, verdict)
            return True
        if action.kind is Kind.RUN_CANDIDATE and room > 0:
            self.campaign.record(attempt, action.verdict)
            self._queued(self.campaign.replicate(attempt, action.seed))
            return True
        return action.kind is Kind.RUN_INCUMBENT and room > 0 and self._measure(history, action.seed)

    def _promote(self, history: History, attempt: Attempt, room: int) -> bool | None:
        """Merge a winner. None while its run at the head's seed is under way, or may not be queued."""
        if any(not run.status.ended for run in attempt.experiments):
            return None
        if self.program.promote_rung:
            try:
                moved = self.climb(self.program.promote_rung, history, attempt, room)
            except CannotClimb as error:
                verdict = Verdict(Decision.DISCARD, f"It cannot climb: {error.message}.")
                self.campaign.record(attempt, verdict)
                return True
            if moved is not Step.DONE:
                return True if moved in (Step.QUEUED, Step.DECIDED) else None
        ready = promote.plan(self.project, history, attempt)
        if ready.experiment is None:
            failed = [run for run in attempt.experiments if run.seed == ready.seed and run.status.ended]
            if failed:
                verdict = Verdict(Decision.DISCARD, f"It failed at the branch's own seed {ready.seed}.")
                self.campaign.record(attempt, verdict)
                return True
            if room <= 0:
                return None
            self._queued(self.campaign.replicate(attempt, ready.seed))
            self.view.event(
                f"{attempt.name} won; it runs once more at the branch's own seed before the merge"
            )
            return True
        text = promote.message(self.program, history, ready, self.campaign.case(history, attempt))
        merge = promote.merge(self.campaign.pipeline, history, ready, text)
        self.done.promoted += 1
        self.view.event(f"promoted {attempt.name}: {attempt.title} ({merge[:9]})")
        return True

    def climb(self, rung: str, history: History, attempt: Attempt, room: int) -> Step:
        """Take an attempt a step further on a rung of the ladder, if it is not decided there.

        Raises:
            CannotClimb: it changes nothing there.
        """
        if room <= 0:
            return Step.WAITING
        moved = self.rung(rung).step(history, attempt)
        if moved.name:
            self._queued(moved.name)
        if moved.step is Step.SPENT and attempt.name not in self.stuck:
            self.stuck.add(attempt.name)
            self.view.event(f"{attempt.name} is not decided at {rung}: the rung's budget of runs is spent")
        return moved.step

    def rung(self, name: str) -> Climb:
        """A rung of the ladder, by its name."""
        if name not in self.ladder:
            self.ladder[name] = Climb(self.campaign, self.program.rung(name))
        return self.ladder[name]

    def _close_stale(self, history: History) -> None:
        """Candidates of an earlier baseline can no longer be judged: their queued runs are withdrawn."""
        for attempt in history.attempts:
            if attempt.baseline == history.head or attempt.outcome is Outcome.PROMOTED:
                continue
            for run in attempt.experiments:
                ours = not run.is_foreign
                if (
                    ours
                    and run.status is Status.QUEUED
                    and queue.withdraw(self.campaign.pipeline, run.name, run.rev)
                ):
                    self.view.event(f"{run.name} withdrawn: the branch moved on")
            ended = all(run.status.ended for run in attempt.experiments)
            ours = not attempt.is_foreign
            if ours and ended and not attempt.is_decided:
                old = attempt.verdict or Verdict(Decision.OPEN, "")
                words = "The branch moved on before this was decided."
                self.campaign.record(
                    attempt, replace(old, decision=Decision.DISCARD, reason=words, label=Label.SUPERSEDED)
                )

    def _fill(self, history: History, room: int) -> bool:
        """Keep the workers busy: measure the incumbent while the rule asks for it, then propose."""
        ledger = self.campaign.ledger(history, None)
        if rule.next_action(ledger).kind is Kind.PROPOSE and not self.told_noise:
            self.told_noise = True
            self.view.event(noise_line(self.campaign.noise(history), self.program))
        # While the last of the incumbent's runs are under way there is time to think of the next change.
        begun = any(run.measured for run in ledger.incumbent.base)
        open_ones = sum(is_open(attempt, history) for attempt in history.attempts)
        pending = self._pending(history)
        # The incumbent's runs under way count as measured: enough of them are queued already.
        mine = [run for run in pending if _measures(run, history)]
        placeholder = ledger.incumbent.base[-1] if ledger.incumbent.base else Run(None, 0.0)
        under_way = tuple(replace(placeholder, seed=run.seed, crashed=False) for run in mine)
        ledger = replace(ledger, incumbent=replace(ledger.incumbent, base=ledger.incumbent.base + under_way))
        # So do proposals on their way, and they have their places.
        ledger = replace(ledger, spent=ledger.spent + self.asking.count)
        room -= self.asking.count
        restacking = self.limits.promote and self.limits.experiments != 0
        left_behind = rebase.left_behind(history) if restacking else []
        while room > 0:
            action = rule.next_action(ledger)
            if action.kind is Kind.RUN_INCUMBENT:
                auditing = ledger.auditing
                waiting = [item for item in history.attempts if waits_for_merge(item, history)]
                stuck = not self.limits.promote or all(item.name in self.stuck for item in waiting)
                unsettled = open_ones or self.asking.count or not stuck
                if auditing and (unsettled or self._proposals_left() is not None):
                    return False
                self._refuse_hopeless(history)
                self._queued(self.campaign.measure_incumbent(history, action.seed, auditing))
                run = replace(placeholder, seed=action.seed, crashed=False)
                incumbent = replace(ledger.incumbent, base=(*ledger.incumbent.base, run))
                ledger = replace(ledger, incumbent=incumbent, spent=ledger.spent + 1)
                room -= 1
                continue
            if action.kind is Kind.PROPOSE and begun and left_behind:
                if self._restack(history, left_behind.pop(0)):
                    ledger = replace(ledger, spent=ledger.spent + 1)
                    room -= 1
                continue
            if action.kind is Kind.PROPOSE and begun and self._proposals_left() != 0:
                if not self._propose(history):
                    break
                ledger = replace(ledger, spent=ledger.spent + 1)
                room -= 1
                continue
            break
        return False

    def _restack(self, history: History, winner: Attempt) -> bool:
        """Queue a winner of an earlier baseline on the branch as it is: a better bet than a new proposal.

        False if it cannot be merged; it is marked so, and the user may resolve it.
        """
        try:
            made = rebase.compose(self.campaign, history, [winner])
            if made.change is not None:
                _, name = self.campaign.submit(made.change)
                self._queued(name)
                self.view.event(f"queued {name}: {winner.name} won on an earlier baseline; tried on this one")
                return True
            words = f"it conflicts in {', '.join(clash.path for clash in made.clashes[winner.name])}"
        except BadProposal as error:
            words = error.message
        rebase.mark(self.campaign, history, winner.name, Label.CONFLICTS)
        self.view.event(
            f"{winner.name} cannot be tried on this baseline: {words}; see: ar promote {winner.name}"
        )
        return False

    # -- proposals ----------------------------------------------------------------------------------------

    def _ahead(self) -> int:
        """How many runs may be under way: one waits, or one a slot where an agent takes its time."""
        slow = any(not is_instant(spec) for spec in self.program.agents)
        return self.limits.jobs + (self.limits.jobs if slow else 1)

    def _propose(self, history: History) -> bool:
        """Queue a proposal, or begin to ask for one. False where nobody can be asked now."""
        spec = self.asking.turn(history)
        if spec is None:
            return False
        if not is_instant(spec):
            if self.asking.count >= self.limits.jobs:
                return False
            self.asking.ask(spec)
            return True
        try:
            change, name = self.campaign.queue_next(spec.name)
        except Exception as error:  # the agent's failure, never the campaign's
            self.asking.failed(spec, error)
            return False
        self._proposed(spec, change, name)
        return True

    def _take_answers(self) -> bool:
        """Queue what agents that were asked have answered. True if anything was queued."""
        queued = False
        for spec, change in self.asking.answers():
            try:
                change, name = self.campaign.submit(change)
            except Exception as error:  # it costs no other answer
                self.asking.failed(spec, error)
                continue
            self._proposed(spec, change, name)
            queued = True
        return queued

    def _tell_events(self) -> None:
        for words in self.asking.events():
            self.view.event(redact(words))

    def _proposed(self, spec: AgentSpec, change: Change, name: str) -> None:
        self.asking.succeeded(spec)
        self.done.proposed += 1
        self._queued(name)
        self.view.event(f"queued {name}: {change.proposal.title}")

    def _may_propose_later(self, history: History) -> bool:
        """Whether a proposal is on its way, or wanted from an agent that is left alone for the moment."""
        if self.asking.count:
            return True
        wanted = rule.next_action(self.campaign.ledger(history, None)).kind is Kind.PROPOSE
        return wanted and self._proposals_left() != 0 and self.asking.anybody_left and not self.over

    def _measure(self, history: History, seed: int | None) -> bool:
        """Queue an incumbent's run unless the same one is under way."""
        for run in self._pending(history):
            if _measures(run, history) and run.seed == seed:
                return False
        self._queued(self.campaign.measure_incumbent(history, seed))
        return True

    def _refuse_hopeless(self, history: History) -> None:
        """A baseline that does not run cannot be improved on."""
        head = history.now
        ended = [run for run in (head.experiments if head else ()) if run.status.ended]
        failed = [run for run in ended if objective(run, self.program) is None]
        if len(failed) >= max(MAX_BASELINE_CRASHES, len(ended) / 2):
            reason = failed[-1].note.reason if failed[-1].note else str(failed[-1].status)
            raise BadState(f"the baseline itself does not run: {reason}", f"see: ar log {failed[-1].name}")

    def _proposals_left(self) -> int | None:
        if self.limits.experiments is None:
            return None
        return max(0, self.limits.experiments - self.done.proposed - self.asking.count)

    def _pending(self, history: History) -> list[Experiment]:
        return [run for run in history.everything if not run.status.ended]

    def _queued(self, name: str) -> None:
        self.told.setdefault(name, str(Status.QUEUED))
        self.pool.wake()

    def _out_of_time(self) -> str:
        """Why this `ar run` is to end by the clock; empty while it is not."""
        hours = self.limits.hours
        over = hours is not None and time.monotonic() - self.began > hours * 3600
        return f"the {hours:g} hours of this run are over; run again to carry on" if over else ""

    # -- waiting and telling ------------------------------------------------------------------------------

    def _wait(self, history: History) -> None:
        """Until a worker reports, the user interrupts, or a few seconds have passed."""
        deadline = time.monotonic() + 5.0
        level = self.stop()
        while time.monotonic() < deadline:
            self.view.update(self._snapshot(history))
            self.pool.reinforce(self._waiting(history))
            events = self.pool.events(0.25)
            for event in events:
                if event.kind is EventKind.RETRIED:
                    self.view.event(f"{event.name}: {event.reason}; it is tried once more")
                if event.kind is EventKind.DIED:
                    self.pool.blame(event.name)
                    self._recover()
                    self.pool.wake()
            self._tell_events()
            if any(event.is_settled for event in events) or self.stop() != level or self.asking.ready:
                return
            if any(event.kind is EventKind.STARTED for event in events):
                history = self.campaign.history()

    def _waiting(self, history: History) -> int:
        """How many experiments no worker of ours has taken yet."""
        taken = set(self.pool.busy.values())
        return sum(run.status is Status.QUEUED and run.name not in taken for run in history.everything)

    def _tell(self, history: History) -> None:
        for attempt in _all(history):
            for run in attempt.experiments:
                if run.status.ended and self.told.get(run.name) != str(run.status):
                    self.told[run.name] = str(run.status)
                    self.done.ended += 1
                    self.view.event(result_line(run, self.program))
            if attempt.verdict and attempt.is_decided and attempt.name not in self.decided:
                self.decided.add(attempt.name)
                good = attempt.verdict.decision is Decision.PROMOTE
                word = "winner" if good else "discarded"
                if attempt.rung:
                    word = f"holds at {attempt.rung}:" if good else f"does not hold at {attempt.rung}:"
                self.view.event(f"{word} {attempt.name}: {attempt.verdict.reason}")

    def _snapshot(self, history: History) -> Snapshot:
        shown = snapshot(self.campaign, history, self.used, self.began, self.limits)
        return replace(shown, asking=redact(self.asking.activity))


def _all(history: History) -> tuple[Attempt, ...]:
    return (*history.attempts, *history.climbs)


def _measures(run: Experiment, history: History) -> bool:
    """Whether a run measures the incumbent at the base scale."""
    return run.measures_baseline and not run.rung and run.candidate == history.incumbent


def noise_line(report: NoiseReport, program: Program) -> str:
    """What the baseline's runs say of the noise, and what that lets the campaign find, in a sentence."""
    if report.sigma is None:
        return f"noise: not known yet, from {report.runs} runs of the branch"
    alone = f"σ = {quantity(report.sigma)} {program.objective.key} between runs"
    if program.seed is None:
        paired = "no seed to pair by"
    elif report.paired_sigma is None:
        paired = "pairing by seed not known to help yet"
    else:
        paired = f"σ = {quantity(report.paired_sigma)} paired by seed"
    effects = ", ".join(f"{quantity(size)} with {count}" for count, size in report.smallest.items())
    return f"noise: {alone}, {paired}; {report.runs} runs of the branch. Shows improvements of {effects} runs"


def result_line(run: Experiment, program: Program) -> str:
    """How a run ended, in one line."""
    value = objective(run, program)
    if value is not None:
        seed = "" if run.seed is None else f" seed {run.seed}"
        return f"{run.name}{seed}: {program.objective.key} {value:.5g}"
    return f"{run.name} {run.status}: {run.note.reason if run.note else ''}"


def snapshot(campaign: Campaign, history: History, used: Used, began: float, limits: Limits) -> Snapshot:
    """What the view shows of this instant."""
    program = campaign.program
    durations = [run.note.seconds for run in history.experiments if run.note and run.note.seconds]
    expected = fmean(durations[-8:]) if durations else None
    now = time.time()
    stages = queue.training(campaign.repo)
    running = tuple(
        Running(
            name=run.name,
            title=run.title,
            seed=run.seed,
            elapsed=now - stages[run.name].since,
            expected=expected,
            slot=stages[run.name].slot if limits.jobs > 1 else "",
        )
        for run in history.everything
        if run.name in stages and not run.status.ended
    )
    head = history.now
    first = history.first
    decided = [item for item in history.attempts if item.is_decided]
    needed = rule.base_runs_needed(0, len(history.promoted))
    have = (
        sum(run.measures_baseline and run.status is Status.SUCCEEDED for run in head.experiments)
        if head
        else 0
    )
    phase = f"measuring the baseline {have}/{needed}" if have < needed else "searching"
    elapsed = time.monotonic() - began
    left = [
        limit - past
        for limit, past in ((limits.hours, elapsed / 3600), (program.budget.hours, used.hours))
        if limit is not None
    ]
    return Snapshot(
        running=running,
        queued=sum(not run.status.ended for run in history.everything) - len(running),
        phase=phase,
        verdicts=tuple((item.name, item.title, item.outcome, effect(item, program)) for item in decided[-6:]),
        best=_level(head),
        baseline=_level(first),
        spent=used.runs,
        budget=program.budget.runs,
        elapsed=elapsed,
        hours_left=max(0.0, min(left)) if left else None,
        agent=", ".join(spec.name for spec in program.agents),
    )


def _level(attempt: Attempt | None) -> str:
    if attempt is None or attempt.value is None:
        return ""
    return quantity(attempt.value, attempt.standard_error)
