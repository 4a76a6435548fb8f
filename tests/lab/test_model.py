"""The model, its hand-written gradients and its optimizer against plain expressions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from data.settings import group, load
from model.gpt import GPT, GPTConfig, attend, rotary_angles, rotate, window_mask
from model.kernels import relu_squared, rms_norm, softcap, softcapped_loss
from model.optim import OptimConfig, Optimizer, orthogonalize
from model.schedule import Schedule, momentum
from tests.lab.conftest import ROOT


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As the lab: other tests may be running beside."""
    torch.set_num_threads(1)


def config(**changes: Any) -> GPTConfig:
    """The default network, changed."""
    params = load(ROOT / "params.yaml")
    params["model"].update(changes)
    return group(GPTConfig, params, "model")


def gpt(vocab_size: int = 50, length: int = 16, **changes: Any) -> GPT:
    """An initialised network."""
    torch.manual_seed(0)
    model = GPT(config(**changes), vocab_size, length)
    model.init_weights()
    return model


@pytest.mark.parametrize(
    ("depth", "dim", "heads", "values"),
    [(1, 32, 1, 1), (2, 64, 2, 1), (3, 96, 3, 2), (4, 128, 4, 2), (8, 256, 8, 4)],
)
def test_depth_derives_the_rest(depth: int, dim: int, heads: int, values: int) -> None:
    model = gpt(depth=depth)
    assert (model.config.dim, model.config.heads) == (dim, heads)
    assert len(model.blocks) == depth
    assert len(model.values) == values
    assert str(depth - 1) in model.values


def test_width_is_rounded_up_to_whole_heads() -> None:
    assert config(depth=3, aspect_ratio=30, head_dim=64).dim == 128


def test_windows_follow_the_pattern_and_the_last_layer_sees_all() -> None:
    settings = config(depth=5, window_pattern="SSL", short_window=0.5)
    assert [settings.window(layer, 64) for layer in range(5)] == [32, 32, 64, 32, 64]


def test_flops_count_matrices_and_attention() -> None:
    model = gpt(vocab_size=1024, length=256, depth=4)
    matrices = 4 * 12 * 128**2 + 2 * 32 * 4 + 1024 * 128  # blocks, gates, head
    assert model.flops_per_token() == 6 * matrices + 12 * 4 * 128 * 256


def test_a_new_network_is_uniform_and_a_small_step_lowers_its_loss() -> None:
    model = gpt()
    tokens = torch.randint(50, (4, 17))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    params = load(ROOT / "params.yaml")
    optimizer = Optimizer(model, group(OptimConfig, params, "optim"), group(Schedule, params, "schedule"))
    losses = []
    for step in range(30):
        loss = model.loss(inputs, targets)
        loss.backward()
        optimizer.step(step, step / 30)
        losses.append(loss.item())
    assert losses[0] == pytest.approx(torch.tensor(50.0).log().item(), abs=0.05)
    assert losses[-1] < 0.5
    assert all(p.grad is None for p in model.parameters())


def test_every_parameter_is_trained() -> None:
    model = gpt()
    params = load(ROOT / "params.yaml")
    optimizer = Optimizer(model, group(OptimConfig, params, "optim"), group(Schedule, params, "schedule"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    tokens = torch.randint(50, (4, 17))
    for step in range(3):  # projections start at zero, and what lies behind them waits a step
        model.loss(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()).backward()
        optimizer.step(step, 0.0)
    same = [name for name, p in model.named_parameters() if torch.equal(before[name], p.detach())]
    assert not same


@pytest.mark.parametrize("pattern", ["L", "S"])
def test_logits_do_not_see_later_tokens(pattern: str) -> None:
    model = gpt(window_pattern=pattern)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    tokens = torch.randint(50, (2, 16))
    changed = tokens.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % 50
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.allclose(before[:, 9:], after[:, 9:])
    assert before.abs().max() < 20


def test_loss_equals_cross_entropy_of_the_logits() -> None:
    model = gpt()
    torch.nn.init.normal_(model.head.weight)
    tokens = torch.randint(50, (3, 17))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    expected = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    assert model.loss(inputs, targets).item() == pytest.approx(expected.item(), rel=1e-5)


def gradients(function: Any, *inputs: Tensor) -> list[Tensor]:
    """Value and gradients of a scalar made of a function's result with fixed weights."""
    leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]
    result = function(*(x * 1.0 if x.requires_grad else x for x in leaves))
    weights = torch.linspace(-1, 1, result.numel()).view(result.shape) if result.dim() else torch.tensor(2.0)
    (result * weights).sum().backward()
    return [result.detach()] + [x.grad for x in leaves if x.grad is not None]


@pytest.mark.parametrize("gain", [1.0, 1.3])
def test_rms_norm(gain: float) -> None:
    x = torch.randn(5, 7, 32)
    plain = gradients(lambda x: gain * F.rms_norm(x, (32,), eps=1e-6), x)
    torch.testing.assert_close(gradients(lambda x: rms_norm(x, gain), x), plain)


def test_relu_squared() -> None:
    x = torch.randn(40, 8)
    torch.testing.assert_close(gradients(relu_squared, x), gradients(lambda x: F.relu(x).square(), x))


@pytest.mark.parametrize("tokens", [3, 512, 1300])
def test_softcapped_loss(tokens: int) -> None:
    x, weight, targets = torch.randn(tokens, 16), torch.randn(33, 16) * 4, torch.randint(33, (tokens,))
    plain = gradients(lambda x, w, t: F.cross_entropy(softcap(x @ w.t(), 20.0), t), x, weight, targets)
    ours = gradients(lambda x, w, t: softcapped_loss(x, w, t, 20.0), x, weight, targets)
    torch.testing.assert_close(ours, plain, rtol=2e-4, atol=1e-6)


def test_rotation_depends_on_distance_alone_and_keeps_norms() -> None:
    angles = rotary_angles(20, 8, 10000.0)
    q, k = torch.randn(8), torch.randn(8)
    rotated_q = rotate(q.expand(1, 20, 1, 8), angles)[0, :, 0]
    rotated_k = rotate(k.expand(1, 20, 1, 8), angles)[0, :, 0]
    products = [rotated_q[t + 3] @ rotated_k[t] for t in range(17)]
    torch.testing.assert_close(torch.stack(products), products[0].expand(17))
    torch.testing.assert_close(rotated_q.norm(dim=-1), q.norm().expand(20))


def test_a_short_window_masks_what_is_far() -> None:
    q, k, v = (torch.randn(1, 10, 2, 8) for _ in range(3))
    changed = v.clone()
    changed[:, :4] += 1
    before, after = attend(q, k, v, 3), attend(q, k, changed, 3)
    assert torch.equal(before[:, 6:], after[:, 6:])
    assert not torch.allclose(before[:, 5], after[:, 5])
    assert window_mask(4, 2, q.device).int().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 1, 1],
    ]


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 128, 32)])
def test_orthogonalize_makes_singular_values_equal(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonalize(x, 5, 1.02))
    assert values.min() > 0.5
    assert values.max() < 1.3
    u, _, vt = torch.linalg.svd(x, full_matrices=False)
    difference = orthogonalize(x, 5, 1.02) - u @ vt
    assert difference.norm() / (u @ vt).norm() < 0.2


def test_muon_steps_have_the_size_of_the_learning_rate() -> None:
    model = gpt(depth=1)
    params = load(ROOT / "params.yaml")
    params["optim"].update(weight_decay=0.0)
    optimizer = Optimizer(model, group(OptimConfig, params, "optim"), group(Schedule, params, "schedule"))
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step(0, 0.0)
    block = next(model.block_list())
    for weight in (block.attention.proj.weight, block.mlp.fc.weight, block.mlp.proj.weight):
        index = next(i for i, p in enumerate(model.parameters()) if p is weight)
        change = (weight.detach() - before[index]).norm().item()
        rank, gain = min(weight.shape), max(1.0, weight.size(0) / weight.size(1)) ** 0.5
        assert change == pytest.approx(0.02 * gain * rank**0.5, rel=0.2)


def test_schedule() -> None:
    schedule = Schedule(warmup=0.1, warmdown=0.5, final_lr=0.2, weight_decay_final=0.0)
    rates = [schedule.lr(progress) for progress in (0.0, 0.05, 0.1, 0.5, 0.75, 1.0)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.6, 0.2])
    assert [schedule.weight_decay(progress) for progress in (0, 0.5, 1)] == [1, 0.5, 0]
    assert Schedule(0.0, 0.0, 0.0, 0.0).lr(0.0) == 1
    assert [momentum(step, 0.8, 0.9, 10) for step in (0, 5, 10, 99)] == pytest.approx([0.8, 0.85, 0.9, 0.9])
    assert momentum(0, 0.8, 0.9, 0) == 0.9
