"""Training speed on this machine: tokens/s of the lab's model and optimizer against a plain one.

The reference below is the same model and the same optimizer written straightforwardly in fp32
PyTorch, one operation after the other, as nanochat's sources read. Both take the same steps on the
same batches, in turns; the table shows medians, and the best step against the best product. What a
step achieves is also given as a share of the machine's rate for large fp32 matrix products (sgemm),
measured in turns with the steps. FLOPs are nanochat's count: 6 per weight in a matrix product and
token, and 12 * dim * length per layer and token for attention, as if it were not causal.

Run it on an idle machine: threads that wait for a core that is taken make any share meaningless.

    python benchmarks/train_throughput.py --depth 4 --length 256 --batch 4096 --threads 2
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from data.settings import group, load  # noqa: E402 (the lab is run from its root, not installed)
from model.gpt import GPT, GPTConfig  # noqa: E402
from model.optim import POLAR_EXPRESS, OptimConfig, Optimizer  # noqa: E402
from model.schedule import Schedule, momentum  # noqa: E402

SGEMM = 2048  # rows and columns


class Plain(nn.Module):
    """The lab's GPT as one would write it first. Takes over the weights of a `GPT`."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.config = config = model.config
        model = copy.deepcopy(model)
        self.wte, self.head = model.embedding, nn.Parameter(model.head.weight.detach())
        self.values = model.values
        self.layers: list[dict[str, nn.Parameter]] = []
        for block in model.block_list():
            q, k, v = block.attention.qkv.weight.detach().chunk(3)
            weights = {
                "q": q, "k": k, "v": v, "o": block.attention.proj.weight,
                "fc": block.mlp.fc.weight, "proj": block.mlp.proj.weight,
            }  # fmt: skip
            if block.attention.gate is not None:
                weights["gate"] = block.attention.gate.weight
            self.layers.append({name: nn.Parameter(w.detach().clone()) for name, w in weights.items()})
        self.resid, self.x0 = model.resid_scale, model.x0_scale
        size = config.head_dim
        channel = torch.arange(0, size, 2, dtype=torch.float32)
        angle = torch.outer(torch.arange(model.sequence_len).float(), config.rope_base ** (-channel / size))
        self.cos: Tensor
        self.sin: Tensor
        self.cos, self.sin = angle.cos()[None, :, None], angle.sin()[None, :, None]

    def rotary(self, x: Tensor) -> Tensor:
        """Rotates channel pairs (2j, 2j + 1)."""
        length = x.size(1)
        cos, sin = self.cos[:, :length], self.sin[:, :length]
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * cos + b * sin, -a * sin + b * cos), dim=-1).flatten(-2)

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats."""
        config = self.config
        rows, length = tokens.shape

        def norm(x: Tensor) -> Tensor:
            return F.rms_norm(x, (x.size(-1),))

        x = x0 = norm(self.wte(tokens))
        for index, layer in enumerate(self.layers):
            x = self.resid[index] * x + self.x0[index] * x0
            h = norm(x)
            shape = (rows, length, config.heads, config.head_dim)
            q, k, v = (F.linear(h, layer[name]).view(shape) for name in ("q", "k", "v"))
            if "gate" in layer:
                value = self.values[str(index)](tokens).view(shape)
                gate = config.gate_range * torch.sigmoid(
                    F.linear(h[..., : layer["gate"].size(1)], layer["gate"])
                )
                v = v + gate.unsqueeze(-1) * value
            q, k = norm(self.rotary(q)) * config.qk_scale, norm(self.rotary(k)) * config.qk_scale
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + F.linear(y.transpose(1, 2).contiguous().view(rows, length, -1), layer["o"])
            x = x + F.linear(F.relu(F.linear(norm(x), layer["fc"])).square(), layer["proj"])
        logits = F.linear(norm(x), self.head)
        logits = config.softcap * torch.tanh(logits / config.softcap)
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


class PlainOptimizer:
    """Muon matrix by matrix and torch's default AdamW."""

    def __init__(self, model: Plain, config: OptimConfig, schedule: Schedule) -> None:
        self.config, self.schedule = config, schedule
        self.matrices = [p for layer in model.layers for p in layer.values()]
        self.state = [
            (
                torch.zeros_like(p),
                torch.zeros(p.size(0), 1) if p.size(0) >= p.size(1) else torch.zeros(1, p.size(1)),
            )
            for p in self.matrices
        ]
        scale = (model.config.dim / config.reference_dim) ** -0.5
        betas = (config.adam_beta1, config.adam_beta2)
        embeddings = [model.wte.weight, *model.values.parameters()]
        groups = [
            {"params": [model.head], "lr": config.unembedding_lr * scale, "betas": betas},
            {"params": embeddings, "lr": config.embedding_lr * scale, "betas": betas},
            {"params": [model.resid], "lr": config.scalar_lr * config.resid_lr_scale, "betas": betas},
            {"params": [model.x0], "lr": config.scalar_lr, "betas": (config.x0_beta1, config.adam_beta2)},
        ]
        self.adam = torch.optim.AdamW(groups, eps=config.adam_eps, weight_decay=0.0)
        self.rates = [float(entry["lr"]) for entry in groups]

    @torch.no_grad()
    def step(self, step: int, progress: float) -> None:
        """As `model.optim.Optimizer.step`."""
        config = self.config
        factor = self.schedule.lr(progress)
        for entry, rate in zip(self.adam.param_groups, self.rates, strict=True):
            entry["lr"] = rate * factor
        self.adam.step()
        speed = momentum(step, config.momentum_start, config.momentum, config.momentum_warmup)
        decay = config.weight_decay * self.schedule.weight_decay(progress)
        for p, (first, second) in zip(self.matrices, self.state, strict=True):
            assert p.grad is not None
            first.lerp_(p.grad, 1 - speed)
            x = p.grad.lerp(first, speed)
            x = x / (x.norm() * config.ns_margin + 1e-6)
            tall = x.size(0) > x.size(1)
            for a, b, c in POLAR_EXPRESS[: config.ns_steps]:
                gram = x.T @ x if tall else x @ x.T
                poly = b * gram + c * (gram @ gram)
                x = a * x + (x @ poly if tall else poly @ x)
            axis = -1 if p.size(0) >= p.size(1) else -2
            square = x.square().mean(dim=axis, keepdim=True)
            second.lerp_(square, 1 - config.muon_beta2)
            inverse = second.clamp_min(1e-10).rsqrt()
            x = x * inverse * (square.sum() / (square * inverse.square()).sum()).sqrt()
            lr = config.matrix_lr * factor * max(1.0, p.size(0) / p.size(1)) ** 0.5
            p.sub_(lr * x + lr * decay * p * ((x * p) >= 0))
        for p in self.matrices:
            p.grad = None
        self.adam.zero_grad()


def stepper(model: Any, optimizer: Any, batches: list[tuple[Tensor, Tensor]]) -> Callable[[], float]:
    """A training step on the next batch; returns its loss."""
    count = 0

    def step() -> float:
        nonlocal count
        loss = model.loss(*batches[count % len(batches)])
        loss.backward()
        optimizer.step(count, 0.0)
        count += 1
        return loss.item()

    return step


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--length", type=int, default=256, help="tokens of a row (default: 256)")
    parser.add_argument("--vocab", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=4096, help="tokens of a step (default: 4096)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=15, help="timed steps of each (default: 15)")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(1)
    params = load(ROOT / "params.yaml")
    params["model"]["depth"] = args.depth
    config, schedule = group(OptimConfig, params, "optim"), group(Schedule, params, "schedule")
    ours = GPT(group(GPTConfig, params, "model"), args.vocab, args.length)
    ours.init_weights()
    plain = Plain(ours)
    shape = (args.batch // args.length, args.length + 1)
    windows = [torch.randint(args.vocab, shape) for _ in range(4)]
    batches = [(w[:, :-1].contiguous(), w[:, 1:].contiguous()) for w in windows]
    steps = {
        "lab": stepper(ours, Optimizer(ours, config, schedule), batches),
        "reference": stepper(plain, PlainOptimizer(plain, config, schedule), batches),
    }
    a, b, c = (torch.randn(SGEMM, SGEMM) for _ in range(3))
    times: dict[str, list[float]] = {"sgemm": [], **{name: [] for name in steps}}
    losses = {name: [step() for _ in range(3)] for name, step in steps.items()}  # warm-up
    for _ in range(args.steps):
        times["sgemm"].append(seconds(lambda: torch.mm(a, b, out=c)))
        for name, step in steps.items():
            times[name].append(seconds(step))

    median = {name: statistics.median(values) for name, values in times.items()}
    best = {name: min(values) for name, values in times.items()}
    work = 2 * SGEMM**3
    flops = ours.flops_per_token()
    tokens = shape[0] * args.length
    difference = max(abs(x - y) for x, y in zip(*losses.values(), strict=True))
    print(
        f"depth {args.depth}, dim {ours.config.dim}, T {args.length}, vocabulary {args.vocab}, "
        f"{tokens} tokens a step, {args.threads} threads, {args.steps} steps; {flops / 1e6:.2f} MFLOP a token"
    )
    print(f"sgemm: median {work / median['sgemm'] / 1e9:.1f}, best {work / best['sgemm'] / 1e9:.1f} GFLOP/s")
    print(f"{'':10} {'ms a step':>10} {'tokens/s':>10} {'GFLOP/s':>9} {'of sgemm':>9} {'best of best':>13}")
    for name in steps:
        rate = tokens * flops / median[name]
        share = rate / (work / median["sgemm"])
        top = tokens * flops / best[name] / (work / best["sgemm"])
        print(
            f"{name:10} {median[name] * 1e3:10.1f} {tokens / median[name]:10,.0f} {rate / 1e9:9.1f} "
            f"{share:9.1%} {top:13.1%}"
        )
    print(f"lab / reference: {median['reference'] / median['lab']:.2f}")
    print(f"largest difference of their first losses: {difference:.1e} nats")


if __name__ == "__main__":
    main()
