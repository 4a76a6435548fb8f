"""The lab under DVC: an experiment runs, leaves little behind, and a repeated one trains nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import commit

from tests.lab.conftest import ROOT, SMALL, Lab

LIMIT = 1_000_000  # bytes that an experiment may leave in the cache


def size(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def repo(prepared: Lab, tmp_path: Path) -> Path:
    """A git and DVC repository of the small lab, its baseline run and committed."""
    root = tmp_path / "repo"
    shutil.copytree(prepared.root, root, ignore=shutil.ignore_patterns("shards", "loss.csv", "metrics.json"))
    for name in ("dvc.yaml", ".dvcignore", "data/.gitignore"):
        shutil.copy(ROOT / name, root / name)
    (root / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", root / ".dvc")
    shutil.copy(ROOT / ".dvc/.gitignore", root / ".dvc")
    Lab(root).set(**SMALL)
    run(root, "git", "init", "-q", "-b", "main")
    run(root, "dvc", "repro", "-q")
    commit(root, "baseline")
    return root


def run(root: Path, *command: str) -> str:
    """A command that must succeed."""
    name = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@t", "DVC_NO_ANALYTICS": "1"}  # fmt: skip
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **name, "PATH": path}
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, env=env, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
def test_an_experiment_leaves_little_in_the_cache(repo: Path) -> None:
    assert run(repo, "dvc", "status", "--json").strip() == "{}"
    before, baseline = size(repo / ".dvc/cache"), json.loads((repo / "metrics.json").read_text())
    run(repo, "dvc", "exp", "run", "-q", "--temp", "-n", "faster", "-S", "optim.matrix_lr=0.06")
    assert size(repo / ".dvc/cache") - before < LIMIT
    shown = json.loads(run(repo, "git", "show", "refs/exps/" + ref(repo) + ":metrics.json"))
    assert shown["val_bpb"] != baseline["val_bpb"]
    assert run(repo, "git", "status", "--porcelain").strip() == ""
    assert "loss" in json.loads(run(repo, "dvc", "plots", "show", "--json"))["data"]


def ref(repo: Path) -> str:
    """The experiment's ref below refs/exps."""
    names = run(repo, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    return next(name for name in names if name.endswith("/faster")).removeprefix("refs/exps/")
