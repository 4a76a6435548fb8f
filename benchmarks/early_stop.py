"""What ending hopeless runs early would do on the lab: which of 48 changes, how soon, and what they came to.

Each change is trained to its end, and the incumbent at the same seed; then the rule looks at the recorded
curves. The changes were chosen to bring out what could fool it: long warm-ups and late warm-downs, whose
curves cross late, batches of other sizes, and plain damage. Half are chosen by hand, half are pairs drawn at
random. Takes about ten minutes on one core; `--curves` keeps the runs for the next time.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from ar.history.curves import read_rows
from ar.judge.early import LOOKS, Point, hopeless

ROOT = Path(__file__).resolve().parent.parent
BUDGET = {"tokens": 98_304, "eval_tokens": 16_384}
BY_HAND: list[dict[str, float]] = [
    {"schedule.warmdown": 0.1}, {"schedule.warmdown": 1.0}, {"schedule.warmdown": 0.2},
    {"schedule.warmup": 0.3}, {"optim.matrix_lr": 0.06}, {"optim.matrix_lr": 0.2},
    {"optim.matrix_lr": 0.002}, {"optim.matrix_lr": 1.0},
    {"optim.embedding_lr": 0.6}, {"optim.embedding_lr": 3.0}, {"optim.embedding_lr": 0.01},
    {"optim.unembedding_lr": 0.0002}, {"optim.unembedding_lr": 0.1}, {"optim.batch_tokens": 1024},
    {"optim.batch_tokens": 8192}, {"model.softcap": 2.0}, {"model.matrix_init": 20.0},
    {"model.resid_init": 0.1}, {"model.qk_scale": 8.0}, {"optim.momentum": 0.5}, {"optim.ns_steps": 1},
    {"schedule.warmdown": 0.1, "optim.matrix_lr": 0.1}, {"schedule.warmup": 0.5, "schedule.warmdown": 0.1},
    {"optim.matrix_lr": 0.1, "optim.embedding_lr": 1.0},
]  # fmt: skip
DRAWN = {
    "optim.matrix_lr": (0.005, 0.3),
    "optim.embedding_lr": (0.05, 2.0),
    "optim.unembedding_lr": (0.001, 0.03),
}


def changes() -> list[tuple[dict[str, float], int]]:
    """Every change with its seed; three runs of the incumbent first."""
    draw = random.Random(3)
    found: list[tuple[dict[str, float], int]] = [({}, 1), ({}, 2), ({}, 3)]
    found += [(change, 1) for change in BY_HAND]
    for number in range(24):
        values: dict[str, float] = {
            key: round(math.exp(draw.uniform(math.log(low), math.log(high))), 5)
            for key, (low, high) in DRAWN.items()
        }
        values["schedule.warmdown"] = round(draw.uniform(0.1, 1.0), 2)
        values["schedule.warmup"] = draw.choice([0, 0, 0.1, 0.3])
        found.append(({key: values[key] for key in draw.sample(list(values), 2)}, 1 + number % 2))
    return found


def train(lab: Path, change: dict[str, float], seed: int) -> dict[str, Any]:
    """One run: its objective (None where it failed) and its curve as text."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["seed"] = seed
    params["train"].update(BUDGET)
    for key, value in change.items():
        group, _, name = key.partition(".")
        params[group][name] = value
    (lab / "params.yaml").write_text(yaml.safe_dump(params))
    command = [sys.executable, "-m", "data.harness"]
    done = subprocess.run(command, cwd=lab, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    value = json.loads((lab / "metrics.json").read_text())["val_bpb"] if done.returncode == 0 else None
    return {"change": change, "seed": seed, "value": value, "curve": (lab / "loss.csv").read_text()}


def collect() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        lab = Path(folder)
        for name in ("data", "model"):
            ignore = shutil.ignore_patterns("__pycache__", "shards", "checkpoint")
            shutil.copytree(ROOT / name, lab / name, ignore=ignore)
        shutil.copy(ROOT / "params.yaml", lab)
        subprocess.run([sys.executable, "-m", "data.prepare"], cwd=lab, check=True)
        runs = []
        for number, (change, seed) in enumerate(changes(), 1):
            runs.append(train(lab, change, seed))
            print(f"{number}/{len(changes())} {change or 'incumbent'} seed {seed}", file=sys.stderr)
        return runs


def points(curve: str) -> list[Point]:
    return sorted((tokens, loss) for tokens, loss in read_rows(curve, ("tokens", "train_bpb")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--curves", type=Path, help="JSON file of the runs: read if it is there, else written"
    )
    args = parser.parse_args()
    runs = json.loads(args.curves.read_text()) if args.curves and args.curves.exists() else collect()
    if args.curves and not args.curves.exists():
        args.curves.write_text(json.dumps(runs))
    incumbents = {run["seed"]: run for run in runs if not run["change"]}
    print("| change | seed | effect on val_bpb | ended at |\n|---|---|---|---|")
    saved, tried, spared = 0.0, 0, math.inf
    for run in (run for run in runs if run["change"]):
        incumbent = incumbents[run["seed"]]
        share = hopeless(points(run["curve"]), points(incumbent["curve"]))
        tried += 1
        effect = math.inf if run["value"] is None else run["value"] - incumbent["value"]
        if share is not None:
            saved += 1 - share
            spared = min(spared, effect)
        words = ", ".join(f"{key} {value:g}" for key, value in run["change"].items())
        end = "" if share is None else f"{share:.0%}"
        failed = run["value"] is None
        print(f"| {words} | {run['seed']} | {'failed' if failed else f'{effect:+.3f}'} | {end} |")
    print(f"\n{saved / tried:.1%} of the training of {tried} changes is saved (looks at {LOOKS[0]:.0%} to")
    print(f"{LOOKS[-1]:.0%}); the least harmful change that is ended comes to {spared:+.3f} when it is not.")


if __name__ == "__main__":
    main()
