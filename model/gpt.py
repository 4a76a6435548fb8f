"""The network: nanochat's GPT, every constant of it a parameter.

Rotary embeddings, parameterless norms (of queries and keys too), ReLU^2, value embeddings with gates
on alternating layers, per-layer scalars on the residual stream and on the token embedding, sliding
windows, capped logits, an untied head and zero-initialised projections.

Shapes: B rows, T tokens, C = dim, H heads of D = head_dim channels (C = H * D), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.kernels import relu_squared, rms_norm, softcap, softcapped_loss


@dataclass(frozen=True)
class GPTConfig:
    """The group `model` of params.yaml, where each key is explained."""

    depth: int
    aspect_ratio: int
    head_dim: int
    mlp_ratio: int
    window_pattern: str
    short_window: float
    rope_base: float
    qk_scale: float
    softcap: float
    value_embedding_every: int
    gate_channels: int
    gate_range: float
    resid_init: float
    x0_init: float
    embedding_init: float
    unembedding_init: float
    matrix_init: float
    mlp_init: float

    @property
    def dim(self) -> int:
        """Width C: `depth * aspect_ratio`, rounded up to whole heads."""
        return self.heads * self.head_dim

    @property
    def heads(self) -> int:
        """Attention heads H."""
        return -(-self.depth * self.aspect_ratio // self.head_dim)

    def window(self, layer: int, length: int) -> int:
        """Tokens that a position of `layer` attends to, itself included, in a context of `length`."""
        kind = self.window_pattern[layer % len(self.window_pattern)]
        short = kind == "S" and layer != self.depth - 1
        return max(1, round(length * self.short_window)) if short else length

    def has_value_embedding(self, layer: int) -> bool:
        """Every n-th layer, counted from the last one, which always has one (unless none has)."""
        every = self.value_embedding_every
        return every > 0 and (self.depth - 1 - layer) % every == 0


def rotary_angles(length: int, head_dim: int, base: float) -> Tensor:
    """Rotations exp(-i * t * base^(-2j/D)) for position t and pair j: complex64 (T, 1, D/2).

    RoFormer, https://arxiv.org/abs/2104.09864.
    """
    frequencies = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies)
    return torch.polar(torch.ones_like(angles), -angles).to(torch.complex64)[:, None, :]


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotates neighbouring channel pairs of x (..., T, H, D) by their position's angles, in fp32."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * angles).flatten(-2).to(x.dtype)


def window_mask(length: int, window: int, device: torch.device) -> Tensor:
    """True where query (row) may look at key (column): 0 <= row - column < window. (T, T)"""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position
    return (distance >= 0) & (distance < window)


def attend(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Causal attention over (B, T, H, D) within `window` tokens. Returns (B, T, H, D).

    A full window takes the fused causal kernel: a mask costs a CPU more than it saves.
    """
    length = q.size(1)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if window >= length:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        mask = window_mask(length, window, q.device)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return y.transpose(1, 2)


class Linear(nn.Linear):
    """A matrix without bias, cast to the activations' dtype (fp32 weights, bf16 compute on CUDA)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Attention(nn.Module):
    """Causal self-attention with normed queries and keys and a gated value embedding."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.qkv = Linear(config.dim, 3 * config.dim)  # one product instead of three
        self.proj = Linear(config.dim, config.dim)
        gated = config.has_value_embedding(layer)
        self.gate = Linear(min(config.gate_channels, config.dim), config.heads) if gated else None

    def forward(self, x: Tensor, value: Tensor | None, angles: Tensor, window: int) -> Tensor:
        """x (B, T, C), value (B, T, C) or None, angles (T, 1, D/2). Returns (B, T, C)."""
        heads = (self.config.heads, self.config.head_dim)
        qk, v = self.qkv(x).split((2 * self.config.dim, self.config.dim), dim=-1)
        qk = qk.unflatten(-1, (2 * heads[0], heads[1]))  # (B, T, 2H, D)
        v = v.unflatten(-1, heads)  # (B, T, H, D)
        if self.gate is not None and value is not None:
            # ResFormer, https://arxiv.org/abs/2410.17897, with a gate per head that starts at
            # half its range
            gate = self.config.gate_range * torch.sigmoid(self.gate(x[..., : self.gate.in_features]))
            v = torch.addcmul(v, gate.unsqueeze(-1), value.unflatten(-1, heads))
        # a rotation keeps the norm, so norm and rotation commute
        qk = rotate(rms_norm(qk, self.config.qk_scale), angles)
        q, k = qk.split(heads[0], dim=2)
        return self.proj(attend(q, k, v, window).flatten(2))


class MLP(nn.Module):
    """Two matrices with ReLU^2 in between."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.fc = Linear(config.dim, config.mlp_ratio * config.dim)
        self.proj = Linear(config.mlp_ratio * config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        return self.proj(relu_squared(self.fc(x)))


class Block(nn.Module):
    """Attention and MLP, each on the normed residual stream and added back to it."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attention = Attention(config, layer)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, value: Tensor | None, angles: Tensor, window: int) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        x = x + self.attention(rms_norm(x), value, angles, window)
        return x + self.mlp(rms_norm(x))


class GPT(nn.Module):
    """The language model: `model(tokens)` gives logits, `model.loss(tokens, targets)` the mean loss."""

    angles: Tensor

    def __init__(self, config: GPTConfig, vocab_size: int, sequence_len: int) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.sequence_len = sequence_len
        self.embedding = nn.Embedding(vocab_size, config.dim)
        self.values = nn.ModuleDict(
            {
                str(layer): nn.Embedding(vocab_size, config.dim)
                for layer in range(config.depth)
                if config.has_value_embedding(layer)
            }
        )
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.depth))
        self.head = Linear(config.dim, vocab_size)
        # x <- resid[i] * x + x0[i] * embedding before layer i (modded-nanogpt)
        self.resid_scale = nn.Parameter(torch.full((config.depth,), config.resid_init))
        self.x0_scale = nn.Parameter(torch.full((config.depth,), config.x0_init))
        angles = rotary_angles(sequence_len, config.head_dim, config.rope_base)
        self.register_buffer("angles", angles, persistent=False)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Initialises every weight from torch's default generator.

        Matrices are uniform (no outliers) with standard deviation `init / sqrt(C)`; the projections
        back into the residual stream and the gates are zero, so every block starts as identity.
        """
        config = self.config
        nn.init.normal_(self.embedding.weight, std=config.embedding_init)
        nn.init.normal_(self.head.weight, std=config.unembedding_init)
        bound = (3 / config.dim) ** 0.5 * config.matrix_init
        mlp_bound = (3 / config.dim) ** 0.5 * config.mlp_init
        for value in self.values.parameters():
            nn.init.uniform_(value, -bound, bound)
        for block in self.block_list():
            nn.init.uniform_(block.attention.qkv.weight, -bound, bound)
            nn.init.zeros_(block.attention.proj.weight)
            nn.init.uniform_(block.mlp.fc.weight, -mlp_bound, mlp_bound)
            nn.init.zeros_(block.mlp.proj.weight)
            if block.attention.gate is not None:
                nn.init.zeros_(block.attention.gate.weight)

    def block_list(self) -> Iterator[Block]:
        """The layers in order, typed."""
        for block in self.blocks:
            assert isinstance(block, Block)
            yield block

    def trunk(self, tokens: Tensor) -> Tensor:
        """Everything but the head: tokens (B, T) to normed features (B, T, C)."""
        length = tokens.size(1)
        angles = self.angles[:length]
        dtype = torch.bfloat16 if tokens.is_cuda else torch.float32
        x = x0 = rms_norm(self.embedding(tokens).to(dtype))
        for layer, block in enumerate(self.blocks):
            x = self.resid_scale[layer] * x + self.x0_scale[layer] * x0
            value = self.values[str(layer)](tokens).to(dtype) if str(layer) in self.values else None
            x = block(x, value, angles, self.config.window(layer, length))
        return rms_norm(x)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits in fp32: tokens (B, T) to (B, T, V)."""
        return softcap(self.head(self.trunk(tokens)).float(), self.config.softcap)

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats: tokens and targets (B, T) to ()."""
        x = self.trunk(tokens).flatten(0, 1)
        return softcapped_loss(x, self.head.weight, targets.flatten(), self.config.softcap)

    def flops_per_token(self) -> float:
        """Training FLOPs per token, forward and backward, counted as nanochat does.

        6 per weight that takes part in a matrix product, and 12 * C * window per layer for the two
        products of attention (PaLM, https://arxiv.org/abs/2204.02311, appendix B), as if they were
        not causal.
        """
        matrices = sum(p.numel() for p in self.blocks.parameters()) + self.head.weight.numel()
        windows = (self.config.window(layer, self.sequence_len) for layer in range(self.config.depth))
        return 6.0 * matrices + 12.0 * self.config.dim * sum(windows)
