"""The scoring of logits that a process of the code under test left in shared memory.

Nothing that it wrote is parsed: it is an array of floats, whatever it holds and whoever still writes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data.buffer import Buffer

if TYPE_CHECKING:
    import numpy as np


class Logits:
    """fp32 (rows, length, vocabulary), seen from the harness."""

    def __init__(self, device: str, shape: tuple[int, int, int]) -> None:
        """`device` is where they are scored: on a GPU if the model runs on one, where a CPU is too slow."""
        import numpy as np

        self.device = device
        rows, length, vocabulary = shape
        self.buffer = Buffer(4 * rows * length * vocabulary)
        self.array = np.frombuffer(self.buffer.map, dtype=np.float32).reshape(shape)

    def nats(self, targets: np.ndarray) -> np.ndarray:
        """-log p of each target under the normalised logits, float64 (rows, length).

        Not finite where a logit of the position is NaN or infinite, unless it is -inf and not the target's.
        """
        import numpy as np

        if self.device == "cuda":
            return self._on_gpu(targets)
        nats = np.empty(targets.shape)
        with np.errstate(all="ignore"):  # what is not finite stays so, and is found by the caller
            for row, logits in enumerate(self.array):  # one row at a time stays in the cache
                shifted = logits - logits.max(axis=-1, keepdims=True)  # a copy: only it is used from here on
                chosen = shifted[np.arange(len(shifted)), targets[row]].astype(np.float64)
                total = np.exp(shifted, out=shifted).sum(axis=-1, dtype=np.float64)
                nats[row] = np.log(total) - chosen
        return nats

    def _on_gpu(self, targets: np.ndarray) -> np.ndarray:
        import torch

        wanted = torch.from_numpy(targets).to("cuda")
        rows = []
        for row, target in enumerate(wanted):  # bounded memory
            logits = torch.from_numpy(self.array[row].copy()).to("cuda")
            chosen = logits.gather(-1, target[:, None]).squeeze(-1)
            rows.append((logits.logsumexp(-1).double() - chosen.double()).cpu())
        return torch.stack(rows).numpy()
