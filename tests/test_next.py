"""`ar next`: a proposal in DVC's queue, and not a byte of the user's work touched."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from helpers import Ar, attempts_of, commit, git, names_of, run, snapshot, wait_for


def _make_dirty(root: Path) -> None:
    (root / "staged.txt").write_text("staged\n")
    run(root, "git", "add", "staged.txt")
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + "# unstaged\n")
    (root / "untracked.txt").write_text("untracked\n")
    (root / "fit.awk").write_text("broken {\n")
    run(root, "git", "add", "fit.awk")


def test_dirty_tree_stays_as_it_was_and_out_of_the_experiment(project: Path, ar: Ar) -> None:
    _make_dirty(project)
    status = git(project, "status", "--porcelain=v2")
    before = snapshot(project)  # git status itself may refresh the index
    time.sleep(0.02)

    ar(project, "next")

    assert snapshot(project) == before
    assert git(project, "status", "--porcelain=v2") == status
    assert git(project, "stash", "list") == ""
    ref, rev = git(project, "for-each-ref", "refs/ar/queue", "--format=%(refname) %(objectname)").split()
    names = git(project, "ls-tree", "-r", "--name-only", rev).splitlines()
    assert "staged.txt" not in names
    assert "untracked.txt" not in names
    assert git(project, "show", f"{rev}:fit.awk") == git(project, "show", "HEAD:fit.awk")
    assert "# unstaged" not in git(project, "show", f"{rev}:params.yaml")
    assert ref.startswith("refs/ar/queue/")


def test_dvc_lists_and_runs_what_was_queued(project: Path, ar: Ar) -> None:
    ar(project, "next")
    (name,) = names_of(project, "refs/ar/queue")
    status = run(project, "dvc", "queue", "status").stdout
    assert name in status
    assert "Queued" in status
    assert name in run(project, "dvc", "exp", "show", "--csv").stdout

    run(project, "dvc", "queue", "start")
    wait_for(lambda: name in names_of(project, "refs/exps"))
    shown = json.loads(run(project, "dvc", "exp", "show", "--json").stdout)
    experiments = [item["revs"][0] for base in shown for item in base["experiments"] or []]
    mine = next(item for item in experiments if item["name"] == name)
    assert isinstance(mine["data"]["metrics"]["m.json"]["data"]["val_loss"], float)
    rev = git(
        project, "rev-parse", git(project, "for-each-ref", "refs/exps", "--format=%(refname)").split()[-1]
    )
    message = git(project, "show", "-s", "--format=%B", rev)
    assert "Ar-Agent: search" in message
    assert "Refuted if" in message
    # The trailers are ones that git itself understands.
    trailers = run(project, "git", "interpret-trailers", "--parse", input=message).stdout
    assert "Ar-Candidate: " in trailers
    assert "Ar-Seed: 1" in trailers
    # ar sees the result of a run that it did not make.
    row = next(a for a in attempts_of(project) if a["name"] == name)
    assert row["experiments"][0]["status"] == "succeeded"


def test_dry_run_shows_and_queues_nothing(project: Path, ar: Ar) -> None:
    out = ar(project, "next", "--dry-run").stdout
    assert "→" in out
    assert git(project, "for-each-ref", "refs/ar", "refs/exps") == ""


def test_several_at_once_are_distinct(project: Path, ar: Ar) -> None:
    ar(project, "next", "-n", "3")
    revs = git(project, "for-each-ref", "refs/ar/queue", "--format=%(objectname)").split()
    assert len(revs) == 3
    assert len({git(project, "show", f"{rev}:params.yaml") for rev in revs}) == 3


def test_comments_of_the_parameters_file_stay(project: Path, ar: Ar) -> None:
    ar(project, "next")
    rev = git(project, "for-each-ref", "refs/ar/queue", "--format=%(objectname)")
    changed = git(project, "diff", "HEAD", rev, "--", "params.yaml")
    assert git(project, "show", f"{rev}:params.yaml").startswith("# where we start")
    added = [line for line in changed.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert {line.partition(":")[0] for line in added} == {"+x", "+y"}


def test_works_below_the_top_of_the_repository(project: Path, ar: Ar, tmp_path: Path) -> None:
    top = tmp_path / "mono repo ü"
    top.mkdir()
    run(top, "git", "init", "-q")
    project.rename(top / "sub")
    shutil.rmtree(top / "sub" / ".git")
    shutil.rmtree(top / "sub" / ".dvc")
    run(top / "sub", "dvc", "init", "-q", "--subdir")
    run(top / "sub", "dvc", "repro", "-q")
    commit(top, "Start")
    ar(top / "sub", "run", "-n", "1", "--plain")
    rows = attempts_of(top / "sub")
    assert {run_["status"] for row in rows for run_ in row["experiments"]} == {"succeeded"}
