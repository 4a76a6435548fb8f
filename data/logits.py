"""The buffer in which the model leaves its logits, and the scoring of them.

The harness makes it and the model's process maps it, so nothing that the model wrote is ever parsed:
it is an array of floats, whatever it holds. On a CPU it is a mapped file that numpy reads; on CUDA it
is device memory shared by IPC handle, scored where it is.
"""

from __future__ import annotations

import base64
import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class Logits(Protocol):
    """fp32 (rows, length, vocabulary), seen from the harness."""

    def handle(self) -> dict[str, Any]:
        """What `open_logits` needs in the other process, as JSON."""

    def nats(self, targets: np.ndarray) -> np.ndarray:
        """-log p of each target under the normalised logits, float64 (rows, length).

        Not finite where any logit of the position is not.
        """

    def row(self, index: int) -> np.ndarray:
        """A copy of one row's logits, fp32 (length, vocabulary)."""


class HostLogits:
    """Logits in a mapped file."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        import numpy as np

        self.path = path
        self.array = np.memmap(path, dtype=np.float32, mode="w+", shape=shape)

    def handle(self) -> dict[str, Any]:
        return {"kind": "host", "path": str(self.path), "shape": self.array.shape}

    def nats(self, targets: np.ndarray) -> np.ndarray:
        import numpy as np

        nats = np.empty(targets.shape)
        with np.errstate(all="ignore"):  # what is not finite stays so, and is found by the caller
            for row, logits in enumerate(self.array):  # one row at a time stays in the cache
                shifted = logits - logits.max(axis=-1, keepdims=True)
                chosen = shifted[np.arange(len(shifted)), targets[row]].astype(np.float64)
                total = np.exp(shifted, out=shifted).sum(axis=-1, dtype=np.float64)
                nats[row] = np.log(total) - chosen
        return nats

    def row(self, index: int) -> np.ndarray:
        import numpy as np

        return np.array(self.array[index])


class CudaLogits:
    """Logits in device memory."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        import torch

        self.tensor = torch.empty(shape, dtype=torch.float32, device="cuda")

    def handle(self) -> dict[str, Any]:
        # Pickled here and read by the child: data flows from the trusted side only.
        from multiprocessing.reduction import ForkingPickler

        from torch.multiprocessing import reductions

        reductions.init_reductions()
        pickled = bytes(ForkingPickler.dumps(self.tensor))
        return {"kind": "cuda", "pickled": base64.b64encode(pickled).decode()}

    def nats(self, targets: np.ndarray) -> np.ndarray:
        import torch

        wanted = torch.from_numpy(targets).to("cuda")
        rows = []
        for logits, target in zip(self.tensor, wanted, strict=True):  # bounded memory
            chosen = logits.gather(-1, target[:, None]).squeeze(-1)
            rows.append((logits.logsumexp(-1).double() - chosen.double()).cpu())
        return torch.stack(rows).numpy()

    def row(self, index: int) -> np.ndarray:
        return self.tensor[index].cpu().numpy()


def make_logits(device: str, path: Path, shape: tuple[int, int, int]) -> Logits:
    """The buffer for a device; `path` is made where it is a file."""
    return CudaLogits(shape) if device == "cuda" else HostLogits(path, shape)


def open_logits(handle: dict[str, Any]) -> Tensor:
    """In the model's process: the buffer as a tensor, fp32 (rows, length, vocabulary)."""
    import torch

    if handle["kind"] == "cuda":
        from multiprocessing.reduction import ForkingPickler

        tensor: Tensor = ForkingPickler.loads(base64.b64decode(handle["pickled"]))
        return tensor
    with Path(handle["path"]).open("r+b") as file:
        return torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=torch.float32).view(handle["shape"])
