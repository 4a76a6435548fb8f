"""Nothing that a repository says runs, and no wall gets wider, before this machine's owner allowed it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROGRAM, Ar, commit, edit, git, run, swap

from ar.agents import make
from ar.errors import NotAllowed
from ar.local import allowed
from ar.project.program_file import parse
from ar.project.project import Project
from ar.runs import demands

AR = (sys.executable, "-m", "ar")


@pytest.fixture
def hostile(project: Path, tmp_path: Path) -> Path:
    """A fresh clone of a repository whose agent and whose stage leave a mark where they ran as the user."""
    text = (project / "program.md").read_text()
    mark = tmp_path / "ran"
    agent = f'agent: {{kind: command, command: [touch, "{mark}"]}}\nsandbox: off\n'
    (project / "program.md").write_text(swap(text, "budget:", f"{agent}budget:"))
    edit(project / "dvc.yaml", "cmd: awk", f"cmd: touch {mark}; awk")
    commit(project, "Harmless")
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(project), str(clone))
    return clone


@pytest.mark.parametrize(
    "args", [("next",), ("run", "-n", "1", "--plain"), ("baseline", "--plain"), ("worker",), ("doctor",)]
)
def test_a_fresh_clone_runs_nothing_unasked(hostile: Path, args: tuple[str, ...]) -> None:
    done = run(hostile, *AR, *args, check=False)
    assert done.returncode == 2
    assert "ar allow" in done.stderr + done.stdout
    assert not (hostile.parent / "ran").exists()
    assert not Project.open(hostile).repo.refs("refs/ar")


@pytest.mark.parametrize("args", [("show",), ("log",), ("report",), ("stop",)])
def test_reading_needs_no_leave(hostile: Path, args: tuple[str, ...]) -> None:
    assert "ar allow" not in run(hostile, *AR, *args, check=False).stderr


def test_what_was_allowed_runs_until_it_changes(hostile: Path) -> None:
    run(hostile, *AR, "allow")
    demands.refuse((repo := Project.open(hostile).repo), demands.of_project(Project.open(hostile)))
    edit(hostile / "program.md", "[touch,", "[touch, -c,")
    [new] = demands.not_allowed(Project.open(hostile))
    assert '"-c"' in new
    with pytest.raises(NotAllowed):
        make(Project.open(hostile).program.agents[0], repo)
    edit(hostile / "program.md", "[touch, -c,", "[touch,")
    edit(hostile / "dvc.yaml", "; awk", "; true; awk")
    commit(hostile, "Another command")
    [new] = demands.not_allowed(Project.open(hostile))
    assert "true; awk" in new


def test_a_worker_obeys_no_sandbox_setting_that_changed_under_it(project: Path, ar: Ar) -> None:
    ar(project, "next")
    edit(project / "program.md", "budget:", "sandbox: off\nbudget:")
    commit(project, "Open the door")
    code = "from ar.git.repo import Repo; from ar.runs.worker import Worker; Worker(Repo.open()).run_next()"
    done = run(project, sys.executable, "-c", code, check=False)
    assert "NotAllowed" in done.stderr
    assert git(project, "for-each-ref", "refs/ar/queue")
    assert not git(project, "for-each-ref", "refs/ar/running")


def test_no_commit_can_carry_leave_along(hostile: Path, tmp_path: Path) -> None:
    run(hostile, *AR, "allow")
    other = tmp_path / "other"
    run(tmp_path, "git", "clone", "-q", "--mirror", str(hostile), str(other / ".git"))
    run(other, "git", "config", "core.bare", "false")
    run(other, "git", "checkout", "-q", "-f")
    assert demands.not_allowed(Project.open(other))
    assert not git(hostile, "status", "--porcelain")


@pytest.mark.parametrize(
    "line",
    [
        "sandbox: {network: true}",
        "sandbox: {env: [HOME_KEY]}",
        "sandbox: {read: [~/.ssh]}",
        "sandbox: {stages: {fit: {network: true}}}",
        "sandbox: {stages: {fit: {read: [/etc]}}}",
        "sandbox: {memory: 999GB}",
        "sandbox: {processes: 100000}",
        "agent: {kind: claude, base_url: 'https://example.com'}",
        "agent: {kind: command, command: x, env: [KEY]}",
    ],
)
def test_whatever_widens_a_wall_or_starts_something_is_asked_for(project: Path, line: str) -> None:
    assert not demands.not_allowed(Project.open(project))
    edit(project / "program.md", "budget:", f"{line}\nbudget:")
    found = Project.open(project)
    assert demands.not_allowed(found)
    demands.allow(found)
    assert not demands.not_allowed(found)


@pytest.mark.parametrize("path", ["/etc/shadow", "../secret", "data/../../secret"])
def test_a_stage_that_depends_on_a_file_outside_is_asked_for(project: Path, path: str) -> None:
    edit(project / "dvc.yaml", "deps: [fit.awk]", f"deps: [fit.awk, {path}]")
    commit(project, "Read more")
    [line] = demands.not_allowed(Project.open(project))
    assert ("/etc/shadow" if path.startswith("/") else str(project.parent / "secret")) in line


@pytest.mark.parametrize("file", [".dvc/config", ".dvc/config.local"])
def test_a_cache_that_a_commit_names_is_asked_for(project: Path, file: str) -> None:
    (project / file).write_text("[Cache]\n    Dir = /somewhere/else\n")
    assert not demands.not_allowed(Project.open(project))  # the user's own, as long as it is not committed
    git(project, "add", "-f", file)
    commit(project, "Keep it elsewhere")
    [line] = demands.not_allowed(Project.open(project))
    assert "/somewhere/else" in line


def test_a_project_without_demands_needs_no_leave(project: Path, ar: Ar) -> None:
    assert demands.of_project(Project.open(project)) == ()
    run(project, *AR, "next")
    assert "sandbox" in ar(project, "allow").stdout


def test_a_broken_record_allows_nothing(hostile: Path) -> None:
    repo = Project.open(hostile).repo
    for content in ("", "{}", "[1, [2]]", "[" * 100_000):
        (repo.own_folder() / "allowed.json").write_text(content)
        assert allowed.read(repo) == frozenset()


def test_a_line_cannot_hide_what_it_says() -> None:
    text = PROGRAM.replace(
        "budget:", 'agent: {kind: command, command: ["a\\u202eb", "\\u001b[2K", c]}\nbudget:'
    )
    [line] = demands.of_agent(parse(text).agents[0])
    assert line.isascii()
    assert line.isprintable()


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 130), (b"y\n", 0)])
def test_on_a_terminal_it_asks(project: Path, answer: bytes, code: int) -> None:
    edit(project / "program.md", "budget:", "sandbox: {network: true}\nbudget:")
    commit(project, "Ask for the network")
    leader, follower = pty.openpty()
    ran = subprocess.Popen(
        [*AR, "next"], cwd=project, stdin=follower, stdout=subprocess.DEVNULL, stderr=follower
    )
    os.close(follower)
    os.write(leader, answer)
    assert ran.wait(timeout=120) == code
    assert (not demands.not_allowed(Project.open(project))) == (code == 0)
    os.close(leader)
