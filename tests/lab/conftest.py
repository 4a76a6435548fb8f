"""A small lab, prepared once a session and copied for each test that runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import swap

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # `data` and `model` are run from the root, not installed

SMALL: dict[str, dict[str, Any]] = {
    "data": {"source": "files", "files": ["corpus/*.py"], "vocab_size": 384, "val_fraction": 0.2,
             "test_fraction": 0.2},
    "model": {"depth": 2},
    "optim": {"batch_tokens": 512},
    "train": {"tokens": 4096, "sequence_len": 64, "eval_tokens": 2048},
}  # fmt: skip

# A model that costs nothing, for tests of the harness; `{train}` runs before it is returned.
TINY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)
    def forward(self, tokens):
        return self.table(tokens)
    def flops_per_token(self):
        return 1.0

def build(params, vocab_size, sequence_len):
    return Net(vocab_size)

def train(task):
    model = build(task.params, task.vocab_size, task.sequence_len)
    for step in task.steps(512):
        inputs, targets = task.batch(512 // task.sequence_len)
        task.report(step.index, torch.tensor(5.0))
{train}
    return model
"""


@dataclass
class Lab:
    """A copy of the lab in a folder of its own."""

    root: Path

    def set(self, **groups: dict[str, Any] | int) -> None:
        """Changes keys of params.yaml, or a whole entry that is no group."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for name, values in groups.items():
            if isinstance(values, dict):
                params[name].update(values)
            else:
                params[name] = values
        path.write_text(yaml.safe_dump(params))

    def tiny(self, train: str = "") -> None:
        """Puts the tiny model in place, with lines of code at the end of its training."""
        lines = "\n".join("    " + line for line in train.splitlines())
        (self.root / "model/train.py").write_text(swap(TINY, "{train}", lines))

    def start(self, module: str) -> subprocess.Popen[str]:
        """`python -m MODULE` in the background."""
        return subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def run(self, module: str = "data.harness") -> subprocess.CompletedProcess[str]:
        """`python -m MODULE` to its end."""
        with self.start(module) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def metrics(self) -> dict[str, Any]:
        """metrics.json of a run that must succeed."""
        result = self.run()
        assert result.returncode == 0, result.stderr
        metrics: dict[str, Any] = json.loads((self.root / "metrics.json").read_text())
        return metrics

    def refused(self, reason: str, status: int = 1) -> str:
        """A run that must fail with `reason` in its message, and leave no metrics."""
        result = self.run()
        assert result.returncode == status, result.stderr
        assert reason in result.stderr.splitlines()[-1], result.stderr
        assert "Traceback" not in result.stderr
        assert not (self.root / "metrics.json").exists()
        return result.stderr


def copy_lab(target: Path) -> Lab:
    """The lab's code and settings, without shards."""
    ignore = shutil.ignore_patterns("__pycache__", "shards", "checkpoint", "downloads", ".shards-*")
    for name in ("data", "model"):
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    shutil.copy(ROOT / "params.yaml", target)
    lab = Lab(target)
    lab.set(**SMALL)
    return lab


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The small lab with shards; never to be changed."""
    lab = copy_lab(tmp_path_factory.mktemp("lab") / "lab")
    corpus = lab.root / "corpus"
    corpus.mkdir()
    stdlib = Path(sysconfig.get_path("stdlib"))
    for path in sorted(stdlib.glob("*.py"))[:60]:
        shutil.copy(path, corpus)
    result = lab.run("data.prepare")
    assert result.returncode == 0, result.stderr
    return lab


@pytest.fixture
def lab(prepared: Lab, tmp_path: Path) -> Lab:
    """A copy of the prepared small lab."""
    shutil.copytree(prepared.root, tmp_path / "lab")
    return Lab(tmp_path / "lab")


@pytest.fixture
def bare(tmp_path: Path) -> Lab:
    """The lab's code and small settings without corpus or shards."""
    return copy_lab(tmp_path / "bare")
