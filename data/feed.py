"""The harness's side of training data: it hands out token windows, and counts them.

Training has no other way to a token, so the budget is what the harness counted, not what the code
under test says. The other end of the line is `data.task`.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

from data.buffer import Buffer
from data.errors import RunError, TamperError

if TYPE_CHECKING:
    import numpy as np

REPLY = struct.Struct("<cd")  # b"+" for a filled buffer or b"." for the end, and the progress
BUFFER_TOKENS = 1 << 22  # most tokens of one request
MOST_ROWS = 1 << 20


class Feed:
    """Windows of `length + 1` tokens from the training split, in an order that the seed fixes.

    The split is cut into blocks of `sequence_len` tokens, shuffled anew each epoch.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        sequence_len: int,
        seed: int,
        budget: int,
        max_seconds: float | None,
    ) -> None:
        self.tokens = tokens
        self.sequence_len = sequence_len
        self.seed = seed
        self.budget = budget
        self.max_seconds = max_seconds
        self.blocks = (len(tokens) - 1) // sequence_len
        if self.blocks < 1:
            raise RunError(f"the train split is shorter than train.sequence_len, {sequence_len} tokens")
        self.served = 0  # tokens
        self.requests = 0
        self.start = time.monotonic()
        self.position = 0  # in the order of this epoch
        self.epoch = -1
        self.order: np.ndarray | None = None
        self.buffer = Buffer(2 * BUFFER_TOKENS * 8)  # of int64, which the child maps, too

    @property
    def progress(self) -> float:
        """Share of the run that is over, by its clock if it is bounded by seconds, else by tokens."""
        if self.max_seconds is not None:
            return min((time.monotonic() - self.start) / self.max_seconds, 1.0)
        return self.served / self.budget

    def serve(self, rows: int, length: int) -> bytes:
        """Fills the buffer with `rows` windows, int64 (rows, length + 1), and returns the reply.

        Raises TamperError when more is asked for than the budget allows.
        """
        import numpy as np

        if self.max_seconds is not None and self.progress >= 1:
            return REPLY.pack(b".", 1.0)
        if not (0 < rows <= MOST_ROWS and 0 < length <= self.sequence_len and rows * length <= BUFFER_TOKENS):
            raise RunError(
                f"training asked for {rows} windows of {length} tokens; a window has at most "
                f"train.sequence_len, {self.sequence_len}, and a request at most {BUFFER_TOKENS:,} tokens"
            )
        if self.served + rows * length > self.budget:
            raise TamperError(
                f"budget exceeded: training asked for {self.served + rows * length:,} tokens, "
                f"train.tokens is {self.budget:,}"
            )
        progress = self.progress
        starts = self._next_blocks(rows) * self.sequence_len
        windows = self.tokens[starts[:, None] + np.arange(length + 1)]
        np.frombuffer(self.buffer.map, dtype=np.int64, count=windows.size)[:] = windows.ravel()
        self.served += rows * length
        self.requests += 1
        return REPLY.pack(b"+", progress)

    def _next_blocks(self, count: int) -> np.ndarray:
        import numpy as np

        chosen: list[np.ndarray] = []
        while count:
            if self.order is None or self.position == self.blocks:
                self.epoch += 1
                self.position = 0
                self.order = np.random.default_rng([self.seed, self.epoch]).permutation(self.blocks)
            part = self.order[self.position : self.position + count]
            self.position += len(part)
            count -= len(part)
            chosen.append(part)
        return np.concatenate(chosen)
