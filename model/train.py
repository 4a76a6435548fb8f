"""The training loop. The harness calls `train`, and `build` again to evaluate the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from data.errors import LabError
from data.settings import group
from data.task import Task
from model.gpt import GPT, GPTConfig
from model.optim import OptimConfig, Optimizer
from model.schedule import Schedule


def build(params: Mapping[str, Any], vocab_size: int, sequence_len: int) -> GPT:
    """The network that `params` (the whole of params.yaml) describe, its weights not yet set."""
    return GPT(group(GPTConfig, params, "model"), vocab_size, sequence_len)


def train(task: Task) -> GPT:
    """Trains a new network on the task's tokens until its budget is spent, and returns it."""
    model = build(task.params, task.vocab_size, task.sequence_len)
    model.init_weights()
    model.to(task.device)
    config = group(OptimConfig, task.params, "optim")
    optimizer = Optimizer(model, config, group(Schedule, task.params, "schedule"))
    loss_of = torch.compile(model.loss, dynamic=False) if task.compile else model.loss

    rows, rest = divmod(config.batch_tokens, task.sequence_len)
    if rest or not rows:
        raise LabError(
            f"optim.batch_tokens is {config.batch_tokens}: it must be a multiple of "
            f"train.sequence_len, {task.sequence_len}"
        )
    most = max(1, task.micro_tokens // task.sequence_len)  # rows that one forward pass may hold
    for step in task.steps(config.batch_tokens):
        total = torch.zeros((), device=task.device)
        for done in range(0, rows, most):
            count = min(most, rows - done)
            loss = loss_of(*task.batch(count)) * (count / rows)
            loss.backward()
            total += loss.detach()
        optimizer.step(step.index, step.progress)
        task.report(step.index, total)
    return model
