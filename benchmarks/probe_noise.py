"""How far an honest model's log-probabilities move between a decoy and the real pass: rounding alone.

Lab models with random weights score windows as they are and with every token after the middle replaced, at
logits times 1, 30 and 1000, with and without a token that is masked by -1e9. `equal` is what the harness
does: equal shapes, each window in its row. `uneven` is a model whose shapes depend on the tokens, as a
mixture of experts has them: one row is computed apart, and all are shorter. Prints nats; the tolerance of the
probes (docs/lab.md) rests on them.

    python benchmarks/probe_noise.py --seeds 5
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.settings import load
from model.train import build

ROWS, LENGTH, VOCAB = 16, 128, 1024
CUT, SHORTER = 64, 66
MASK = -1e9


def lively(seed: int) -> nn.Module:
    """A model whose every part matters, and whose logits spread over some nats."""
    torch.manual_seed(seed)
    model = build(load(), VOCAB, LENGTH)
    model.init_weights()
    for weights in model.parameters():
        if weights.dim() == 2 and float(weights.detach().std()) < 0.05:
            nn.init.normal_(weights, std=0.1)
    return model.eval()


def log_probabilities(model: nn.Module, tokens: Tensor, scale: float, mask: bool, uneven: bool) -> Tensor:
    """Of all next tokens, float64 (rows, length, vocabulary)."""
    parts = tokens[:, :SHORTER].split((1, ROWS - 1)) if uneven else (tokens,)
    logits = torch.cat([model(part) for part in parts]).float() * scale
    if mask:
        logits[..., -1] = MASK
    return logits.double().log_softmax(-1)


def moved(model: nn.Module, seed: int, scale: float, mask: bool, uneven: bool) -> tuple[float, float]:
    """Largest and mean move up to the cut, of tokens drawn at random but not the masked one."""
    source = torch.Generator().manual_seed(seed)
    true, other = torch.randint(0, VOCAB, (2, ROWS, LENGTH), generator=source)
    decoy = torch.cat([true[:, : CUT + 1], other[:, CUT + 1 :]], dim=1)
    following = torch.randint(0, VOCAB - 1, (ROWS, LENGTH, 1), generator=source)
    with torch.inference_mode():
        one = log_probabilities(model, true, scale, mask, False)
        two = log_probabilities(model, decoy, scale, mask, uneven)
        one, two = (answer.gather(-1, following[:, : answer.size(1)]) for answer in (one, two))
    change = (one[:, : CUT + 1] - two[:, : CUT + 1]).abs()
    return float(change.max()), float(change.mean())


def main() -> None:
    """Prints one line for each way to compute."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    models = [lively(seed) for seed in seeds]
    print("dtype      shapes   logits  mask       most      mean   (nats)")
    for dtype in (torch.float32, torch.bfloat16):
        autocast = torch.autocast("cpu", dtype) if dtype == torch.bfloat16 else contextlib.nullcontext()
        for uneven in (False, True):
            for scale in (1.0, 30.0, 1000.0):
                for mask in (False, True):
                    with autocast:
                        found = [moved(models[seed], seed, scale, mask, uneven) for seed in seeds]
                    most, mean = max(most for most, _ in found), max(mean for _, mean in found)
                    kind, shapes = str(dtype).removeprefix("torch."), "uneven" if uneven else "equal"
                    print(f"{kind:10} {shapes:8} x{scale:<6g} {mask!s:6} {most:9.2g} {mean:9.2g}")


if __name__ == "__main__":
    main()
