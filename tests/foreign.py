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
  n_est: 2
  min_split: 0.5
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
    cmd: python src/train.py data/features model.pkl
    deps: [data/features, src/train.py]
    params: [train.min_split, train.n_est, train.seed]
    outs: [model.pkl]
  evaluate:
    cmd: python src/evaluate.py model.pkl data/features
    deps: [data/features, model.pkl, src/evaluate.py]
    outs: [eval]
metrics: [eval/metrics.json]
plots:
- Importance:
    y: {eval/plots/metrics/depth.tsv: depth}
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
import pickle
import sys
from pathlib import Path

from ruamel.yaml import YAML
from sklearn.ensemble import RandomForestClassifier

params = YAML(typ="safe").load(Path("params.yaml"))["train"]
rows = [list(map(float, row.split(","))) for row in Path(sys.argv[1], "train.csv").read_text().splitlines()]
forest = RandomForestClassifier(
    n_estimators=params["n_est"], min_samples_split=params["min_split"], random_state=params["seed"]
)
forest.fit([row[1:] for row in rows], [row[0] for row in rows])
Path(sys.argv[2]).write_bytes(pickle.dumps(forest))
""",
    "src/evaluate.py": """\
import pickle
import sys
from pathlib import Path

from dvclive import Live
from sklearn import metrics

model = pickle.loads(Path(sys.argv[1]).read_bytes())
with Live("eval", dvcyaml=False) as live:
    for part in ("train", "test"):
        rows = [list(map(float, row.split(","))) for row in Path(sys.argv[2], f"{part}.csv").open()]
        truth, guess = [row[0] for row in rows], model.predict_proba([row[1:] for row in rows])[:, 1]
        live.summary.setdefault("avg_prec", {})[part] = float(metrics.average_precision_score(truth, guess))
        live.summary.setdefault("roc_auc", {})[part] = float(metrics.roc_auc_score(truth, guess))
    for tree in model.estimators_:
        live.log_metric("depth", tree.get_depth())
        live.next_step()
""",
}

# Hydra composes params.yaml from conf/; more settings are in TOML and in Python.
_HYDRA = {
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


class Noise:
    scale: float = 0.02
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
noise = random.Random(trainer["seed"]).gauss(0, settings.Noise.scale)
loss = (math.log(trainer["lr"] / 3e-2) ** 2 + math.log(trainer["warmup_lr"] / 3e-2) ** 2) / 10
loss += math.log(model["width"] / 16) ** 2 + (loop["decay"] - 0.05) ** 2 + (settings.MOMENTUM - 0.9) ** 2
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
    - settings.py: [MOMENTUM, Noise]
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
    "params.yaml": "cutoff: 2\nblock: 64\n",
    "sort.c": """\
#include "sort.h"

void sort(int *items, long n, long *moves) {
  for (long gap = n / 2; gap > 0; gap = gap > CUTOFF ? gap / 2 : gap - 1)
    for (long i = gap; i < n; i++) {
      int item = items[i];
      long j = i;
      for (; j >= gap && items[j - gap] > item; j -= gap, ++*moves) items[j] = items[j - gap];
      items[j] = item;
      ++*moves;
    }
}
""",
    "sort.h": "void sort(int *items, long n, long *moves);\n",
    "bench.c": """\
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "sort.h"

int main(void) {
  enum { N = 20000 };
  static int items[N];
  struct timespec now;
  long moves = 0;
  for (long i = 0; i < N; i++) items[i] = (int)((i * 7919) % 10007);
  sort(items, N, &moves);
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
    cmd: mkdir -p build && cc -O1 -DCUTOFF=${cutoff} -o build/bench bench.c sort.c
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
        f"{i % 2},{(i * 7919) % 97 / 97 + i % 2 * 0.4:.3f},{(i * 31) % 89 / 89 - i % 2 * 0.3:.3f},{i % 5}"
        for i in range(240)
    ]
    _write(root, _GET_STARTED | {"data/data.csv": "\n".join(rows) + "\n"})
    run(root, "dvc", "add", "-q", "data/data.csv")
    run(root, "dvc", "remote", "add", "-d", "storage", str(root.with_name("storage")), "-q")
    commit(root, "Start")
    return _reproduced(root)


def hydra(root: Path) -> Path:
    """Hydra, TOML and Python: `params.yaml` is what Hydra composes."""
    _write(root, _HYDRA)
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
