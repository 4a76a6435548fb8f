"""Bits per byte of held-out text, and the probes that a model must pass for them to count.

The model only fills a buffer with logits; targets never leave the harness, which normalises and scores
itself. What is asked is planned here and answered elsewhere, in two rounds of two processes that cannot
tell each other anything:

- the first sees *decoys*: windows in which every token after a position drawn at random, the cut, is another,
  taken from training text. Nobody in it has seen what really follows.
- the second, the real pass, sees every window as it is, and a few more decoys among them.

Whatever a model makes of a decoy, it cannot know the true next token there. So the log-probability of the
true next token, at that position and all before, agrees between the rounds if and only if it does not
depend on what follows. A window keeps its row, so that an honest model's rounding is the same in both.

Use of the very next token shows at the cut alone, and no sequence has more than one: N decoys find a model
that looks ahead at a share f of all positions with probability 1 - (1 - f)^N. Cuts are spread evenly over
positions. Whoever looks further ahead is found at the positions before a cut, too, half a window on average.

- consistency  a window that was left as it is gives the same in both rounds: nothing is carried from call to
               call, from row to row, or from one process to the next
- causality    other tokens from a position on leave the log-probabilities up to it as they were
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data.errors import DivergedError, RunError, TamperError

if TYPE_CHECKING:
    import numpy as np

HOST_LOGITS = 1 << 21  # logits of one call, 8 MiB
CUDA_LOGITS = 1 << 26
CONTROL = 32  # one in so many windows of the first round is left as it is
MIXED = 32  # one in so many calls of the real pass is of decoys
MOST_DECOYS = 4096  # windows of the first round, at most; else it shows each once


@dataclass(frozen=True)
class Tolerance:
    """How far a log-probability may move, in nats."""

    each: float
    mean: float


# With equal shapes and rows, a CPU's answers are equal to the last digit, in fp32 and bf16 at any scale of
# logits (benchmarks/probe_noise.py); where shapes depend on the tokens, fp32 moves by up to 1e-6 nats, and by
# 7e-5 with logits times 30. A mean of 1e-4 is worth 5e-5 bits per byte. A GPU's bf16 keeps 8 bits.
TOLERANCE = {"cpu": Tolerance(1e-3, 1e-4), "mps": Tolerance(1e-2, 1e-3), "cuda": Tolerance(0.1, 5e-3)}


def rows_per_call(device: str, length: int, vocab_size: int) -> int:
    """Windows evaluated together."""
    return max(2, (CUDA_LOGITS if device == "cuda" else HOST_LOGITS) // (length * vocab_size))


def choose_windows(tokens: np.ndarray, length: int, count: int) -> np.ndarray:
    """`count` windows of `length + 1` tokens spread evenly over a split, int64 (count, length + 1).

    Fewer when the split is shorter: windows never overlap but in the last token, which is a target
    in one and an input in the next.
    """
    import numpy as np

    available = (len(tokens) - 1) // length
    if available < 1:
        raise RunError(f"a held-out split is shorter than train.sequence_len, {length} tokens")
    count = min(count, available)
    blocks = np.arange(count) * available // count
    return np.asarray(tokens)[blocks[:, None] * length + np.arange(length + 1)].astype(np.int64)


@dataclass(frozen=True)
class Call:
    """One call of the model: what each of its rows shows.

    A row is a window up to and including position `cuts`, and other tokens after it.
    """

    inputs: np.ndarray  # int64 (rows, length)
    windows: np.ndarray  # number of the window, (rows,)
    cuts: np.ndarray  # (rows,)
    is_probe: bool


@dataclass(frozen=True)
class Score:
    """Sums over the scored tokens of one split."""

    nats: float
    bytes: int
    tokens: int

    @property
    def bits_per_byte(self) -> float:
        """Nats over ln 2 and bytes: comparable between vocabularies."""
        return self.nats / (math.log(2) * self.bytes)


class Exam:
    """What a model is asked about held-out windows, int64 (n, length + 1), and what its answers are worth.

    `rounds` are the calls, each round for a process of its own, in this order.
    """

    def __init__(
        self, windows: np.ndarray, fillers: np.ndarray, rows: int, vocab_size: int, seed: int | None = None
    ) -> None:
        """`fillers`, int64 (m, length + 1), are other text: what decoys show after their cuts.

        `seed` is for tests: what is asked must not be foreseen.
        """
        import numpy as np

        self.windows = windows
        self.fillers = fillers
        self.length = windows.shape[1] - 1
        self.vocab_size = vocab_size
        self.rng = np.random.default_rng(random.SystemRandom().getrandbits(128) if seed is None else seed)
        order = self.rng.permutation(len(windows))
        places = np.arange(-(-len(windows) // rows) * rows)
        # the last call is filled up with windows of the first, each in its row
        places[len(windows) :] %= rows
        table = order[places % len(windows)].reshape(-1, rows)
        whole = table[: max(1, len(windows) // rows)]
        first = whole[: max(1, MOST_DECOYS // rows)]
        mixed = whole[-len(whole) // MIXED :]
        shown = np.unique(first)
        self.controls = set(self.rng.choice(shown, -(-len(shown) // CONTROL), replace=False).tolist())
        real = [self._call(row, np.full(rows, self.length - 1), is_probe=False) for row in table]
        self.rounds = [self._decoys(first), [*real, *self._decoys(mixed)]]
        for calls in self.rounds:
            self.rng.shuffle(calls)  # type: ignore[arg-type]

    def _call(self, numbers: np.ndarray, cuts: np.ndarray, is_probe: bool) -> Call:
        return Call(self.windows[numbers, :-1].copy(), numbers, cuts, is_probe)

    def _decoys(self, table: np.ndarray) -> list[Call]:
        """Calls of the windows in `table` (calls, rows), each in its row, among new neighbours."""
        import numpy as np

        # both by window, should one come twice
        cuts = self.rng.permutation(len(self.windows)) % max(1, self.length - 1)
        cuts[list(self.controls)] = self.length - 1
        others = self.rng.integers(0, len(self.fillers), len(self.windows))
        calls = []
        for numbers in self.rng.permuted(table, axis=0):
            call = self._call(numbers, cuts[numbers], is_probe=True)
            other = self.fillers[others[numbers], :-1]
            # a token that happens to be the true one gives way to any other
            chance = (self._seeded(numbers) + call.inputs) % self.vocab_size
            other = np.where(other == call.inputs, chance, other)
            after = np.arange(self.length) > call.cuts[:, None]
            call.inputs[after] = other[after]
            calls.append(call)
        return calls

    def _seeded(self, numbers: np.ndarray) -> np.ndarray:
        """Steps from 1 to the vocabulary's size, the same for a window that comes twice, (rows, length)."""
        import numpy as np

        unique, inverse = np.unique(numbers, return_inverse=True)
        return self.rng.integers(1, self.vocab_size, (len(unique), self.length))[inverse]

    def judge(self, answers: Sequence[Sequence[np.ndarray]], tolerance: Tolerance) -> np.ndarray:
        """-log p of each window's tokens in the real pass, float64 (n, length).

        `answers` are of the same form as `rounds`: for each call -log p of the tokens that truly come next,
        (rows, length). Raises TamperError naming a failed probe, and DivergedError when one of the real pass
        is NaN or infinite.
        """
        import numpy as np

        nats = np.full((len(self.windows), self.length), np.nan)
        pairs = [pair for calls, got in zip(self.rounds, answers, strict=True)
                 for pair in zip(calls, got, strict=True)]  # fmt: skip
        for call, got in pairs:
            if not call.is_probe:
                nats[call.windows[::-1]] = got[::-1]  # of a window that comes twice, the first counts
        if not np.isfinite(nats).all():
            raise DivergedError("training diverged: some held-out log-probabilities are NaN or infinite")
        moved: dict[str, list[np.ndarray]] = {"consistency": [], "causality": []}
        at_cut: list[float] = []
        for call, got in pairs:
            if call.is_probe:
                change = np.abs(got - nats[call.windows])
                for row, cut in enumerate(call.cuts.tolist()):
                    kind = "consistency" if call.windows[row] in self.controls else "causality"
                    moved[kind].append(change[row, : cut + 1])
                    at_cut.append(float(change[row, cut]))
        for kind, changes in moved.items():
            if changes:
                _refuse_moved(kind, np.concatenate(changes), tolerance)
        _refuse_moved("causality", np.array(at_cut), tolerance)
        return nats


MEANINGS = {
    "consistency": "the same window gave other log-probabilities in another process",
    "causality": "changing later tokens changed earlier log-probabilities",
}


def _refuse_moved(kind: str, changes: np.ndarray, tolerance: Tolerance) -> None:
    """Raises TamperError unless `changes`, in nats, are within tolerance; NaN is not."""
    most, mean = float(changes.max()), float(changes.mean())
    if not (most <= tolerance.each and mean <= tolerance.mean):
        words = f"by up to {most:.3g} nats, {mean:.3g} on average"
        raise TamperError(f"probe failed: {kind}: {MEANINGS[kind]} {words}")


def score(nats: np.ndarray, targets: np.ndarray, token_bytes: np.ndarray) -> Score:
    """Sums over one split; `token_bytes` (vocabulary,) weighs targets, 0 marks what is no text."""
    weights = token_bytes[targets]
    text = weights > 0
    return Score(float(nats[text].sum()), int(weights.sum()), int(text.sum()))
