"""What is written reaches the next proposal: scripted researchers who know nothing but their briefing."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, allow, attempts_of, commit, edit, git, run
from messages_api import Reply, Request, Server, calls, proposes
from synthetic import DISCARDED, Made, write

from ar.git.repo import Repo
from ar.history import notebook


def _use_claude(root: Path) -> None:
    edit(root / "program.md", "budget:", "agent: {kind: claude}\nbudget:")
    commit(root, "Ask Claude")
    allow(root)


def _briefing(request: Request) -> str:
    return "\n".join(block["text"] for block in request["messages"][0]["content"])


def _sets(x: float, **given: Any) -> Reply:
    why = "It lies beyond what was tried."
    return proposes(f"x to {x}", params=[{"key": "x", "value": x}], insist=why, **given)


class Researcher:
    """Proposes the winning value only where its briefing tells it; else it looks a little to the left, and
    notes what it learned."""

    def __init__(self, lesson: str = "") -> None:
        self.lesson = lesson
        self.tries = 0

    def __call__(self, request: Request) -> Reply:
        told = re.search(r"the floor lies at x = ([0-9.]+[0-9])", _briefing(request))
        if told:
            return _sets(float(told[1]))
        if self.lesson and len(request["messages"]) == 1:
            said = {"text": self.lesson, "status": "supported", "cites": [], "lesson": ""}
            return calls(("note", said))
        self.tries += 1
        return _sets(round(1.4 - 0.1 * self.tries, 1))


def _propose(root: Path, ar: Ar, researcher: Any) -> list[dict[str, Any]]:
    """Run a campaign for one proposal. Returns what Claude has proposed so far, oldest first."""
    with Server([researcher], endless=True) as server:
        ar(root, "run", "-n", "1", "--plain", env={**os.environ, **server.environment})
    return [item for item in reversed(attempts_of(root)) if item["agent"] == "claude"]


@pytest.mark.slow
def test_a_note_reaches_the_next_proposal_after_a_restart_and_in_another_clone(
    measured: Path, ar: Ar, tmp_path: Path
) -> None:
    _use_claude(measured)
    bare, there = tmp_path / "remote.git", tmp_path / "there"
    run(tmp_path, "git", "init", "-q", "--bare", "-b", "main", str(bare))
    git(measured, "remote", "add", "origin", str(bare))
    git(measured, "push", "-q", "origin", "main")
    run(tmp_path, "git", "clone", "-q", str(bare), str(there))

    [ignorant] = _propose(measured, ar, Researcher("Runs suggest that the floor lies at x = 2.9."))
    assert ignorant["title"] == "x to 1.3"
    [lesson] = notebook.read(Repo.open(measured)).lessons()
    assert lesson.who == "claude"
    _, informed = _propose(measured, ar, Researcher())
    assert (informed["title"], informed["outcome"]) == ("x to 2.9", "promoted")

    [stranger] = _propose(there, ar, Researcher())
    assert stranger["title"] == "x to 1.3"
    ar(measured, "push")
    ar(there, "pull")
    told = [item["title"] for item in _propose(there, ar, Researcher()) if item["outcome"] != "foreign"]
    assert told == ["x to 1.3", "x to 2.9"]
    assert notebook.read(Repo.open(there)).lessons()[0].is_foreign


def test_a_near_miss_is_taken_up(project: Path, ar: Ar) -> None:
    _use_claude(project)
    verdict = {**DISCARDED, "effect": -0.02, "z": 1.9}
    _, name = write(project, [Made(1.5, 4.9), Made(1.5, 4.8, y=0.09, agent="claude", verdict=verdict)])
    edit(project / "params.yaml", "x: 1.5", "x: 2.9")
    commit(project, "Move on")

    def researcher(request: Request) -> Reply:
        told = re.search(r"^(\S+) \|.*the branch has moved since", _briefing(request), re.MULTILINE)
        if told is None or len(request["messages"]) > 1:
            return _sets(1.0)
        return calls(("revisit", {"name": told[1], "why": "x is where it should be by now."}))

    mine = _propose(project, ar, researcher)
    again = mine[-1]
    assert json.dumps(again["experiments"]).count("0.09") >= 1
    assert again["verdict"]["effect"] < -1  # there it is good
    first = Repo.open(project).commit(again["experiments"][0]["rev"])
    assert f"Ar-Parent: {name}" in first.message
    assert "x is where it should be by now." in first.message


def test_two_changes_are_tried_together(project: Path, ar: Ar) -> None:
    _use_claude(project)
    _, right, y = write(
        project,
        [Made(1.5, 2.25), Made(2.0, 1.0, agent="claude"), Made(1.5, 2.0, y=0.02, agent="claude")],
    )

    def researcher(request: Request) -> Reply:
        if len(request["messages"]) > 1:
            return _sets(1.0)
        return calls(("combine", {"a": right, "b": y, "why": "They are apart."}))

    joined = _propose(project, ar, researcher)[-1]
    assert joined["title"] == "x 1.5 → 2.0 + x 1.5 → 1.5"
    message = Repo.open(project).commit(joined["experiments"][0]["rev"]).message
    assert f"Joins {right} and {y}." in message and f"Ar-Parent: {right}" in message


def test_what_a_command_says_is_noted(measured: Path, ar: Ar, tmp_path: Path) -> None:
    script = tmp_path / "agent.sh"
    script.write_text(
        "#!/bin/sh\nsed -i 's/^x: .*/x: 1.3/' params.yaml\n"
        "echo 'Title: A little to the left'\necho 'Because.'\n"
        "echo 'Note: supported: the floor lies at x = 2.9.'\n"
    )
    edit(measured / "program.md", "budget:", f"agent: {{kind: command, command: [sh, {script}]}}\nbudget:")
    commit(measured, "Ask a command")
    ar(measured, "run", "-n", "1", "--plain")
    [lesson] = notebook.read(Repo.open(measured)).lessons()
    assert (lesson.text, lesson.standing) == ("the floor lies at x = 2.9.", "supported")


def test_a_command_joins_two_changes(project: Path, ar: Ar) -> None:
    _, right, y = write(
        project,
        [Made(1.5, 2.25), Made(2.0, 1.0, agent="command"), Made(1.5, 2.0, y=0.02, agent="command")],
    )
    command = f'[echo, "Combine: {right}, {y}"]'
    edit(
        project / "program.md",
        "budget:",
        f"agent: {{kind: command, command: {command}, role: synthesist}}\nbudget:",
    )
    commit(project, "Ask a command")
    ar(project, "run", "-n", "1", "--plain")
    [joined] = [item for item in attempts_of(project) if item["agent"] == "command/synthesist"]
    assert joined["title"] == "x 1.5 → 2.0 + x 1.5 → 1.5"
