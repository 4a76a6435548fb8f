"""Operations whose plain PyTorch form wastes memory passes on a CPU, with hand-written gradients.

At the lab's sizes an elementwise pass over the activations costs about as much as a matrix product,
so each function here is written for few passes. Each one equals the plain expression in its
docstring; on other devices that expression is used, and torch.compile fuses it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-6
HEAD_ROWS = 512  # tokens per piece of the head: 512 x 1024 logits fit the L2 cache


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: float) -> Tensor:
        # y = gain * x / rms(x), rms over the last axis
        size = x.size(-1)
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = scale.square_().add_(size * EPS).rsqrt_().mul_(gain * size**0.5)
        y = x * scale
        ctx.save_for_backward(y, scale)
        ctx.mean = 1 / (size * gain**2)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # dx = scale * (dy - y * mean(dy * y) / gain^2)
        y, scale = ctx.saved_tensors
        dot = (grad * y).sum(-1, keepdim=True).mul_(-ctx.mean)
        return torch.addcmul(grad, y, dot).mul_(scale), None


def rms_norm(x: Tensor, gain: float = 1.0) -> Tensor:
    """`gain * F.rms_norm(x)` over the last axis, without parameters. Any shape."""
    if x.device.type == "cpu":
        return _RMSNorm.apply(x, gain)
    y = F.rms_norm(x, (x.size(-1),), eps=EPS)
    return y if gain == 1.0 else gain * y


class _ReluSquared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        # x is the fresh output of a matrix product whose gradient does not need it: reuse its memory
        x = x.relu_()
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (grad * x).mul_(2)


def relu_squared(x: Tensor) -> Tensor:
    """`F.relu(x).square()` (So et al. 2021, https://arxiv.org/abs/2109.08668). Any shape."""
    if x.device.type == "cpu" and torch.is_grad_enabled():
        return _ReluSquared.apply(x)
    return F.relu(x).square()


class _SoftcappedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, cap: float) -> Tensor:
        # cap * tanh(z / cap) = 2 * cap * s - cap with s = sigmoid(2 * z / cap), and softmax does not
        # see the constant. The gradient is found in the same piece-wise pass, so that the
        # (tokens, vocabulary) matrix never exists as a whole: with p = softmax(2 * cap * s),
        # dz = (p - onehot) * 4 * s * (1 - s).
        tokens = x.size(0)
        loss = x.new_zeros(())
        grad_x = torch.empty_like(x)
        grad_weight = torch.zeros_like(weight)
        for start in range(0, tokens, HEAD_ROWS):
            rows = slice(start, start + HEAD_ROWS)
            target = targets[rows, None]
            s = (x[rows] @ weight.t()).mul_(2 / cap).sigmoid_()
            p = F.softmax(s * (2 * cap), dim=-1)
            loss -= p.gather(1, target).log_().sum()  # p >= exp(-2 * cap) / V, so its log is finite
            p.scatter_add_(1, target, p.new_full((1, 1), -1.0).expand(p.size(0), 1))
            dz = p.mul_(torch.addcmul(s, s, s, value=-1, out=s))
            torch.mm(dz, weight, out=grad_x[rows])
            grad_weight.addmm_(dz.t(), x[rows])
        scale = 4 / tokens
        ctx.save_for_backward(grad_x.mul_(scale), grad_weight.mul_(scale))
        return loss / tokens

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_x, grad_weight = ctx.saved_tensors
        return grad_x * grad, grad_weight * grad, None, None


def softcap(logits: Tensor, cap: float) -> Tensor:
    """`cap * tanh(logits / cap)`: logits kept in (-cap, cap) (Gemma 2, arXiv 2408.00118). Any shape."""
    return cap * torch.tanh(logits / cap)


def softcapped_loss(x: Tensor, weight: Tensor, targets: Tensor, cap: float) -> Tensor:
    """Mean cross-entropy in nats of `softcap(x @ weight.T, cap)` against `targets`.

    x (tokens, dim), weight (vocabulary, dim), targets (tokens,).
    """
    if x.device.type == "cpu" and torch.is_grad_enabled():
        return _SoftcappedLoss.apply(x, weight, targets, cap)
    logits = F.linear(x, weight.to(x.dtype)).float()
    return F.cross_entropy(softcap(logits, cap), targets)
