"""Several winners on one branch: what adds up is merged together, what does not is left out and named."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from helpers import Ar, attempts_of, commit, edit, git, names_of, run, start, wait_for

from ar.campaign.campaign import Campaign
from ar.changes.proposal import prepare
from ar.git.repo import Repo
from ar.history.ideas import Proposal
from ar.judge.findings import additivity
from ar.project.program_file import load
from ar.project.project import Project

# A loss with known effects: a, c and p add up; p and q each help alone and together undo more than q gives.
STAGE = """\
/^[acpq]:/ {v[substr($1, 1, 1)] = $2}
/^seed:/ {seed = $2}
END {
  effect = -0.5 * v["a"] - 0.4 * v["p"] - 0.28 * v["q"] + 0.6 * v["p"] * v["q"]
  effect -= v["c"] == 1 ? 0.35 : v["c"] == 2 ? 0.3 : 0
  luck = ((seed * 7919) % 101) / 101 - 0.5
  own = ((seed * 131 + v["a"] * 17 + v["c"] * 29 + v["p"] * 43 + v["q"] * 71) * 7919 % 97) / 97 - 0.5
  printf("{\\"val_loss\\": %.6f}\\n", 10 + effect + 0.1 * luck + 0.03 * own) > "m.json"
  printf("cost: 1\\n") > "c.yaml"
}
"""
PARAMS = "a: 0\nc: 0\np: 0\nq: 0\nseed: 1\n"
PROGRAM = """\
---
objective: {metric: "m.json:val_loss", direction: minimize}
seed: seed
scope: {params: [a, c, p, q]}
budget: {runs: 190, timeout: 60s}
---
"""
TRUTH = {"a": -0.5, "c": -0.35, "p": -0.4, "q": -0.28}


@pytest.fixture
def additive(bare: Path, ar: Ar) -> Path:
    """A project whose effects are known, with five winners, each measured against the first baseline."""
    (bare / "fit.awk").write_text(STAGE)
    (bare / "params.yaml").write_text(PARAMS)
    (bare / "program.md").write_text(PROGRAM)
    edit(bare / "dvc.yaml", "[x, y, seed]", "[a, c, p, q, seed]")
    run(bare, "dvc", "repro", "-q")
    commit(bare, "Effects that are known")
    repo = Repo.open(bare)
    campaign = Campaign(Project(repo, load(bare)))
    for key, value in (("a", 1), ("p", 1), ("c", 1), ("c", 2), ("q", 1)):
        proposal = Proposal(f"{key} 0 → {value}", "It should help.", "human", {key: value})
        campaign.submit(prepare(campaign.project, proposal, campaign.history()))
    campaign.pipeline.close()
    ar(bare, "run", "-n", "0", "--no-promote", "--plain")
    return bare


def _outcomes(root: Path) -> dict[str, str]:
    return {row["title"]: row["outcome"] for row in attempts_of(root)}


@pytest.mark.slow
def test_a_stack_is_what_adds_up(additive: Path, ar: Ar) -> None:
    start = git(additive, "rev-parse", "HEAD")
    assert list(_outcomes(additive).values()).count("winner") == 5
    dry = ar(additive, "stack", "--dry-run").stdout
    assert "c: 1 in the branch, 2 in " in dry or "c: 2 in the branch, 1 in " in dry

    out = ar(additive, "stack", "--plain").stdout

    # The right set is on the branch, and its results are from a run of exactly its tree.
    assert git(additive, "show", "HEAD:params.yaml").split("\n")[:4] == ["a: 1", "c: 1", "p: 1", "q: 0"]
    first, second = git(additive, "rev-parse", "HEAD^1", "HEAD^2").split()
    assert first == start
    assert git(additive, "rev-parse", f"{second}^") == start
    assert git(additive, "diff", "HEAD", second) == ""
    assert "dropped" in out
    assert "q 0 → 1" in out[out.index("dropped") :]
    outcomes = _outcomes(additive)
    assert [outcomes[f"{key} 0 → 1"] for key in "acpq"] == ["stacked", "stacked", "stacked", "lapsed"]
    assert outcomes["c 0 → 2"] == "winner"
    left = ar(additive, "promote", check=False)
    assert left.returncode == 2
    assert "c: 1 in the branch, 2 in" in left.stderr

    # What was measured agrees with the truth within its error, for the stack kept and the one dropped.
    campaign = Campaign(Project.open(additive))
    history = campaign.history()
    for members, interaction in (("acp", 0.0), ("acpq", 0.6)):
        wanted = {f"{key} 0 → 1" for key in members}
        titles = {item.name: item.title for item in history.attempts}
        attempt = next(item for item in history.attempts if {titles[name] for name in item.stack} == wanted)
        found = additivity(campaign.program, history, attempt)
        assert found is not None
        truth = sum(TRUTH[key] for key in members)
        assert found.sum == pytest.approx(truth, abs=3 * found.sum_error)
        assert found.joint == pytest.approx(truth + interaction, abs=3 * found.joint_error)
        assert found.interval[0] < interaction < found.interval[1]
        assert found.interaction_error < 0.1
        for member in found.members:
            assert member.effect == pytest.approx(TRUTH[member.title[0]], abs=3 * member.standard_error)

    name = git(additive, "show", "-s", "--format=%(trailers:key=Ar-Experiment,valueonly)")
    assert "interaction" in ar(additive, "judge", name).stdout
    assert json.loads(ar(additive, "judge", name, "--json").stdout)["stack"]["members"][0]["name"]
    ar(additive, "report", "-o", "told.md")
    text = (additive / "told.md").read_text()
    assert text.split("\n")[0].endswith(", 1 promoted")  # the stack
    assert "measured together" in text
    failed = text[text.index("## What did not") : text.index("## Pictures")].splitlines()
    assert failed
    assert not [line for line in failed if line.startswith("- a 0 → 1")]
    (additive / "told.md").unlink()
    assert "up to date" in run(additive, "dvc", "status").stdout
    assert "didn't change" in run(additive, "dvc", "repro").stdout
    assert run(additive, "git", "fsck", "--strict").returncode == 0
    assert second[:7] in run(additive, "dvc", "exp", "show", "-A", "--json").stdout


@pytest.mark.slow
def test_a_killed_stack_carries_on(additive: Path, ar: Ar) -> None:
    names = [row["name"] for row in attempts_of(additive) if row["name"].startswith(("a-", "p-", "q-"))]
    before = len(names_of(additive, "refs/exps"))
    for more in (3, 9):
        process = start(additive, "stack", *names, "--plain")
        wait_for(lambda: len(names_of(additive, "refs/exps")) >= before + more, 120)  # noqa: B023
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    ar(additive, "stack", *names, "--plain")
    assert git(additive, "show", "HEAD:params.yaml").split("\n")[:4] == ["a: 1", "c: 0", "p: 1", "q: 0"]
    rows = attempts_of(additive)
    for row in rows:
        seeds = [item["seed"] for item in row["experiments"]]
        assert len(seeds) == len(set(seeds)), f"{row['name']} ran a seed twice"
