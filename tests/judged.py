"""Attempts that ran for real and were judged as the test says."""

from __future__ import annotations

from pathlib import Path

from helpers import run_next

from ar.campaign.campaign import Campaign
from ar.changes.proposal import prepare
from ar.git.repo import Repo
from ar.history.ideas import Proposal
from ar.history.records import Attempt, Decision, Verdict
from ar.project.program_file import load
from ar.project.project import Project

WIN = Verdict(Decision.PROMOTE, "Better by a lot.", -2.0, 0.01, 9.0, 3.5, None, 2, 8, 0.004, 7)
LOSS = Verdict(Decision.DISCARD, "Worse than the incumbent.", 2.0, 0.01, -9.0, 3.5, None, 1, 8, 0.004, 7)


def tried(
    root: Path, verdict: Verdict | None, x: float = 2.9, seed: int | None = 1, y: float | None = None
) -> Attempt:
    """A candidate that ran once and was judged as told."""
    repo = Repo.open(root)
    campaign = Campaign(Project(repo, load(root)))
    history = campaign.history()
    title, params = (f"x 1.5 → {x}", {"x": x}) if y is None else (f"y 0.03 → {y}", {"y": y})
    proposal = Proposal(title, "Nearer to the floor.", "human", params)
    _, name = campaign.submit(prepare(campaign.project, proposal, history), seed)
    run_next(root)
    attempt = next(item for item in campaign.history().attempts if item.name == name)
    if verdict:
        campaign.record(attempt, verdict)
    campaign.pipeline.close()
    return attempt
