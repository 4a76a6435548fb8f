"""Bits per byte of held-out text, and the probes that a model must pass for them to count.

The model runs in a process of its own and only fills a buffer with logits; targets never leave this
process. Scoring calls and probe calls use the same windows and come in an order drawn afresh each
time, so that code under test cannot tell them apart:

- shape        logits are (rows, tokens, vocabulary)
- finite       every logit that is scored is finite
- consistency  the same window gives the same logits later and among other rows: nothing is carried
               from call to call or from row to row
- causality    other tokens from a random position on leave all earlier logits as they were
- constant     logits depend on the input
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from data.errors import RunError, TamperError

if TYPE_CHECKING:
    import numpy as np

    from data.logits import Logits

HOST_LOGITS = 1 << 21  # logits of one call, 8 MiB
CUDA_LOGITS = 1 << 28
# Rounding may differ with the row's place in a batch; a leak that pays is far larger. In logits,
# relative to their largest; bf16 keeps 8 bits.
TOLERANCE = {"cpu": 1e-3, "mps": 1e-3, "cuda": 3e-2}


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


@dataclass
class Call:
    """One call of the model: its rows are windows of `split`, or altered copies of them."""

    kind: str  # score, consistency or causality
    inputs: np.ndarray  # int64 (rows, length)
    windows: np.ndarray  # which window each row is, or is altered from, (rows,)
    cuts: np.ndarray  # positions before which the row equals its window, (rows,)


@dataclass
class Score:
    """Sums over the scored tokens of one split."""

    nats: float = 0.0
    bytes: int = 0
    tokens: int = 0

    @property
    def bits_per_byte(self) -> float:
        """Nats over ln 2 and bytes: comparable between vocabularies."""
        return self.nats / (math.log(2) * self.bytes)


@dataclass
class Evaluation:
    """Scores splits of held-out windows with a model that is called through `ask`.

    `ask(inputs)` fills `logits` for int64 inputs (rows, length). `token_bytes` (vocabulary,) weighs
    targets; those with 0 bytes are not text and not scored.
    """

    ask: Callable[[np.ndarray], None]
    logits: Logits
    token_bytes: np.ndarray
    rows: int
    tolerance: float
    rng: random.Random = field(default_factory=random.SystemRandom)

    def score(self, windows: np.ndarray, progress: Callable[[float], None] | None = None) -> Score:
        """Scores `windows`, int64 (n, length + 1). Raises TamperError naming a failed probe.

        `progress` is told the share that is done.
        """
        import numpy as np

        length = windows.shape[1] - 1
        nats = np.zeros((len(windows), length))
        calls = self._scoring_calls(windows)
        probed = self.rng.sample(range(len(windows)), min(self.rows, len(windows)))
        calls += self._probe_calls(windows, probed)
        self.rng.shuffle(calls)
        originals: dict[int, np.ndarray] = {}
        answers: list[tuple[Call, list[np.ndarray]]] = []
        for done, call in enumerate(calls):
            self.ask(call.inputs)
            if call.kind == "score":
                result = self.logits.nats(windows[call.windows, 1:])
                if not np.isfinite(result).all():
                    raise TamperError("probe failed: finite: some logits are NaN or infinite")
                nats[call.windows] = result
                wanted = set(probed)
                for row, window in enumerate(call.windows.tolist()):
                    if window in wanted:
                        originals[window] = self.logits.row(row)
            else:
                answers.append((call, [self.logits.row(row) for row in range(self.rows)]))
            if progress is not None:
                progress((done + 1) / len(calls))
        self._judge(originals, answers)
        weights = self.token_bytes[windows[:, 1:]]
        text = weights > 0
        return Score(float(nats[text].sum()), int(weights.sum()), int(text.sum()))

    def _scoring_calls(self, windows: np.ndarray) -> list[Call]:
        """Every window once; the last call is filled up with windows from the start."""
        import numpy as np

        count = -(-len(windows) // self.rows) * self.rows
        order = np.arange(count) % len(windows)
        cuts = np.full(self.rows, windows.shape[1] - 1)
        return [Call("score", windows[part, :-1], part, cuts) for part in order.reshape(-1, self.rows)]

    def _probe_calls(self, windows: np.ndarray, probed: list[int]) -> list[Call]:
        """Two calls over the probed windows: unaltered among new neighbours, and with other endings."""
        import numpy as np

        length = windows.shape[1] - 1
        calls = []
        for kind in ("consistency", "causality"):
            chosen = np.array([probed[i % len(probed)] for i in range(self.rows)])
            chosen = chosen[self.rng.sample(range(self.rows), self.rows)]
            inputs = windows[chosen, :-1].copy()
            cuts = np.full(self.rows, length)
            if kind == "causality":
                for row in range(self.rows):
                    cuts[row] = self.rng.randint(1, length - 1) if length > 1 else 1
                    other = windows[self.rng.randrange(len(windows)), :-1]
                    inputs[row, cuts[row] :] = other[cuts[row] :]
                    if length > 1:  # the first altered token certainly differs
                        step = self.rng.randrange(1, len(self.token_bytes))
                        token = (windows[chosen[row], cuts[row]] + step) % len(self.token_bytes)
                        inputs[row, cuts[row]] = token
            calls.append(Call(kind, inputs, chosen, cuts))
        return calls

    def _judge(self, originals: dict[int, np.ndarray], answers: list[tuple[Call, list[np.ndarray]]]) -> None:
        import numpy as np

        for kind, meaning in (
            ("consistency", "the same window gave other logits in another call"),
            ("causality", "changing later tokens changed earlier logits"),
        ):
            for call, rows in answers:
                for row, window, cut in zip(rows, call.windows.tolist(), call.cuts.tolist(), strict=True):
                    expected = originals[window][:cut]
                    change = float(np.abs(row[:cut] - expected).max())
                    allowed = self.tolerance * max(1.0, float(np.abs(expected).max()))
                    if call.kind == kind and not change <= allowed:
                        raise TamperError(f"probe failed: {kind}: {meaning} by up to {change:.3g}")
        seen = list(originals.values())
        if all(float(np.ptp(row, axis=0).max()) < 1e-6 for row in seen):
            raise TamperError("probe failed: constant: the logits are the same at every position")
