"""Projects in shapes that nobody here chose: four commands take each from nothing to a promotion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import foreign
import pytest
from helpers import Ar, attempts_of

from ar.git.repo import Repo
from ar.project.hydra import Hydra
from ar.project.program import Program
from ar.project.program_file import load
from ar.project.values import flat


def improved(root: Path, ar: Ar) -> Program:
    """The programme that was inferred, after a campaign that found something and edited no file by hand."""
    ar(root, "init", "--yes")
    ar(root, "doctor")
    ar(root, "run", "-n", "4", "--plain")
    ar(root, "promote")
    outcomes = {attempt["outcome"] for attempt in attempts_of(root)}
    assert "promoted" in outcomes
    assert outcomes.isdisjoint({"crashed", "tampered"})
    return load(root)


def names(program: Program) -> tuple[str, str, str | None, set[str], set[str]]:
    """Objective and its direction, seed, files and parameters of the scope."""
    scope, seed = program.scope, program.seed
    goal = program.objective
    return str(goal), goal.direction, seed and str(seed), set(scope.files), set(map(str, scope.params))


Made = Callable[[Path], Path]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(
            foreign.get_started,
            (
                "eval/metrics.json:loss.test",
                "minimize",
                "train.seed",
                {"src/featurization.py", "src/train.py"},
                {"featurize", "train"},
            ),
            marks=pytest.mark.slow,
        ),
        (
            foreign.hydra,
            (
                "metrics.json:val.loss",
                "minimize",
                "trainer.seed",
                {"train.py"},
                {"model", "trainer", "train.toml:loop", "settings.py:Model", "settings.py:MOMENTUM"},
            ),
        ),
        (
            foreign.subfolder,
            (
                "ml/results/total.json:mse",
                "minimize",
                "ml/params.yaml:seed",
                {"ml/code/fit.awk"},
                {"ml/params.yaml:fit"},
            ),
        ),
        (
            foreign.benchmark,
            ("bench.json:throughput", "maximize", None, {"sort.c", "sort.h"}, {"cutoff", "level"}),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_four_commands_lead_to_a_promotion(make: Made, expected: object, tmp_path: Path, ar: Ar) -> None:
    root = make(tmp_path / "project")
    assert names(improved(root, ar)) == expected
    repo = Repo.open(root)
    if hydra := Hydra.of(repo, "HEAD"):  # the next composition keeps what was promoted
        assert hydra.composed(repo, "HEAD").values == flat(
            repo.read("HEAD", "params.yaml") or b"", "params.yaml"
        )
