"""Four projects in shapes that nobody here chose: what their authors would have committed, and no more."""

from __future__ import annotations

from pathlib import Path

from helpers import commit, run

# The shape of DVC's own get-started project: scikit-learn and DVCLive, metrics in a folder that DVC caches.
_GET_STARTED = {
    "params.yaml": """\
prepare:
  split: 0.20
  seed: 20170428
featurize:
  max_features: 3
train:
  seed: 20170428
  alpha: 1e-1
""",
    "dvc.yaml": """\
stages:
  prepare:
    cmd: python src/prepare.py data/data.csv
    deps: [data/data.csv, src/prepare.py]
    params: [prepare.seed, prepare.split]
    outs: [data/prepared]
  featurize:
    cmd: python src/featurization.py data/prepared data/features
    deps: [data/prepared, src/featurization.py]
    params: [featurize.max_features]
    outs: [data/features]
  train:
    cmd: python src/train.py data/features model.json
    deps: [data/features, src/train.py]
    params: [train.alpha, train.seed]
    outs: [model.json]
  evaluate:
    cmd: python src/evaluate.py model.json data/features
    deps: [data/features, model.json, src/evaluate.py]
    outs: [eval]
metrics: [eval/metrics.json]
plots:
- Weights:
    y: {eval/plots/metrics/weight.tsv: weight}
""",
    "src/prepare.py": """\
import random
import sys
from pathlib import Path

from ruamel.yaml import YAML

params = YAML(typ="safe").load(Path("params.yaml"))["prepare"]
rows = Path(sys.argv[1]).read_text().splitlines()
random.Random(params["seed"]).shuffle(rows)
held = int(len(rows) * params["split"])
out = Path("data/prepared")
out.mkdir(parents=True, exist_ok=True)
(out / "test.csv").write_text("\\n".join(rows[:held]))
(out / "train.csv").write_text("\\n".join(rows[held:]))
""",
    "src/featurization.py": """\
import sys
from pathlib import Path

from ruamel.yaml import YAML

most = YAML(typ="safe").load(Path("params.yaml"))["featurize"]["max_features"]
source, target = map(Path, sys.argv[1:])
target.mkdir(parents=True, exist_ok=True)
for part in ("train", "test"):
    rows = [row.split(",") for row in (source / f"{part}.csv").read_text().splitlines()]
    (target / f"{part}.csv").write_text("\\n".join(",".join(row[: most + 1]) for row in rows))
""",
    "src/train.py": """\
import json
import sys
from pathlib import Path

from ruamel.yaml import YAML
from sklearn.linear_model import SGDClassifier

params = YAML(typ="safe").load(Path("params.yaml"))["train"]
rows = [list(map(float, row.split(","))) for row in Path(sys.argv[1], "train.csv").read_text().splitlines()]
model = SGDClassifier(loss="log_loss", alpha=params["alpha"], random_state=params["seed"], average=True)
model.fit([row[1:] for row in rows], [row[0] for row in rows])
Path(sys.argv[2]).write_text(json.dumps([*model.coef_[0], model.intercept_[0]]))
""",
    "src/evaluate.py": """\
import json
import math
import sys
from pathlib import Path

from dvclive import Live

*weights, bias = json.loads(Path(sys.argv[1]).read_text())


def loss(part):
    rows = [list(map(float, row.split(","))) for row in Path(sys.argv[2], f"{part}.csv").open()]
    scores = [bias + sum(w * x for w, x in zip(weights, row[1:])) for row in rows]
    return sum(math.log1p(math.exp(-s if row[0] else s)) for s, row in zip(scores, rows)) / len(rows)


with Live("eval", dvcyaml=False) as live:
    live.summary["loss"] = {part: loss(part) for part in ("train", "test")}
    for weight in weights:
        live.log_metric("weight", weight)
        live.next_step()
""",
}

# Hydra composes params.yaml from conf/; more settings are in TOML and in Python.
HYDRA = {
    "conf/config.yaml": """\
defaults:
  - model: small
  - _self_
data:
  rows: 400
trainer:
  lr: 1e-4  # as papers write it
  warmup_lr: ${trainer.lr}
  seed: 7
""",
    "conf/model/small.yaml": "# the small one\nwidth: 4\nlayers: [2, 2]\n",
    "conf/model/large.yaml": "width: 64\nlayers: [8, 8]\n",
    "train.toml": """\
# how long, and how careful
[loop]
batch = 8  # rows
decay = 1e-1
""",
    "settings.py": """\
MOMENTUM = 0.5


class Model:
    dropout: float = 0.3
""",
    "train.py": """\
import json
import math
import random
import tomllib
from pathlib import Path

import settings
from ruamel.yaml import YAML

params = YAML(typ="safe").load(Path("params.yaml"))
loop = tomllib.loads(Path("train.toml").read_text())["loop"]
trainer, model = params["trainer"], params["model"]
noise = random.Random(trainer["seed"]).gauss(0, 0.02)
loss = (math.log(trainer["lr"] / 3e-2) ** 2 + math.log(trainer["warmup_lr"] / 3e-2) ** 2) / 10
loss += math.log(model["width"] / 16) ** 2 + (loop["decay"] - 0.05) ** 2
loss += (settings.MOMENTUM - 0.9) ** 2 + settings.Model.dropout
Path("metrics.json").write_text(json.dumps({"val": {"loss": loss + noise}, "train": {"loss": loss / 2}}))
""",
    "dvc.yaml": """\
stages:
  train:
    cmd: python train.py
    deps: [train.py]
    params:
    - data
    - model
    - trainer
    - train.toml: [loop]
    - settings.py: [MOMENTUM, Model]
    metrics:
    - metrics.json: {cache: false}
""",
}

# One DVC repository with its pipeline in a subfolder: wdir, vars, matrix, foreach, an absolute dependency.
_SUBFOLDER = {
    "README.md": "# Everything that the team has\n",
    "ml/params.yaml": """\
seed: 3
fit:
  x: 1.5
  y: 0.03
""",
    "ml/common.json": '{"sizes": ["s", "m"], "out": "results"}\n',
    "ml/code/fit.awk": """\
/^  x:/ {x = $2}
/^  y:/ {y = $2}
/^seed:/ {seed = $2}
END {
  noise = ((seed * 7919 + shift) % 101) / 101 - 0.5
  printf("%.6f\\n", (x - 3) ^ 2 + (log(y) - log(0.1)) ^ 2 + 0.01 * noise)
}
""",
    "ml/code/lint.sh": 'test -s "$1" && echo ok\n',
    "ml/dvc.yaml": """\
vars:
- common.json
- prefix: part
stages:
  check:
    foreach: ${sizes}
    do:
      wdir: code
      cmd: sh lint.sh fit.awk > checked-${item}.txt
      deps: [fit.awk, lint.sh]
      outs: ["checked-${item}.txt"]
  fit:
    matrix:
      size: ${sizes}
      shift: [1, 2]
    wdir: code
    cmd: awk -v shift=${item.shift} -f fit.awk ../params.yaml > ${prefix}-${item.size}-${item.shift}.txt
    deps: [fit.awk, "checked-${item.size}.txt"]
    params:
    - ../params.yaml: [seed, fit]
    outs: ["${prefix}-${item.size}-${item.shift}.txt"]
  total:
    wdir: ${out}
    cmd: cat ../code/part-*.txt | awk '{s += $1} END {printf("{\\"mse\\":%.6f}", s / NR)}' > total.json
    deps: [../code/part-s-1.txt, ../code/part-s-2.txt, ../code/part-m-1.txt, ../code/part-m-2.txt]
    metrics: [total.json]
""",
    "ml/results/.gitkeep": "",
}

# A benchmark in C: built by a stage, its settings compiled in; no seed, and no Python.
_BENCHMARK = {
    "params.yaml": "cutoff: 64\nlevel: 1  # of optimisation\n",
    "sort.c": """\
#include <string.h>
#include "sort.h"

/* Insertion sort in runs of CUTOFF, then merges. */
void sort(int *items, int *spare, long n, long *moves) {
  for (long from = 0; from < n; from += CUTOFF)
    for (long i = from + 1; i < n && i < from + CUTOFF; i++) {
      int item = items[i];
      long j = i;
      for (; j > from && items[j - 1] > item; j--, ++*moves) items[j] = items[j - 1];
      items[j] = item;
    }
  for (long width = CUTOFF; width < n; width *= 2) {
    for (long from = 0; from < n; from += 2 * width) {
      long middle = from + width < n ? from + width : n;
      long end = from + 2 * width < n ? from + 2 * width : n;
      for (long i = from, j = middle, k = from; k < end; k++, ++*moves)
        spare[k] = j >= end || (i < middle && items[i] <= items[j]) ? items[i++] : items[j++];
    }
    memcpy(items, spare, n * sizeof *items);
  }
}
""",
    "sort.h": "void sort(int *items, int *spare, long n, long *moves);\n",
    "bench.c": """\
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "sort.h"

int main(void) {
  enum { N = 20000 };
  static int items[N], spare[N];
  struct timespec now;
  long moves = 0;
  for (long i = 0; i < N; i++) items[i] = (int)((i * 7919) % 10007);
  sort(items, spare, N, &moves);
  for (long i = 1; i < N; i++)
    if (items[i - 1] > items[i]) return 1;
  clock_gettime(CLOCK_REALTIME, &now);
  double jitter = (now.tv_nsec / 1000 % 101) / 101.0 - 0.5;
  printf("{\\"throughput\\": %.3f}\\n", 1e3 * N / (moves * (1 + 0.01 * jitter)));
}
""",
    "Makefile": "clean:\n\trm -rf build\n",
    "dvc.yaml": """\
stages:
  build:
    cmd: mkdir -p build && cc -O${level} -DCUTOFF=${cutoff} -o build/bench bench.c sort.c
    deps: [bench.c, sort.c, sort.h]
    outs: [build/bench]
  bench:
    cmd: ./build/bench > bench.json
    deps: [build/bench]
    metrics:
    - bench.json: {cache: false}
""",
}


def get_started(root: Path) -> Path:
    """scikit-learn and DVCLive; its data is in DVC's cache and in a remote."""
    rows = [
        f"{i % 2},{(i * 7919) % 97 / 97 + i % 2},{(i * 31) % 89 / 89 - i % 2},{i % 5}" for i in range(240)
    ]
    _write(root, _GET_STARTED | {"data/data.csv": "\n".join(rows) + "\n"})
    run(root, "dvc", "add", "-q", "data/data.csv")
    run(root, "dvc", "remote", "add", "-d", "storage", str(root.with_name("storage")), "-q")
    commit(root, "Start")
    return _reproduced(root)


def hydra(root: Path) -> Path:
    """Hydra, TOML and Python: `params.yaml` is what Hydra composes."""
    _write(root, HYDRA)
    run(root, "dvc", "config", "hydra.enabled", "True")
    commit(root, "Start")
    run(root, "dvc", "exp", "run", "-q")
    commit(root, "Run it")
    return root


def subfolder(root: Path) -> Path:
    """A pipeline in a subfolder."""
    _write(root, _SUBFOLDER)
    return _reproduced(root, "ml")


def benchmark(root: Path) -> Path:
    """A benchmark in C."""
    _write(root, _BENCHMARK)
    return _reproduced(root)


def _write(root: Path, files: dict[str, str]) -> None:
    root.mkdir()
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def _reproduced(root: Path, folder: str = ".") -> Path:
    run(root / folder, "dvc", "repro", "-q")
    commit(root, "Start")
    return root
