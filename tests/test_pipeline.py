"""Contracts with DVC's internals: an upgrade that changes what `pipeline.py` relies on fails here."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import pytest
from helpers import Ar, attempts_of, commit, edit, git, names_of, run, run_next, runs_of, start, wait_for

from ar.campaign.campaign import Campaign
from ar.git import refs
from ar.git.repo import Repo
from ar.history.messages import Message
from ar.project.program_file import load
from ar.project.project import Project
from ar.runs import queue
from ar.runs.pipeline import Pipeline


def test_names_of_dvcs_refs() -> None:
    from dvc.repo.experiments.refs import CELERY_STASH, EXPS_NAMESPACE, ExpRefInfo

    assert CELERY_STASH == refs.STASH
    assert EXPS_NAMESPACE == refs.EXPS
    assert str(ExpRefInfo("ab" + "0" * 38, "n")) == str(refs.ExperimentRef("ab" + "0" * 38, "n"))


def test_dvc_reads_the_reflog_message_that_we_write() -> None:
    from dvc.repo.experiments.stash import ExpStash

    rev = "a" * 40
    match = ExpStash.MESSAGE_RE.match("commit: " + ExpStash.format_message(rev, rev, "some-name"))
    assert match is not None
    assert (match["rev"], match["baseline_rev"], match["name"]) == (rev, rev, "some-name")


def test_signatures_that_we_call() -> None:
    from diskcache.core import DEFAULT_SETTINGS
    from dvc.repo import lock_repo
    from dvc.repo.experiments.executor.local import TempDirExecutor
    from dvc.repo.experiments.queue.base import QueueEntry
    from dvc.repo.experiments.queue.celery import LocalCeleryQueue
    from dvc.repo.experiments.queue.tasks import run_exp
    from dvc.repo.experiments.utils import get_exp_rwlock
    from dvc.stage import run as stage_run

    assert list(inspect.signature(QueueEntry).parameters) == [
        "dvc_root", "scm_root", "stash_ref", "stash_rev", "baseline_rev", "branch", "name", "head_rev",
    ]  # fmt: skip
    assert list(inspect.signature(run_exp).parameters) == ["entry_dict", "copy_paths", "message"]
    assert list(inspect.signature(TempDirExecutor._get_top_level_paths).parameters) == ["repo"]
    assert list(inspect.signature(lock_repo).parameters) == ["repo"]
    assert DEFAULT_SETTINGS.keys() >= {"sqlite_auto_vacuum", "sqlite_journal_mode", "sqlite_synchronous"}
    assert "raise StageCmdFailedError(cmd, p.returncode)" in inspect.getsource(stage_run)
    assert "writes" in inspect.signature(get_exp_rwlock).parameters
    assert {"_iter_queued", "_iter_processed", "iter_active", "stash"} <= set(dir(LocalCeleryQueue))


LOCAL = """
[core]
    checksum_jobs = 3
['remote "far"']
    url = s3://bucket
    secret_access_key = planted-1
['db "rows"']
    password = planted-2
[Studio]
    token = planted-3
[exp]
    git_remote = https://me:planted-4@example.org/it
"""


def test_no_key_of_dvcs_local_settings_comes_into_a_workspace(project: Path) -> None:
    (project / ".dvc" / "config.local").write_text(LOCAL)
    head = git(project, "rev-parse", "HEAD")
    with Pipeline(Repo.open(project)).workspace("one", head, head) as workspace:
        files = [path for path in workspace.top.rglob("*") if path.is_file() and not path.is_symlink()]
        assert not [path for path in files if b"planted" in path.read_bytes()]
        assert "checksum_jobs = 3" in (workspace.root / ".dvc" / "config.local").read_text()


def test_a_run_leaves_nothing_but_its_commit(measured: Path, project: Path) -> None:
    """Neither a folder, nor DVC's state of it, nor a copy in its run cache, which nobody would ask."""
    tmp = measured / ".dvc" / "tmp" / "ar"
    assert not list(tmp.glob("exps/*"))
    states = [path for path in tmp.glob("site/repo/*") if path.is_dir()]
    assert len(states) <= 1  # the project's own
    assert git(measured, "for-each-ref", "refs/exps")
    kept, before = (sorted((root / ".dvc" / "cache" / "runs").rglob("*")) for root in (measured, project))
    assert len(kept) == len(before)  # what `dvc repro` left when the project was made


def test_what_git_ignores_stays_out_of_an_experiments_commit(project: Path, ar: Ar) -> None:
    """And what a stage writes that git does not know yet is in it."""
    outs = "    outs:\n    - seen.txt: {cache: false}\n    - hidden.txt: {cache: false}\n"
    edit(project / "dvc.yaml", "    metrics:", f"{outs}    metrics:")
    edit(project / "dvc.yaml", "awk -f", "touch seen.txt hidden.txt stray.txt && awk -f")
    (project / ".gitignore").write_text("/hidden.txt\n")
    run(project, "git", "add", "dvc.yaml", ".gitignore")
    run(project, "git", "commit", "-qm", "More outputs")
    ar(project, "next")
    ar(project, "worker")
    (made,) = runs_of(project).values()
    files = git(project, "ls-tree", "-r", "--name-only", made["rev"]).split()
    assert "seen.txt" in files
    assert not {"hidden.txt", "stray.txt", ".dvc/tmp/repro.dat"} & set(files)


def test_a_stage_may_make_the_folder_of_its_outputs_anew(project: Path, ar: Ar) -> None:
    edit(project / "dvc.yaml", "cmd: awk", "cmd: rm -rf out && mkdir out && echo 1 > out/model && awk")
    edit(project / "dvc.yaml", "    metrics:", "    outs: [out/model]\n    metrics:")
    run(project, "dvc", "repro", "-q")
    commit(project, "Keep the model")
    assert "model" in git(project, "show", "HEAD:out/.gitignore")
    ar(project, "next", "--set", "x=2")
    run_next(project)
    assert [(one["status"], one["reason"]) for one in runs_of(project).values()] == [("succeeded", "")]
    assert git(project, "status", "--porcelain") == ""


def test_stages_run_through_the_shell_of_the_environment(bare: Path, tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\nprintf "%s|" "$@" > "$WITNESS"\nexec /bin/sh "$@"\n')
    shell.chmod(0o755)
    environment = os.environ | {"SHELL": str(shell), "WITNESS": str(tmp_path / "seen")}
    run(bare, "dvc", "repro", "-q", "-f", env=environment)
    assert (tmp_path / "seen").read_text() == "-c|awk -f fit.awk params.yaml|"


def test_an_experiment_measures_even_what_dvc_remembers(measured: Path, ar: Ar) -> None:
    """The first baseline run has the very tree of the head: DVC alone would answer from its run cache."""
    rows = attempts_of(measured)[0]["experiments"]
    same = next(row for row in rows if row["seed"] == 1)
    assert "loss" in ar(measured, "log", same["name"]).stdout


@pytest.mark.slow
def test_four_processes_queue_at_once_and_nothing_is_lost(project: Path) -> None:
    """Nor proposed twice: the search offers as many values as are asked for, beside the present one."""
    edit(project / "program.md", "  x: {low: 0.5, high: 6.0}", f"  x: {[number / 2 for number in range(17)]}")
    edit(project / "program.md", "  y: {low: 0.01, high: 1.0, log: true}\n", "")
    for process in [start(project, "next", "-n", "4") for _ in range(4)]:
        said, _ = process.communicate(timeout=200)
        assert process.returncode == 0, said
    revs = git(project, "for-each-ref", "refs/ar/queue", "--format=%(objectname)").split()
    assert len(revs) == 16
    assert len({git(project, "show", f"{rev}:params.yaml") for rev in revs}) == 16
    entries = git(project, "reflog", "show", "--format=%gs", refs.STASH).splitlines()
    assert len(entries) == 16
    assert all(":" in entry and not entry.endswith(":") for entry in entries)
    queued = [line for line in run(project, "dvc", "queue", "status").stdout.splitlines() if "Queued" in line]
    assert len(queued) == 16


def test_what_a_killed_process_left_locked_holds_up_nobody(measured: Path, ar: Ar) -> None:
    ar(measured, "next", "-n", "2")
    pipeline = Pipeline(Repo.open(measured))
    waiting = pipeline.repo.refs(refs.QUEUE)
    (pipeline.repo.git_dir / f"{refs.STASH}.lock").touch()
    assert [queue.withdraw(pipeline, refs.name_of(ref), rev) for ref, rev in waiting.items()] == [True, True]
    assert pipeline.queued() == set()


@pytest.mark.slow
def test_dvcs_worker_and_ours_share_one_queue(measured: Path, ar: Ar) -> None:
    ar(measured, "next", "-n", "3")
    names = set(names_of(measured, "refs/ar/queue"))
    run(measured, "dvc", "queue", "start")
    ar(measured, "run", "-n", "0", "--plain")
    wait_for(lambda: names <= set(names_of(measured, "refs/exps")))
    assert git(measured, "for-each-ref", "refs/ar/running") == ""


@pytest.mark.parametrize("tamper", [b"\x80\x04N.", b"cposix\nsystem\n(S'touch /tmp/pwned'\ntR."])
def test_a_proposal_cannot_plant_a_pickle(project: Path, tamper: bytes) -> None:
    """DVC unpickles `.dvc/tmp/repro.dat` of the queued tree: it is always ours."""
    repo = Repo.open(project)
    campaign = Campaign(Project(repo, load(project)))
    tree = repo.write_tree("HEAD", {".dvc/tmp/repro.dat": tamper})
    message = Message("Evil", agent="human", candidate="x", seed=3)
    rev = queue.put(campaign.project, campaign.pipeline, tree, repo.head(), message, "evil-1")
    campaign.pipeline.close()
    content = repo.read(rev, ".dvc/tmp/repro.dat")
    assert content == campaign.pipeline.pack_arguments("evil-1", repo.head())
