"""A campaign whose branch moves without it: by what no stage reads, by the user's commits, by promotions."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import Ar, attempts_of, commit, edit, git, names_of, run, run_next, runs_of

from ar.campaign.campaign import Campaign
from ar.history import reader
from ar.judge.noise import noise_of
from ar.project.identity import identity
from ar.project.project import Project


def _seeds(project: Path) -> list[int]:
    """Those that the branch was measured with, one for each run."""
    return [one["seed"] for one in runs_of(project).values() if one["name"].startswith("baseline")]


def _attempt(project: Path, name: str) -> dict[str, object]:
    return next(item for item in attempts_of(project) if item["name"] == name)


def test_a_commit_that_no_stage_reads_changes_nothing(measured: Path, ar: Ar) -> None:
    ar(measured, "next", "--set", "x=2.9", "-m", "Nearer to the floor")
    [name] = names_of(measured, "refs/ar/queue")
    (measured / "README.md").write_text("What this is.\n")
    edit(measured / "program.md", "Find the floor", "Find the very floor")
    edit(measured / "params.yaml", "# where we start", "# where we started")
    commit(measured, "Explain it")
    before = git(measured, "rev-parse", "HEAD")

    out = ar(measured, "run", "-n", "0", "--plain").stdout

    assert _attempt(measured, name)["outcome"] == "promoted", out
    seeds = _seeds(measured)
    assert len(seeds) == len(set(seeds))
    # The branch has both: what ran, and what was written meanwhile.
    assert git(measured, "diff", "--stat", before, "HEAD", "--", "README.md", "program.md") == ""
    assert git(measured, "show", "HEAD:params.yaml") == "# where we started\nx: 2.9\ny: 0.03\nseed: 1"
    assert git(measured, "status", "--porcelain") == ""
    assert "up to date" in run(measured, "dvc", "status").stdout
    # What was promoted is the incumbent, so that its runs are not made again.
    now = reader.read(Project.open(measured)).now
    assert now is not None
    assert now.name == name


def test_a_commit_that_a_stage_reads_is_another_branch(measured: Path) -> None:
    before = reader.read(Project.open(measured))
    (measured / "fit.awk").write_text(f"# Another version.\n{(measured / 'fit.awk').read_text()}")
    commit(measured, "Touch the code")
    after = reader.read(Project.open(measured))
    assert after.now is None
    assert not after.is_head(before.head)
    assert before.is_head(before.head)


@pytest.mark.parametrize("declared", [False, True], ids=["for people", "of a stage"])
def test_a_document_counts_where_a_stage_reads_it(measured: Path, declared: bool) -> None:
    if declared:
        edit(measured / "dvc.yaml", "deps: [fit.awk]", "deps: [fit.awk, docs]")
        commit(measured, "Declare it")
    before = git(measured, "rev-parse", "HEAD")
    (measured / "docs").mkdir()
    (measured / "docs" / "guide.md").write_text("A guide.\n")
    commit(measured, "Write a guide")
    project = Project.open(measured)
    assert (identity(project, before) != identity(project, "HEAD")) is declared


def test_what_was_measured_twice_counts_once(measured: Path, ar: Ar) -> None:
    """One tree on two commits with one seed: as two clones have it, and as earlier versions did it."""
    project = Project.open(measured)
    before = reader.read(project)
    (measured / "README.md").write_text("What this is.\n")
    commit(measured, "Explain it")
    campaign = Campaign(project)
    for seed in (1, 2):
        campaign.measure_incumbent(campaign.history(), seed)
        run_next(measured)
    after = campaign.history()
    assert after.now is not None and before.now is not None
    assert len(after.now.experiments) == 2 * len(before.now.experiments)
    assert (after.sigma, after.now.value) == (before.sigma, before.now.value)
    assert after.now.standard_error == before.now.standard_error
    assert noise_of(campaign.ledger(after)).df == noise_of(campaign.ledger(before)).df
