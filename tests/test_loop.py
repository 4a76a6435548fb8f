"""The loop end to end, on a project that is not the lab: awk in its stage, metrics in JSON and YAML."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from helpers import Ar, attempts_of, commit, edit, git, names_of, processes, run, runs_of, start, wait_for


def test_from_a_fresh_project_to_a_promoted_winner(bare: Path, ar: Ar) -> None:
    ar(bare, "init", "--yes")
    start = git(bare, "rev-parse", "HEAD")
    assert ar(bare, "doctor").returncode == 0

    out = ar(bare, "run", "-n", "4", "--plain").stdout
    ar(bare, "promote")

    assert "promoted" in out
    merges = git(bare, "rev-list", "--merges", "--first-parent", f"{start}..HEAD").split()
    assert merges
    for merge in merges:
        first, second = git(bare, "rev-parse", f"{merge}^1", f"{merge}^2").split()
        assert git(bare, "rev-parse", f"{second}^") == first
        # Invariant 3: the branch's tree is the tree that was measured.
        assert git(bare, "diff", merge, second) == ""
        assert second in git(bare, "for-each-ref", "refs/exps", "--format=%(objectname)")
    assert git(bare, "status", "--porcelain") == ""
    assert "up to date" in run(bare, "dvc", "status").stdout
    assert "didn't change" in run(bare, "dvc", "repro").stdout
    assert run(bare, "git", "fsck", "--strict").returncode == 0
    now = json.loads(git(bare, "show", "HEAD:m.json"))["val_loss"]
    before = json.loads(git(bare, "show", f"{start}:m.json"))["val_loss"]
    assert now < before - 0.1
    # The seed of the branch is not what the search happened to use last.
    assert "seed: 1" in git(bare, "show", "HEAD:params.yaml")


@pytest.mark.slow
def test_nothing_is_left_behind(measured: Path, ar: Ar) -> None:
    ar(measured, "run", "-n", "1", "--plain")
    assert git(measured, "for-each-ref", "refs/ar") == ""
    assert not list((measured / ".git" / "ar" / "running").glob("*"))
    assert not list((measured / ".dvc" / "tmp" / "ar" / "exps").glob("*"))
    assert "Queued" not in run(measured, "dvc", "queue", "status").stdout


def test_a_second_run_carries_on_and_does_not_measure_the_baseline_again(measured: Path, ar: Ar) -> None:
    first = attempts_of(measured)
    assert [len(attempt["experiments"]) for attempt in first] == [2]
    out = ar(measured, "run", "-n", "1", "--plain").stdout
    assert "queued" in out
    assert "promoted" in out or "baseline-s" not in out
    # What the opening has not told enough of yet stays open, and that is said.
    assert ("ar run goes on" in out) == any(attempt["outcome"] == "open" for attempt in attempts_of(measured))


def test_the_budget_of_runs_is_hard_and_ends_with_an_audit(measured: Path, ar: Ar) -> None:
    edit(measured / "program.md", "runs: 200", "runs: 14")
    ar(measured, "run", "--plain", "--jobs", "2")
    runs = list(runs_of(measured).values())
    assert len(runs) == 14
    audit = [run_ for run_ in runs if run_["name"].startswith("audit")]
    assert len(audit) >= 1  # a winner's run at the branch's own seed may take one of them
    values = [run_["metrics"]["m.json:val_loss"] for run_ in audit]
    total = json.loads(ar(measured, "show", "--json").stdout)["total"]
    assert total["after"] == pytest.approx(sum(values) / len(values))
    assert total["change"] == pytest.approx(total["after"] - 3.699, abs=5e-3)
    assert total["interval"][0] < total["change"] < total["interval"][1]
    assert "of the closing audit" in ar(measured, "show").stdout
    ar(measured, "run", "--plain")
    assert len(runs_of(measured)) == 14


def test_a_crash_is_recorded_for_good_and_the_campaign_goes_on(project: Path, ar: Ar) -> None:
    edit(project / "fit.awk", "END {", 'END { if (x > 2) { print "boom: x is " x; exit 7 }')
    edit(project / "program.md", "x: {low: 0.5", "x: {low: 2.5")
    edit(project / "program.md", "  y: {low: 0.01, high: 1.0, log: true}\n", "")
    run(project, "dvc", "repro", "-q")
    commit(project, "Crash beyond 2")
    ar(project, "run", "-n", "1", "--plain")
    crashed = next(attempt for attempt in attempts_of(project) if attempt["outcome"] == "crashed")
    name = str(crashed["name"])
    log = ar(project, "log", name).stdout
    assert "boom: x is" in log
    assert "exited with 7" in log
    assert "x: " in ar(project, "diff", name).stdout
    shown = json.loads(run(project, "dvc", "exp", "show", "--json").stdout)
    experiment = next(
        item["revs"][0]
        for base in shown
        for item in base["experiments"] or []
        if item["revs"][0]["name"] == name
    )
    assert "val_loss" not in experiment["data"]["metrics"]["m.json"]["data"]
    assert git(project, "show", f"{experiment['rev']}:fit.awk") == git(project, "show", "HEAD:fit.awk")


def test_a_baseline_that_does_not_run_is_said_so(project: Path, ar: Ar) -> None:
    (project / "fit.awk").write_text("BEGIN { exit 3 }\n")
    commit(project, "Break it")
    done = ar(project, "run", "-n", "1", "--plain", check=False)
    assert done.returncode == 2
    assert "the baseline itself does not run" in done.stderr
    assert "ar log baseline" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_baseline_that_diverges_is_said_so(project: Path, ar: Ar) -> None:
    edit(project / "fit.awk", '": %.6f}\\n", loss', '": \\"%s\\"}\\n", "nan"')
    commit(project, "Break the metric")
    done = ar(project, "run", "-n", "1", "--plain", check=False)
    assert done.returncode == 2
    assert "m.json:val_loss is nan" in done.stderr


def test_a_run_that_hangs_is_ended_with_all_it_started(project: Path, ar: Ar) -> None:
    edit(project / "dvc.yaml", "awk -f fit.awk params.yaml", "sh hang.sh")
    (project / "hang.sh").write_text("(trap '' TERM; setsid sleep 98765) & sleep 98765\n")
    edit(project / "program.md", "timeout: 60s", "timeout: 2s")
    commit(project, "Hang")
    done = ar(project, "run", "-n", "1", "--plain", check=False)
    assert "time limit of 2 s" in done.stderr
    assert "timed out" in {run_["status"] for run_ in runs_of(project).values()}
    assert "98765" not in processes()


def test_the_environment_of_a_stage_is_a_list_of_allowed_names(
    project: Path, ar: Ar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-planted-secret")
    monkeypatch.setenv("DATA_HOME", "/data")
    edit(project / "dvc.yaml", "awk -f", "env && awk -f")
    edit(project / "program.md", "budget:", "sandbox: {env: [DATA_HOME]}\nbudget:")
    commit(project, "Print the environment")
    ar(project, "run", "-n", "0", "--plain")
    log = ar(project, "log", str(attempts_of(project)[0]["name"])).stdout
    assert "DATA_HOME=/data" in log
    assert "PATH=" in log
    assert "planted" not in log
    assert "planted" not in run(project, "git", "log", "--all", "-p").stdout


def _slow(project: Path, seconds: float) -> None:
    edit(project / "dvc.yaml", "awk -f", f"sleep {seconds} && awk -f")
    commit(project, "Take time")


def _wait_for_running(project: Path) -> str:
    wait_for(lambda: list((project / ".git" / "ar" / "running").glob("*.d/stage.json")))
    return names_of(project, "refs/ar/running")[0]


def test_interrupted_once_it_finishes_what_runs(project: Path, ar: Ar) -> None:
    _slow(project, 2)
    loop = start(project, "run", "--plain", "-n", "3")
    name = _wait_for_running(project)
    os.kill(loop.pid, signal.SIGINT)
    out, _ = loop.communicate(timeout=60)
    assert loop.returncode == 130
    assert "run again to carry on" in out
    ended = {name: run_["status"] for name, run_ in runs_of(project).items()}
    assert ended[name] == "succeeded"
    assert sorted(ended.values()).count("succeeded") == 1
    assert git(project, "for-each-ref", "refs/ar/running") == ""


def test_interrupted_twice_it_stops_at_once_and_loses_nothing(project: Path, ar: Ar) -> None:
    _slow(project, 331.5)
    loop = start(project, "run", "--plain", "-n", "3")
    name = _wait_for_running(project)
    os.kill(loop.pid, signal.SIGINT)
    time.sleep(0.3)
    os.kill(loop.pid, signal.SIGINT)
    out, _ = loop.communicate(timeout=60)
    assert "Traceback" not in out
    waiting = git(project, "for-each-ref", "refs/ar/queue", "--format=%(refname)")
    assert name in waiting
    assert name in run(project, "dvc", "queue", "status").stdout
    assert "sleep 331.5" not in processes()


@pytest.mark.parametrize("victim", ["loop", "worker", pytest.param("stage", marks=pytest.mark.slow)])
def test_killed_at_any_time_the_next_run_carries_on(project: Path, ar: Ar, victim: str) -> None:
    _slow(project, 0.8)
    loop = start(project, "run", "--plain", "-n", "0")
    name = _wait_for_running(project)
    facts = json.loads((project / ".git" / "ar" / "running" / name).read_text())
    stage = json.loads((project / ".git" / "ar" / "running" / f"{name}.d" / "stage.json").read_text())
    os.kill({"loop": loop.pid, "worker": facts["pid"], "stage": stage["pid"]}[victim], signal.SIGKILL)
    loop.communicate(timeout=120)
    ar(project, "run", "-n", "0", "--plain", check=victim != "stage")
    runs = [run_ for attempt in attempts_of(project) for run_ in attempt["experiments"]]
    names = [run_["name"] for run_ in runs]
    assert len(names) == len(set(names))
    assert name in names
    good = [run_ for run_ in runs if run_["status"] == "succeeded"]
    assert len(good) == 2
    assert git(project, "for-each-ref", "refs/ar") == ""
    assert run(project, "git", "fsck").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False], ids=["seed that nothing reads", "no seed"])
def test_a_campaign_whose_runs_are_all_equal_is_warned(project: Path, ar: Ar, named: bool) -> None:
    edit(project / "fit.awk", "((seed * 7919) % 101) / 101", "0.5")
    if not named:
        edit(project / "program.md", "seed: seed\n", "")
    commit(project, "Fix the seed in the code")
    out = ar(project, "run", "-n", "0", "--plain").stdout
    assert "all rests on one seed" in out
    assert ("seed changes nothing" in out) is named
