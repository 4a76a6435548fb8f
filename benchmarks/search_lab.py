"""The search on the lab beside plain Optuna TPE: campaigns of 150 runs at 98,304 tokens over the seven
parameters of `program.md`, and what both end with, measured again on eight fresh seeds.

TPE has one run for a trial, all of one seed, the default first, and ends with its best one within the guard,
as a user would take it. The campaign pays for everything out of its 150.

    python benchmarks/search_lab.py campaign FOLDER --seed 101   # half an hour on a core
    python benchmarks/search_lab.py tpe FOLDER --seed 101        # the same
    python benchmarks/search_lab.py measure FOLDER               # five minutes, and a record below recorded/

Each may be killed and run again: it carries on.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import optuna
from search_peers import suggest

from ar.project.params import update
from ar.project.project import Project
from ar.project.values import Scalar, element, parse

HERE = Path(__file__).resolve().parents[1]
RECORDED = HERE / "benchmarks" / "recorded" / "search_lab"
RUNS, TOKENS = 150, 98_304
FRESH = range(9001, 9009)
SLACK = 1.03  # times the default's work: within that a single run's work tells nothing


def clone(folder: Path, seed: int) -> Project:
    """The lab with less to do, at a seed of its own."""
    if not folder.exists():
        subprocess.run(["git", "clone", "-q", str(HERE), str(folder)], check=True)
        params, program = folder / "params.yaml", folder / "program.md"
        values = {"train.tokens": TOKENS, "seed": seed}
        params.write_bytes(update(params.read_bytes(), "params.yaml", values))
        program.write_text(re.sub(r"runs: \d+", f"runs: {RUNS}", program.read_text(), count=1))
        run(folder, "dvc", "repro", "-q")
        run(folder, "ar", "allow")
        run(folder, "git", "commit", "-qam", f"Train on {TOKENS} tokens with seed {seed}")
    return Project.open(folder)


def campaign(folder: Path, seed: int) -> None:
    clone(folder / "campaign", seed)
    run(folder / "campaign", "ar", "run", "--plain")


def tpe(folder: Path, seed: int) -> None:
    project = clone(folder / "tpe", seed)
    root, trials = project.repo.root, folder / "trials.jsonl"
    searched = {str(key): values for key, values in project.program.search.items()}
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(multivariate=False, seed=seed))
    study.enqueue_trial(values_of(root, searched))
    known = [json.loads(line) for line in trials.read_text().splitlines()] if trials.exists() else []
    for number in range(RUNS):
        trial = study.ask()
        params = {key: suggest(trial, key, values) for key, values in searched.items()}
        if number == len(known):
            known.append({"params": params, **once(root, params, seed)})
            with trials.open("a") as stream:
                stream.write(f"{json.dumps(known[-1])}\n")
        assert known[number]["params"] == params, "the same seed proposes the same"
        if "val_bpb" in known[number]:
            study.tell(trial, known[number]["val_bpb"])
        else:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)


def measure(folder: Path) -> None:
    """Both final configurations and the first baseline on fresh seeds, side by side."""
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    limit = SLACK * trials[0]["work"]
    within = [trial for trial in trials if trial.get("work", math.inf) <= limit]
    best = min(within, key=lambda trial: trial["val_bpb"])
    project = Project.open(folder / "campaign")
    ours = values_of(project.repo.root, [*map(str, project.program.search), "seed"])
    seed = ours.pop("seed")
    configurations = {"baseline": trials[0]["params"], "search": ours, "TPE": best["params"]}
    found: dict[str, list[dict]] = {name: [] for name in configurations}
    for fresh in FRESH:
        for name, params in configurations.items():
            found[name].append(once(folder / "tpe", params, fresh))
            print(f"seed {fresh}: {name} {found[name][-1]['val_bpb']:.4f}", flush=True)
    RECORDED.mkdir(parents=True, exist_ok=True)
    record = {"configurations": configurations, "fresh": found, "trials": trials}
    (RECORDED / f"seed-{seed}.json").write_text(json.dumps(record, indent=1) + "\n")
    for name in ("search", "TPE"):
        print(f"{name}: {difference(found[name], found['baseline'])}")
    print(f"search against TPE: {difference(found['search'], found['TPE'])}")


def difference(these: list[dict], those: list[dict]) -> str:
    """Of `val_bpb`, paired by seed, with its 95 % interval."""
    gaps = [this["val_bpb"] - that["val_bpb"] for this, that in zip(these, those, strict=True)]
    error = 2.365 * statistics.stdev(gaps) / math.sqrt(len(gaps))  # of Student's t with 7 degrees of freedom
    return f"{statistics.fmean(gaps):+.4f} ±{error:.4f}".replace("-", "−")


def values_of(root: Path, keys: Iterable[str]) -> dict[str, Scalar]:
    """Those of a checkout's parameters."""
    values = parse((root / "params.yaml").read_bytes(), "params.yaml")
    return {key: element(values, key) for key in keys}


def once(root: Path, params: Mapping[str, Scalar], seed: int) -> dict:
    """One run of the training: its metrics; nothing where it failed."""
    path, metrics = root / "params.yaml", root / "metrics.json"
    path.write_bytes(update(path.read_bytes(), "params.yaml", {**params, "seed": seed}))
    metrics.unlink(missing_ok=True)
    done = subprocess.run([sys.executable, "-m", "data.harness"], cwd=root, capture_output=True, check=False)
    if done.returncode:
        return {}
    told = json.loads(metrics.read_text())
    return {key: told[key] for key in ("val_bpb", "work")}


def run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["campaign", "tpe", "measure"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=101)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    folder = given.folder.resolve()
    if given.what == "measure":
        measure(folder)
    else:
        {"campaign": campaign, "tpe": tpe}[given.what](folder, given.seed)
