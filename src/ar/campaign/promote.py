"""Winners brought into the branch, for `ar promote` and `ar stack`: whatever must be measured first is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ar.campaign import promotion
from ar.campaign.audit import audit, seen_from
from ar.campaign.campaign import Campaign
from ar.campaign.climb import Climbing
from ar.campaign.engine import Done, Engine, Policy
from ar.campaign.ladder import Ladder
from ar.campaign.progress import View
from ar.campaign.promotion import Promotion
from ar.campaign.rebuild import Rebuilding, Rebuilt, rebuild
from ar.campaign.stack import Result, Stacking
from ar.errors import CannotPromote, OutOfBudget, Stopped
from ar.history import attempts, reader
from ar.history.records import Attempt, History, Outcome
from ar.local import locks
from ar.runs import budget

BUSY = "ar run is at work here (process {pid}) and promotes by itself"


@dataclass(frozen=True)
class Promoter:
    """Promotes by hand, which may take runs.

    Args:
        view: opens what shows the runs.
        stop, jobs: as in `Engine`.
        tell: told what takes its time, before it does.
    """

    campaign: Campaign
    view: Callable[[], AbstractContextManager[View]]
    stop: Callable[[], int]
    jobs: int = 1
    tell: Callable[[str], None] = lambda words: None

    def stack(self, members: Sequence[Attempt], trim: bool = True) -> Result:
        """Measure several winners together on the branch as it is, and judge them as one change; where it
        wins, also at the scale at which changes must hold.

        Raises:
            Stopped: the user ended it.
        """
        policy = Stacking(self.campaign, members, trim)
        self._run(policy)
        rung, found = self.campaign.program.promote_rung, policy.result.attempt
        if rung and found is not None:
            found = attempts.find(self.campaign.history(), found.name)[0]
            if found.outcome is Outcome.WINNER:
                self.tell(f"Measuring {found.name} at {rung} …")
                self._run(Climbing(Ladder(self.campaign), [rung], [found.candidate]))
        return policy.result

    def carry(self, winner: Attempt) -> Attempt:
        """The attempt that stands for a winner of an earlier baseline on the branch as it is, judged.

        Raises:
            CannotPromote: it is not decided yet.
            Stopped: the user ended it.
        """
        found = self.stack([winner], trim=False).attempt
        history = self.campaign.history()
        if found is None or history.is_open(attempts.find(history, found.name)[0]):
            raise CannotPromote(
                f"{winner.name} is not decided yet on the branch as it is",
                f"carry on: ar promote {winner.name}",
            )
        return found

    def promote(
        self, name: str, force: bool = False, branch: str | None = None, tag: str | None = None
    ) -> tuple[Attempt, str]:
        """Merge an attempt, after its run at the branch's own seed where it has none.

        Returns the attempt and the merge commit.

        Raises:
            CannotPromote: the branch may not take it.
            OutOfBudget: no run is left for the one that it lacks.
            Stopped: the user ended that run.
        """
        with locks.hold(self.campaign.repo, "run", busy=BUSY):
            history, ready = self.plan(name, force)
            if ready.experiment is None:
                self._run_at_head_seed(ready)
                history, ready = self.plan(name, force)
                if ready.experiment is None:
                    raise CannotPromote(f"{name} did not run to its end", "carry on: ar promote")
            return ready.attempt, promotion.merge(self.campaign, history, ready, branch, tag)

    def promote_audited(self, branch: str) -> tuple[Rebuilt, Attempt, str]:
        """Put the keeps that an audit found real on a branch of their own, once they are judged better than
        the first commit together. Returns what was merged, the attempt that measured it and the merge commit.

        Raises:
            NotFound, CannotPromote: nothing is to be merged, or it is not better, or the name is taken.
            OutOfBudget: too few runs are left to judge it.
            Stopped: the user ended it.
        """
        campaign, history = self.campaign, self.campaign.history()
        rebuilt = rebuild(campaign, history, audit(campaign, history))
        promotion.free(campaign.repo, f"refs/heads/{branch}", rebuilt.first.stand_in)
        policy = Rebuilding(campaign, rebuilt, reader.head_seed(campaign.project))
        attempt = policy.attempt(history)
        if attempt is None and (reason := budget.refusals(campaign.project)[1]):
            raise OutOfBudget(reason)
        self._run(policy)
        view = seen_from(campaign.history(), rebuilt.first)
        attempt = policy.attempt(view)
        if attempt is None or view.is_open(attempt):
            raise CannotPromote(
                "what is real of this branch is not decided yet together", "carry on: ar promote --audited"
            )
        ready = promotion.plan(campaign.project, view, attempt)
        if ready.experiment is None:
            raise CannotPromote(f"{attempt.name} did not run to its end", "carry on: ar promote --audited")
        return rebuilt, attempt, promotion.merge(campaign, view, ready, branch)

    def plan(self, name: str, force: bool) -> tuple[History, Promotion]:
        """The history, and the promotion of an attempt as things stand.

        Raises:
            CannotPromote: the branch may not take it.
        """
        history = self.campaign.history()
        attempt, _ = attempts.find(history, name)
        return history, promotion.plan(self.campaign.project, history, attempt, force)

    def _run_at_head_seed(self, ready: Promotion) -> None:
        reason = budget.refusals(self.campaign.project)[1]
        if reason:
            raise OutOfBudget(reason)
        attempt, seed = ready.attempt, ready.seed
        self.tell(f"Running {attempt.name} at the branch's own seed {seed} first …")
        under_way = (run.name for run in attempt.experiments if run.seed == seed and not run.status.ended)
        only_on = self.campaign.ledger(self.campaign.history(), attempt).only_on
        name = next(under_way, "") or self.campaign.replicate(attempt, seed, only_on)
        self._run(Policy(), only=name, locked=True)

    def _run(self, policy: Policy, only: str = "", locked: bool = False) -> Done:
        with self.view() as view:
            engine = Engine(self.campaign, policy, view, self.stop, jobs=self.jobs, only=only)
            done = engine.run_locked() if locked else engine.run()
        if self.stop():
            raise Stopped(done.stopped or "stopped")
        return done
