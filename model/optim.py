"""Muon for the matrices, AdamW for everything else, in one optimizer step.

Muon (https://kellerjordan.github.io/posts/muon/) replaces the momentum of a matrix by the nearest
orthogonal matrix, found here by Polar Express (https://arxiv.org/abs/2505.16932), then evens out the
size of its rows (NorMuon, https://arxiv.org/abs/2510.05491). Weight decay is cautious: it acts only
where it agrees with the update's direction (https://arxiv.org/abs/2510.12402).

Matrices of one shape are stacked and updated together: shapes below are (n, rows, columns).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from model.gpt import GPT
from model.schedule import Schedule, momentum

# Quintic coefficients (a, b, c) of x <- a x + b x^3 + c x^5, one row an iteration: the optimal
# composition of five for singular values in [1e-3, 1] with safety factor 2e-2, cushion 2
# (https://arxiv.org/abs/2505.16932, algorithm 1).
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


@dataclass(frozen=True)
class OptimConfig:
    """The group `optim` of params.yaml, where each key is explained."""

    batch_tokens: int
    matrix_lr: float
    embedding_lr: float
    unembedding_lr: float
    scalar_lr: float
    resid_lr_scale: float
    reference_dim: int
    adam_beta1: float
    adam_beta2: float
    x0_beta1: float
    adam_eps: float
    momentum: float
    momentum_start: float
    momentum_warmup: int
    ns_steps: int
    ns_margin: float
    muon_beta2: float
    weight_decay: float


def orthogonalize(x: Tensor, steps: int, margin: float) -> Tensor:
    """The nearest orthogonal matrix of each (rows, columns) of x, rows >= columns, roughly.

    With x = U S V^T it returns U f(S) V^T, f close to 1 on singular values above 1e-3 of the
    Frobenius norm. Shape (n, rows, columns).
    """
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) * margin + 1e-6)
    for a, b, c in POLAR_EXPRESS[:steps]:
        gram = x.mT @ x  # the small side
        x = torch.baddbmm(x, x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), beta=a)
    return x


class Muon:
    """One stack of equally shaped matrices, their momentum and their rows' second moment."""

    def __init__(self, matrices: list[Tensor], gains: list[float], config: OptimConfig) -> None:
        """`matrices` are views (rows, columns), rows >= columns, into parameters.

        `gains` are factors on the learning rate, one a matrix.
        """
        self.matrices = matrices
        self.config = config
        self.gains = matrices[0].new_tensor(gains)[:, None, None]  # (n, 1, 1)
        self.momentum = torch.zeros_like(torch.stack(matrices))  # (n, rows, columns)
        self.second = torch.zeros_like(self.momentum[..., :1])  # (n, rows, 1)

    def step(self, gradients: list[Tensor], lr: float, decay: float, momentum: float) -> None:
        """Updates the matrices in place. `gradients` in their order and shapes."""
        gradient = torch.stack(gradients)
        self.momentum.lerp_(gradient, 1 - momentum)
        gradient.lerp_(self.momentum, momentum)  # Nesterov
        update = orthogonalize(gradient, self.config.ns_steps, self.config.ns_margin)
        # NorMuon: rows scaled by their running size, the Frobenius norm kept
        square = update.square().mean(dim=-1, keepdim=True)  # (n, rows, 1)
        self.second.lerp_(square, 1 - self.config.muon_beta2)
        inverse = self.second.clamp_min(1e-10).rsqrt_()
        before = square.sum(dim=-2, keepdim=True)
        after = (square * inverse.square()).sum(dim=-2, keepdim=True)
        update.mul_(inverse * (before / after.clamp_min(1e-20)).sqrt_())
        weights = torch.stack(self.matrices)
        if decay:
            update.addcmul_(weights, (update * weights).ge_(0), value=decay)
        weights.addcmul_(update, self.gains, value=-lr)
        torch._foreach_copy_(self.matrices, list(weights.unbind(0)))


def matrix_views(model: GPT) -> Iterator[tuple[Tensor, list[Tensor], bool]]:
    """Every parameter that Muon updates, the matrices in it, and whether they are seen transposed.

    Queries, keys and values are three matrices in one parameter. Wide matrices are transposed, so
    that all are at least as tall as wide and the MLP's two share a stack.
    """
    for block in model.block_list():
        yield block.attention.qkv.weight, list(block.attention.qkv.weight.data.chunk(3)), False
        yield block.attention.proj.weight, [block.attention.proj.weight.data], False
        yield block.mlp.fc.weight, [block.mlp.fc.weight.data], False
        yield block.mlp.proj.weight, [block.mlp.proj.weight.data], True
        if block.attention.gate is not None:
            gate = block.attention.gate.weight
            yield gate, [gate.data], gate.size(0) < gate.size(1)


class Optimizer:
    """All parameters of a GPT, each with its rule and its learning rate."""

    def __init__(self, model: GPT, config: OptimConfig, schedule: Schedule) -> None:
        self.config = config
        self.schedule = schedule
        self.stacks: list[tuple[Muon, list[tuple[Tensor, int, int, bool]]]] = []
        self._stack(model)
        # AdamW rates fall with width as C^-1/2
        scale = (model.config.dim / config.reference_dim) ** -0.5
        betas = (config.adam_beta1, config.adam_beta2)
        groups: list[tuple[list[Tensor], float, tuple[float, float]]] = [
            ([model.head.weight], config.unembedding_lr * scale, betas),
            ([model.embedding.weight, *model.values.parameters()], config.embedding_lr * scale, betas),
            ([model.resid_scale], config.scalar_lr * config.resid_lr_scale, betas),
            ([model.x0_scale], config.scalar_lr, (config.x0_beta1, config.adam_beta2)),
        ]
        self.rates = [lr for _, lr, _ in groups]
        self.adam = torch.optim.AdamW(
            [{"params": params, "lr": lr, "betas": pair} for params, lr, pair in groups],
            eps=config.adam_eps,
            weight_decay=0.0,
            fused=model.head.weight.device.type in ("cpu", "cuda"),
        )

    def _stack(self, model: GPT) -> None:
        """Sorts the matrices into stacks of one shape."""
        views: dict[torch.Size, list[Tensor]] = {}
        gains: dict[torch.Size, list[float]] = {}
        places: dict[torch.Size, list[tuple[Tensor, int, int, bool]]] = {}
        for parameter, parts, transposed in matrix_views(model):
            for index, part in enumerate(parts):
                rows, columns = part.shape
                view = part.mT if transposed else part
                views.setdefault(view.shape, []).append(view)
                # a matrix that widens its input keeps the size of each output (Muon, 2024)
                gains.setdefault(view.shape, []).append(max(1.0, rows / columns) ** 0.5)
                places.setdefault(view.shape, []).append((parameter, index, len(parts), transposed))
        for shape, matrices in views.items():
            self.stacks.append((Muon(matrices, gains[shape], self.config), places[shape]))

    @torch.no_grad()
    def step(self, step: int, progress: float) -> None:
        """One update at optimizer step `step`, with `progress` in [0, 1) of the budget spent.

        Gradients are used up: they are cleared.
        """
        factor = self.schedule.lr(progress)
        for group, rate in zip(self.adam.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.adam.step()
        lr = self.config.matrix_lr * factor
        decay = self.config.weight_decay * self.schedule.weight_decay(progress)
        speed = momentum(step, self.config.momentum_start, self.config.momentum, self.config.momentum_warmup)
        for muon, places in self.stacks:
            gradients = []
            for parameter, index, parts, transposed in places:
                assert parameter.grad is not None
                gradient = parameter.grad.chunk(parts)[index]
                gradients.append(gradient.mT if transposed else gradient)
            muon.step(gradients, lr, decay, speed)
            for parameter, *_ in places:
                parameter.grad = None
        self.adam.zero_grad()
