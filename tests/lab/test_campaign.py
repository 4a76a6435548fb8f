"""Campaigns on the lab, through the commands: neutral changes, harm and a gain, each with its due."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import commit, run

from tests.lab.conftest import ROOT, Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

SMALLEST = {"tokens": 32_768, "eval_tokens": 8_192}  # 16 steps: the least at which harm shows in one run
NULL_CHANGES = 30
HARMFUL = {
    "optim.unembedding_lr": ("0.0002", "0.0005", "0.001"),
    "optim.embedding_lr": ("0.003",),
    "optim.batch_tokens": ("8192", "16384"),
    "optim.matrix_lr": ("3.0",),
    "schedule.warmup": ("0.8",),
    "model.softcap": ("1.5",),
    "model.embedding_init": ("0.01",),
}


def lab_project(root: Path, budget: dict[str, int] | None = None) -> Path:
    """The lab as it is, in a git repository of its own, its data prepared; `budget` scales a run down."""
    root.mkdir()
    leave = shutil.ignore_patterns("__pycache__", "shards", "checkpoint", "downloads", ".shards-*")
    for name in ("data", "model"):
        shutil.copytree(ROOT / name, root / name, ignore=leave)
    for name in ("dvc.yaml", "params.yaml", "program.md", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    Lab(root).set(train=budget or {})
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    run(root, "dvc", "repro", "-q", "prepare")
    commit(root, "The lab")
    return root


def ar(root: Path, *args: str) -> str:
    command = [sys.executable, "-m", "ar", *args]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def jobs() -> str:
    return str(min(2, os.cpu_count() or 1))


def attempts(root: Path) -> list[dict[str, Any]]:
    """All but the baseline, oldest first."""
    shown = json.loads(ar(root, "show", "--json"))["attempts"]
    return [one for one in reversed(shown) if one["outcome"] != "baseline"]


@pytest.fixture(scope="module")
def measured_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest lab that means anything, its baseline measured."""
    root = lab_project(tmp_path_factory.mktemp("campaign") / "lab", SMALLEST)
    ar(root, "baseline", "--plain", "--jobs", jobs())
    return root


def test_changes_that_change_nothing_are_never_promoted(measured_lab: Path, tmp_path: Path) -> None:
    root = tmp_path / "lab"
    shutil.copytree(measured_lab, root, symlinks=True)
    source = root / "model" / "gpt.py"
    text = source.read_text()
    series = tmp_path / "series"
    series.mkdir()
    for number in range(NULL_CHANGES):
        source.write_text(f"{text}# variant {number}\n")
        (series / f"{number:02}.patch").write_text(run(root, "git", "diff").stdout)
        source.write_text(text)
    ar(root, "next", "--series", str(series))
    ar(root, "run", "-n", "0", "--plain", "--jobs", jobs())
    tried = attempts(root)
    assert len(tried) == NULL_CHANGES
    assert {one["outcome"] for one in tried} == {"discarded"}
    assert run(root, "git", "rev-list", "--count", "--merges", "HEAD").stdout.strip() == "0"


def test_harm_is_discarded_after_one_run(measured_lab: Path, tmp_path: Path) -> None:
    root = tmp_path / "lab"
    shutil.copytree(measured_lab, root, symlinks=True)
    for key, values in HARMFUL.items():
        for value in values:
            ar(root, "next", "--set", f"{key}={value}")
    ar(root, "run", "-n", "0", "--plain", "--jobs", jobs())
    tried = attempts(root)
    assert len(tried) == 10
    at_once = [one for one in tried if one["outcome"] == "discarded" and len(one["experiments"]) == 1]
    assert len(at_once) >= 9, [(one["title"], one["outcome"], one["verdict"]) for one in tried]
    assert all(one["verdict"]["effect"] > 0 for one in at_once)
    assert "promoted" not in {one["outcome"] for one in tried}


def test_a_planted_gain_is_promoted_after_few_runs(tmp_path: Path) -> None:
    root = lab_project(tmp_path / "lab")
    ar(root, "baseline", "--plain", "--jobs", jobs())
    ar(root, "next", "--set", "optim.matrix_lr=0.06")
    ar(root, "run", "-n", "0", "--plain", "--jobs", jobs())
    [planted] = attempts(root)
    assert planted["outcome"] == "promoted", planted["verdict"]
    own = [one for one in planted["experiments"] if not one["name"].startswith("baseline")]
    assert len(own) <= 4
    assert planted["verdict"]["effect"] < 0
