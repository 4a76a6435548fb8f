"""`ar promote`: the branch takes what was measured, or stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import Ar, attempts_of, commit, edit, git, run, start, wait_for
from judged import LOSS, WIN, tried

from ar.campaign.campaign import Campaign
from ar.history.records import Verdict
from ar.project.project import Project


@pytest.fixture
def head(measured: Path) -> str:
    return git(measured, "rev-parse", "HEAD")


def test_the_winner_is_merged_and_everything_is_in_order(measured: Path, ar: Ar, head: str) -> None:
    attempt = tried(measured, WIN)
    dry = ar(measured, "promote", "--dry-run").stdout
    assert "+x: 2.9" in dry
    assert git(measured, "rev-parse", "HEAD") == head

    out = ar(measured, "promote").stdout

    assert attempt.name in out
    assert git(measured, "rev-parse", "HEAD^1", "HEAD^2").split() == [head, attempt.experiments[0].rev]
    message = git(measured, "show", "-s", "--format=%B")
    assert "Better by a lot." in message
    assert (
        f"Ar-Experiment: {attempt.name}"
        in run(measured, "git", "interpret-trailers", "--parse", input=message).stdout
    )
    assert git(measured, "status", "--porcelain") == ""
    assert "up to date" in run(measured, "dvc", "status").stdout
    assert "didn't change" in run(measured, "dvc", "repro").stdout
    assert "is in the branch already" in ar(measured, "promote").stdout
    again = ar(measured, "promote", attempt.name, check=False)
    assert again.returncode == 2
    assert "in the branch already" in again.stderr


@pytest.mark.parametrize(("verdict", "says"), [(None, "not judged yet"), (LOSS, "Worse than the incumbent")])
def test_the_unjudged_and_the_losing_need_force(
    measured: Path, ar: Ar, head: str, verdict: Verdict | None, says: str
) -> None:
    attempt = tried(measured, verdict)
    done = ar(measured, "promote", attempt.name, check=False)
    assert (done.returncode, says in done.stderr) == (2, True)
    assert git(measured, "rev-parse", "HEAD") == head
    ar(measured, "promote", attempt.name, "--force")
    assert git(measured, "rev-parse", "HEAD^2") == attempt.experiments[0].rev
    assert "--force" in git(measured, "show", "-s", "--format=%B")


def test_a_baseline_run_cannot_be_promoted(measured: Path, ar: Ar) -> None:
    name = attempts_of(measured)[0]["name"]
    assert "baseline itself" in ar(measured, "promote", name, "--force", check=False).stderr


def test_a_winner_of_an_earlier_baseline_is_measured_on_the_branch_as_it_is(measured: Path, ar: Ar) -> None:
    near = tried(measured, WIN)
    flat = tried(measured, WIN, y=0.09)
    ar(measured, "promote", near.name)
    head = git(measured, "rev-parse", "HEAD")

    out = ar(measured, "promote", "--dry-run").stdout
    assert "on the branch as it is first" in out
    assert "+y: 0.09" in out
    assert "x: 2.9" not in out.replace(" x: 2.9", "")
    assert ar(measured, "promote", "--plain").returncode == 0

    both = git(measured, "show", "HEAD:params.yaml")
    assert ("x: 2.9" in both, "y: 0.09" in both) == (True, True)
    first, second = git(measured, "rev-parse", "HEAD^1", "HEAD^2").split()
    assert first == head
    assert git(measured, "rev-parse", f"{second}^") == head
    assert git(measured, "diff", "HEAD", second) == ""
    message = git(measured, "show", "-s", "--format=%B")
    assert f"Ar-Stack: {flat.name}" in message
    assert "val_loss −" in message.splitlines()[0]
    outcomes = {row["name"]: row["outcome"] for row in attempts_of(measured)}
    assert outcomes[near.name] == "promoted"
    assert outcomes[flat.name] == "stacked"
    assert "up to date" in run(measured, "dvc", "status").stdout
    assert "went on in" in ar(measured, "promote", flat.name, check=False).stderr


@pytest.mark.slow
def test_the_loop_tries_a_winner_that_was_left_behind_on_the_branch_as_it_is(measured: Path, ar: Ar) -> None:
    near, flat = tried(measured, WIN), tried(measured, WIN, y=0.09)
    out = ar(measured, "run", "-n", "1", "--plain").stdout
    assert f"{flat.name} won on an earlier baseline" in out
    merged = git(measured, "log", "--first-parent", "--merges", "--reverse", "--format=%s").splitlines()
    assert [line.partition(":")[0] for line in merged[:2]] == ["x 1.5 → 2.9", "y 0.03 → 0.09"]
    outcomes = {row["name"]: row["outcome"] for row in attempts_of(measured)}
    assert (outcomes[near.name], outcomes[flat.name]) == ("promoted", "stacked")


@pytest.mark.slow
def test_a_winner_whose_gain_is_gone_does_not_stack(measured: Path, ar: Ar) -> None:
    tried(measured, WIN)
    gone = tried(measured, WIN, y=0.029)
    ar(measured, "run", "-n", "1", "--plain")
    rows = {row["name"]: row for row in attempts_of(measured)}
    assert rows[gone.name]["outcome"] == "lapsed"
    again = next(row for row in rows.values() if row["title"] == gone.title and row["name"] != gone.name)
    assert again["verdict"]["label"] == "does not stack"
    assert "an interaction of +" in again["verdict"]["reason"]


def test_a_conflict_shows_both_sides_and_changes_nothing(measured: Path, tmp_path: Path, ar: Ar) -> None:
    near, nearer = tried(measured, WIN), tried(measured, WIN, x=3.0)
    ar(measured, "promote", near.name)
    head = git(measured, "rev-parse", "HEAD")
    done = ar(measured, "promote", nearer.name, check=False)
    assert done.returncode == 2
    assert f"x: 2.9 in the branch, 3.0 in {nearer.name}, 1.5 before both" in done.stderr
    assert "--resolve agent" in done.stderr
    done = ar(measured, "promote", nearer.name, "--resolve", "agent", check=False)
    assert "name one that edits files" in done.stderr
    assert git(measured, "rev-parse", "HEAD") == head

    # An agent is told what clashes; what it makes of it is a proposal like any other.
    script = tmp_path / "agent.sh"
    script.write_text(
        f"#!/bin/sh\ncat > {tmp_path}/told\nsed -i 's/x: 2.9/x: 2.95/' params.yaml\necho '# Between'\n"
    )
    script.chmod(0o755)
    agent = json.dumps({"kind": "command", "command": [str(script)]})
    edit(measured / "program.md", "budget:", f"agent: {agent}\nbudget:")
    out = ar(measured, "promote", nearer.name, "--resolve", "agent").stdout
    assert "+x: 2.95" in out
    told = (tmp_path / "told").read_text()
    assert "keep what both sides meant" in told
    assert f"x: 2.9 in the branch, 3.0 in {nearer.name}" in told
    assert "Between" in git(measured, "for-each-ref", "refs/ar/queue", "--format=%(subject)")


@pytest.mark.slow
def test_another_branch_takes_the_merge_for_review(measured: Path, ar: Ar, head: str) -> None:
    tried(measured, WIN)
    (measured / "params.yaml").write_text("mine: 1\n")
    assert "is checked out" in ar(measured, "promote", "--branch", "main", check=False).stderr
    assert "is no name" in ar(measured, "promote", "--branch", "a..b", check=False).stderr
    ar(measured, "promote", "--branch", "review", "--tag", "first-win")
    assert git(measured, "rev-parse", "HEAD") == head
    assert (measured / "params.yaml").read_text() == "mine: 1\n"
    assert git(measured, "rev-parse", "review^1") == head
    assert git(measured, "rev-parse", "first-win") == git(measured, "rev-parse", "review")


@pytest.mark.slow
def test_a_promoted_change_is_taken_out_again(measured: Path, ar: Ar) -> None:
    attempt = tried(measured, WIN)
    start = git(measured, "show", "HEAD:params.yaml")
    assert "not in the branch" in ar(measured, "revert", attempt.name, check=False).stderr
    ar(measured, "promote")
    out = ar(measured, "revert", attempt.name).stdout
    assert "Without: x 1.5 → 2.9" in out
    queued = out.split()[1].rstrip(":")
    tree = git(measured, "for-each-ref", f"refs/ar/queue/{queued}", "--format=%(objectname)")
    assert git(measured, "show", f"{tree}:params.yaml") == start
    message = git(measured, "show", "-s", "--format=%B", tree)
    assert f"Ar-Reverts: {attempt.name}" in message
    assert "Ar-Simplification: yes" in message


def test_dirt_in_the_way_is_refused_and_dirt_elsewhere_stays(measured: Path, ar: Ar, head: str) -> None:
    tried(measured, WIN)
    mine = (measured / "params.yaml").read_text() + "# mine\n"
    (measured / "params.yaml").write_text(mine)
    done = ar(measured, "promote", check=False)
    assert done.returncode == 2
    assert "in the way" in done.stderr
    assert git(measured, "rev-parse", "HEAD") == head
    assert (measured / "params.yaml").read_text() == mine
    run(measured, "git", "checkout", "-q", "params.yaml")
    (measured / "program.md").write_text("---\nmine\n")
    run(measured, "git", "stash", "-q")
    run(measured, "git", "stash", "apply", "-q")
    (measured / "program.md").write_text(git(measured, "show", "HEAD:program.md") + "\nmine\n")
    ar(measured, "promote")
    assert (measured / "program.md").read_text().endswith("mine\n")
    assert git(measured, "stash", "list") != ""


def test_a_winner_of_another_seed_first_runs_at_the_branchs_own(measured: Path, ar: Ar) -> None:
    attempt = tried(measured, WIN, seed=5)
    assert "would first run" in ar(measured, "promote", "--dry-run").stdout
    ar(measured, "promote")
    assert "seed: 1" in git(measured, "show", "HEAD:params.yaml")
    assert git(measured, "rev-parse", "HEAD^2") != attempt.experiments[0].rev
    promoted = next(row for row in attempts_of(measured) if row["outcome"] == "promoted")
    assert [item["seed"] for item in promoted["experiments"]] == [5, 1]


def test_a_promotion_runs_nothing_but_what_it_lacks(measured: Path, ar: Ar) -> None:
    attempt = tried(measured, WIN, seed=5)
    ar(measured, "next", "--set", "x=2.5")
    waiting = git(measured, "for-each-ref", "refs/ar/queue")
    assert attempt.name in ar(measured, "promote").stdout
    assert git(measured, "for-each-ref", "refs/ar/queue") == waiting


@pytest.mark.slow
def test_a_promotion_waits_for_a_worker_that_has_what_it_lacks(measured: Path, ar: Ar) -> None:
    attempt = tried(measured, WIN, seed=5)
    campaign = Campaign(Project.open(measured))
    name = campaign.replicate(attempt, 1)
    worker = start(measured, "worker")
    wait_for(lambda: not git(measured, "for-each-ref", "refs/ar/queue"))
    assert attempt.name in ar(measured, "promote").stdout
    worker.communicate(timeout=120)
    promoted = next(row for row in attempts_of(measured) if row["outcome"] == "promoted")
    assert [item["name"] for item in promoted["experiments"]][1:] == [name]


def test_on_a_detached_head_no_branch_moves(measured: Path, ar: Ar, head: str) -> None:
    tried(measured, WIN)
    run(measured, "git", "checkout", "-q", "--detach")
    ar(measured, "promote")
    assert git(measured, "rev-parse", "main") == head
    assert git(measured, "rev-parse", "HEAD^1") == head


def test_a_night_goes_on_from_a_detached_head_that_cannot_follow(measured: Path, ar: Ar, head: str) -> None:
    first = tried(measured, WIN)
    run(measured, "git", "checkout", "-q", "--detach")
    mine = (measured / "params.yaml").read_text() + "# mine\n"
    (measured / "params.yaml").write_text(mine)

    out = ar(measured, "run", "-n", "0", "--plain").stdout

    beside = f"ar-{head[:12]}"
    assert f"branch {beside}" in out
    assert git(measured, "rev-parse", "HEAD", "main").split() == [head, head]
    assert (measured / "params.yaml").read_text() == mine
    assert git(measured, "rev-parse", f"{beside}^1", f"{beside}^2").split() == [
        head,
        first.experiments[0].rev,
    ]
    shown = json.loads(ar(measured, "show", "--json").stdout)
    assert shown["head"] == git(measured, "rev-parse", beside)
    told = f"git stash && git merge --ff-only {beside} && git branch -d {beside} && dvc checkout"
    assert told in out
    run(measured, "sh", "-c", f"{told} && git stash pop")
    assert git(measured, "rev-parse", "HEAD") == shown["head"]
    assert "# mine" in (measured / "params.yaml").read_text()


@pytest.mark.slow
def test_a_night_goes_on_where_the_name_of_its_branch_is_taken(measured: Path, ar: Ar, head: str) -> None:
    own = git(measured, "commit-tree", "-m", "somebody's own", f"{head}^{{tree}}")
    git(measured, "update-ref", "refs/heads/ar-main", own)
    (measured / "params.yaml").write_text((measured / "params.yaml").read_text() + "# mine\n")
    for change in ({}, {"y": 0.08}):
        won = tried(measured, WIN, **change)
        ar(measured, "run", "-n", "0", "--plain")
        assert git(measured, "rev-parse", "HEAD", "ar-main").split() == [head, own]
        assert git(measured, "rev-parse", "ar-main-2^2") == won.experiments[0].rev


def test_a_night_goes_on_where_its_branch_was_brought_in(measured: Path, ar: Ar) -> None:
    git(measured, "branch", "ar-main")
    (measured / "README.md").write_text("mine")
    commit(measured, "Say what it is")
    head = git(measured, "rev-parse", "HEAD")
    won = tried(measured, WIN)
    (measured / "params.yaml").write_text((measured / "params.yaml").read_text() + "# mine\n")
    ar(measured, "run", "-n", "0", "--plain")
    merged = git(measured, "rev-parse", "HEAD", "ar-main^1", "ar-main^2").split()
    assert merged == [head, head, won.experiments[0].rev]


def test_a_night_goes_on_without_a_checkout_that_cannot_follow(measured: Path, ar: Ar, head: str) -> None:
    first = tried(measured, WIN)
    mine = (measured / "params.yaml").read_text() + "# mine\n"
    (measured / "params.yaml").write_text(mine)

    out = ar(measured, "run", "-n", "0", "--plain").stdout

    assert "uncommitted changes of params.yaml" in out
    assert (git(measured, "rev-parse", "HEAD"), (measured / "params.yaml").read_text()) == (head, mine)
    assert git(measured, "rev-parse", "ar-main^1", "ar-main^2").split() == [head, first.experiments[0].rev]
    # The campaign stands there, and what the user has in the checkout is proposed on top of it.
    shown = json.loads(ar(measured, "show", "--json").stdout)
    assert shown["head"] == git(measured, "rev-parse", "ar-main")
    (measured / "params.yaml").write_text(mine.replace("y: 0.03", "y: 0.09"))
    diff = ar(measured, "next", "--from-worktree", "--dry-run").stdout
    assert ("+y: 0.09" in diff, "-x: 2.9" in diff) == (True, False)
    tried(measured, WIN, y=0.08)
    ar(measured, "run", "-n", "0", "--plain")
    assert git(measured, "rev-list", "--count", "--merges", "ar-main") == "2"

    # The way back in that was told; the next promotion comes straight to the checkout.
    run(measured, "sh", "-c", "git stash -q && git merge -q --ff-only ar-main && git stash drop -q")
    tried(measured, WIN, x=3.0)
    ar(measured, "run", "-n", "0", "--plain")
    assert git(measured, "rev-list", "--count", "--merges", "HEAD") == "3"
    assert git(measured, "branch", "--list", "ar-main") == ""
    assert git(measured, "status", "--porcelain") == ""
