"""`ar doctor --attack`: every wall holds where there is a sandbox, and where there is none it says so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import Ar, git, run

from ar.project.program import Sandbox
from ar.runs import sandbox
from ar.runs.self_test import Attempt
from ar.stage import limits
from ar.stage.attack import Outcome
from ar.stage.files import Limits
from ar.stage.unnamed import unnamed

ROOT = Path(__file__).parents[1]
CODE = """
import dataclasses, json
from pathlib import Path
from ar.project.project import Project
from ar.runs import self_test
print(json.dumps([dataclasses.asdict(one) for one in self_test.attempts(Project.open(Path.cwd()))]))
"""


def tried(root: Path, env: dict[str, str] | None = None) -> dict[str, Attempt]:
    found = json.loads(run(root, sys.executable, "-c", CODE, env=env).stdout.splitlines()[-1])
    made = [Attempt(one["wall"], Outcome(one["outcome"]), one["detail"]) for one in found]
    return {one.wall: one for one in made}


def test_every_wall_holds_in_the_sandbox(project: Path) -> None:
    if not (wall := sandbox.find(Sandbox())).program:
        pytest.skip(f"no sandbox on this machine: {wall.why}")
    if not wall.filters:
        pytest.skip("system calls are not filtered on this machine")
    before = git(project, "for-each-ref"), git(project, "status", "--porcelain")
    found = tried(project)
    assert not [one for one in found.values() if one.outcome is Outcome.THROUGH]
    contained = {name for name, one in found.items() if one.outcome is Outcome.CONTAINED}
    assert {
        "memory",
        "memory in memfds",
        "memory, shared and unmapped",
        "memory in sockets",
        "processes",
    } <= contained
    assert {"disk in unlinked files", "disk in files with holes", "a forged count of processes"} <= contained
    assert "a forged answer to the count" in contained
    assert (git(project, "for-each-ref"), git(project, "status", "--porcelain")) == before
    assert not list((project / ".dvc" / "tmp" / "ar" / "exps").iterdir())
    assert not list(Path(sys.prefix).rglob(".ar-self-test*"))


@pytest.mark.slow
def test_without_a_sandbox_it_says_what_gets_through(
    project: Path, ar: Ar, without_bwrap: dict[str, str]
) -> None:
    done = ar(project, "doctor", "--attack", check=False, env=without_bwrap)
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    for wall in ("a file of your home", "network", "git's settings of the project"):
        assert any(line.startswith(f"✗ {wall} ") for line in lines)
    assert any(line.startswith("✓ memory in memfds ") for line in lines)  # the launcher's, not bubblewrap's
    assert not list(Path(os.environ["HOME"]).glob(".ar-self-test*"))
    assert not list(project.glob(".ar-self-test*"))


HOLDS = """
import mmap, os, sys, time
block = mmap.mmap(-1, 60_000_000)
block.write(b"x" * len(block))
made = os.memfd_create("held")
os.write(made, b"x" * 60_000_000)
again = mmap.mmap(made, 60_000_000)
assert again[:1] == b"x"
for _ in range(3):
    if os.fork() == 0: break
else: print("ready", flush=True)
time.sleep(60)
"""


def test_shared_memory_counts_once_whoever_has_it_mapped(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as it:
        try:
            assert it.stdout
            it.stdout.readline()
            family = [it.pid, *limits.descendants(it.pid)]
            assert len(family) == 4
            found = unnamed(family, tmp_path.stat().st_dev, str(tmp_path))
            assert 120_000_000 <= found.memory < 121_000_000 and not found.disk
            for size, ends in ((200_000_000, False), (110_000_000, True)):
                monitor = limits.Monitor(Limits(size, 1000, 10**9), str(tmp_path), 0)
                monitor.unnamed = found
                assert bool(monitor.memory(family)) == ends
        finally:
            os.killpg(it.pid, 9)


def test_every_wall_of_the_page_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    walls = [
        line
        for line in page.splitlines()
        if line.startswith("| ") and line.count("|") == 4 and "`tests" in line
    ]
    assert len(walls) >= 10
    assert [name for name in re.findall(r"`(tests/[^`]*)`", page) if not (ROOT / name).exists()] == []
