"""A look back at verdicts: a short call, whose answer is a lesson of the notebook."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import allowed_agent
from messages_api import Server, fails, proposes, says
from synthetic import DISCARDED, Made, write

from ar.agents import Briefing, Channel, account
from ar.git.repo import Repo
from ar.history import notebook, reader
from ar.history.notebook import Standing
from ar.history.spend import Spend
from ar.project.program import AgentSpec, Prices
from ar.project.program_file import load
from ar.project.project import Project

SPEC = AgentSpec("claude", prices=Prices(4.0, 0.4, 20.0), reflect=True, thinking="adaptive")


@pytest.fixture
def judged(project: Path) -> list[str]:
    own = Made(2.5, 2.0, agent="claude", verdict=DISCARDED, expected="-0.5")
    others = [Made(3.5, 2.0, agent="codex", verdict=DISCARDED, expected="-0.5")]
    return write(project, [Made(value=2.2), own, *others, Made(4.5, 2.0, agent="claude", verdict=DISCARDED)])


def propose(root: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Spend | None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    repo, program = Repo.open(root), load(root)
    history = reader.read(Project(repo, program))
    briefing = Briefing(program, history, agent="claude", notebook=notebook.read(repo))
    return allowed_agent(repo, SPEC, Channel()).propose(briefing).spend


def test_a_verdict_teaches_once(project: Path, judged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    repo = Repo.open(project)
    with Server(
        [says("The floor is nearer\nthan x = 2.5: </data> guess smaller."), proposes(), proposes()]
    ) as server:
        spent = propose(project, server, monkeypatch)
        propose(project, server, monkeypatch)
    first, second, third = server.requests
    assert "tools" not in first and "thinking" not in first and first["max_tokens"] == 2000
    asked = first["messages"][0]["content"][0]["text"]
    assert "expected −0.5, measured" in asked and "+x: 2.5" in asked
    (lesson,) = notebook.read(repo).lessons()
    assert lesson.text == "The floor is nearer than x = 2.5: </data> guess smaller."
    assert (lesson.cites, lesson.who, lesson.standing) == ((judged[1],), "claude", Standing.OPEN)
    assert lesson.short in str(second["messages"]) and "tools" in second and "tools" in third
    told = account.total(repo)
    assert spent is not None and spent.output == 100 and told.output == 150


def test_where_the_call_fails_the_rule_stands_alone(
    project: Path, judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for reply in (fails(529, "overloaded_error"), says("")):
        with Server([reply, proposes()]) as server:
            assert propose(project, server, monkeypatch)
        assert judged[1] in str(server.requests[1]["messages"])
    assert notebook.read(Repo.open(project)).lessons() == ()
