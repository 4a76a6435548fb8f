"""Budgets are of the whole campaign: told from refs and notes, held across restarts and processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers import Ar, commit, edit, git, names_of

from ar.git.repo import Repo
from ar.history.records import Attempt, Experiment, History, Note, Outcome, Status
from ar.project.program import Budget, Metric, Program
from ar.runs import budget

HOUR = 3600.0


def _history(*runs: tuple[float, float, str, str]) -> History:
    """Runs by beginning and end in hours, their slot, and the host that they ran on."""
    experiments = tuple(
        Experiment(
            name=f"e{at}",
            rev=f"r{at}",
            baseline="b",
            title="t",
            status=Status.CRASHED if at % 2 else Status.SUCCEEDED,
            agent="optuna",
            note=Note(
                Status.SUCCEEDED,
                seconds=(end - start) * HOUR,
                finished=end * HOUR,
                slot=slot,
                worker=f"{host}:12",
            ),
        )
        for at, (start, end, slot, host) in enumerate(runs)
    )
    return History(
        "b", "c", (Attempt("e0", "t", "optuna", "b", "c1", experiments, None, None, {}, Outcome.OPEN),)
    )


def test_parallel_runs_count_once_and_pauses_not_at_all(project: Path) -> None:
    history = _history((0, 2, "cpu0", "a"), (1, 3, "cpu1", "a"), (10, 11, "cpu0", "a"), (10.2, 10.5, "", "b"))
    used = budget.used(Repo.open(project), history)
    assert (used.runs, used.under_way) == (4, 0)
    assert used.hours == pytest.approx(4)
    assert used.gpu_hours == 0


def test_gpu_hours_are_summed_over_gpus_not_over_what_shares_one(project: Path) -> None:
    history = _history(
        (0, 2, "gpu0", "a"),
        (0, 2, "gpu1", "a"),
        (1, 3, "gpu0.2", "a"),
        (0, 2, "gpu0", "b"),
        (5, 9, "cpu0", "a"),
    )
    used = budget.used(Repo.open(project), history)
    assert used.hours == pytest.approx(7)
    assert used.gpu_hours == pytest.approx(3 + 2 + 2)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Budget(runs=10), ""),
        (Budget(runs=9), "budget.runs is spent: 9 of 9 runs; to go on, raise it in program.md"),
        (Budget(runs=10, hours=2), "budget.hours is spent: 2.5 of 2 hours"),
        (Budget(runs=10, hours=3, gpu_hours=7.5), "budget.gpu_hours is spent: 8 of 7.5 GPU hours"),
        (Budget(runs=10, hours=3, gpu_hours=8.5), ""),
    ],
)
def test_which_budget_is_spent_is_said(limits: Budget, says: str) -> None:
    program = Program(Metric("m.json", "x", "minimize"), budget=limits)
    refusal = budget.Used(runs=7, under_way=2, hours=2.5, gpu_hours=8).refusal(program)
    assert refusal.startswith(says)
    assert bool(refusal) == bool(says)


def test_messages_name_the_programme_where_it_is(project: Path, ar: Ar) -> None:
    (project / ".ar").mkdir()
    (project / "program.md").rename(project / ".ar" / "program.md")
    (project / "program.md").write_text("Loop forever.\n")
    edit(project / ".ar" / "program.md", "budget: {runs: 200,", "budget: {runs: 2,")
    commit(project, "Keep a text for something else")
    said = ar(project, "run", "--plain").stdout + ar(project, "doctor", check=False).stdout
    assert "raise it in .ar/program.md" in said and "raise budget: in .ar/program.md" in " ".join(
        said.split()
    )
    assert not [line for line in said.splitlines() if re.search(r"(?<!\.ar/)program\.md", line)]


def _allow(root: Path, limits: str) -> None:
    text = (root / "program.md").read_text()
    old = text[text.index("budget: {") :].partition("\n")[0]
    edit(root / "program.md", old, f"budget: {{{limits}}}")


def _runs(root: Path) -> int:
    return len(names_of(root, "refs/exps"))


@pytest.mark.slow
def test_what_people_queued_waits_when_the_runs_are_spent(measured: Path, ar: Ar) -> None:
    for value in ("2.0", "2.2", "2.4", "2.6"):
        ar(measured, "next", "--set", f"x={value}")
    _allow(measured, "runs: 4")
    for command in (["run", "--plain", "--jobs", "2"], ["run", "--plain"], ["worker"]):
        done = ar(measured, *command)
        assert "budget.runs is spent: 4 of 4 runs; to go on, raise it in program.md" in done.stdout
        assert _runs(measured) == 4
    assert len(git(measured, "for-each-ref", "refs/ar/queue").splitlines()) == 2
    assert "used 4 of 4 runs" in ar(measured, "doctor", check=False).stdout
    _allow(measured, "runs: 6")
    ar(measured, "worker")
    assert _runs(measured) == 6


def test_hours_are_those_of_the_campaign(measured: Path, ar: Ar) -> None:
    """Two short runs were made by a process that is gone."""
    _allow(measured, "runs: 200, hours: 0.00001")
    done = ar(measured, "run", "-n", "1", "--plain")
    assert "budget.hours is spent: " in done.stdout
    assert _runs(measured) == 2
    assert git(measured, "for-each-ref", "refs/ar/queue") == ""


def test_the_hours_of_one_invocation(measured: Path, ar: Ar) -> None:
    done = ar(measured, "run", "--hours", "0.0000001", "--plain")
    assert "hours of this run are over; run again to carry on" in done.stdout
    assert _runs(measured) == 2
