"""Slots: what one training has to itself, a GPU or a share of the cores.

A slot's token is a lock on a file, which the launcher holds while a stage command runs and the kernel drops
with it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ar.git.repo import Repo
from ar.runs.gpu_meter import VISIBLE, gpus
from ar.stage.files import Place

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Slot:
    """One place to train.

    Args:
        name: of its token file; what views call it.
        gpu: as `CUDA_VISIBLE_DEVICES` names it; empty on a CPU.
        threads: how many a stage is told to use.
    """

    name: str
    gpu: str
    threads: int

    @property
    def env(self) -> dict[str, str]:
        pinned = {VISIBLE: self.gpu} if self.gpu else {}
        return pinned | {name: str(self.threads) for name in _THREADS}

    @property
    def share(self) -> float:
        """Of the machine."""
        return min(1.0, self.threads / (os.cpu_count() or 1))

    def place(self, repo: Repo) -> Place:
        """For the launcher."""
        folder = repo.git_dir / "ar" / "slots"
        folder.mkdir(parents=True, exist_ok=True)
        return Place(self.name, self.env, str(folder / self.name))


def divide(jobs: int) -> list[Slot]:
    """`jobs` slots: a GPU each as far as there are any (then they are shared), else a share of the cores."""
    found = gpus()
    threads = max(1, (os.cpu_count() or 1) // jobs)
    if not found:
        return [Slot(f"cpu{place}", "", threads) for place in range(jobs)]
    slots = []
    for place in range(jobs):
        turn, which = divmod(place, len(found))
        slots.append(Slot(f"gpu{which}" + (f".{turn + 1}" if turn else ""), found[which], threads))
    return slots


def every_gpu() -> list[Slot]:
    """A slot for each GPU: where `ar worker` may train. On a CPU none: it need not wait for others."""
    found = gpus()
    threads = max(1, (os.cpu_count() or 1) // max(1, len(found)))
    return [Slot(f"gpu{place}", gpu, threads) for place, gpu in enumerate(found)]
