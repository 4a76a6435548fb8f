"""What the tool costs besides training: experiments that do nothing, through `ar`, DVC and Optuna.

Prints, in one run: 20 no-op experiments from the start of a process to its exit, as medians over rounds and
as ratios; the idle gap between two trainings on one slot; and what an experiment takes in histories of 10,
1,000 and 5,000 commits and experiments. Wall time is what counts; processor time beside it tells a busy
machine.

    python benchmarks/overhead.py --rounds 3
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sleeping import call, project

RUNS = 20
BASELINE = 8  # runs of the incumbent with which a campaign begins
DVC_IN_PROCESS = """\
from dvc.repo import Repo
with Repo() as repo:
    for number in range(RUNS):
        repo.experiments.run(params=[f"x={number / 100}"])
"""
DVC_QUEUE = """\
import time
from dvc.repo import Repo
with Repo() as repo:
    for number in range(RUNS):
        repo.experiments.run(params=[f"x={number / 100}"], queue=True)
    queue = repo.experiments.celery_queue
    queue.start_workers(1)
    while len(list(queue.iter_done())) < RUNS:
        time.sleep(0.05)
"""
OPTUNA = """\
import json, subprocess
import optuna
def objective(trial):
    trial.suggest_float("x", 0, 1)
    subprocess.run(["sh", "fit.sh", "0"], check=True)
    return json.load(open("m.json"))["loss"]
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(storage="sqlite:///study.db", sampler=optuna.samplers.TPESampler(seed=1))
study.optimize(objective, n_trials=RUNS)
"""


@dataclass(frozen=True)
class Cost:
    wall: float
    cpu: float


def cost(root: Path, *argv: str) -> Cost:
    """Of one process and all that it waits for, from start to exit."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    call(root, *argv)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code.replace("RUNS", str(RUNS))


def compare(scratch: Path, rounds: int) -> dict[str, list[Cost]]:
    """20 no-op experiments each way, in turn, so that a busy machine slows all alike."""
    ways: dict[str, tuple[str, ...]] = {
        "ar run": (sys.executable, "-m", "ar", "run", "--plain"),
        "Optuna, SQLite": python(OPTUNA),
        "DVC, in process": python(DVC_IN_PROCESS),
        "DVC's queue": python(DVC_QUEUE),
    }
    template = project(scratch / "template", budget=RUNS)
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way, argv in ways.items():
            root = scratch / f"{turn}-{way.replace(' ', '')}"
            shutil.copytree(template, root)
            costs[way].append(cost(root, *argv))
            if way == "ar run":
                ended = json.loads(call(root, sys.executable, "-m", "ar", "show", "--json"))["attempts"]
                assert sum(len(attempt["experiments"]) for attempt in ended) == RUNS
    return costs


def idle_gaps(root: Path, seconds: float, count: int) -> list[float]:
    """Seconds between the end of one training and the beginning of the next, on one slot, far from the end
    of the budget: what closes a campaign waits for the last verdict."""
    project(root, seconds, budget=1000)
    call(root, sys.executable, "-m", "ar", "run", "--plain", "-n", str(count - BASELINE))
    attempts = json.loads(call(root, sys.executable, "-m", "ar", "show", "--json"))["attempts"]
    times = sorted(
        (run["metrics"]["m.json:began"], run["metrics"]["m.json:ended"])
        for attempt in attempts
        for run in attempt["experiments"]
    )
    return [later[0] - earlier[1] for earlier, later in itertools.pairwise(times)]


def fill(root: Path, count: int) -> None:
    """Give a project a history: so many commits on its branch and so many ended experiments."""
    head = call(root, "git", "rev-parse", "HEAD").strip()
    branch = call(root, "git", "symbolic-ref", "HEAD").strip()
    who = b"committer Bench <bench@example.com> 1700000000 +0000\n"
    stream = []
    for number in range(count):
        text = b'{"loss": %d}\n' % number
        parent = b"from " + head.encode() + b"\n" if not number else b""
        stream.append(
            b"commit " + branch.encode() + b"\n" + who + b"data 4\nstep\n" + parent
            + b"M 100644 inline steps\ndata %d\n%s\n" % (len(text), text)
        )  # fmt: skip
    stream.append(b"done\n")
    feed(root, stream)
    call(root, "git", "reset", "-q", "--hard")
    head = call(root, "git", "rev-parse", "HEAD").strip()
    stream = []
    for number in range(count):
        text = b'{"loss": %d.5}\n' % number
        ref = f"refs/exps/{head[:2]}/{head[2:]}/x-{number:06x}".encode()
        message = b"x %d\n\nAr-Agent: optuna\nAr-Candidate: %016x\nAr-Seed: 1\n" % (number, number)
        stream.append(
            b"commit " + ref + b"\n" + who + b"data %d\n%s" % (len(message), message)
            + b"\nfrom " + head.encode() + b"\nM 100644 inline m.json\ndata %d\n%s" % (len(text), text)
            + b"M 100644 inline params.yaml\ndata 25\nx: %010.6f\nseed: %04d\n\n" % (number / 7, 1)
        )  # fmt: skip
    stream.append(b"done\n")
    feed(root, stream)
    revs = call(root, "git", "for-each-ref", "refs/exps", "--format=%(objectname)").split()
    note = json.dumps(
        {"status": "succeeded", "log": "loss\n" * 20, "verdict": {"decision": "discard", "reason": ""}}
    )
    stream = [b"commit refs/notes/ar\n" + who + b"data 5\nnotes\n"]
    stream += [
        b"M 100644 inline %s/%s\ndata %d\n%s\n"
        % (rev[:2].encode(), rev[2:].encode(), len(note), note.encode())
        for rev in revs
    ]
    feed(root, [*stream, b"\ndone\n"])
    call(root, "git", "pack-refs", "--all")


def feed(root: Path, stream: list[bytes]) -> None:
    subprocess.run(["git", "fast-import", "--quiet", "--done"], cwd=root, input=b"".join(stream), check=True)


def by_history(root: Path, repeats: int) -> dict[str, float]:
    """Median seconds of the steps of one experiment, in this process."""
    from ar.campaign.campaign import Campaign
    from ar.git.repo import Repo
    from ar.project.program_file import load
    from ar.project.project import Project
    from ar.runs.worker import Worker

    repo = Repo.open(root)
    campaign, worker = Campaign(Project(repo, load(root))), Worker(repo)
    found: dict[str, list[float]] = {
        "first look": [],
        "look again": [],
        "queue": [],
        "set up": [],
        "all in": [],
    }
    for turn in range(repeats + 1):
        found["first look"].append(timed(lambda: Campaign(campaign.project).history()))
        history = campaign.history()
        found["look again"].append(timed(campaign.history))
        gc.freeze()  # a real worker is a process of its own, that never held the history
        began = time.time()
        name = campaign.measure_incumbent(history, turn + 1)
        queued = time.time()
        worker.run_next()
        ended = time.time()
        rev = call(root, "git", "for-each-ref", "refs/exps", "--format=%(refname)").split()
        ref = next(item for item in rev if item.endswith(name))
        metrics = json.loads(call(root, "git", "show", f"{ref}:m.json"))
        found["queue"].append(queued - began)
        found["set up"].append(metrics["began"] - queued)
        found["all in"].append(ended - began)
    return {step: statistics.median(values[1:]) for step, values in found.items()}


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison (default: 3)")
    parser.add_argument("--repeats", type=int, default=5, help="experiments a history (default: 5)")
    parser.add_argument("--sizes", type=int, nargs="*", default=[10, 1000, 5000], help="of the histories")
    options = parser.parse_args()
    os.environ["DVC_NO_ANALYTICS"] = "1"
    with tempfile.TemporaryDirectory(prefix="ar-overhead-") as folder:
        scratch = Path(folder)
        print(f"{RUNS} no-op experiments, start to exit (medians of {options.rounds})")
        costs = compare(scratch, options.rounds) if options.rounds else {}
        first = 0.0
        for way, each in costs.items():
            wall = statistics.median(item.wall for item in each)
            cpu = statistics.median(item.cpu for item in each)
            first = first or wall
            waited = "    -" if way == "DVC's queue" else f"{cpu:5.2f}"  # its workers are nobody's children
            mean, ratio = wall / RUNS, wall / first
            print(f"  {way:<16}{wall:7.2f} s wall {waited} s cpu {mean:7.3f} s each {ratio:6.2f} x")
        gaps = idle_gaps(scratch / "gaps", 1.5, 14)
        later = gaps[2:]  # the second worker starts when the first proves too slow to keep the slot busy
        print("idle gap between two trainings on one slot")
        print(f"  median {statistics.median(later):.3f} s, longest {max(later):.3f} s, of {len(later)}")
        print("seconds a step, by commits and experiments in the history")
        for place, size in enumerate(options.sizes):
            root = project(scratch / f"history-{size}", budget=10**6)
            fill(root, size)
            steps = by_history(root, options.repeats)
            if not place:
                print(" " * 8 + "".join(f"{step:>12}" for step in steps))
            print(f"{size:8}" + "".join(f"{seconds:12.3f}" for seconds in steps.values()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
