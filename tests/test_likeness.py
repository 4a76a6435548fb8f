"""Changes of one family are told from others, named to their proposer, and run if it insists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import commit, edit
from messages_api import Request, Server, proposes

from ar.agents import Channel, account, api
from ar.campaign.campaign import MAX_REFUSALS, Campaign
from ar.changes.proposal import Change
from ar.errors import BadProposal
from ar.history.ideas import Edit, Proposal
from ar.history.spend import Spend
from ar.local import allowed, board
from ar.project.program import AgentSpec
from ar.project.project import Project
from ar.runs import demands

CODE = "def loss(x):\n    y = x + 1\n    return y\n"
WHY = "The residual stream grows with depth, so that later blocks see larger inputs."


@pytest.fixture
def campaign(project: Path) -> Campaign:
    """A project with code in scope, and one experiment queued that scales its result."""
    (project / "model").mkdir()
    (project / "model" / "a.py").write_text(CODE)
    edit(project / "program.md", "[fit.awk]", '[fit.awk, "model/**"]')
    commit(project, "Add code")
    campaign = Campaign(Project.open(project))
    campaign.submit(campaign.check(scale(1.3)))
    return campaign


def scale(by: float, title: str = "Scale by {}", why: str = WHY, **more: str) -> Proposal:
    edits = (Edit("model/a.py", "return y", f"return y * {by}"),)
    return Proposal(title.format(by), why, "claude", edits=edits, **more)  # type: ignore[arg-type]


def near(campaign: Campaign, proposal: Proposal) -> list[str]:
    history = campaign.history()
    return [attempt.title for attempt in campaign.likeness.near(campaign.check(proposal), history)]


@pytest.mark.parametrize(
    "proposal",
    [
        scale(1.4),
        scale(-2.5e-3, title="Shrink the result to {}", why="Nothing of that was tried."),  # its lines
        Proposal("Scale by 7", WHY, "claude", edits=(Edit("model/a.py", "x + 1", "7 * x + 1"),)),  # its words
        Proposal(  # some of the lines, for like reasons
            "Scale and shift", WHY, "claude",
            edits=(Edit("model/a.py", "return y", "y += 1\n    return y * 1.3"), Edit("model/b.py", "", "b")),
        ),
    ],
)  # fmt: skip
def test_a_change_of_the_same_family_is_near(campaign: Campaign, proposal: Proposal) -> None:
    assert near(campaign, proposal) == ["Scale by 1.3"]


@pytest.mark.parametrize(
    "proposal",
    [
        Proposal("Normalise", "Its mean drifts.", "claude", edits=(Edit("model/a.py", "x + 1", "x - x"),)),
        Proposal("x to 2.5", WHY, "claude", params={"x": 2.5}),
        Proposal("Square", "Curvature.", "claude", edits=(Edit("model/a.py", "return y", "return y * y"),)),
    ],
)  # fmt: skip
def test_another_change_is_not(campaign: Campaign, proposal: Proposal) -> None:
    assert near(campaign, proposal) == []


def test_parameters_are_near_by_their_key(campaign: Campaign) -> None:
    campaign.submit(campaign.check(Proposal("x to 2", "Right.", "claude", params={"x": 2.0})), seed=99)
    assert near(campaign, Proposal("Farther", "There may be more.", "claude", params={"x": 3.0})) == [
        "x to 2"
    ]
    assert near(campaign, Proposal("y to 1", "There may be more.", "claude", params={"y": 1.0})) == []


@dataclass
class Stubborn:
    """Proposes one family for ever; insists from the given question on."""

    insists_at: int
    instant: bool = False
    asked: int = 0
    refused: tuple[str, ...] = ()

    def propose(self, briefing: object) -> Proposal:
        self.asked += 1
        self.refused = briefing.refused  # type: ignore[attr-defined]
        why = "The optimum lies between." if self.asked > self.insists_at else ""
        return scale(1.3 + self.asked / 10, insist=why)


def ask(campaign: Campaign, agent: Stubborn, idea: str = "") -> Change:
    with board.place(campaign.repo, "claude") as place:
        return campaign._ask(AgentSpec("claude"), agent, idea, place)  # type: ignore[arg-type]


def test_it_is_sent_back_with_the_results_and_run_where_the_agent_insists(campaign: Campaign) -> None:
    agent = Stubborn(insists_at=1)
    change = ask(campaign, agent)
    (told,) = agent.refused
    assert account.read(campaign.repo).refused == {"claude": 1}
    assert "Scale by 1.3" in told
    assert "<data" in told
    assert "The optimum lies between." in change.proposal.hypothesis
    assert campaign.history().attempts[-1].name in change.proposal.hypothesis


def test_who_neither_insists_nor_turns_away_is_given_up(campaign: Campaign) -> None:
    agent = Stubborn(insists_at=99)
    with pytest.raises(BadProposal, match="is near to"):
        ask(campaign, agent)
    assert agent.asked == MAX_REFUSALS + 1 == account.read(campaign.repo).refused["claude"]
    assert account.total(campaign.repo) == Spend()


@pytest.mark.parametrize(("idea", "instant"), [("Scale by 1.4", False), ("", True)])
def test_a_user_s_idea_and_a_model_s_values_may_be_near(campaign: Campaign, idea: str, instant: bool) -> None:
    agent = Stubborn(insists_at=99, instant=instant)
    ask(campaign, agent, idea)
    assert agent.asked == 1


def test_claude_is_told_and_may_insist(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_FIRST_PAUSE", 0.01)
    seen: list[str] = []

    def again(request: Request) -> object:
        seen.append(str(request["messages"][-1]["content"]))
        return proposes("Scale by 1.4", edits=[edited], insist="The optimum lies between.")

    edited = {"path": "model/a.py", "old": "return y", "new": "return y * 1.4"}
    with Server([proposes("Scale by 1.4", edits=[edited]), again]) as server:  # type: ignore[list-item]
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        allowed.add(campaign.repo, demands.of_agent(AgentSpec("claude")))
        change = campaign.ask(AgentSpec("claude"), Channel())
    assert "Scale by 1.3" in seen[0]
    assert "The optimum lies between." in change.proposal.hypothesis
