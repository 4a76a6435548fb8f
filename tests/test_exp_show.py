"""Contract with plain DVC and editors that ask it: what `dvc exp show --json` says of our experiments."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers import commit, git, run
from synthetic import Made, write

from ar.campaign.campaign import Campaign
from ar.changes.proposal import prepare
from ar.git import refs
from ar.git.repo import Repo
from ar.history.ideas import Proposal
from ar.local.claims import Claim
from ar.project.program_file import load
from ar.project.project import Project
from ar.runs import queue, showing


def _shown(root: Path, *args: str) -> dict[str, dict[str, Any]]:
    """Experiments by their names, as DVC lists them: `ExpRange` of its `serialize` module, as a dict."""
    listed = json.loads(run(root, "dvc", "exp", "show", "--json", *args).stdout)
    return {item["name"]: item for base in listed for item in base["experiments"] or []}


def _claimed(root: Path) -> tuple[Repo, Claim]:
    campaign = Campaign(Project(Repo.open(root), load(root)))
    proposal = Proposal("x 1.5 → 2.5", "Nearer to the floor.", "human", {"x": 2.5})
    campaign.submit(prepare(campaign.project, proposal, campaign.history()), 1)
    claimed = queue.claim(campaign.pipeline)
    assert claimed is not None
    campaign.pipeline.close()
    return campaign.repo, claimed


def _status(repo: Repo, claimed: Claim) -> int:
    status: int = json.loads(showing.info_file(repo, claimed.rev).read_text())["status"]
    return status


def test_what_we_write_is_what_dvc_reads(project: Path) -> None:
    from dvc.repo import Repo as DvcRepo
    from dvc.repo.experiments.executor.base import ExecutorInfo, TaskStatus
    from dvc.repo.experiments.executor.local import TempDirExecutor

    assert (showing.RUNNING, showing.FINISHED) == (TaskStatus.RUNNING, TaskStatus.FINISHED)
    assert TempDirExecutor.DEFAULT_LOCATION == showing.LOCATION
    repo, claimed = _claimed(project)
    with DvcRepo(str(project)) as dvc:
        theirs = dvc.experiments.tempdir_queue
        assert theirs.get_infofile_path(claimed.rev) == str(showing.info_file(repo, claimed.rev))
        with showing.shown(repo, claimed):
            info = ExecutorInfo.load_json(theirs.get_infofile_path(claimed.rev))
            assert (info.name, info.baseline_rev, info.status) == (claimed.name, claimed.baseline, 2)
            assert theirs.proc[claimed.rev].pid == os.getpid()
            assert [entry.name for entry in theirs.iter_active()] == [claimed.name]
        assert list(theirs.iter_active()) == []


def test_a_running_experiment_is_shown_as_running(project: Path) -> None:
    repo, claimed = _claimed(project)
    with showing.shown(repo, claimed):
        item = _shown(project)[claimed.name]
    (rev,) = item["revs"]
    assert (rev["rev"], rev["name"], rev["error"]) == (claimed.rev, claimed.name, None)
    assert rev["data"]["params"]["params.yaml"]["data"]["x"] == 2.5
    assert item["executor"]["state"] == "running"
    assert item["executor"]["local"]["pid"] == os.getpid()
    assert item["executor"]["local"]["log"] == str(claimed.log)


def test_what_a_run_writes_is_no_part_of_what_dvc_opens(project: Path) -> None:
    """DVC reads outside the sandbox, and follows links."""
    repo, claimed = _claimed(project)
    with showing.shown(repo, claimed):
        view = project / ".dvc" / "tmp" / "ar" / "shown" / claimed.rev
        assert git(view, "rev-parse", "HEAD") == claimed.baseline
        found = {path.name for path in view.iterdir()} - {".dvc", ".git"}
    assert found == {"dvc.yaml", "dvc.lock", "params.yaml"}


def test_what_a_killed_worker_left_is_not_shown_for_ever(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, claimed = _claimed(project)
    told = showing.shown(repo, claimed)
    told.__enter__()
    showing.clear(repo)
    assert _status(repo, claimed) == showing.RUNNING
    repo.update_refs((refs.running(claimed.name), "0" * 40, claimed.rev))  # as recovery does
    showing.clear(repo)
    assert _status(repo, claimed) == showing.FINISHED
    monkeypatch.setattr(showing, "_READ_FOR", 0.0)
    showing.clear(repo)
    assert not showing.info_file(repo, claimed.rev).parent.exists()
    assert list((project / ".dvc" / "tmp" / "ar" / "shown").iterdir()) == []
    told.__exit__(None, None, None)


def test_a_folder_that_dvc_cannot_be_told_of_is_no_failure(project: Path) -> None:
    repo, claimed = _claimed(project)
    (project / ".dvc" / "tmp" / "exps" / "standalone").mkdir(parents=True)
    (project / ".dvc" / "tmp" / "exps" / "standalone" / "run").write_text("in the way")
    with showing.shown(repo, claimed):
        pass


def test_experiments_stay_in_sight_after_promotions(project: Path) -> None:
    """Of earlier baselines DVC lists what hangs on them where it is asked for more than the head."""
    first, second = write(project, [Made(2.5, 0.3, agent="optuna"), Made(2.9, None, agent="optuna")])
    ref = next(iter(Repo.open(project).refs(f"{refs.EXPS}/*/*/{first}")))
    run(project, "git", "merge", "-q", "--no-ff", "-m", "x 1.5 → 2.5", ref)
    (project / "more").write_text("more\n")
    commit(project, "Go on")
    assert _shown(project) == {}
    for asked in (["-A"], ["-n", "4"]):
        found = _shown(project, *asked)
        assert found.keys() >= {first, second}
        (rev,) = found[first]["revs"]
        assert rev["name"] == first and rev["error"] is None
        assert rev["data"]["metrics"]["m.json"]["data"] == {"val_loss": 0.3}
        assert rev["data"]["params"]["params.yaml"]["data"]["x"] == 2.5
        assert found[first]["executor"] is None
