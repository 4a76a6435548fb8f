"""Scripts as people have them, from a folder with nothing else to a promoted change: `ar init`, `ar run`."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
from helpers import attempts_of, git, run
from test_init import fill

from ar.project.program import Program
from ar.project.program_file import load
from ar.project.values import flat

PROSE = """\
# autoresearch

This is an experiment to have the LLM do its own research. Loop forever: edit, run, keep what is better.
"""
PREPARE = """\
import random

MAX_SEQ_LEN = 2048
TIME_BUDGET = 300
EVAL_TOKENS = 40 * 524288


def evaluate_bpb(loss):
    return loss + random.SystemRandom().gauss(0, 0.002)
"""
AUTORESEARCH = """\
import math
import random
import time

from prepare import MAX_SEQ_LEN, TIME_BUDGET, evaluate_bpb

ASPECT_RATIO = 64       # model_dim = depth * ASPECT_RATIO
WINDOW_PATTERN = "SSSL"
TOTAL_BATCH_SIZE = 2**19
MATRIX_LR = 0.04        # learning rate for matrix parameters
WEIGHT_DECAY = 0.2
ADAM_BETAS = (0.8, 0.95)
WARMUP_RATIO = 0.0
DEPTH = 8

random.seed(42)
started = time.time()
for step in range(3):
    print(f"\\rstep {step:05d} | loss: {3 - step / 10:.6f}", end="", flush=True)
print()
loss = 1 + 0.1 * abs(math.log(MATRIX_LR / 0.35)) + 0.1 * abs(math.log(DEPTH / 15)) + 0.05 * (1 - WEIGHT_DECAY)
val_bpb = evaluate_bpb(loss)
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {time.time() - started:.1f}")
print(f"peak_vram_mb:     {100:.1f}")
print(f"num_steps:        {step}")
print(f"depth:            {DEPTH}")
"""
SKLEARN = """\
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

MAX_DEPTH = 3
RANDOM_STATE = 7

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=RANDOM_STATE)
model = DecisionTreeClassifier(max_depth=MAX_DEPTH, random_state=RANDOM_STATE).fit(X_train, y_train)
print("accuracy:", model.score(X_test, y_test))
"""
BENCHMARK = """\
#include <stdio.h>
#include <time.h>
#include "work.h"

int main(void) {
    /* Steps of a nanosecond, and what a clock adds: on a busy machine, time itself would be mere luck. */
    double ns = work(STRIDE) + clock() % 10;
    printf("%d ops\\t%.1f ns/op\\n", 1, ns);
    return 0;
}
"""
WORK = """\
static int work(int stride) {
    int steps = 0;
    for (volatile int i = 0; i < 20000; i += stride) steps++;
    return steps;
}
"""


def notebook(*cells: str) -> str:
    """A notebook of code cells, the first of which papermill takes for its parameters."""
    told = {"name": "python3", "display_name": "Python 3", "language": "python"}
    code = {"cell_type": "code", "execution_count": None, "outputs": []}
    made = [
        {
            **code,
            "id": f"cell-{place}",
            "metadata": {} if place else {"tags": ["parameters"]},
            "source": source,
        }
        for place, source in enumerate(cells)
    ]
    whole = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": told}, "cells": made}
    return json.dumps(whole, indent=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    return made


def improved(root: Path, tries: int, *args: str) -> Program:
    """The programme after the two commands, of a user who has allowed nothing."""
    run(root, sys.executable, "-m", "ar", "init", "--yes", *args)
    run(root, sys.executable, "-m", "ar", "run", "-n", str(tries), "--plain")
    outcomes = [attempt["outcome"] for attempt in attempts_of(root)]
    assert "promoted" in outcomes, outcomes
    assert {"crashed", "tampered"}.isdisjoint(outcomes)
    assert git(root, "status", "--porcelain") == ""
    return load(root)


def test_autoresearch(folder: Path) -> None:
    """Its `program.md` is prose for another loop: it stays as it is, and what ar needs lies elsewhere."""
    fill(folder, {"train.py": AUTORESEARCH, "prepare.py": PREPARE, "program.md": PROSE})
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "Start")
    program = improved(folder, 8, "--run", "python train.py", "--metric", "val_bpb")
    assert (folder / "program.md").read_text() == PROSE
    assert (folder / ".ar" / "program.md").exists()
    assert program.scope.files == ("train.py",)
    names = {key.key for key in program.search}
    assert names == {"ASPECT_RATIO", "MATRIX_LR", "WEIGHT_DECAY", "DEPTH"}
    assert all(key.file == "train.py" for key in program.search)
    assert git(folder, "diff", "--name-only", "HEAD~1", "--", "prepare.py", "program.md", ".ar") == ""


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("sklearn"), reason="scikit-learn is not installed")
def test_scikit_learn(folder: Path) -> None:
    fill(folder, {"digits.py": SKLEARN})
    program = improved(folder, 5)
    assert str(program.objective) == "metrics.json:accuracy"
    assert program.objective.direction == "maximize"
    assert str(program.seed) == "digits.py:RANDOM_STATE"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
def test_a_benchmark_in_c(folder: Path) -> None:
    fill(folder, {"bench.c": BENCHMARK, "work.h": WORK})
    line = "cc -O2 -DSTRIDE=24 -o bench bench.c && ./bench"
    program = improved(folder, 6, "--run", line, "--metric", r"ns_per_op=([\d.]+) ns/op")
    assert str(program.objective) == "metrics.json:ns_per_op"
    assert program.objective.direction == "minimize"
    assert program.scope.files == ("work.h",)  # what measures is not to be edited
    assert program.seed is None


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("nbconvert", "ipykernel"))), reason="nbconvert is not installed"
)
def test_a_notebook(folder: Path) -> None:
    """Whose cells nobody searches: what it prints is measured."""
    fill(folder, {"fit.ipynb": notebook('print(f"accuracy: {0.5 + 0.25:.3f}")')})
    run(folder, sys.executable, "-m", "ar", "init", "--yes")
    (baseline,) = attempts_of(folder)
    assert baseline["experiments"][0]["metrics"]["metrics.json:accuracy"] == 0.75


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("papermill", "ipykernel"))), reason="papermill is not installed"
)
def test_a_notebook_with_parameters(folder: Path) -> None:
    """Papermill's, the seed among them: they are searched, and the notebook is as it was."""
    cells = (
        "seed = 7\nlr = 0.01\n",
        "import math, random\nrandom.seed(seed)\n",
        "print(f'val_loss: {abs(math.log(lr / 0.2)) + 0.01 * random.random():.6f}')",
    )
    fill(folder, {"fit.ipynb": notebook(*cells)})
    program = improved(folder, 4, "--metric", "val_loss")
    assert str(program.seed) == "seed"
    assert [str(key) for key in program.search] == ["lr"]
    assert (folder / "fit.ipynb").read_text() == notebook(*cells)
    assert flat((folder / "params.yaml").read_bytes(), "params.yaml")["lr"] > 0.01
