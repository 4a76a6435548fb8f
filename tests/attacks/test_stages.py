"""A training stage after the score that the stage behind it takes: by files, links, times, processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import table
from night import Night, make

PIPELINE = """\
stages:
  prepare:
    cmd: mkdir held && echo abc > held/held.txt
    outs: [held]
  train:
    cmd: python train.py
    deps: [train.py]
    params: [attempt, seed]
    outs: [model.txt, notes.txt: {cache: false}]
  judge:
    cmd: python judge.py
    deps: [judge.py, model.txt, held]
    metrics: [m.json: {cache: false}]
"""
JUDGE = """\
import json
from pathlib import Path

import scoring

loss = scoring.loss(Path("model.txt").read_text(), Path("held/held.txt").read_text())
Path("m.json").write_text(json.dumps({"val_loss": loss}))
"""
SCORING = "def loss(model, held):\n    return 1.0 if (model, held) == ('model\\n', 'abc\\n') else 0.5\n"
PROGRAM = """\
---
objective: {metric: "m.json:val_loss", direction: minimize}
seed: seed
scope: {files: [train.py], params: [attempt]}
search: {attempt: [honest, change_parameters]}
budget: {runs: 200, timeout: 20s}
---
"""
ATTACKS = table.of("stages")
pytestmark = pytest.mark.xdist_group("attacks on stages")  # one night is enough


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, isolated_home: Path) -> Night:
    root = tmp_path_factory.mktemp("stages") / "project"
    train = Path(__file__).with_name("train.py").read_text()
    make(root, {
        "dvc.yaml": PIPELINE, "params.yaml": "attempt: honest\nseed: 1\n", "program.md": PROGRAM,
        "judge.py": JUDGE, "scoring.py": SCORING, "train.py": train,
    })  # fmt: skip
    queued = {name: {"params.yaml": f"attempt: {name}\nseed: 1\n"} for name in ("honest", *ATTACKS)}
    return Night(root, queued)


def test_an_honest_run_is_as_ever(night: Night) -> None:
    assert night.verdict("honest") == "contained"


@pytest.mark.parametrize("name", ATTACKS)
def test_a_stage_writes_its_own_outputs_and_nothing_else(night: Night, name: str) -> None:
    assert night.verdict(name) == ATTACKS[name], night.said(name)
