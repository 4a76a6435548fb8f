"""What a worker on a node, and a node of the cluster, say of themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from ar.formats import load_json
from ar.record import Record


@dataclass(frozen=True)
class State(Record):
    """A slot's worker.

    Args:
        slot: its number at the head.
        worker: its clone, by the name that leases have.
        gpus: that it may use, as `CUDA_VISIBLE_DEVICES` names them; empty for none.
        runs: names of the experiments that its clone has now.
        ended: whether its process has ended, or never came up.
        said: the last that it said, or why it did not come up.
    """

    slot: int
    host: str
    worker: str = ""
    gpus: str = ""
    runs: tuple[str, ...] = ()
    ended: bool = False
    said: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls.from_json(load_json(text))

    def __str__(self) -> str:
        return json.dumps(self.to_json())


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, with what there is on it of each kind and what of that is free."""

    name: str
    host: str
    is_alive: bool
    cpus: float = 0.0
    gpus: float = 0.0
