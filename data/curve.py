"""The loss curve, written while training goes on: loss.csv, which DVC plots."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TextIO

COLUMNS = ("step", "tokens", "seconds", "train_loss", "train_bpb")


class Curve:
    """Rows as they come; tokens and seconds are the harness's own."""

    def __init__(self, path: Path, bytes_per_token: float) -> None:
        """`bytes_per_token` is the training split's mean: it turns nats per token into bits per byte."""
        self.file: TextIO = path.open("w", encoding="utf-8", buffering=1)
        self.file.write(",".join(COLUMNS) + "\n")
        self.bits = 1 / (math.log(2) * bytes_per_token)

    def add(self, step: int, tokens: int, seconds: float, loss: float) -> float:
        """A row; `loss` in nats per token. Returns it in bits per byte."""
        bpb = loss * self.bits
        self.file.write(f"{step},{tokens},{seconds:.3f},{loss:.5f},{bpb:.5f}\n")
        return bpb

    def close(self) -> None:
        """No more rows."""
        self.file.close()
