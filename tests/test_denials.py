"""What the sandbox keeps from a run, or git does not have, is said as such, with what allows it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import Ar, commit, edit, git, run, run_next

from ar.campaign.campaign import Campaign
from ar.errors import BadState
from ar.history.attempts import find
from ar.history.records import Note, Status
from ar.project.program import Allowance, Sandbox
from ar.project.program_file import parse
from ar.project.project import Project
from ar.runs import denials, sandbox
from ar.runs.interpreter import Interpreter
from ar.stage.files import Limits


def said(tmp_path: Path, log: str, network: bool = False, sandboxed: bool = True) -> str:
    settings = Sandbox(network=network)
    denial = denials.of_log(log, settings, tmp_path / "root", tmp_path / "workspace", sandboxed)
    return denial.mend if denial else ""


@pytest.mark.parametrize(
    "line",
    [
        "socket.gaierror: [Errno -3] Temporary failure in name resolution",
        "curl: (6) Could not resolve host: example.com",
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='x'): Max retries exceeded with url",
        "wget: unable to resolve host address 'x'",
        "OSError: [Errno 101] Network is unreachable",
        "urllib.error.URLError: <urlopen error [Errno 111] Connection refused>",
        "huggingface_hub.errors.LocalEntryNotFoundError: outgoing traffic has been disabled.",
    ],
)
def test_a_run_that_misses_the_network(tmp_path: Path, line: str) -> None:
    assert "sandbox: {network: true}" in said(tmp_path, f"first\n{line}\nlast")
    assert said(tmp_path, line, network=True) == said(tmp_path, line, sandboxed=False) == ""


def test_paths_that_are_there_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / "sets").mkdir(parents=True)
    (home / "sets" / "x.csv").touch()
    (tmp_path / "root" / "data").mkdir(parents=True)
    (tmp_path / "root" / "data" / "y.csv").touch()
    monkeypatch.setenv("HOME", str(home))
    missing = "FileNotFoundError: [Errno 2] No such file or directory: '{}'"
    assert "read: [~/sets/x.csv]" in said(tmp_path, missing.format(home / "sets" / "x.csv"))
    assert "read: [~/sets/x.csv]" in said(tmp_path, missing.format("/tmp/sets/x.csv"))  # its HOME is /tmp
    assert "dvc add data/y.csv" in said(tmp_path, missing.format("data/y.csv"), sandboxed=False)
    assert "dvc add data/y.csv" in said(tmp_path, "cat: data/y.csv: No such file or directory")
    assert said(tmp_path, missing.format("/nowhere/x")) == said(tmp_path, missing.format("z.csv")) == ""
    assert "sandbox: off" in said(tmp_path, "OSError: [Errno 30] Read-only file system: '/opt/x'")


def test_what_is_allowed_per_stage_is_read() -> None:
    stages = "{fetch: {read: [~/x], env: [TOKEN]}}"
    text = f"---\nobjective: 'm.json:x'\nsandbox: {{network: true, stages: {stages}}}\n---\n"
    found = parse(text).sandbox
    assert found.network and found.stages == {"fetch": Allowance(read=("~/x",), env=("TOKEN",))}
    assert found.of_stage("fetch") == Sandbox(True, ("TOKEN",), ("~/x",), stages=found.stages)
    assert found.of_stage("other") == found


def test_a_home_s_path_is_shown_in_both_homes_and_a_missing_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home" / "x").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def options(*read: str) -> list[str]:
        settings, folder = Sandbox(read=read), tmp_path / "project"
        bwrap = sandbox.Bubblewrap("/usr/bin/bwrap")
        limits = Limits(1, 1, 1)
        return sandbox.command(bwrap, settings, folder, folder / ".dvc", folder, "/c", limits, Interpreter())

    words = options("~/x")
    targets = {words[place + 2] for place, word in enumerate(words) if word == "--ro-bind-try"}
    assert {str(tmp_path / "home" / "x"), "/tmp/x"} <= targets
    with pytest.raises(BadState, match="does not exist"):
        sandbox.refuse_missing(Sandbox(stages={"fit": Allowance(read=("~/y",))}), tmp_path)


def fail(project: Path, command: str, settings: str) -> Note:
    """Measure the baseline with a command in front of the stage's, which is to fail."""
    edit(project / "program.md", "budget:", f"sandbox: {settings}\nbudget:")
    edit(project / "dvc.yaml", "cmd: awk", f"cmd: {command} && awk")
    commit(project, "Another command")
    return measured(project)


def measured(project: Path) -> Note:
    campaign = Campaign(Project.open(project))
    name = campaign.measure_incumbent(campaign.history(), 1)
    run_next(project)
    note = find(campaign.history(), name)[1].note
    assert note
    return note


@pytest.mark.slow
def test_one_stage_may_use_the_network(project: Path, ar: Ar) -> None:
    if why := sandbox.find(Sandbox()).why:
        pytest.skip(f"no sandbox on this machine: {why}")
    interfaces = "test $(ls /sys/class/net | wc -l) -gt 0 && test $(tail -n +3 /proc/net/dev | wc -l) -gt 1"
    here = run(project, "sh", "-c", interfaces, check=False).returncode == 0
    if not here:
        pytest.skip("no network on this machine")
    assert fail(project, f"({interfaces})", "{}").status is Status.CRASHED
    edit(project / "program.md", "sandbox: {}", "sandbox: {stages: {fit: {network: true}}}")
    assert measured(project).status is Status.SUCCEEDED


def test_data_that_is_not_in_the_cache_is_said_so(project: Path, ar: Ar) -> None:
    (project / "data.csv").write_text("1\n")
    run(project, "dvc", "add", "-q", "data.csv")
    edit(project / "dvc.yaml", "deps: [fit.awk]", "deps: [fit.awk, data.csv]")
    commit(project, "Add data")
    shutil.rmtree(project / ".dvc" / "cache")
    (project / "data.csv").unlink()
    note = measured(project)
    assert (note.status, note.exit_code) == (Status.CRASHED, None)
    assert "data.csv" in note.reason and "dvc pull" in note.mend


def test_a_file_that_git_does_not_have_is_said_so(project: Path, ar: Ar) -> None:
    (project / ".gitignore").write_text("raw/\n")
    (project / "raw").mkdir()
    (project / "raw" / "x.csv").touch()
    note = fail(project, "cat raw/x.csv", "auto")
    assert "dvc add raw/x.csv" in note.mend
    assert git(project, "status", "--porcelain") == ""
