"""`ar init` in a folder with a script: what it makes, what it leaves alone, and that it is enough."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers import Ar, attempts_of, git, run

from ar.campaign.beginning import BIG
from ar.project.pipeline_file import Declared
from ar.project.program import Program
from ar.project.program_file import load

TRAIN = """\
import math
import random
from parts import hill

LR = 0.01  # step size
DEPTH = 3
SEED = 42
EPOCHS = 5

random.seed(SEED)
loss = (math.log(LR) - math.log(0.05)) ** 2 + hill(DEPTH) + random.gauss(0, 0.001)
print("---")
print(f"val_loss:       {loss:.6f}")
print(f"total_seconds:  {0.1:.1f}")
"""
PARTS = "def hill(depth):\n    return abs(depth - 5) * 0.1\n"
INIT = ("init", "--yes")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a script and a module of its own; no git, no DVC."""
    made = tmp_path / "work"
    made.mkdir()
    fill(made, {"train.py": TRAIN, "parts.py": PARTS, "notes.txt": "mine"})
    return made


def fill(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def init(folder: Path, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`ar init` of a user who has allowed nothing."""
    return run(folder, sys.executable, "-m", "ar", "init", *args, check=check)


def state(root: Path) -> dict[str, bytes]:
    """Every file and its content, whoever keeps it."""
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def committed(root: Path) -> set[str]:
    return set(git(root, "show", "--name-only", "--format=", "HEAD").split())


def improved(root: Path, ar: Ar, tries: int, *args: str) -> Program:
    """The programme after the two commands that take a script to a promoted change."""
    init(root, "--yes", *args)
    run(root, sys.executable, "-m", "ar", "run", "-n", str(tries), "--plain")
    outcomes = [attempt["outcome"] for attempt in attempts_of(root)]
    assert "promoted" in outcomes
    assert {"crashed", "tampered"}.isdisjoint(outcomes)
    return load(root)


def test_a_script_becomes_a_campaign_with_one_measured_run(folder: Path) -> None:
    init(folder, "--yes")
    ours = {".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "dvc.yaml", "program.md"}
    assert committed(folder) == {*ours, "train.py", "parts.py"}
    assert git(folder, "status", "--porcelain") == "?? notes.txt"
    declared = Declared.parse((folder / "dvc.yaml").read_bytes(), None)
    assert declared.inputs == ("train.py", "parts.py")
    assert declared.commands == ((".", "ar capture -m val_loss -- python train.py"),)
    program = load(folder)
    assert (str(program.objective), program.objective.direction) == ("metrics.json:val_loss", "minimize")
    assert str(program.seed) == "train.py:SEED"
    assert set(map(str, program.search)) == {"train.py:LR", "train.py:DEPTH"}
    (baseline,) = attempts_of(folder)
    assert [one["status"] for one in baseline["experiments"]] == ["succeeded"]
    assert "metrics.json" not in {path.name for path in folder.iterdir()}  # it ran elsewhere


def test_from_a_script_to_a_promoted_change_in_two_commands(folder: Path, ar: Ar) -> None:
    improved(folder, ar, 4)
    assert (folder / "train.py").read_text() != TRAIN
    assert git(folder, "status", "--porcelain") == "?? notes.txt"


def test_a_dry_run_writes_nothing_and_shows_all_of_it(folder: Path) -> None:
    before = state(folder)
    shown = init(folder, "--dry-run").stdout
    assert state(folder) == before
    init(folder, "--yes")
    for path in committed(folder) - {"train.py", "parts.py"}:
        assert f"# {path}:\n{(folder / path).read_text()}" in shown
    assert "$ git init" in shown


def test_an_answer_of_no_leaves_the_folder_alone(folder: Path) -> None:
    before = state(folder)
    assert run(folder, sys.executable, "-m", "ar", "init", check=False, input="n\n").returncode == 130
    assert state(folder) == before


@pytest.mark.parametrize("name", [".dvcignore", "params.yaml", "program.md", "dvc.yaml"])
def test_nothing_is_ever_overwritten(folder: Path, name: str) -> None:
    content = "---\nobjective: m.json:x\n---\n" if name == "program.md" else "# mine\n"
    (folder / name).write_text(content)
    before = state(folder)
    done = init(
        folder, "--yes", "--run", "python train.py --lr 0.1", "--seed-flag", "--seed {seed}", check=False
    )
    assert done.returncode == 2
    assert state(folder) == before


def test_other_work_of_the_users_is_not_committed(folder: Path) -> None:
    """Staged files stay staged, changed ones changed; of `.gitignore` nothing but what was there is kept."""
    run(folder, "git", "init", "-q")
    fill(folder, {"old.txt": "1", ".gitignore": "*.log\n", "staged.txt": "a", "x.log": ""})
    run(folder, "git", "add", "old.txt", ".gitignore", "train.py", "parts.py")
    run(folder, "git", "commit", "-qm", "Mine")
    run(folder, "git", "add", "staged.txt")
    fill(folder, {"old.txt": "2", ".gitignore": "*.log\n*.tmp\n"})
    init(folder, "--yes")
    assert committed(folder) == {".dvc/config", ".dvc/.gitignore", ".dvcignore", "dvc.yaml", "program.md"}
    status = git(folder, "status", "--porcelain").splitlines()
    assert sorted(line.strip() for line in status) == sorted(
        ["A  staged.txt", "M old.txt", "M .gitignore", "?? notes.txt"]
    )


def test_a_script_that_the_user_staged_is_committed_as_it_is(folder: Path) -> None:
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "train.py")
    init(folder, "--yes")
    assert git(folder, "show", "HEAD:train.py") == TRAIN.strip()
    assert git(folder, "status", "--porcelain") == "?? notes.txt"


def test_big_data_go_to_dvc_and_small_ones_to_git(folder: Path) -> None:
    fill(folder, {"data/big.txt": "x" * (BIG + 1), "small.csv": "a,b\n1,2\n", "model.pkl": "old"})
    script = """\
import pickle
len(open("data/big.txt").read()), open("small.csv").read()
pickle.dump(1, open("model.pkl", "wb"))
"""
    (folder / "train.py").write_text(script + TRAIN)
    init(folder, "--yes")
    assert {"data/big.txt.dvc", "data/.gitignore", "small.csv"} <= committed(folder)
    assert not {"data/big.txt", "model.pkl"} & committed(folder)
    assert (folder / "data" / "big.txt").stat().st_size == BIG + 1
    (baseline,) = attempts_of(folder)
    assert baseline["experiments"][0]["status"] == "succeeded"


def test_what_is_not_committed_would_not_run(folder: Path) -> None:
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "train.py", "parts.py")
    run(folder, "git", "commit", "-qm", "Mine")
    (folder / "parts.py").write_text("def hill(depth):\n    return 0\n")
    done = init(folder, "--yes", check=False)
    assert (done.returncode, "parts.py" in done.stderr) == (2, True)
    assert not (folder / "dvc.yaml").exists()
