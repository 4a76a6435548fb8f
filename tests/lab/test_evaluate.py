"""Bits per byte against sums by hand, and each probe against a model that cheats at just that."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data.errors import RunError
from data.evaluate import Evaluation, choose_windows
from data.logits import HostLogits, make_logits

ROWS, LENGTH, VOCAB = 4, 16, 11
BYTES = np.array([1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 0], dtype=np.int32)  # the last is no text

Model = Callable[[np.ndarray], np.ndarray]


def table() -> np.ndarray:
    """Logits that depend on the current token alone, fp32 (vocabulary, vocabulary)."""
    return np.random.default_rng(3).normal(size=(VOCAB, VOCAB)).astype(np.float32)


def windows(count: int = 10) -> np.ndarray:
    """Random windows, int64 (count, LENGTH + 1)."""
    return np.random.default_rng(5).integers(0, VOCAB, (count, LENGTH + 1))


def evaluation(path: Path, model: Model, seed: int = 0) -> Evaluation:
    """An evaluation of a numpy model."""
    logits = HostLogits(path / "logits", (ROWS, LENGTH, VOCAB))

    def ask(inputs: np.ndarray) -> None:
        assert inputs.shape == (ROWS, LENGTH)
        logits.array[:] = model(inputs)

    return Evaluation(ask, logits, BYTES, ROWS, 1e-3, random.Random(seed))


def test_bits_per_byte_equals_the_sum_by_hand(tmp_path: Path) -> None:
    weights = table()
    data = windows()
    score = evaluation(tmp_path, lambda inputs: weights[inputs]).score(data)
    nats = total = 0.0
    for row in data.tolist():
        for current, target in pairwise(row):
            if BYTES[target]:
                z = [float(value) for value in weights[current]]
                nats -= z[target] - math.log(sum(math.exp(value) for value in z))
                total += int(BYTES[target])
    assert score.bits_per_byte == pytest.approx(nats / math.log(2) / total, rel=1e-6)
    assert score.bytes == total


def test_a_constant_added_to_the_logits_changes_nothing(tmp_path: Path) -> None:
    weights = table()
    plain = evaluation(tmp_path, lambda inputs: weights[inputs]).score(windows())
    shifted = evaluation(tmp_path, lambda inputs: weights[inputs] + 50).score(windows())
    assert shifted.bits_per_byte == pytest.approx(plain.bits_per_byte, rel=1e-5)


def test_an_almost_uniform_model_scores_the_entropy(tmp_path: Path) -> None:
    weights = table() * 1e-4
    score = evaluation(tmp_path, lambda inputs: weights[inputs]).score(windows())
    assert score.bits_per_byte == pytest.approx(score.tokens * math.log2(VOCAB) / score.bytes, rel=1e-4)


class Carries:
    """Remembers how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        self.calls += 1
        return table()[inputs] + np.linspace(0, self.calls, VOCAB, dtype=np.float32)


def peeks(inputs: np.ndarray) -> np.ndarray:
    return table()[np.roll(inputs, -1, axis=1)]


def peeks_far(inputs: np.ndarray) -> np.ndarray:
    return table()[inputs] + inputs[:, -1, None, None] * np.arange(VOCAB)


def mixes_rows(inputs: np.ndarray) -> np.ndarray:
    return table()[inputs] + inputs[::-1, :, None] * np.arange(VOCAB)


def not_a_number(inputs: np.ndarray) -> np.ndarray:
    return np.where(inputs[..., None] == 7, np.nan, table()[inputs])


def overflows(inputs: np.ndarray) -> np.ndarray:
    return np.where(inputs[..., None] == 7, np.inf, table()[inputs])


def constant(inputs: np.ndarray) -> np.ndarray:
    return np.broadcast_to(table()[0], (*inputs.shape, VOCAB))


@pytest.mark.parametrize(
    ("model", "probe"),
    [
        (peeks, "causality"),
        (peeks_far, "causality"),
        (mixes_rows, "consistency"),
        (Carries, "consistency"),
        (not_a_number, "finite"),
        (overflows, "finite"),
        (constant, "constant"),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_each_cheat_fails_its_probe(tmp_path: Path, model: Model, probe: str, seed: int) -> None:
    cheat = model() if isinstance(model, type) else model
    with pytest.raises(RunError, match=f"probe failed: {probe}"):
        evaluation(tmp_path, cheat, seed).score(windows())


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_any_number_of_windows_can_be_scored(tmp_path: Path, count: int) -> None:
    weights = table()
    assert evaluation(tmp_path, lambda inputs: weights[inputs]).score(windows(count)).tokens > 0


def test_windows_cover_a_split_evenly() -> None:
    tokens = np.arange(1001, dtype=np.uint16)
    chosen = choose_windows(tokens, 10, 25)
    assert chosen.shape == (25, 11)
    assert chosen[:, 0].tolist() == list(range(0, 1000, 40))
    assert (np.diff(chosen, axis=1) == 1).all()
    assert len(choose_windows(tokens, 10, 10**6)) == 100
    with pytest.raises(RunError, match="shorter than"):
        choose_windows(tokens[:10], 10, 5)


def test_make_logits_on_a_cpu_is_a_file(tmp_path: Path) -> None:
    logits = make_logits("cpu", tmp_path / "x", (2, 3, 4))
    assert logits.handle() == {"kind": "host", "path": str(tmp_path / "x"), "shape": (2, 3, 4)}
