"""Ideas that do not go where the branch is by now: recorded as cancelled, with tree, words and reason."""

from __future__ import annotations

from dataclasses import replace

from ar.campaign.campaign import Campaign
from ar.changes.proposal import Change
from ar.git import refs
from ar.history.messages import Message
from ar.history.records import Decision, Label, Verdict
from ar.runs import outcomes


def keep(campaign: Campaign, name: str, why: str) -> str:
    """Take an idea that waits out of the queue, for people to see. Returns what to tell of it; empty where
    somebody runs it."""
    claimed = campaign.queue.claim(only=name)
    if claimed is None:
        return ""
    words = f"The branch moved on before it ran, and it does not go there: {why}."
    verdict = Verdict(Decision.DISCARD, words, label=Label.CONFLICTS)
    rev, note = outcomes.of_cancelled(campaign.project, claimed)
    campaign.queue.finish(claimed, rev, replace(note, reason=words, verdict=verdict))
    return f"{name} cannot be tried on the branch as it is: {why}; see: ar diff {name}"


def keep_answer(campaign: Campaign, change: Change, why: str) -> str:
    """Keep what an agent answered when the branch had moved on; empty where it has not."""
    history, proposal = campaign.history(), change.proposal
    if change.baseline == history.head:
        return ""
    name = refs.new_name(proposal.title)
    message = Message.of(proposal, change.candidate, campaign.ledger(history).first_seed)
    campaign.queue.put(campaign.project, change.tree, change.baseline, message, name)
    return keep(campaign, name, why)
