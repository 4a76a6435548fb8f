"""What the pages about agents show is understood, and the command that they show proposes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers import Ar, commit, edit

from ar.agents import transcript
from ar.history.spend import Spend
from ar.project.program_file import parse

DOCS = Path(__file__).parents[1] / "docs"
USERS, WRITERS = ((DOCS / name).read_text(encoding="utf-8") for name in ("agents.md", "agent-writers.md"))
SETTINGS = re.findall(r"^```yaml\n(.*?)^```", USERS + WRITERS, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("settings", [text for text in SETTINGS if "doubler" not in text])
def test_settings_are_understood(settings: str) -> None:
    parse(f'---\nobjective: "m.json:loss"\n{settings}---\n')


def test_there_is_a_swarm_of_four() -> None:
    [swarm] = [text for text in SETTINGS if "role: scout" in text]
    agents = parse(f'---\nobjective: "m.json:loss"\n{swarm}---\n').agents
    assert [agent.role for agent in agents] == ["scout", "refiner", "skeptic", "synthesist"]


def test_the_smallest_line_of_json_tells_all() -> None:
    [line] = re.findall(r'^\{"type": "result".*$', WRITERS, re.MULTILINE)
    told = transcript.read(json.dumps(json.loads(line)))
    assert told.spent == Spend(9000, 0, 300, 0.05)
    assert transcript.proposal(told.text, "command").title == "Move x"


def test_the_command_that_is_shown_proposes(project: Path, ar: Ar, tmp_path: Path) -> None:
    script = tmp_path / "right.sh"
    script.write_text(WRITERS.partition("```sh\n")[2].partition("```")[0])
    agent = {"kind": "command", "command": ["sh", str(script)], "timeout": "1m"}
    edit(project / "program.md", "budget:", f"agent: {json.dumps(agent)}\nbudget:")
    commit(project, "Ask a script")
    shown = ar(project, "next", "--agent", "command", "--dry-run").stdout
    assert "Move x to the right" in shown
    assert "+x: 2" in shown
