"""A branch of the keeps that an audit found real, for `ar promote --audited`.

The keeps are merged in their order, in git objects only, onto the branch's first commit. That tree never ran:
it is a candidate against the first commit, run and judged like any other, before a branch takes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ar.campaign import candidates
from ar.campaign.audit import Audit, seen_from
from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine, Policy
from ar.campaign.keeps import Keep, Place
from ar.campaign.rebase import STACK_AGENT
from ar.changes import merging
from ar.changes.merging import Clash
from ar.changes.proposal import Change, candidate_of
from ar.errors import CannotPromote
from ar.history.ideas import Proposal
from ar.history.records import Attempt, Finding, History

BRANCH = "ar-audited"


@dataclass(frozen=True)
class Rebuilt:
    """The branch's first commit with the real keeps on it.

    Args:
        first: what the change is against.
        keeps: those that are in it.
        clashes: title of a keep that needs one which is not in it, to where that shows.
    """

    first: Place
    keeps: tuple[Keep, ...]
    change: Change
    clashes: dict[str, tuple[Clash, ...]]


def rebuild(campaign: Campaign, history: History, found: Audit) -> Rebuilt:
    """Merge the keeps that are real. What they set of parameters counts, whatever was set before; where the
    text of a file does not merge, the keep is left out.

    Raises:
        CannotPromote: none is real, or all are.
    """
    project, first = campaign.project, found.branch.first
    real = [keep for keep, one in found.found if one.finding is Finding.REAL]
    if not real:
        raise CannotPromote("no keep of this branch is known to be real", "measure them: ar audit --keeps")
    tree, taken = campaign.repo.tree(first.stand_in), []
    clashes: dict[str, tuple[Clash, ...]] = {}
    for keep in real:
        sides = keep.before.stand_in, tree, keep.after.stand_in
        merged = merging.merge(project, *sides, keep.after.commit[:9], yielding=True)
        if merged.clashes:
            clashes[keep.title] = merged.clashes
        else:
            tree = merged.tree
            taken.append(keep)
    if not taken:
        raise CannotPromote(
            "each real keep needs one that is not", "see both: ar promote --audited --dry-run"
        )
    if len(taken) == len(found.branch.keeps):
        raise CannotPromote("every keep of this branch is real", "nothing is to be left out of it")
    view = seen_from(history, first)
    proposal = _proposal(found, taken, tree)
    candidate = candidate_of(project, proposal, tree, view)
    return Rebuilt(first, tuple(taken), Change(proposal, view.head, tree, candidate), clashes)


def _proposal(found: Audit, keeps: list[Keep], tree: str) -> Proposal:
    names = (found.attempts[keep.after.candidate].name for keep in keeps)
    lines = [f"- {keep.title} ({keep.after.commit[:9]})" for keep in keeps]
    return Proposal(
        title=f"The keeps that are real: {len(keeps)} of {len(found.branch.keeps)}",
        hypothesis="\n".join(["By an audit each is better than the branch before it:", *lines]),
        agent=STACK_AGENT,
        tree=tree,
        stack=tuple(names),
    )


class Rebuilding(Policy):
    """Runs what was rebuilt until it is judged, and then at the branch's own seed."""

    phase = "measuring the keeps that are real"

    def __init__(self, campaign: Campaign, rebuilt: Rebuilt, head_seed: int | None) -> None:
        self.campaign = campaign
        self.rebuilt = rebuilt
        self.head_seed = head_seed

    def attempt(self, history: History) -> Attempt | None:
        """What measures it; None before it has a run."""
        found = history.of(self.rebuilt.change.candidate)
        return found if found and found.own else None

    def step(self, engine: Engine, history: History, room: int) -> bool:
        view, attempt = seen_from(history, self.rebuilt.first), self.attempt(history)
        if attempt is None:
            if room > 0:
                engine.queued(self.campaign.put(self.rebuilt.change, view, earlier=True))
            return False
        if attempt.is_under_way:
            return False
        if view.is_open(attempt):
            return candidates.judge(engine, view, attempt, room)
        if attempt.is_judged_good and room > 0 and all(run.seed != self.head_seed for run in attempt.own):
            engine.queued(self.campaign.replicate(attempt, self.head_seed))
        return False
