"""What training is given: settings, tokens on request, and a way to report its loss.

This is the interface between the fixed task and `model.train`. It runs in the child process; the
harness at the other end of the line counts tokens and keeps the time.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from data.feed import REPLY
from data.settings import TrainSettings

CURVE_POINTS = 100  # loss reports sent in a run, about


def send(line: socket.socket, *words: object) -> None:
    """One message to the harness."""
    line.sendall((" ".join(str(word) for word in words).replace("\n", "\\n") + "\n").encode()[:4000])


@dataclass(frozen=True)
class Step:
    """An optimizer step: its number from 0, and the share of the budget spent before it."""

    index: int
    progress: float


class Task:
    """One training run's side of the line."""

    def __init__(
        self,
        params: Mapping[str, Any],
        settings: TrainSettings,
        vocab_size: int,
        line: socket.socket,
        windows: Tensor,
    ) -> None:
        self.params = params  # the whole of params.yaml
        self.tokens = settings.tokens  # the budget
        self.sequence_len = settings.sequence_len
        self.micro_tokens = settings.micro_tokens
        self.compile = settings.compile
        self.device = torch.device(settings.device)
        self.vocab_size = vocab_size
        self._timed = settings.max_seconds is not None
        self._line = line
        self._windows = windows  # int64, shared with the harness, which fills it
        self._progress = 0.0
        self._ended = False
        self._loss = torch.zeros(())
        self._losses = 0
        self._step = 0
        self._interval = 1

    def steps(self, batch_tokens: int) -> Iterator[Step]:
        """Steps until the budget holds no further `batch_tokens`, or the run's time is over."""
        total = self.tokens // batch_tokens
        self._interval = 1 if self._timed else max(1, total // CURVE_POINTS)
        for index in range(total):
            if self._ended:
                return
            yield Step(index, self._progress if self._timed else index / total)

    def batch(self, rows: int, length: int | None = None) -> tuple[Tensor, Tensor]:
        """Inputs and targets, int64 (rows, length) on the device; targets are one token ahead.

        `length` is at most, and by default, `sequence_len`. The harness counts every token; asking
        for more than the budget ends the run.
        """
        length = self.sequence_len if length is None else length
        send(self._line, "next", rows, length)
        reply = b""
        while len(reply) < REPLY.size:
            data = self._line.recv(REPLY.size - len(reply))
            if not data:
                raise SystemExit(1)  # the harness has ended the run
            reply += data
        status, self._progress = REPLY.unpack(reply)
        if status == b".":
            self._ended = True  # the clock ran out: the last windows come once more
        windows = self._windows[: rows * (length + 1)].view(rows, length + 1).to(self.device)
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    def report(self, step: int, loss: Tensor) -> None:
        """The mean loss in nats per token of optimizer step `step`, a tensor (). Cheap.

        A loss that is not finite, or beyond `train.loss_limit`, ends the run.
        """
        self._loss = self._loss.to(loss.device) + loss.detach()
        self._losses += 1
        self._step = step
        if self._losses == self._interval:
            self.flush()

    def flush(self) -> None:
        """Sends the mean of the losses since the last time."""
        if self._losses:
            send(self._line, "loss", self._step, self._loss.item() / self._losses)
            self._loss, self._losses = torch.zeros(()), 0
