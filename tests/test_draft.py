"""`ar init`: which ranges it proposes, for parameters and for numbers that scripts hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers import commit, edit

from ar.git.repo import Repo
from ar.project.draft import draft
from ar.project.program import Program, Range
from ar.project.program_file import parse
from ar.project.ranges import around
from ar.project.values import Scalar

SCRIPT = """\
import sys
from pathlib import Path

Path("was-run").write_text("it was executed")
LEARNING_RATE = 3e-4
DROPOUT: float = 0.1
DEPTH = 6  # layers
OFFSET = -2.0
EPOCHS = 10
SEED = 1
NAME = "gpt"
A = B = 0.5
CENTRE, WIDTH = 1.0, 2.0
DERIVED = DEPTH * 64
HUGE = 0x%s
NESTED = %s1%s
FREE = True
if DEPTH:
    HIDDEN = 0.5
def train():
    INNER = 0.5
"""


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("optim.lr", 3e-4, {"low": 3e-5, "high": 3e-3, "log": True}),
        ("optim.embedding_lr", 0.3, {"low": 0.03, "high": 3.0, "log": True}),
        ("learningRate", 0.1, {"low": 0.01, "high": 1.0, "log": True}),
        ("optim.adam_eps", 1e-10, {"low": 1e-11, "high": 1e-9, "log": True}),
        ("dropout", 0.1, {"low": 0.0, "high": 0.3}),
        ("schedule.warmdown", 0.5, {"low": 0.0, "high": 0.9}),
        ("optim.momentum", 0.95, {"low": 0.85, "high": 0.99}),
        ("model.softcap", 20.0, {"low": 5.0, "high": 80.0, "log": True}),
        ("bias", -2.0, {"low": -4.0, "high": -1.0}),
        ("depth", 3, {"low": 1, "high": 6}),
        ("depth", 1, {"low": 1, "high": 2}),
        ("width", 64, [32, 64, 128]),
        ("use_bias", True, [False, True]),
        ("steps.lr", 0.01, {"low": 0.001, "high": 0.1, "log": True}),
        *((name, 64, None) for name in ("seed", "train.tokens", "max_epochs", "numSteps", "n_threads")),
        *((name, True, None) for name in ("debug", "train.compile")),
        ("other.json:run.device", 0, None),
        *(("x", value, None) for value in (0, -3, 10**15, 0.0, float("inf"), float("nan"), "cosine", None)),
    ],
)  # fmt: skip
def test_a_range_follows_from_type_size_and_name(name: str, value: Scalar, expected: Any) -> None:
    found = around(name, value)
    assert found == (pytest.approx(expected) if isinstance(expected, dict) else expected)


@pytest.mark.parametrize(
    "value", [1e-12, 0.003, 0.0501, 0.07, 0.3, 0.5, 0.77, 0.9, 0.95, 0.999, 0.99999, 1.0, 37.5]
)
def test_every_range_holds_the_value_and_is_accepted(value: float) -> None:
    span = _program({"x": value}).search
    (within,) = span.values()
    assert within.low is not None
    assert within.high is not None
    assert within.low < value < within.high
    assert not 0 < value < 1 or value <= 0.05 or within.high < 1


def _program(values: dict[str, Scalar]) -> Program:
    lines = "".join(
        f"  {name}: {around(name, value)}\n".replace("True", "true") for name, value in values.items()
    )
    return parse(
        f'---\nobjective: "m.json:x"\nscope: {{params: [{", ".join(values)}]}}\nsearch:\n{lines}---\n'
    )


@pytest.fixture
def scripted(bare: Path) -> Path:
    """A project whose stage runs a Python script, besides awk."""
    (bare / "src").mkdir()
    (bare / "src" / "train.py").write_text(SCRIPT % ("f" * 5000, "(" * 150, ")" * 150))
    edit(
        bare / "dvc.yaml",
        "cmd: awk -f fit.awk params.yaml",
        "cmd:\n    - awk -f fit.awk params.yaml\n    - python src/train.py --fast",
    )
    commit(bare, "Train in Python")
    return bare


def _commented(text: str) -> dict[str, str]:
    """Name to place of the numbers that the draft lists in its comment."""
    found = re.findall(r"^#  (\w+): .*  # \w+ = \S+ at (\S+)$", text, re.MULTILINE)
    return dict(found)


def test_numbers_at_the_top_of_a_script_are_listed_and_nothing_is_run(scripted: Path) -> None:
    text = draft(Repo.open(scripted))
    assert _commented(text) == {
        "learning_rate": "src/train.py:5",
        "dropout": "src/train.py:6",
        "depth": "src/train.py:7",
        "offset": "src/train.py:8",
        "nested": "src/train.py:16",
        "free": "src/train.py:17",
    }
    assert not (scripted / "was-run").exists()
    assert {str(key) for key in parse(text).search} == {"x", "y"}


def test_what_the_comment_holds_is_right_once_it_is_none(scripted: Path) -> None:
    """The range may stand before the parameter does: it only has to be in scope."""
    text = draft(Repo.open(scripted)).replace("#  learning_rate", "  learning_rate")
    program = parse(text.replace("params: [x, y]", "params: [x, y, learning_rate]"))
    ranges = {str(key): within for key, within in program.search.items()}
    assert ranges["learning_rate"] == Range(low=3e-5, high=3e-3, log=True)


def test_a_module_and_a_folder_of_its_own_are_found(scripted: Path) -> None:
    edit(scripted / "dvc.yaml", "python src/train.py --fast", "python -m src.train")
    commit(scripted, "Run it as a module")
    assert "learning_rate" in _commented(draft(Repo.open(scripted)))
    edit(scripted / "dvc.yaml", "stages:\n", "stages:\n  other:\n    wdir: src\n    cmd: python train.py\n")
    edit(scripted / "dvc.yaml", "python -m src.train", "awk 1")
    commit(scripted, "Run it in its folder")
    assert _commented(draft(Repo.open(scripted)))["dropout"] == "src/train.py:6"


@pytest.mark.parametrize("content", ["LR = (", "LR = 0.1\0", "", "x" * 1_100_000])
def test_a_script_that_does_not_parse_is_passed_over(scripted: Path, content: str) -> None:
    (scripted / "src" / "train.py").write_text(content)
    commit(scripted, "Break it")
    text = draft(Repo.open(scripted))
    assert not _commented(text)
    assert parse(text).search


def test_without_parameters_the_comment_stands_alone(scripted: Path) -> None:
    (scripted / "params.yaml").write_text("seed: 1\n")
    commit(scripted, "Leave the seed only")
    text = draft(Repo.open(scripted))
    assert _commented(text)
    assert not parse(text).search
