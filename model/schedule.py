"""How learning rates, momentum and weight decay move over a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Shares of the run; params.yaml says what each key means."""

    warmup: float
    warmdown: float
    final_lr: float
    weight_decay_final: float

    def lr(self, progress: float) -> float:
        """Factor on every learning rate: linear warm-up, constant, linear warm-down.

        `progress` is the share of the run's budget that is spent, in [0, 1).
        """
        if progress < self.warmup:
            return progress / self.warmup
        if progress <= 1 - self.warmdown:
            return 1.0
        left = (1 - progress) / self.warmdown
        return left + (1 - left) * self.final_lr

    def weight_decay(self, progress: float) -> float:
        """Factor on the weight decay: linear from 1 to `weight_decay_final`."""
        return 1 + progress * (self.weight_decay_final - 1)


def momentum(step: int, start: float, end: float, warmup: int) -> float:
    """Muon's momentum at `step`: linear from `start` to `end` over `warmup` steps, then constant."""
    share = min(step / warmup, 1.0) if warmup > 0 else 1.0
    return (1 - share) * start + share * end
