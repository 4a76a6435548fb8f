"""What every agent keeps to: ours, over a real server and a real process, and another package's."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from helpers import allowed_agent, run, snapshot
from messages_api import Reply, Request, Server, calls, fails, proposes
from synthetic import fill

from ar.agents import Agent, Briefing, Channel, Dropped, Proposal, account, is_instant, registry
from ar.campaign.campaign import Campaign
from ar.errors import ArError
from ar.history import reader
from ar.history.messages import TITLE_LIMIT
from ar.history.records import Attempt, Experiment, History, Verdict
from ar.project.program import AgentSpec
from ar.project.project import Project

EMBEDDED = ("search", "optuna")
KINDS = (*EMBEDDED, "claude", "command", "mine")
SECRET = "0.734512"  # the holdout's value, at the head and in every experiment
SCRIPT = """#!/bin/sh
cat > {out}/seen
cat * >> {out}/seen
case {mood} in
  fails) exit 3;;
  hangs) sleep 87651;;
esac
if grep -q "were refused" {out}/seen; then sed -i 's/y: 0.03/y: 0.1/' params.yaml; echo y to 0.1
else sed -i 's/x: 1.5/x: 2.5/' params.yaml; echo x to 2.5; fi
"""
PLUGIN = """
from pathlib import Path
from ar.agents import Proposal

class Mine:
    instant = False

    def __init__(self, spec, repo, channel):
        self.options, self.channel = spec.options, channel

    def propose(self, briefing):
        Path(self.options["seen"]).write_text(repr(briefing))
        if self.options["mood"] == "fails":
            return 1 / 0
        if self.options["mood"] == "hangs":
            self.channel.wait(600)
        params = {"y": 0.1} if briefing.refused else {"x": 2.5}
        return Proposal("Further right", "The floor may lie there.", params=params)
"""


@dataclass
class Asked:
    """An agent in a project, and all that it was told."""

    campaign: Campaign
    spec: AgentSpec
    agent: Agent
    briefing: Briefing
    seen: Callable[[], str]
    channel: Channel = field(default_factory=Channel)

    def propose(self, *refused: str) -> Proposal:
        proposal = self.agent.propose(replace(self.briefing, refused=refused))
        assert self.campaign.check(replace(proposal, agent=self.spec.name)).candidate
        return proposal


@pytest.fixture
def begin(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], Asked]]:
    """An agent of a kind, in the mood to answer ("well"), to fail ("fails"), or not to end ("hangs")."""
    (project / "m.json").write_text(f'{{"val_loss": 3.7, "test_loss": {SECRET}}}\n')
    text = (project / "program.md").read_text()
    (project / "program.md").write_text(text.replace("guards:", 'holdout: "m.json:test_loss"\nguards:', 1))
    run(project, "git", "commit", "-qam", "Measure a holdout")
    newest = fill(project, 20)[-1]
    seen = tmp_path / "seen"

    with ExitStack() as stack:

        def start(kind: str, mood: str) -> Asked:
            campaign = Campaign(Project.open(project))
            program, spec, told = campaign.program, AgentSpec(kind), seen.read_text
            if kind in EMBEDDED:
                told = str
                program = replace(program, search={}) if mood == "fails" else program
            elif kind == "claude":
                server = stack.enter_context(Server(_script(mood, newest), endless=mood != "well"))
                for name, value in server.environment.items():
                    monkeypatch.setenv(name, value)
                told = lambda: json.dumps(server.requests)  # noqa: E731
            elif kind == "command":
                path = tmp_path / "agent.sh"
                path.write_text(SCRIPT.format(out=tmp_path, mood=mood))
                path.chmod(0o755)
                spec = AgentSpec(kind, command=(str(path),))
            else:
                _install(tmp_path / "site", monkeypatch)
                spec = AgentSpec(kind, options={"mood": mood, "seen": str(seen)})
            params = reader.baseline_params(campaign.project)
            history = _with_secret(campaign.history())
            briefing = Briefing(program, history, params, surface=campaign.model.surface(history))
            channel = Channel()
            agent = allowed_agent(campaign.repo, spec, channel)
            return Asked(campaign, spec, agent, briefing, told, channel)

        yield start


def _script(mood: str, experiment: str) -> list[Reply | Callable[[Request], Reply]]:
    if mood == "fails":
        return [fails(401, "authentication_error")]
    if mood == "hangs":
        return [replace(proposes(), pause=0.2)]
    metrics = ("read_file", {"path": "m.json", "start": 1, "lines": 9})
    look = calls(metrics, ("show_experiment", {"name": experiment}))
    return [look, proposes(), proposes("y to 0.1", params=[{"key": "y", "value": 0.1}])]


def _install(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that offers an agent."""
    folder = site / "mine-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[ar.agents]\nmine = mine_agent:Mine\n")
    (site / "mine_agent.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "mine_agent", raising=False)
    registry._factory.cache_clear()


def _with_secret(history: History) -> History:
    """The history as if every run had measured the holdout, and printed it last of all."""

    def judged(verdict: Verdict | None) -> Verdict | None:
        return verdict and replace(verdict, reason=f"A run crashed: at {SECRET}.")

    def measured(one: Experiment) -> Experiment:
        assert one.note is not None
        note = replace(one.note, log=f"test_loss {SECRET}\nin all {SECRET}\n", reason=f"at {SECRET}")
        note = replace(note, verdict=judged(note.verdict))
        return replace(one, metrics={**one.metrics, "m.json:test_loss": float(SECRET)}, note=note)

    def all_of(attempt: Attempt) -> Attempt:
        runs = tuple(map(measured, attempt.experiments))
        return replace(attempt, experiments=runs, verdict=judged(attempt.verdict))

    return replace(history, attempts=tuple(map(all_of, history.attempts)))


Begin = Callable[[str, str], Asked]


@pytest.mark.parametrize("kind", KINDS)
def test_its_class_says_whether_it_is_instant(begin: Begin, kind: str) -> None:
    asked = begin(kind, "well")
    assert asked.agent.instant is is_instant(asked.spec) is (kind in EMBEDDED)


@pytest.mark.parametrize("kind", KINDS)
def test_its_proposal_is_sound_and_all_that_it_leaves(begin: Begin, project: Path, kind: str) -> None:
    asked = begin(kind, "well")
    before = snapshot(project)
    proposal = asked.propose()
    assert isinstance(proposal, Proposal)
    assert 0 < len(proposal.title) <= TITLE_LIMIT
    assert len(proposal.title.splitlines()) == 1
    assert snapshot(project) == before
    spent = account.total(asked.campaign.repo)
    assert (proposal.spend or type(spent)()) == spent
    assert SECRET[:6] not in asked.seen() + repr(proposal)


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_a_refusal_with_something_else(begin: Begin, kind: str) -> None:
    asked = begin(kind, "well")

    def change(proposal: Proposal) -> Any:
        return proposal.params, proposal.edits, proposal.tree

    first = asked.propose()
    assert change(asked.propose("x lies outside the scope")) != change(first)


@pytest.mark.parametrize("kind", KINDS)
def test_where_it_has_no_answer_it_says_what_would_help(begin: Begin, kind: str) -> None:
    asked = begin(kind, "fails")
    with pytest.raises(ArError) as failure:
        asked.propose()
    assert failure.value.message
    assert failure.value.mend


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in EMBEDDED])
def test_a_dropped_question_ends(begin: Begin, project: Path, kind: str) -> None:
    asked = begin(kind, "hangs")
    before = snapshot(project)
    threading.Timer(0.5, asked.channel.dropped.set).start()
    with pytest.raises(Dropped):
        asked.propose()
    assert snapshot(project) == before
