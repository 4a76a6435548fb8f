"""Near misses: what is promising and not settled is told, and tried again once the branch has moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, commit, edit, git
from synthetic import DISCARDED, Made, write

from ar.agents import memory
from ar.campaign.campaign import Campaign
from ar.errors import BadProposal
from ar.git.repo import Repo
from ar.history.near_misses import NearMiss, Why, near_misses
from ar.project.program import AgentSpec
from ar.project.project import Project

BETTER = {**DISCARDED, "effect": -0.02, "z": 1.9}


def _misses(root: Path) -> dict[str, NearMiss]:
    campaign = Campaign(Project.open(root))
    return {miss.attempt.name: miss for miss in near_misses(campaign.project, campaign.history())}


def _verdict(**said: Any) -> dict[str, object]:
    return {**BETTER, **said}


def _promote(root: Path, name: str) -> None:
    """Merge an experiment, as a promotion leaves the branch."""
    repo, head = Repo.open(root), git(root, "rev-parse", "HEAD")
    rev = git(root, "for-each-ref", f"refs/exps/*/*/{name}", "--format=%(objectname)")
    merge = repo.commit_tree(repo.tree(rev), [head, rev], f"Promote {name}")
    git(root, "reset", "-q", "--hard", merge)


@pytest.mark.parametrize(
    ("said", "agent", "is_near"),
    [
        (_verdict(), "claude", True),
        (_verdict(effect=-0.005), "claude", False),  # half a standard error
        (_verdict(effect=0.02), "claude", False),
        (_verdict(failed_guard="cost"), "claude", False),
        (_verdict(label="overfitted"), "claude", False),
        (_verdict(label="tampered"), "claude", False),
        (_verdict(decision="promote"), "claude", False),
        (_verdict(), "search", False),  # it proposes again by itself
    ],
)
def test_what_looked_better_and_was_not_confirmed(
    said: dict[str, object], agent: str, is_near: bool, project: Path
) -> None:
    [_, name] = write(project, [Made(1.5, 4.9), Made(2.0, 4.8, agent=agent, verdict=said)])
    found = _misses(project)
    assert (name in found) == is_near
    if is_near:
        assert (found[name].why, found[name].here) == (Why.UNCONFIRMED, True)


def test_what_was_discarded_before_the_branch_changed_what_it_touches(project: Path) -> None:
    slight = _verdict(effect=0.005)
    runs = [
        Made(1.5, 4.9),
        Made(1.5, 4.9, y=0.05, agent="claude", verdict=slight),
        Made(1.7, 4.9, agent="claude", verdict=slight),
        Made(1.6, 9.9, agent="claude", verdict=_verdict(effect=0.1)),  # clearly worse
        Made(2.5, 1.0, agent="claude", verdict={**WON}),
    ]
    _, of_y, of_x, worse, winner = write(project, runs)
    assert not _misses(project)
    _promote(project, winner)
    found = _misses(project)
    assert {name: (miss.why, miss.here) for name, miss in found.items()} == {of_x: (Why.OUTDATED, False)}
    assert of_y not in found and worse not in found


WON = {
    "decision": "promote",
    "reason": "Better.",
    "effect": -1.0,
    "standard_error": 0.01,
    "runs": 2,
    "z": 9.0,
}


def test_one_call_takes_it_up_on_the_branch_as_it_is(project: Path) -> None:
    _, name = write(project, [Made(1.5, 4.9), Made(1.5, 4.8, y=0.05, agent="claude", verdict=BETTER)])
    campaign = Campaign(Project.open(project))
    briefing = campaign.briefing(campaign.history(), AgentSpec("claude"))
    with pytest.raises(BadProposal, match="as it is"):
        memory.revisit(campaign.project, briefing, name, "")
    edit(project / "fit.awk", "0.01 * noise", "0.02 * noise")
    commit(project, "Noisier")
    briefing = campaign.briefing(campaign.history(), AgentSpec("claude"))
    proposal = memory.revisit(campaign.project, briefing, name, "It may show by now.")
    assert (proposal.parent, proposal.title) == (name, briefing.near[0].attempt.title)
    assert proposal.hypothesis.startswith("It may show by now.")
    change = campaign.check(proposal)
    tree = campaign.repo.read(change.tree, "params.yaml") or b""
    assert b"y: 0.05" in tree
    assert b"0.02 * noise" in (campaign.repo.read(change.tree, "fit.awk") or b"")
    campaign.submit(change)
    assert name not in _misses(project)  # somebody is at it


def test_the_loop_tries_it_again_when_nobody_proposes(project: Path, ar: Ar) -> None:
    runs = [Made(1.5, 4.9), Made(1.5, 4.8, y=0.09, agent="claude", verdict=BETTER)]
    _, name = write(project, runs)
    edit(project / "params.yaml", "x: 1.5", "x: 2.0")
    edit(project / "program.md", "budget:", "agent: {kind: command, command: [no-such-program]}\nbudget:")
    commit(project, "Move on")
    ended = ar(project, "run", "--plain", check=False)
    assert ended.returncode == 2 and "no-such-program" in ended.stderr
    history = Campaign(Project.open(project)).history()
    [again] = [item for item in history.attempts if item.stack == (name,)]
    assert again.first.params["params.yaml:y"] == 0.09
    assert again.first.params["params.yaml:x"] == 2.0
    assert again.is_decided
    assert name not in _misses(project)
