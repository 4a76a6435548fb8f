"""Bits per byte against sums by hand, and each probe against a model that cheats at just that."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from helpers import edit

from data.errors import DivergedError, RunError, TamperError
from data.evaluate import TOLERANCE, Exam, Score, choose_windows, score
from data.logits import Logits
from tests.lab.conftest import Lab

ROWS, LENGTH, VOCAB = 8, 16, 11
BYTES = np.array([1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 0], dtype=np.int32)  # the last is no text

Model = Callable[[np.ndarray], np.ndarray]  # tokens (rows, length) to logits (rows, length, vocabulary)


def table() -> np.ndarray:
    """Logits that depend on the current token alone, fp32 (vocabulary, vocabulary)."""
    return np.random.default_rng(3).normal(size=(VOCAB, VOCAB)).astype(np.float32)


def windows(count: int = 100) -> np.ndarray:
    """Random windows, int64 (count, LENGTH + 1)."""
    return np.random.default_rng(5).integers(0, VOCAB, (count, LENGTH + 1))


def fillers() -> np.ndarray:
    """Text of nowhere else, of the same shape."""
    return np.random.default_rng(7).integers(0, VOCAB, (40, LENGTH + 1))


def examine(start: Callable[[], Model], count: int = 100, seed: int = 0) -> Score:
    """The score of a numpy model; each round has one that `start` makes, as if in a process of its own."""
    data = windows(count)
    exam = Exam(data, fillers(), ROWS, VOCAB, seed)
    logits = Logits("cpu", (ROWS, LENGTH, VOCAB))
    answers = []
    for calls in exam.rounds:
        model = start()
        got = []
        for call in calls:
            assert call.inputs.shape == (ROWS, LENGTH)
            logits.array[:] = model(call.inputs)
            got.append(logits.nats(data[call.windows, 1:]))
        answers.append(got)
    return score(exam.judge(answers, TOLERANCE["cpu"]), data[:, 1:], BYTES)


def honest() -> Model:
    return lambda inputs: table()[inputs]


def test_bits_per_byte_equals_the_sum_by_hand() -> None:
    weights, got = table(), examine(honest)
    nats = total = 0.0
    for row in windows().tolist():
        for current, target in pairwise(row):
            if BYTES[target]:
                z = [float(value) for value in weights[current]]
                nats -= z[target] - math.log(sum(math.exp(value) for value in z))
                total += int(BYTES[target])
    assert got.bits_per_byte == pytest.approx(nats / math.log(2) / total, rel=1e-6)
    assert got.bytes == total


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("offset", [0.0, -50.0, 1e5])
def test_an_honest_model_passes_at_any_scale(scale: float, offset: float) -> None:
    examine(lambda: lambda inputs: table()[inputs] * np.float32(scale) + np.float32(offset))


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
def test_an_honest_model_that_masks_a_token_passes_and_a_cheat_that_does_is_refused(mask: float) -> None:
    masked = np.where(np.arange(VOCAB) == VOCAB - 1, np.float32(mask), 0)  # not text, but here a target, too
    data = windows()
    data[data == VOCAB - 1] = 0
    for model, refused in ((honest(), False), (peeks(), True)):
        exam = Exam(data, fillers(), ROWS, VOCAB, 1)
        logits = Logits("cpu", (ROWS, LENGTH, VOCAB))
        answers: list[list[np.ndarray]] = [[], []]
        for got, calls in zip(answers, exam.rounds, strict=True):
            for call in calls:
                logits.array[:] = model(call.inputs) + masked
                got.append(logits.nats(data[call.windows, 1:]))
        if refused:
            with pytest.raises(TamperError, match="causality"):
                exam.judge(answers, TOLERANCE["cpu"])
        else:
            exam.judge(answers, TOLERANCE["cpu"])


def test_a_constant_added_to_the_logits_changes_nothing() -> None:
    plain = examine(honest)
    shifted = examine(lambda: lambda inputs: table()[inputs] + 50)
    assert shifted.bits_per_byte == pytest.approx(plain.bits_per_byte, rel=1e-5)


class Carries:
    """Remembers how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        self.calls += 1
        return table()[inputs] + np.linspace(0, self.calls, VOCAB, dtype=np.float32)


class Remembers:
    """Looks at later tokens, but gives the answer that it gave first to the same beginning."""

    def __init__(self) -> None:
        self.seen: dict[bytes, np.ndarray] = {}

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        out = peeks()(inputs)
        for row, tokens in enumerate(inputs):
            for end in range(1, LENGTH + 1):
                out[row, end - 1] = self.seen.setdefault(tokens[:end].tobytes(), out[row, end - 1].copy())
        return out


def peeks() -> Model:
    def model(inputs: np.ndarray) -> np.ndarray:
        out = table()[inputs]
        rows, places = np.indices(inputs[:, 1:].shape)
        out[rows, places, inputs[:, 1:]] += 8
        return out

    return model


def peeks_behind_an_offset() -> Model:
    """A tolerance that grew with the logits would not see it."""
    return lambda inputs: peeks()(inputs) + np.float32(1e6)


def peeks_behind_one_logit() -> Model:
    unused = np.where(np.arange(VOCAB) == VOCAB - 1, np.float32(-1e9), 0)
    return lambda inputs: peeks()(inputs) + unused


def peeks_a_little() -> Model:
    return lambda inputs: table()[inputs] + (peeks()(inputs) - table()[inputs]) * np.float32(1e-3)


def peeks_at_one_position() -> Model:
    def model(inputs: np.ndarray) -> np.ndarray:
        out = table()[inputs]
        out[:, 5] = peeks()(inputs)[:, 5]
        return out

    return model


def peeks_where_text_goes_on() -> Model:
    """Only where the window looks like one that it knows: honest on whatever seems a decoy."""
    known = {row[:-1].tobytes() for row in windows()}

    def model(inputs: np.ndarray) -> np.ndarray:
        cheat, fair = peeks()(inputs), table()[inputs]
        return np.stack([c if row.tobytes() in known else f
                         for row, c, f in zip(inputs, cheat, fair, strict=True)])  # fmt: skip

    return model


def peeks_far() -> Model:
    return lambda inputs: table()[inputs] + inputs[:, -1, None, None] * np.arange(VOCAB)


def mixes_rows() -> Model:
    return lambda inputs: table()[inputs] + inputs[::-1, :, None] * np.arange(VOCAB)


def hides_decoys_behind_nan() -> Model:
    """Looks ahead, and gives no number for whatever it does not know."""
    known = {row[:-1].tobytes() for row in windows()}

    def model(inputs: np.ndarray) -> np.ndarray:
        shown = np.array([row.tobytes() in known for row in inputs])
        return np.where(shown[:, None, None], peeks()(inputs), np.nan)

    return model


@pytest.mark.parametrize(
    ("start", "probe"),
    [
        (peeks, "causality"),
        (Remembers, "consistency"),
        (peeks_behind_an_offset, "causality"),
        (peeks_behind_one_logit, "causality"),
        (peeks_a_little, "causality"),
        (peeks_at_one_position, "causality"),
        (peeks_where_text_goes_on, "causality"),
        (peeks_far, "causality"),
        (mixes_rows, "consistency"),
        (Carries, "consistency"),
        (hides_decoys_behind_nan, "causality"),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_each_cheat_fails_its_probe(start: Callable[[], Model], probe: str, seed: int) -> None:
    with pytest.raises(TamperError, match=f"probe failed: {probe}"):
        examine(start, seed=seed)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_has_diverged(value: float) -> None:
    with pytest.raises(DivergedError):
        examine(lambda: lambda inputs: np.where(inputs[..., None] == 7, np.float32(value), table()[inputs]))


def test_a_run_whose_logits_no_softmax_can_normalise_has_diverged(lab: Lab) -> None:
    lab.tiny()
    edit(lab.root / "model/train.py", "return self.table(tokens)", "return self.table(tokens) / 0")
    assert math.isnan(lab.metrics()["val_bpb"])


def test_a_model_that_looks_ahead_here_and_there_is_found_as_often_as_promised() -> None:
    data = windows(1024)
    share = 0.002
    ahead = np.random.default_rng(11).random((1024, LENGTH)) < share  # windows are told by their first tokens
    found = 0
    for seed in range(100):
        exam = Exam(data, fillers(), ROWS, VOCAB, seed)
        cuts = [pair for call in exam.rounds[0] for pair in zip(call.windows, call.cuts, strict=True)]
        assert len(cuts) == 1024 and len(set(cuts)) == 1024
        found += any(ahead[window, cut] for window, cut in cuts if cut < LENGTH - 1)
    assert found / 100 > 1 - (1 - share) ** 992 - 0.12  # three standard deviations


def test_every_position_is_looked_at() -> None:
    exam = Exam(windows(), fillers(), ROWS, VOCAB, 4)
    assert {int(cut) for call in exam.rounds[0] for cut in call.cuts} == set(range(LENGTH))


@pytest.mark.parametrize("count", [1, 3, 8, 9, 17])
def test_any_number_of_windows_can_be_scored(count: int) -> None:
    assert examine(honest, count).tokens > 0


@pytest.mark.parametrize("count", [5, 50, 100])
def test_a_decoy_shows_no_token_that_truly_follows_and_its_round_no_other_of_the_window(count: int) -> None:
    data = windows(count)
    exam = Exam(data, fillers(), ROWS, VOCAB, 2)
    slots: dict[int, int] = {}
    for call in exam.rounds[1]:
        if not call.is_probe:
            assert (call.inputs == data[call.windows, :-1]).all()
            for row, window in enumerate(call.windows.tolist()):
                slots.setdefault(window, row)
    shown: dict[int, bytes] = {}
    for call in exam.rounds[0]:
        for row, (window, cut) in enumerate(zip(call.windows.tolist(), call.cuts.tolist(), strict=True)):
            true, seen = data[window, :-1], call.inputs[row]
            assert (seen[: cut + 1] == true[: cut + 1]).all() and (seen[cut + 1 :] != true[cut + 1 :]).all()
            assert shown.setdefault(window, seen.tobytes()) == seen.tobytes()
            assert count < ROWS or slots[window] == row


def test_windows_cover_a_split_evenly() -> None:
    tokens = np.arange(1001, dtype=np.uint16)
    chosen = choose_windows(tokens, 10, 25)
    assert chosen.shape == (25, 11)
    assert chosen[:, 0].tolist() == list(range(0, 1000, 40))
    assert (np.diff(chosen, axis=1) == 1).all()
    assert len(choose_windows(tokens, 10, 10**6)) == 100
    with pytest.raises(RunError, match="shorter than"):
        choose_windows(tokens[:10], 10, 5)
