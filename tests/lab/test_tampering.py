"""Cheating on the lab, through the tool: each proposal is refused, and the reason says for what."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import Ar, attempts_of, commit, run, run_next

from ar.campaign.campaign import Campaign
from ar.changes.proposal import prepare
from ar.errors import BadProposal
from ar.history.attempts import find
from ar.history.ideas import Edit, Proposal
from ar.history.records import Label, Status
from ar.judge.rule import Kind
from ar.project.project import Project
from tests.lab.conftest import ROOT, Lab

TRAINED = "    return model\n"  # the end of the tiny model's training
FORWARD = "        return self.table(tokens)\n"


@pytest.fixture(scope="module")
def tiny_lab(prepared: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git and DVC repository of the small lab with the tiny model, its data prepared."""
    root = tmp_path_factory.mktemp("tampering") / "lab"
    leave = shutil.ignore_patterns("shards", "loss.csv", "metrics.json", "__pycache__")
    shutil.copytree(prepared.root, root, ignore=leave)
    for name in ("dvc.yaml", "program.md", ".gitignore", ".dvcignore", "data/.gitignore"):
        shutil.copy(ROOT / name, root / name)
    Lab(root).tiny()
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    run(root, "dvc", "repro", "-q", "prepare")
    (root / "metrics.json").write_text("{}\n")
    commit(root, "The lab")
    return root


@pytest.fixture
def campaign(tiny_lab: Path, tmp_path: Path) -> Campaign:
    root = tmp_path / "lab"
    shutil.copytree(tiny_lab, root, symlinks=True)
    return Campaign(Project.open(root))


def edit(path: str, old: str, new: str) -> Proposal:
    return Proposal("A better model", "It will be better.", "optuna", edits=(Edit(path, old, new),))


@pytest.mark.parametrize(
    ("proposal", "reason"),
    [
        (
            edit("data/harness.py", "sys.exit(main())", "sys.exit(0)"),
            "data/harness.py lies outside the scope",
        ),
        (edit("data/evaluate.py", "probe", "prove"), "data/evaluate.py lies outside the scope"),
        (edit("metrics.json", "{}", '{"val_bpb": 0.1}'), "metrics.json lies outside the scope"),
        (edit("dvc.yaml", "data.harness", "model.cheat"), "dvc.yaml lies outside the scope"),
        (edit("sitecustomize.py", "", "import os\n"), "sitecustomize.py lies outside the scope"),
        (edit("model/../data/task.py", "class", "def"), "no path inside the project"),
        (
            Proposal("More", "", "optuna", params={"train.tokens": 8192}),
            "train.tokens lies outside scope.params",
        ),
        (Proposal("More", "", "optuna", params={"train.max_seconds": 9.0}), "lies outside scope.params"),
        (Proposal("Luck", "", "optuna", params={"seed": 7}), "seed is the seed"),
    ],
)
def test_a_proposal_outside_the_scope_is_refused(campaign: Campaign, proposal: Proposal, reason: str) -> None:
    with pytest.raises(BadProposal, match=reason):
        prepare(campaign.project, proposal, campaign.history())


SLOW = pytest.mark.slow
CHEATS = [  # what the harness refuses; what its walls contain is in test_walls.py
    pytest.param(
        FORWARD,
        "        return self.table(torch.roll(tokens, -1, 1))\n",
        "probe failed: causality: changing later tokens changed earlier log-probabilities",
        id="peeks at later tokens",
    ),
    pytest.param(
        TRAINED,
        "    task.batch(1)\n    return model\n",
        "budget exceeded: training asked for 4,160 tokens, train.tokens is 4,096",
        id="takes more tokens",
        marks=SLOW,
    ),
]


@pytest.mark.parametrize(("old", "new", "reason"), CHEATS)
def test_a_run_that_cheats_is_refused(campaign: Campaign, ar: Ar, old: str, new: str, reason: str) -> None:
    root = campaign.repo.root
    change = prepare(campaign.project, edit("model/train.py", old, new), campaign.history())
    _, name = campaign.submit(change)
    run_next(root)
    history = campaign.history()
    attempt, experiment = find(history, name)
    assert experiment.status is Status.CRASHED
    assert not any(key.endswith("val_bpb") for key in experiment.metrics)
    action = campaign.step(history, attempt)
    assert action.kind is Kind.DISCARD
    assert action.verdict.label == Label.TAMPERED
    assert reason in action.verdict.reason
    campaign.record(attempt, action.verdict)
    assert reason in ar(root, "judge", name).stdout
    shown = attempts_of(root)[0]
    assert (shown["outcome"], shown["value"]) == (Label.TAMPERED, None)
