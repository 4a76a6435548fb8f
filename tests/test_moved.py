"""A campaign whose branch moves without it: by what no stage reads, by the user's commits, by promotions."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, attempts_of, commit, edit, git, names_of, run, run_next, runs_of
from judged import tried

from ar.campaign import moved
from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine, Policy
from ar.history import reader
from ar.history.ideas import Edit, Proposal
from ar.history.records import Label, Outcome
from ar.judge.noise import noise_of
from ar.project.identity import identity
from ar.project.program import AgentSpec
from ar.project.project import Project
from ar.runs import queue
from ar.stage.files import Request
from ar.views.lines import PlainView


def _seeds(project: Path) -> list[int]:
    """Those that the branch was measured with, one for each run."""
    return [one["seed"] for one in runs_of(project).values() if one["name"].startswith("baseline")]


def _engine(project: Path) -> Engine:
    return Engine(Campaign(Project.open(project)), Policy(), PlainView(io.StringIO()))


def _attempt(project: Path, name: str) -> dict[str, Any]:
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


def test_what_is_queued_goes_along_with_the_branch(measured: Path, ar: Ar) -> None:
    """An edit that is nowhere else any more, a setting, and what an agent was asked for."""
    edit(measured / "fit.awk", "noise = (", "noise = 0.5 * (")
    ar(measured, "next", "--from-worktree", "-m", "Halve the noise\n\nWhich tells changes apart sooner.")
    git(measured, "checkout", "-q", "fit.awk")
    ar(measured, "next", "--set", "x=2.9", "-m", "Nearer to the floor")
    ar(measured, "next")
    ahead = Campaign(Project.open(measured))
    ahead.measure_incumbent(ahead.history(), 9)  # of no use once the branch has moved
    edit(measured / "fit.awk", "# params.yaml in", "# Read params.yaml")
    edit(measured / "params.yaml", "x: 1.5", "x: 1.6")
    commit(measured, "Move on")
    head = git(measured, "rev-parse", "HEAD")

    project, engine = Project.open(measured), _engine(measured)
    moved.follow(engine, engine.campaign.history(), everything=True)

    queued = {item.title: item for item in reader.read(project).attempts if item.is_under_way}
    assert len(queued) == 3
    assert {item.baseline for item in queued.values()} == {head}
    noise, set_x = queued["Halve the noise"].first, queued["x 1.5 → 2.9"].first
    assert noise.hypothesis == "Which tells changes apart sooner."
    assert (noise.agent, set_x.hypothesis) == ("human", "Nearer to the floor")
    assert git(measured, "diff", "--stat", head, noise.rev, "--", "fit.awk") != ""
    assert "# Read params.yaml" in git(measured, "show", f"{noise.rev}:fit.awk")
    assert set_x.params["params.yaml:x"] == 2.9  # a setting means the value that it names
    moved.follow(engine, engine.campaign.history(), everything=True)
    assert {item.title for item in reader.read(project).attempts if item.is_under_way} == set(queued)


def test_what_a_worker_has_set_up_is_withdrawn_and_told_of_once(measured: Path) -> None:
    """The worker drops it when it looks next: until then several rounds find it waiting."""
    engine = _engine(measured)
    name = engine.campaign.measure_incumbent(engine.campaign.history(), 9)
    claimed = queue.claim(engine.campaign.pipeline)
    assert claimed is not None and claimed.name == name
    edit(measured / "params.yaml", "x: 1.5", "x: 1.6")
    commit(measured, "Move on")
    for _ in range(3):
        moved.follow(engine, engine.campaign.history())
    assert claimed.requested is not None and claimed.requested.request is Request.WITHDRAW
    assert engine.view._stream.getvalue().count(name) == 1  # type: ignore[attr-defined]
    claimed.let_go()


def test_what_cannot_go_along_is_kept_with_its_reason(measured: Path, ar: Ar) -> None:
    edit(measured / "fit.awk", 'print "loss", loss', 'print "the loss", loss')
    ar(measured, "next", "--from-worktree", "-m", "Say it clearly")
    git(measured, "checkout", "-q", "fit.awk")
    edit(measured / "fit.awk", 'print "loss", loss', 'print "loss:", loss')
    commit(measured, "Say it otherwise")
    [name] = names_of(measured, "refs/ar/queue")

    out = ar(measured, "run", "-n", "0", "--plain").stdout

    assert name in out
    kept = _attempt(measured, name)
    assert (kept["outcome"], kept["verdict"]["label"]) == ("cancelled", Label.CONFLICTS)
    assert "fit.awk" in str(kept["verdict"])
    assert "the loss" in ar(measured, "diff", name).stdout
    assert git(measured, "for-each-ref", "refs/ar/queue") == ""


def test_an_answer_that_conflicts_with_what_the_branch_took_is_kept(
    measured: Path, ar: Ar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was paid for while somebody committed."""
    engine = _engine(measured)
    say = Edit("fit.awk", 'print "loss", loss', 'print "the loss", loss')
    proposal = Proposal("Say it clearly", "For people who read logs.", "command", edits=(say,))
    change = engine.campaign.check(proposal)
    edit(measured / "fit.awk", 'print "loss", loss', 'print "loss:", loss')
    commit(measured, "Say it otherwise")
    monkeypatch.setattr(engine.asking, "answers", lambda: [(AgentSpec("command"), change)])
    engine._take_answers()
    [kept] = [row for row in attempts_of(measured) if row["agent"] == "command"]
    assert (kept["outcome"], kept["verdict"]["label"]) == ("cancelled", Label.CONFLICTS)
    assert "the loss" in ar(measured, "diff", kept["name"]).stdout
    assert "For people who read logs." in ar(measured, "log", kept["name"]).stdout
    assert kept["name"] in engine.view._stream.getvalue()  # type: ignore[attr-defined]
    assert git(measured, "for-each-ref", "refs/ar/queue") == ""


def test_ideas_are_compared_and_those_left_behind_are_tried_again(measured: Path, ar: Ar) -> None:
    """Of several ideas the best is merged first; what looked good besides is tried on top of it."""
    for setting in ("x=1.9", "x=2.6", "y=0.06"):
        ar(measured, "next", "--set", setting)
    ar(measured, "run", "-n", "0", "--plain")
    first = git(measured, "log", "--first-parent", "--merges", "--reverse", "--format=%s").splitlines()[0]
    assert first.startswith("x 1.5 → 2.6")


@pytest.mark.slow
def test_an_idea_left_undecided_comes_back_on_the_new_branch(measured: Path, ar: Ar) -> None:
    project = Project.open(measured)
    better, best, worse = (tried(measured, None, x=x) for x in (2.0, 2.4, 0.9))
    edit(measured / "params.yaml", "y: 0.03", "y: 0.04")
    commit(measured, "Move on")
    out = ar(measured, "run", "-n", "0", "--plain").stdout

    history = reader.read(project)
    by_name = {item.name: item for item in history.attempts}
    assert [by_name[item.name].outcome for item in (better, best, worse)] == [Outcome.SUPERSEDED] * 3, out
    again = {item.stack: item for item in history.attempts if item.stack}
    assert set(again) == {(best.name,), (better.name,)}
    assert out.index(again[(best.name,)].name) < out.index(again[(better.name,)].name)


def test_what_the_branch_left_behind_may_be_proposed_again_once(measured: Path, ar: Ar) -> None:
    """Its tree is the very tree that ran, on another baseline."""
    tried(measured, None, x=2.0)
    edit(measured / "params.yaml", "x: 1.5", "x: 1.7")
    commit(measured, "Move on")
    engine = _engine(measured)
    moved.follow(engine, engine.campaign.history())
    ar(measured, "next", "--set", "x=2.0")
    [name] = names_of(measured, "refs/ar/queue")
    again = ar(measured, "next", "--set", "x=2.0", check=False)
    assert (again.returncode, f"{name} tried exactly this" in again.stderr) == (2, True)


@pytest.mark.parametrize("kind", ["search", pytest.param("optuna", marks=pytest.mark.slow)])
def test_a_small_space_is_tried_on_each_branch_and_ends(measured: Path, ar: Ar, kind: str) -> None:
    """What was left undecided may be tried again on each head; when all is tried the campaign ends."""
    edit(measured / "program.md", "x: {low: 0.5, high: 6.0}", "x: [1.5, 2.0, 2.9]")
    edit(measured / "program.md", "  y: {low: 0.01, high: 1.0, log: true}\n", "")
    edit(measured / "program.md", "budget: {runs: 200", f"agent: {{kind: {kind}}}\nbudget: {{runs: 200")
    ar(measured, "run", "--plain", "--hours", "0.05", check=False)
    rows = [row for row in attempts_of(measured) if row["agent"] == kind]
    assert 2 <= len(rows) <= 6
    assert "x: 2.9" in git(measured, "show", "HEAD:params.yaml")
    assert len(runs_of(measured)) < 100
