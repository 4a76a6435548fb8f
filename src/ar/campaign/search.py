"""The policy of `ar run`: propose, judge, promote, measure the incumbent, and audit it at the end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ar.agents import is_instant
from ar.campaign import aa, candidates, moved, promotion, rebase, screening
from ar.campaign.engine import Engine, Policy
from ar.campaign.ladder import Ladder, Step
from ar.campaign.newcomers import Newcomers
from ar.campaign.progress import noise_line, one_seed_line
from ar.changes import own
from ar.errors import BadProposal, CannotClimb, CheckoutInTheWay, Conflict, FailedAtHeadSeed, Tampered
from ar.git.remote import Refused, Unreachable
from ar.history import near_misses
from ar.history.records import Attempt, Decision, History, Label, Verdict
from ar.judge.evidence import Ledger
from ar.judge.findings import noise_report
from ar.judge.rule import Kind, next_action


@dataclass
class Search(Policy):
    """Tries new changes and keeps what is good.

    Args:
        experiments: how many new changes to propose; None until the programme's budget ends.
        promoting: merge winners, and try those that the branch left behind on the branch as it is.
        repeats: how many runs an A/A check of the branch has; None for what it costs to decide.
    """

    ladder: Ladder
    experiments: int | None = None
    promoting: bool = True
    repeats: int | None = None
    _told_noise: bool = field(default=False, init=False)
    _warned: bool = field(default=False, init=False)
    _looked: History | None = field(default=None, init=False)  # where the near misses were looked for last
    _near: list[Attempt] = field(default_factory=list, init=False)
    _revisited: set[str] = field(default_factory=set, init=False)  # also those that do not go on the branch
    _told_aa: bool = field(default=False, init=False)
    _newcomers: Newcomers = field(default_factory=Newcomers, init=False)

    def begin(self, engine: Engine, history: History) -> None:
        for words in promotion.warnings(engine.campaign.project) if self.promoting else ():
            engine.event(words)
        moved.follow(engine, history, everything=True)
        candidates.try_again(engine, history)

    def step(self, engine: Engine, history: History, room: int) -> bool:
        ledger = engine.campaign.ledger(history)
        # The model chooses as long as better changes may come; after that the judge decides alone.
        choosing = not ledger.auditing and engine.asking.anybody_left
        for attempt in history.attempts:
            if history.is_open(attempt) and not attempt.is_under_way:
                by_model = choosing and engine.campaign.model.chooses(attempt.first)
                waits = by_model and ledger.knows_noise and screening.waits(engine.campaign, history, attempt)
                if not waits and candidates.judge(engine, history, attempt, room, by_model):
                    return True
        for attempt in self._mergeable(history):
            try:
                merged = self._promote(engine, history, attempt, room)
            except Tampered as error:
                engine.campaign.discard(attempt, error.message, Label.TAMPERED)
                merged = True
            if merged is not None:
                return merged
        moved.follow(engine, history)
        is_last = self._proposals_left(engine) == 0
        if room > 0 and choosing and screening.settle(engine, history, ledger, room, is_last):
            return True
        if engine.campaign.queue.remote and self._newcomers.check(engine, history, room):
            return True
        self._fill(engine, history, ledger, room)
        return False

    def awaits(self, engine: Engine, history: History) -> bool:
        """Whether a proposal is on its way, or wanted from an agent that is left alone for the moment."""
        if engine.asking.count:
            return True
        wanted = next_action(engine.campaign.ledger(history)).kind is Kind.PROPOSE
        return wanted and self._proposals_left(engine) != 0 and engine.asking.anybody_left and not engine.over

    # -- promoting ----------------------------------------------------------------------------------------

    def _mergeable(self, history: History) -> list[Attempt]:
        """Winners that the branch may take, the strongest first. What users queued is compared before any of
        it is merged: what is left behind has to win again."""
        compared = not any(history.is_open(item) and item.agent == own.NAME for item in history.attempts)
        waiting = [item for item in history.attempts if history.waits_for_merge(item)]
        return promotion.strongest_first(waiting) if self.promoting and compared else []

    def _promote(self, engine: Engine, history: History, attempt: Attempt, room: int) -> bool | None:
        """Merge a winner. None while its run at the head's seed is under way, or may not be queued."""
        campaign = engine.campaign
        if attempt.is_under_way:
            return None
        if campaign.program.promote_rung:
            try:
                climbed = self.ladder.toward(engine, campaign.program.promote_rung, history, attempt, room)
            except CannotClimb as error:
                verdict = Verdict(Decision.DISCARD, f"It cannot climb: {error.message}.")
                campaign.record(attempt, verdict)
                return True
            if climbed is not Step.DONE:
                return True if climbed in (Step.QUEUED, Step.DECIDED) else None
        try:
            ready = promotion.plan(campaign.project, history, attempt)
        except FailedAtHeadSeed as error:
            campaign.record(attempt, Verdict(Decision.DISCARD, error.message))
            return True
        if ready.experiment is None:
            if room <= 0:
                return None
            engine.queued(campaign.replicate(attempt, ready.seed, campaign.ledger(history, attempt).only_on))
            engine.event(f"{attempt.name} won; it runs once more at the branch's own seed before the merge")
            return True
        how = ""
        try:
            merge = promotion.merge(campaign, history, ready)
        except CheckoutInTheWay as error:
            merge, bring_in = promotion.merge_aside(campaign, history, ready)
            how = f"; without your checkout, since {error.message}; {bring_in}"
        except Conflict:
            return True  # somebody committed just now
        except (Unreachable, Refused):
            return None  # the remote's part comes first; whoever looks at it tells that it is out of reach
        engine.done.promoted += 1
        engine.event(f"promoted {attempt.name}: {attempt.title} ({merge[:9]}){how}")
        return True

    # -- keeping the workers busy -------------------------------------------------------------------------

    def _fill(self, engine: Engine, history: History, ledger: Ledger, room: int) -> None:
        """Measure the incumbent while the rule asks for it, then propose."""
        campaign = engine.campaign
        if next_action(ledger).kind is Kind.PROPOSE and ledger.knows_noise and not self._told_noise:
            self._told_noise = True
            engine.event(noise_line(noise_report(ledger), campaign.program))
        if not self._warned and (words := one_seed_line(ledger, campaign.program)):
            self._warned = True
            engine.event(words)
        # While the last of the incumbent's runs are under way there is time to think of the next change.
        begun = bool(ledger.base)
        ledger = candidates.as_if_ended(engine, history, ledger)
        room -= engine.asking.count
        restacking = self.promoting and self.experiments != 0
        left_behind = rebase.winners_behind(history) if restacking else []
        left_behind += near_misses.left_behind(history, campaign.program)
        repeats = self._repeats(engine, history, ledger) if begun else []
        spare = max(0, engine.asking.most - engine.jobs)  # room for questions only: an answer takes its time
        while room + spare > 0:
            action = next_action(ledger)
            is_next = action.kind is Kind.PROPOSE and not repeats and not left_behind
            if room <= 0 and not is_next:
                return
            if action.kind is Kind.RUN_INCUMBENT:
                if ledger.auditing and self._unsettled(engine, history):
                    return
                candidates.refuse_hopeless(campaign.program, history.now, engine.ended_before)
                audit, only_on = ledger.auditing, action.only_on
                engine.queued(campaign.measure_incumbent(history, action.seed, audit, only_on=only_on))
                ledger = candidates.with_incumbents(ledger, [action.seed])
            elif action.kind is not Kind.PROPOSE or not begun:
                return
            elif repeats:
                candidates.refuse_hopeless(campaign.program, history.now, engine.ended_before)
                engine.queued(
                    campaign.measure_incumbent(history, repeats.pop(0), aa=True, only_on=action.only_on)
                )
            elif left_behind:
                if not _restack(engine, history, left_behind.pop(0)):
                    continue
            elif (
                self._proposals_left(engine) == 0
                or screening.is_reserved(engine, history, ledger)
                or not (
                    self._propose(engine, history, room)
                    or (restacking and room > 0 and self._revisit(engine, history))
                )
            ):
                return
            ledger = replace(ledger, spent=ledger.spent + 1)
            room -= 1

    def _repeats(self, engine: Engine, history: History, ledger: Ledger) -> list[int | None]:
        """Seeds of the runs that an A/A check still lacks; what it came to is told once they have ended."""
        wanted = aa.affordable(engine, history, self.experiments) if self.repeats is None else self.repeats
        made = aa.runs_of(history)
        if self.repeats is not None:
            ended = sum(run.status.ended for run in made)
            self.phase = f"A/A check, run {ended + 1}/{self.repeats}" if ended < self.repeats else ""
        is_news = any(run.name not in engine.ended_before for run in made)
        if wanted and is_news and not self._told_aa and aa.is_done(made, wanted):
            self._told_aa = True
            for words in aa.lines(engine.campaign.program, history):
                engine.event(words)
        return aa.lacking(history, ledger, wanted)

    def _unsettled(self, engine: Engine, history: History) -> bool:
        """Whether the closing audit is to wait for a verdict, a merge or a proposal."""
        if engine.asking.count or any(history.is_open(attempt) for attempt in history.attempts):
            return True
        waiting = [item for item in history.attempts if history.waits_for_merge(item)]
        mergeable = self.promoting and not all(item.name in self.ladder.stuck for item in waiting)
        return mergeable or self._proposals_left(engine) is not None

    def _propose(self, engine: Engine, history: History, room: int) -> bool:
        """Queue a proposal where there is room for a run, or begin to ask for one. False where nobody can be
        asked now."""
        spec = engine.asking.turn(history)
        if spec is None:
            return False
        if is_instant(spec):
            return room > 0 and engine.propose_now(spec)
        if engine.asking.count >= engine.asking.most:
            return False
        engine.asking.ask(spec)
        return True

    def _revisit(self, engine: Engine, history: History) -> bool:
        """Queue a near miss that looked better on the branch as it is. False where there is none."""
        if self._looked is not history:
            found = near_misses.near_misses(engine.campaign.project, history)
            self._looked, self._near = (
                history,
                [miss.attempt for miss in found if miss.effect < 0 and not miss.here],
            )
        while self._near:
            attempt = self._near.pop(0)
            if attempt.name not in self._revisited:
                self._revisited.add(attempt.name)
                if _restack(engine, history, attempt):
                    return True
        return False

    def _proposals_left(self, engine: Engine) -> int | None:
        if self.experiments is None:
            return None
        return max(0, self.experiments - engine.done.proposed - engine.asking.count)


def _restack(engine: Engine, history: History, winner: Attempt) -> bool:
    """Queue what was good on an earlier baseline on the branch as it is: a better bet than a new proposal.

    False if it cannot be merged; it is marked so, and the user may resolve it.
    """
    campaign = engine.campaign
    try:
        made = rebase.compose(campaign, history, [winner])
        if made.change is not None:
            _, name = campaign.submit(made.change)
            engine.queued(name)
            before = f"{winner.name} {rebase.standing(winner)} on an earlier baseline"
            engine.event(f"queued {name}: {before}; tried on this one")
            return True
        words = f"it conflicts in {', '.join(clash.path for clash in made.clashes[winner.name])}"
    except BadProposal as error:
        words = error.message
    rebase.mark(campaign, history, winner.name, Label.CONFLICTS)
    see = f"ar {'promote' if winner.is_judged_good else 'diff'} {winner.name}"
    engine.event(f"{winner.name} cannot be tried on this baseline: {words}; see: {see}")
    return False
