"""Changes carried onto a branch that moved on without them, as candidates of their own: winners, and what
looked good when the branch moved.

A gain was measured against its own baseline. On the branch as it is now, the change is a new one: its tree
never ran, and its gain may be gone beside what was promoted since. So it is merged in git objects, queued,
run and judged like any other; `Ar-Stack` names the attempts that it joins.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ar.campaign.campaign import Campaign
from ar.campaign.promotion import strongest_first
from ar.changes.merging import Clash, merge
from ar.changes.proposal import Change, candidate_of
from ar.errors import BadProposal, NotFound
from ar.history import near_misses
from ar.history.attempts import origin
from ar.history.ideas import Idea, Proposal
from ar.history.messages import TITLE_LIMIT
from ar.history.records import Attempt, Decision, History, Label, Outcome, Verdict
from ar.judge import rule
from ar.judge.rule import Kind
from ar.text import signed

STACK_AGENT = "stack"  # who proposes where several agents' changes are joined
CARRIED = (
    Outcome.WINNER,
    Outcome.LAPSED,
    Outcome.SUPERSEDED,
    Outcome.REVERTED,
)  # what may be brought onto a branch that moved on


@dataclass(frozen=True)
class Composite:
    """Attempts merged onto the branch, in order.

    Args:
        members: those in the tree.
        change: None where no member could be merged.
        clashes: member that could not be merged to where it clashes.
    """

    members: tuple[Attempt, ...]
    change: Change | None
    clashes: dict[str, tuple[Clash, ...]]


def winners_behind(history: History) -> list[Attempt]:
    """Winners against an earlier baseline, not yet tried on the branch as it is, strongest first."""
    return strongest_first(
        item
        for item in near_misses.behind(history)
        if item.outcome is Outcome.WINNER
        and not (item.verdict and (item.verdict.label is Label.CONFLICTS or item.verdict.hurts_higher))
    )


def carried(campaign: Campaign, history: History, attempt: Attempt) -> Change:
    """An idea that never ran, on the branch as it is; the parameters that it sets count. Its scope is checked
    when it is submitted.

    Raises:
        BadProposal: it conflicts with what the branch took.
    """
    first, tree = attempt.first, campaign.repo.tree(history.head)
    merged = merge(campaign.project, attempt.baseline, tree, first.rev, attempt.name, yielding=True)
    if merged.clashes:
        raise BadProposal(f"it conflicts in {', '.join(clash.path for clash in merged.clashes)}")
    said = {spec.name: getattr(first, spec.name) for spec in dataclasses.fields(Idea)}
    return _change(campaign, history, Proposal(**said, tree=merged.tree))


def compose(campaign: Campaign, history: History, members: Sequence[Attempt]) -> Composite:
    """Merge attempts onto the branch one after the other, in git objects only; who clashes is left out. Of
    those that are not decided, the parameters that they set count.
    """
    tree, taken, clashes = campaign.repo.tree(history.head), [], {}
    for member in members:
        first = member.first
        undecided = member.is_hearsay or not member.is_judged_good
        merged = merge(campaign.project, member.baseline, tree, first.rev, member.name, yielding=undecided)
        if merged.clashes:
            clashes[member.name] = merged.clashes
        else:
            tree = merged.tree
            taken.append(member)
    if not taken:
        return Composite((), None, clashes)
    change = _change(campaign, history, _proposal(taken, tree))
    return Composite(tuple(taken), change, clashes)


def _change(campaign: Campaign, history: History, proposal: Proposal) -> Change:
    """A tree of ours as a change; its scope is checked when it is submitted."""
    candidate = candidate_of(campaign.project, proposal, proposal.tree, history)
    return Change(proposal, history.head, proposal.tree, candidate)


def _proposal(members: Sequence[Attempt], tree: str) -> Proposal:
    names = tuple(member.name for member in members)
    first = members[0].first
    if len(members) == 1:
        said = members[0].verdict.reason if members[0].verdict else ""
        why = f"It {standing(members[0])} on an earlier baseline. {said}"
        if members[0].is_hearsay:
            why = f"It {origin(members[0])}; here nobody has measured it yet."
        words = f"{first.hypothesis.strip()}\n\n{why}".strip()
        return Proposal(
            title=first.title,
            hypothesis=words,
            agent=first.agent,
            tree=tree,
            expected=first.expected,
            simplification=first.simplification,
            parent=members[0].name,
            stack=names,
            observed=first.observed,
            sources=first.sources,
        )
    title = f"Stack of {len(members)}: {' + '.join(member.title for member in members)}"
    lines = [f"- {member.title} ({member.name})" for member in members]
    return Proposal(
        title=title if len(title) <= TITLE_LIMIT else f"{title[: TITLE_LIMIT - 1]}…",
        hypothesis="\n".join(["Each won alone; together they should add up:", *lines]),
        agent=STACK_AGENT,
        tree=tree,
        simplification=all(member.first.simplification for member in members),
        stack=names,
    )


def standing(attempt: Attempt) -> str:
    """How a change stood on its own baseline, in a word or two."""
    if attempt.is_judged_good:
        return "won"
    return "looked better" if attempt.is_superseded else "was not settled"


def explain(campaign: Campaign, history: History, attempt: Attempt, action: rule.Action) -> Verdict:
    """The verdict on a candidate; on a merged winner that is discarded, with the measured interaction."""
    verdict = action.verdict
    if action.kind is not Kind.DISCARD or len(attempt.stack) != 1:
        return verdict
    member = next((item for item in history.attempts if item.name == attempt.stack[0]), None)
    if member is None:
        return verdict  # a remote's, which nobody judged here
    alone = member.verdict
    if alone is not None and alone.decision is not Decision.PROMOTE:
        return verdict  # it was not decided alone
    if alone is None or alone.effect is None or verdict.effect is None:
        return replace(verdict, label=Label.DOES_NOT_STACK)
    orient = campaign.program.objective.orient
    errors = [alone.standard_error or 0.0, verdict.standard_error or 0.0]
    gap = signed(orient(verdict.effect - alone.effect), math.hypot(*errors))
    effects = (
        f"{signed(orient(alone.effect), errors[0])} alone, {signed(orient(verdict.effect), errors[1])} here"
    )
    words = f"Does not stack: {effects}, an interaction of {gap}. {verdict.reason}"
    return replace(verdict, reason=words, label=Label.DOES_NOT_STACK)


def close(campaign: Campaign, history: History, attempt: Attempt, verdict: Verdict) -> None:
    """Record the last word on a candidate, and on the winner that it carries.

    The winner's comes first: after a kill in between, the candidate is judged once more and nothing is lost.
    """
    if verdict.label is Label.DOES_NOT_STACK:
        for name in attempt.stack:
            mark(campaign, history, name, Label.DOES_NOT_STACK)
    campaign.record(attempt, verdict)


def mark(campaign: Campaign, history: History, name: str, label: Label, why: str = "") -> None:
    """Label an attempt that the branch cannot take as things stand, and add to its verdict why."""
    member = next((item for item in history.attempts if item.name == name), None)
    if member and member.verdict and (member.is_judged_good or member.is_superseded):
        reason = " ".join(filter(None, [member.verdict.reason, why]))
        campaign.record(member, replace(member.verdict, reason=reason, label=label))


def revert(campaign: Campaign, history: History, attempt: Attempt) -> tuple[Change, tuple[Clash, ...]]:
    """Take a promoted change out of the branch again, as a change to try.

    Raises:
        NotFound: no merge in the branch brought it in.
    """
    revs = {run.rev for run in attempt.experiments}
    repo = campaign.repo
    brought = next(
        ((merge_, parents) for merge_, parents in repo.merges(history.head) if revs & set(parents[1:])), None
    )
    if brought is None:
        raise NotFound(
            f"{attempt.name} is not in the branch ({attempt.outcome})", "see: git log --first-parent"
        )
    commit, parents = brought
    merged = merge(campaign.project, commit, history.head, parents[0], f"before {attempt.name}")
    said = f" Its verdict was: {attempt.verdict.reason}" if attempt.verdict else ""
    title = f"Without: {attempt.title}"
    proposal = Proposal(
        title=title if len(title) <= TITLE_LIMIT else f"{title[: TITLE_LIMIT - 1]}…",
        hypothesis=f"Takes {attempt.name} out again: what came after it may do without.{said}",
        agent="human",
        tree=merged.tree,
        simplification=True,
        parent=attempt.name,
        reverts=attempt.name,
    )
    return _change(campaign, history, proposal), merged.clashes
