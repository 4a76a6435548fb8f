"""A branch as greedy agents leave it, on the lab: what README's audit is shown on.

The agent works as autoresearch's does. It commits a change, trains once, and keeps the commit where that one
run beats the best value so far, or else takes it back; each sitting begins with a run of the branch as it is.
Runs share no noise: each has a seed of its own. What it tries is a list that is drawn beforehand and looks at
no result: one parameter or several, by a few percent mostly, and some edits of code. The runs are small, as
those of `make demo`, and only `val_bpb` counts, which does not depend on what else the machine does.

    python benchmarks/greedy_branch.py make FOLDER         # about 210 runs
    python benchmarks/greedy_branch.py audit FOLDER -n 150 # ar import, ar audit --keeps, ar promote --audited

The second writes what it found, and the agent's results.tsv, to benchmarks/recorded/greedy_branch.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.errors import LabError, RunError
from data.harness import Harness
from data.process import Server
from data.settings import load
from data.shards import FOLDER, Manifest

HERE = Path(__file__).resolve().parents[1]
RECORDED = HERE / "benchmarks" / "recorded" / "greedy_branch"
SIZE = {"depth": 2, "tokens": 49_152, "eval_tokens": 8_192}
BRANCH = "autoresearch/lab"
HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"
PAGE = 160  # candidates that are drawn at a time
SITTING = 12  # candidates between two runs of the branch as it is
SEEDS = 1_000  # the agent's seeds lie beyond those of any audit

# For Python to read when it starts. Each process looks at the branch anew: behind its walls it cannot.
EARLY = """\
import importlib.util
import os

import torch._dynamo

os.register_at_fork(after_in_child=lambda: importlib.util.find_spec("no_such_module"))
"""

PROGRAM = """\
---
objective: {metric: "metrics.json:val_bpb", direction: minimize}
seed: seed
scope:
  files: ["model/**"]
  params: [model, optim, schedule]
budget: {runs: 1000, timeout: 10m}
---
What a greedy agent left behind.
"""

# Keys of params.yaml that are multiplied; of the second row, their distance from 1.
SCALED = (
    "optim.matrix_lr",
    "optim.embedding_lr",
    "optim.unembedding_lr",
    "optim.scalar_lr",
    "optim.resid_lr_scale",
    "optim.weight_decay",
    "optim.adam_eps",
    "model.rope_base",
    "model.qk_scale",
    "model.softcap",
    "model.gate_range",
    "model.x0_init",
    "model.embedding_init",
    "model.unembedding_init",
    "model.matrix_init",
    "model.mlp_init",
    "schedule.warmdown",
)
FROM_ONE = (
    "optim.adam_beta1",
    "optim.adam_beta2",
    "optim.x0_beta1",
    "optim.momentum",
    "optim.momentum_start",
    "optim.muon_beta2",
)
STEPS = ((0.6, 0.02, 0.08), (0.25, 0.1, 0.35), (0.15, 0.5, 1.5))  # share of the moves, and how far they go

# Title, file, and the text that replaces another, which stands in it once.
EDITS = (
    ("Half the batch", "params.yaml", "batch_tokens: 2048", "batch_tokens: 1024"),
    ("One Polar Express step less", "params.yaml", "ns_steps: 5", "ns_steps: 4"),
    ("A short window on every other layer", "params.yaml", "window_pattern: L", "window_pattern: SL"),
    ("Value embeddings on all layers", "params.yaml", "embedding_every: 2", "embedding_every: 1"),
    ("A shorter warm-up of momentum", "params.yaml", "momentum_warmup: 300", "momentum_warmup: 100"),
    ("GELU in the MLP", "model/gpt.py", "relu_squared(self.fc(x))", "F.gelu(self.fc(x))"),
    (
        "Square-root warm-down",
        "model/schedule.py",
        "left = (1 - progress) / self.warmdown",
        "left = ((1 - progress) / self.warmdown) ** 0.5",
    ),
    (
        "No Nesterov momentum",
        "model/optim.py",
        "gradient.lerp_(self.momentum, momentum)  # Nesterov",
        "gradient.copy_(self.momentum)",
    ),
    (
        "Gates start a little open",
        "model/gpt.py",
        "nn.init.zeros_(block.attention.gate.weight)",
        "nn.init.normal_(block.attention.gate.weight, std=0.01)",
    ),
    (
        "Projections of the MLP start small, not at zero",
        "model/gpt.py",
        "nn.init.zeros_(block.mlp.proj.weight)",
        "nn.init.normal_(block.mlp.proj.weight, std=0.002)",
    ),
    ("A larger floor under Muon's norm", "model/optim.py", "* margin + 1e-6)", "* margin + 1e-5)"),
    (
        "A lower floor under NorMuon's rows",
        "model/optim.py",
        "self.second.clamp_min(1e-10)",
        "self.second.clamp_min(1e-12)",
    ),
    (
        "Normal instead of uniform value embeddings",
        "model/gpt.py",
        "nn.init.uniform_(value, -bound, bound)",
        "nn.init.normal_(value, std=bound / 3**0.5)",
    ),
)


@dataclass(frozen=True)
class Candidate:
    """A change to try.

    Args:
        factors: parameter to what it is multiplied by, or the distance of it from 1.
        edit: place in `EDITS`; None for a change of parameters only.
    """

    factors: Mapping[str, float] = field(default_factory=dict)
    edit: int | None = None


def candidates(count: int, seed: int) -> list[Candidate]:
    """The agent's list, the same for the same seed; a longer one begins like a shorter one."""
    found: list[Candidate] = []
    while len(found) < count:
        draw = random.Random(seed + len(found) // PAGE)
        edits = dict(zip(draw.sample(range(PAGE), len(EDITS)), range(len(EDITS)), strict=True))
        tried = bool(found)  # on the first page
        found += [
            Candidate(edit=edits[place]) if place in edits and not tried else _move(draw)
            for place in range(PAGE)
        ]
    return found[:count]


def _move(draw: random.Random) -> Candidate:
    """Parameters, one or several."""
    factors = {}
    for key in draw.sample([*SCALED, *FROM_ONE], draw.choice((1, 1, 1, 2, 2, 4))):
        [(_, least, most)] = draw.choices(STEPS, weights=[share for share, _, _ in STEPS])
        size = 1 + draw.uniform(least, most)
        factors[key] = size if draw.random() < 0.5 else 1 / size
    return Candidate(factors)


class Lab:
    """A clone of this project that a greedy agent works in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "results.tsv"

    def git(self, *args: str) -> str:
        done = subprocess.run(["git", *args], cwd=self.folder, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    def run(self, *args: str) -> None:
        subprocess.run(args, cwd=self.folder, check=True)

    def prepare(self) -> None:
        """Clone, with small runs, `val_bpb` as all that counts, and prepared data."""
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(HERE), str(self.folder)], check=True)
        self.git("config", "user.name", "greedy agent")
        self.git("config", "user.email", "greedy@localhost")
        self.git("switch", "--quiet", "--create", BRANCH)
        params = self.folder / "params.yaml"
        text = params.read_text()
        for key, value in SIZE.items():
            line = next(line for line in text.splitlines() if line.startswith(f"  {key}:"))
            text = text.replace(line, f"  {key}: {value}")
        params.write_text(text)
        (self.folder / "program.md").write_text(PROGRAM)
        self.run(sys.executable, "-m", "dvc", "repro", "--quiet", "prepare")
        with (self.folder / ".git" / "info" / "exclude").open("a") as file:
            file.write("/results.tsv\n")
        self.git("commit", "--quiet", "--all", "--message", "A small lab for a greedy agent")
        self.record.write_text(HEADER)

    def measure(self, server: Server, seed: int) -> tuple[float, float] | None:
        """`val_bpb` and GB of one run of what is committed; None where it crashed."""
        params = load() | {"seed": seed}
        try:
            with tempfile.TemporaryDirectory() as folder:
                harness = Harness(params, Manifest.load(FOLDER), Path(folder))
                trained = harness.train(server)
                scores, _ = harness.evaluate(server, trained)
        except (RunError, LabError) as error:
            print(f"crashed: {error}")
            return None
        finally:
            self.git("checkout", "--quiet", "--", ".")
        return scores["val"].bits_per_byte, trained.peak_bytes / 1e9

    def log(self, measured: tuple[float, float] | None, status: str, title: str) -> None:
        value, memory = measured or (0.0, 0.0)
        line = f"{self.git('rev-parse', '--short=7', 'HEAD')}\t{value:.6f}\t{memory:.1f}\t{status}\t{title}\n"
        with self.record.open("a") as file:
            file.write(line)
        print(line, end="", flush=True)

    def apply(self, change: Candidate) -> str:
        """Make a change in the working tree. Returns its title; empty where it changes nothing."""
        if change.edit is not None:
            title, name, old, new = EDITS[change.edit]
            path = self.folder / name
            text = path.read_text()
            if text.count(old) != 1:
                return ""
            path.write_text(text.replace(old, new))
            return title
        path = self.folder / "params.yaml"
        text, moves = path.read_text(), []
        for key, factor in change.factors.items():
            group, _, name = key.partition(".")
            before = yaml.safe_load(text)[group][name]
            after = 1 - (1 - before) * factor if key in FROM_ONE else before * factor
            after = float(f"{min(after, 0.999) if key in FROM_ONE else after:.4g}")
            if key == "schedule.warmdown":
                after = min(after, 1.0)
            if after == before:
                continue
            said = yaml.safe_dump(after).split()[0]
            text, changed = re.subn(rf"^(  {name}: )\S+", rf"\g<1>{said}", text, flags=re.MULTILINE)
            assert changed == 1
            moves.append(f"{key} {before:g} to {after:g}")
        path.write_text(text)
        return ", ".join(moves)


def make(folder: Path, keeps: int, count: int, seed: int) -> None:
    """The branch, until so many changes are kept or the list is through. What was begun is carried on."""
    lab = Lab(folder)
    if not lab.record.is_file():
        lab.prepare()
    rows = [line.split("\t") for line in lab.record.read_text().splitlines()[1:]]
    tried = [row for row in rows if row[4] != "baseline"]
    kept = [row for row in rows if row[3] == "keep"]
    if kept:
        lab.git("reset", "--quiet", "--hard", kept[-1][0])
    best, number = float(kept[-1][1]) if kept else 0.0, sum(row[3] == "keep" for row in tried)
    seeds = itertools.islice(_seeds(seed), len(rows), None)
    os.chdir(folder)
    with _server() as server:
        for place, change in list(enumerate(candidates(count, seed)))[len(tried) :]:
            if number == keeps:
                break
            if place % SITTING == 0 and (not rows or rows[-1][4] != "baseline"):
                measured = lab.measure(server, next(seeds))
                assert measured is not None, "the branch does not run"
                best = measured[0]
                lab.log(measured, "keep", "baseline")
            rows = []
            title = lab.apply(change) or "nothing"
            lab.git("commit", "--quiet", "--allow-empty", "--all", "--message", title)
            measured = lab.measure(server, next(seeds))
            if measured and measured[0] < best:
                best, number = measured[0], number + 1
                lab.log(measured, "keep", title)
                continue
            lab.log(measured, "discard" if measured else "crash", title)
            lab.git("reset", "--quiet", "--hard", "HEAD~")
    print(f"{number} kept")


@contextlib.contextmanager
def _server() -> Iterator[Server]:
    """What starts the processes of all runs. It imports at once what training does late, each time anew."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(EARLY)
        os.environ["PYTHONPATH"] = folder
        with Server() as server:
            yield server


def _seeds(seed: int) -> Iterator[int]:
    """Of the agent's runs, each another."""
    return iter(random.Random(seed).sample(range(SEEDS, 1_000_000), 10_000))


def audit(folder: Path, runs: int, jobs: int) -> None:
    """What an audit says of the branch."""
    lab = Lab(folder)
    lab.run("ar", "allow")
    lab.run("ar", "import", "results.tsv")
    lab.run("ar", "audit", "--keeps", "-n", str(runs), "--jobs", str(jobs))
    found = subprocess.run(
        ["ar", "audit", "--keeps", "--json"],
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    RECORDED.mkdir(parents=True, exist_ok=True)
    (RECORDED / "audit.json").write_text(found.stdout)
    shutil.copy(lab.record, RECORDED / "results.tsv")
    lab.run("ar", "promote", "--audited")
    shown = subprocess.run(
        ["ar", "show", "--json"], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    )
    attempts = json.loads(shown.stdout)["attempts"]
    held = next(attempt for attempt in attempts if attempt["outcome"] == "holds")
    del held["experiments"]
    (RECORDED / "promoted.json").write_text(json.dumps(held, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("step", choices=("make", "audit"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keeps", type=int, default=40)
    parser.add_argument("--candidates", type=int, default=320)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-n", "--runs", type=int, default=150)
    parser.add_argument("-j", "--jobs", type=int, default=1)
    args = parser.parse_args()
    # Stages run the Python that this one is.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if args.step == "make":
        make(args.folder, args.keeps, args.candidates, args.seed)
    else:
        audit(args.folder, args.runs, args.jobs)


if __name__ == "__main__":
    main()
