"""`ar init`: which ranges it proposes, for parameters and for numbers that scripts hold."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, attempts_of, commit, edit, typed

from ar.errors import BadProgram
from ar.git.repo import Repo
from ar.project import naming
from ar.project.draft import Facts, draft, objective
from ar.project.params import ParamKey
from ar.project.program import Program, Range
from ar.project.program_file import load, parse
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


@pytest.mark.parametrize("value", [5e-324, 1e-323, 2e-308, 1e308, 1.79e308, -1e308, -5e-324])
def test_a_range_at_the_ends_of_what_floats_hold_is_finite(value: float) -> None:
    (within,) = _program({"x": value}).search.values()
    assert within.low is not None and within.high is not None
    assert -math.inf < within.low <= value <= within.high < math.inf
    assert within.low > 0 or not within.log


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
    edit(bare / "dvc.yaml", "deps: [fit.awk]", "deps: [fit.awk, src/train.py]")
    commit(bare, "Train in Python")
    return bare


def _search(text: str) -> dict[str, Range]:
    """What is searched of the scripts."""
    return {str(key): within for key, within in parse(text).search.items() if key.file.endswith(".py")}


FOUND = ("LEARNING_RATE", "DROPOUT", "DEPTH", "OFFSET", "NESTED", "FREE")


def test_numbers_at_the_top_of_a_script_are_searched_and_nothing_is_run(scripted: Path) -> None:
    text = draft(Facts.read(Repo.open(scripted)))
    program = parse(text)
    assert list(_search(text)) == [f"src/train.py:{name}" for name in FOUND]
    assert set(map(str, program.scope.params)) == {"x", "y", *_search(text)}
    assert _search(text)["src/train.py:LEARNING_RATE"] == Range(low=3e-5, high=3e-3, log=True)
    assert str(program.seed) == "seed"
    assert not (scripted / "was-run").exists()


def test_numbers_of_a_script_that_no_stage_depends_on_are_a_comment(scripted: Path) -> None:
    """The comment is right once it is none."""
    edit(scripted / "dvc.yaml", "deps: [fit.awk, src/train.py]", "deps: [fit.awk]")
    commit(scripted, "Forget it")
    text = draft(Facts.read(Repo.open(scripted)))
    assert not _search(text)
    text = text.replace("#  src/train.py:DEPTH", "  src/train.py:DEPTH")
    program = parse(text.replace("params: [x, y]", "params: [x, y, 'src/train.py:DEPTH']"))
    assert {str(key): within for key, within in program.search.items()}["src/train.py:DEPTH"].high == 12


def test_a_constant_is_the_seed_where_no_parameter_is(scripted: Path) -> None:
    edit(scripted / "params.yaml", "seed: 1\n", "")
    edit(scripted / "dvc.yaml", ", seed]", "]")
    commit(scripted, "Leave the seed to the script")
    assert str(parse(draft(Facts.read(Repo.open(scripted)))).seed) == "src/train.py:SEED"


def test_a_module_and_a_folder_of_its_own_are_found(scripted: Path) -> None:
    edit(scripted / "dvc.yaml", "python src/train.py --fast", "python -m src.train")
    commit(scripted, "Run it as a module")
    assert "src/train.py:DEPTH" in _search(draft(Facts.read(Repo.open(scripted))))
    edit(scripted / "dvc.yaml", "stages:\n", "stages:\n  other:\n    wdir: src\n    cmd: python train.py\n")
    edit(scripted / "dvc.yaml", "python -m src.train", "awk 1")
    commit(scripted, "Run it in its folder")
    assert "src/train.py:DROPOUT" in _search(draft(Facts.read(Repo.open(scripted))))


@pytest.mark.parametrize(
    "content", ["LR = (", "LR = 0.1\0", "", "x" * 1_100_000], ids=lambda text: str(len(text))
)
def test_a_script_that_does_not_parse_is_passed_over(scripted: Path, content: str) -> None:
    (scripted / "src" / "train.py").write_text(content)
    commit(scripted, "Break it")
    text = draft(Facts.read(Repo.open(scripted)))
    assert not _search(text)
    assert parse(text).search


def test_numbers_of_scripts_are_enough(scripted: Path) -> None:
    (scripted / "params.yaml").write_text("seed: 1\n")
    commit(scripted, "Leave the seed only")
    text = draft(Facts.read(Repo.open(scripted)))
    assert parse(text).search.keys() == {ParamKey.parse(key) for key in _search(text)}


@pytest.mark.parametrize(
    ("way", "names"),
    [
        (
            "maximize",
            "mAP mAP50 throughput ndcg@10 elo log_likelihood silhouette neg_mean_squared_error"
            " tokens_per_second rocAuc avg_prec silhouette_score images_per_sec success_rate r2 hits_at_1",
        ),
        (
            "minimize",
            "nll negative_log_likelihood brier_score davies_bouldin_score error_rate accuracy_loss"
            " ms_per_step errors_per_page latency_p99 score_time WER bits_per_byte peak_memory_mb",
        ),
        (None, "thing step n_samples"),
    ],
)
def test_a_direction_follows_from_the_words_of_a_name(way: str | None, names: str) -> None:
    assert {name: naming.direction(f"m.json:{name}") for name in names.split()} == dict.fromkeys(
        names.split(), way
    )


@pytest.mark.parametrize(
    ("metrics", "metric", "way"),
    [
        ({"roc_auc": {"train": 1, "test": 0.9}}, "roc_auc.test", "maximize"),
        ({"train": {"loss": 1}, "test": {"loss": 1}, "val": {"loss": 1}}, "val.loss", "minimize"),
        ({"step": 3, "seconds": 2, "quality_of_it": 1, "oddity": 4}, "quality_of_it", "maximize"),
        ({"step": 3, "oddity": 4}, "oddity", ""),
        ({"seconds": 2}, "seconds", "minimize"),
    ],
)
def test_the_objective_is_a_quality_on_data_that_was_held_back(
    bare: Path, metrics: dict[str, Any], metric: str, way: str
) -> None:
    (bare / "m.json").write_text(json.dumps(metrics))
    edit(bare / "dvc.yaml", "    - c.yaml: {cache: false}\n", "")
    commit(bare, "Measure something else")
    goal = objective(Facts.read(Repo.open(bare)))
    assert (goal.metric, goal.direction) == (f"m.json:{metric}", way)
    assert ("a guess" in draft(Facts.read(Repo.open(bare)))) == (not way)


STAGES = """\
stages:
  split:
    cmd: python src/split.py
    deps: [src/split.py]
    params: [split.seed, split.ratio, shared]
    outs: [parts]
  train:
    cmd: python src/train.py
    deps: [src, parts]
    params: [train, shared, check.every]
    outs: [model]
  report:
    cmd: python src/report.py
    deps: [src/report.py, model]
    params: [shown]
    metrics: [{m.json: {cache: false}}]
"""
VALUES = """\
split: {seed: 1, ratio: 0.2}
train: {random_state: 2, lr: 0.1, n_estimators: 10, epochs: 3, min_split: 0.1}
shared: 4.5
shown: 2.5
check: {every: 10, weight: 0.3}
"""


def test_data_evaluation_and_other_seeds_stay_out_of_scope(bare: Path) -> None:
    (bare / "src").mkdir()
    for name in ("split", "train", "report", "model", "metrics"):
        (bare / "src" / f"{name}.py").write_text("pass\n")
    (bare / "dvc.yaml").write_text(STAGES)
    (bare / "params.yaml").write_text(VALUES)
    commit(bare, "Work in three stages")
    program = parse(draft(Facts.read(Repo.open(bare))))
    assert str(program.seed) == "train.random_state"
    assert program.scope.files == ("src/model.py", "src/train.py")
    assert set(map(str, program.scope.params)) == {"train", "shared", "check"}
    assert set(map(str, program.search)) == {
        "train.lr",
        "train.n_estimators",
        "train.min_split",
        "shared",
        "check.weight",
    }
    # More trees cost time, which no metric of the project tells.
    assert [str(guard) for guard in program.guards] == ["ar:cpu_seconds"]


@pytest.mark.slow
def test_a_guard_on_processor_time_needs_no_metric(project: Path, ar: Ar) -> None:
    edit(project / "program.md", '  - {metric: "c.yaml:cost", direction: minimize}', "  - ar:cpu_seconds")
    # A second: where a kernel counts processor time by its ticks, a busy machine is wrong by a tenth of one.
    slow = "BEGIN {for (i = 0; i < 30000000; i++) j += i}\n"
    commit(project, "Guard the time")
    ar(project, "run", "-n", "0", "--plain")
    edit(project / "fit.awk", "/^x:/", f"{slow}/^x:/")
    ar(project, "next", "--set", "x=3", "--set", "y=0.1", "--from-worktree")
    ar(project, "run", "-n", "0", "--plain")
    (attempt,) = (one for one in attempts_of(project) if one["agent"] == "human")
    assert attempt["verdict"]["failed_guard"] == "cpu_seconds"
    assert attempt["guards"]["ar:cpu_seconds"] > 0.1


@pytest.mark.parametrize(
    "section",
    [
        "guards: [ar:gpu_seconds]",
        "guards: [{metric: ar:cpu_seconds, direction: maximize}]",
        "holdout: ar:cpu_seconds",
    ],
)
def test_what_ar_does_not_measure_is_refused(section: str) -> None:
    with pytest.raises(BadProgram):
        parse(f'---\nobjective: "m.json:x"\n{section}\n---\n')


def test_init_asks_on_a_terminal_what_it_cannot_know(bare: Path) -> None:
    (bare / "m.json").write_text('{"oddity": 1, "rarity": 2}')
    edit(bare / "dvc.yaml", "    - c.yaml: {cache: false}\n", "")
    commit(bare, "Measure something else")
    typed(bare, "2\nmaximize\ny\n", "init")
    assert str(load(bare).objective) == "m.json:rarity"
    assert load(bare).objective.direction == "maximize"
