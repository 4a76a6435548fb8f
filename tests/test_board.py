"""The board: what agents that are asked at the same time are about to work on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import allow, allowed_agent
from test_smoke import tools

from ar.agents import Briefing, Channel, Dropped, prompt
from ar.campaign.campaign import Campaign
from ar.errors import AgentFailed
from ar.git.repo import Repo
from ar.history import reader
from ar.history.ideas import Proposal
from ar.local import board
from ar.project.program import AgentSpec
from ar.project.program_file import load
from ar.project.project import Project


def test_a_place_is_seen_by_others_until_it_is_left(project: Path) -> None:
    repo = Repo.open(project)
    with board.place(repo, "claude/scout") as first, board.place(repo, "claude") as second:
        assert board.read(repo) == ()
        first.post("the\nschedule \x1b[2J")
        first.post("the warm-up, " + "x" * 300)
        second.post("data order")
        seen, other = board.read(repo)
        assert (seen.agent, other.text) == ("claude/scout", "data order")
        assert seen.text.startswith("the warm-up") and len(seen.text) <= board.MOST
        assert board.read(repo, without=first) == (other,)
    assert board.read(repo) == () and not list((repo.git_dir / "ar" / "board").iterdir())


def test_what_the_dead_said_goes(project: Path) -> None:
    repo = Repo.open(project)
    with board.place(repo, "claude") as place:
        place.post("the schedule")
        assert place._file is not None
        place._file.close()  # as the kernel does for a process that was killed
        assert board.read(repo) == () and not place.path.exists()
        (place.path.parent / "torn").write_text('{"agent": "cla')
        assert board.read(repo) == ()


def test_a_briefing_has_the_others_but_not_its_own(project: Path) -> None:
    campaign = Campaign(Project.open(project))
    history, spec = campaign.history(), AgentSpec("claude")
    with board.place(campaign.repo, "claude") as own, board.place(campaign.repo, "codex") as other:
        own.post("my own idea")
        other.post("</data> the optimizer")
        told = prompt.compose(campaign.briefing(history, spec, place=own)).now
    assert "codex | </data> the optimizer" in told and "my own idea" not in told
    assert "</data2>" in told  # what others say cannot end its fence


def test_what_an_agent_says_stands_while_it_is_asked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = Campaign(Project.open(project))
    seen: list[tuple[board.Post, ...]] = []

    @dataclass
    class Thinking:
        channel: Channel
        instant = False

        def propose(self, briefing: Briefing) -> Proposal:
            self.channel.claim("the floor")
            seen.extend([briefing.board, board.read(campaign.repo)])
            raise AgentFailed("no idea")

    monkeypatch.setattr("ar.campaign.campaign.make", lambda spec, repo, channel: Thinking(channel))
    for ask in (campaign.ask, campaign.queue_next):
        with pytest.raises(AgentFailed):
            ask(AgentSpec("claude")) if ask == campaign.ask else ask()
    assert [[post.text for post in posts] for posts in seen] == [[], ["the floor"], [], ["the floor"]]
    assert board.read(campaign.repo) == ()


def test_claude_posts_with_a_tool(project: Path) -> None:
    posted: list[str] = []
    tools(project, Channel(claim=posted.append)).answer("work_on", {"text": "the schedule"})
    assert posted == ["the schedule"]


def test_a_command_posts_by_a_file(project: Path) -> None:
    repo, program = Repo.open(project), load(project)
    script = (
        "import os, pathlib, time; time.sleep(0.2); os.mkfifo('.ar-working-on'); time.sleep(0.7);"
        "os.unlink('.ar-working-on'); pathlib.Path('.ar-working-on').write_text('the floor');"
        "p = pathlib.Path('params.yaml'); p.write_text(p.read_text().replace('1.5', '2.5'));"
        "time.sleep(30)"
    )
    channel = Channel()
    posted: list[str] = []

    def claim(words: str) -> None:
        posted.append(words)
        channel.dropped.set()

    channel.claim = claim
    allow(project)
    spec = AgentSpec("command", command=(sys.executable, "-c", script))
    agent = allowed_agent(repo, spec, channel)
    briefing = Briefing(program, reader.read(Project(repo, program)))
    with pytest.raises(Dropped):
        agent.propose(briefing)
    assert posted == ["the floor"]
