"""Agents of all kinds in one campaign: whatever some of them do, the others get on, and the budget holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import simulated
from helpers import Ar, attempts_of, processes
from simulated_agent import LEFT

from ar.agents import turns
from ar.campaign.campaign import Campaign
from ar.project.project import Project

LIMIT = 0.25  # US dollars


@pytest.mark.slow
def test_bad_agents_cost_the_good_ones_nothing_but_their_share(tmp_path: Path, ar: Ar) -> None:
    root = tmp_path / "project"
    specs = simulated.agents("learned", timeout=2, kinds=("wild", "hanging", "good"))
    simulated.project(root, 0.1, specs, LIMIT, runs=12)
    printed = ar(root, "run", "--plain", "--jobs", "2").stdout
    found = simulated.measure(root, 2)
    assert 0 < found.spent <= LIMIT + found.dearest, printed
    assert Counter(item["agent"] for item in attempts_of(root))["command/good"], printed
    assert f"sleep {LEFT}" not in processes()
    campaign = Campaign(Project.open(root))
    shares = turns.shares(campaign.program.agents, campaign.history(), campaign.books.read().agents)
    assert min(shares.values()) >= 0.05
    assert printed.rstrip().endswith("git log --first-parent")
