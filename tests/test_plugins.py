"""Agents of one's own: a class of an installed package, named by an entry point."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import Ar, edit, git

from ar import agents

DOCS = (Path(__file__).parents[1] / "docs" / "agent-writers.md").read_text(encoding="utf-8")
# The agent of ten lines that the documentation shows, and one with a fault.
AGENT = DOCS.partition("```python\n")[2].partition("```")[0]
FAULTY = "\nclass Faulty(Doubler):\n    def propose(self, briefing):\n        return 1 / 0\n"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which a package offers two agents."""
    site = tmp_path / "site"
    (site / "mine-1.0.dist-info").mkdir(parents=True)
    (site / "mine-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (site / "mine-1.0.dist-info" / "entry_points.txt").write_text(
        "[ar.agents]\ndoubler = mine:Doubler\nfaulty = mine:Faulty\n"
    )
    (site / "mine.py").write_text(AGENT + FAULTY)
    return {**os.environ, "PYTHONPATH": str(site)}


def _choose(root: Path, agent: str) -> None:
    edit(root / "program.md", "budget:", f"agent: {agent}\nbudget:")


def test_an_agent_of_another_package_proposes(project: Path, ar: Ar, environment: dict[str, str]) -> None:
    _choose(project, "{kind: doubler, lane: x, options: {key: x}}")
    assert "doubler/x: mine:Doubler" in ar(project, "doctor", env=environment, check=False).stdout
    ar(project, "next", env=environment)
    rev = git(project, "for-each-ref", "refs/ar/queue", "--format=%(objectname)")
    assert "x: 3.0" in git(project, "show", f"{rev}:params.yaml")
    assert "Ar-Agent: doubler/x" in git(project, "show", "-s", "--format=%B", rev)
    # The same again is refused until the agent is given up.
    done = ar(project, "next", env=environment, check=False)
    assert "refused 4 times in a row" in done.stderr


def test_its_faults_are_told_as_its_own(project: Path, ar: Ar, environment: dict[str, str]) -> None:
    _choose(project, "{kind: faulty, options: {key: x}}")
    done = ar(project, "next", env=environment, check=False)
    assert done.returncode == 2
    assert "the agent 'faulty' failed: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
    assert "mine.py" in ar(project, "--debug", "next", env=environment, check=False).stderr


def test_kinds_that_nobody_offers_are_refused(project: Path, ar: Ar, environment: dict[str, str]) -> None:
    _choose(project, "{kind: doublr}")
    assert "did you mean 'doubler'?" in ar(project, "next", env=environment, check=False).stderr


def test_what_its_documentation_names_is_in_one_place() -> None:
    names = {"Agent", "AgentFailed", "Briefing", "Channel", "Dropped", "Edit", "Proposal"}
    assert names <= set(agents.__all__)
    assert all(getattr(agents, name) for name in agents.__all__)
