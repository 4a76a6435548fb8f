"""The harness on real processes: what it measures, what it refuses, what it leaves."""

from __future__ import annotations

import contextlib
import csv
import math
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers import edit, wait_for

from data.console import Progress
from data.curve import Curve
from data.errors import RunError, TamperError
from data.feed import REPLY, Feed
from data.harness import Harness, Trained
from data.pace import Pace
from data.process import Usage
from data.settings import load
from data.shards import SPLITS, Manifest, Split
from tests.lab.conftest import ROOT, Lab

FIELDS = {
    "val_bpb", "test_bpb", "train_seconds", "cpu_seconds", "work", "peak_memory_mb", "tokens",
    "tokens_per_second", "params", "steps", "corpus", "eval_cpu_seconds", "walls", "curve",
}  # fmt: skip


@pytest.mark.slow
def test_same_seed_same_digits(lab: Lab) -> None:
    first = lab.metrics()
    assert set(first) == FIELDS
    assert first["tokens"] == 4096
    assert first["steps"] == 8
    second = lab.metrics()
    assert (first["val_bpb"], first["test_bpb"]) == (second["val_bpb"], second["test_bpb"])
    rows = list(csv.DictReader((lab.root / "loss.csv").read_text().splitlines()))
    assert [int(row["tokens"]) for row in rows] == list(range(512, 4097, 512))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    assert [p.name for p in (lab.root / "data/checkpoint").iterdir()] == ["none.txt"]

    lab.set(seed=2, train={"save_checkpoint": True})
    third = lab.metrics()
    assert third["val_bpb"] != first["val_bpb"]
    assert abs(third["val_bpb"] - first["val_bpb"]) < 0.5
    assert (lab.root / "data/checkpoint/weights.safetensors").stat().st_size > 4 * third["params"]


def test_a_clock_that_was_patched_for_a_while_changes_nothing(lab: Lab) -> None:
    """Neither where a run is bounded by seconds, nor what they were."""
    lab.tiny(
        "import time, os\n"
        "names = ('time', 'monotonic', 'perf_counter', 'process_time')\n"
        "kept = {name: getattr(time, name) for name in names}\n"
        "for name in kept:\n"
        "    setattr(time, name, lambda: 0.0)\n"
        "time.sleep(0.6)\n"
        "for name, clock in kept.items():\n"
        "    setattr(time, name, clock)\n"
    )
    edit(
        lab.root / "model/train.py", "        inputs", "        import time; time.sleep(0.01)\n        inputs"
    )
    lab.set(train={"tokens": 10**9, "max_seconds": 1.0})
    metrics = lab.metrics()
    assert 1.6 <= metrics["train_seconds"] < 10
    assert metrics["cpu_seconds"] < metrics["train_seconds"]
    assert 0 < metrics["steps"] < 101
    assert metrics["params"] == 384 * 384


def test_training_that_takes_more_tokens_is_refused(lab: Lab) -> None:
    (lab.root / "metrics.json").write_text("{}")  # of an older run
    lab.tiny("task.batch(1)")
    reason = "budget exceeded: training asked for 4,160 tokens, train.tokens is 4,096"
    lab.refused(reason, TamperError.exit_code)


def test_training_that_fails_has_failed(lab: Lab) -> None:
    (lab.root / "metrics.json").write_text("{}")  # of an older run
    lab.tiny("import os; os._exit(7)")
    lab.refused("training ended without a result (exit status 7)")


def test_training_that_diverges_has_come_to_its_end_with_metrics_that_are_no_numbers(lab: Lab) -> None:
    lab.set(train={"save_checkpoint": True})
    lab.tiny("task.report(8, torch.tensor(float('nan'))); task.flush()")
    metrics = lab.metrics()
    assert math.isnan(metrics["val_bpb"]) and math.isnan(metrics["test_bpb"])
    assert [p.name for p in (lab.root / "data/checkpoint").iterdir()] == ["none.txt"]


class Scripted:
    """A training process that says what it is told to."""

    def __init__(self, *lines: str, status: int = 0) -> None:
        self.lines = ["ready 0.5", *lines]
        self.usage = Usage(status, 1.5, 2_000_000)

    def receive(self) -> list[str] | None:
        return self.lines.pop(0).split(" ") if self.lines else None

    def reply(self, data: bytes) -> None:
        assert len(data) == REPLY.size

    def wait(self) -> Usage:
        return self.usage


def follow(child: Scripted, folder: Path, max_seconds: float | None = None) -> Trained:
    """What the harness makes of it, with a budget of 128 tokens."""
    params = load(ROOT / "params.yaml")
    split = Split(1, 100, 50)
    manifest = Manifest({"kind": "none"}, "0" * 64, 9, 8, "uint16", dict.fromkeys(SPLITS, split), {})
    harness = Harness(params, manifest, folder)
    feed = Feed(np.arange(200), 32, 1, 128, max_seconds)
    with contextlib.closing(Curve(folder / "loss.csv", 2.0)) as curve, Progress("train", 1.0) as progress:
        return harness._follow(child, feed, curve, progress)  # type: ignore[arg-type]


def test_work_is_counted_in_passes_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace()
    assert math.isnan(pace.work(1.0))
    assert pace.keep() > 0 and pace.keep() == 0.0  # the second is too soon
    one = pace.cpu_seconds
    assert 0 < one < 1 and pace.work(5 * one) == pytest.approx(5)
    monkeypatch.setattr("data.pace.PAUSE", 0.0)
    pace.keep()
    assert pace.work(pace.cpu_seconds) == pytest.approx(2)


def test_the_harness_counts_what_it_hands_out(tmp_path: Path) -> None:
    child = Scripted("next 1 32", "loss 0 3.5", "next 1 16", "loss 1 2.5", "done 7.0")
    seen = follow(child, tmp_path)
    assert (seen.tokens, seen.steps, seen.cpu_seconds, seen.flops_per_token) == (48, 2, 1.0, 7.0)
    rows = (tmp_path / "loss.csv").read_text().splitlines()
    assert rows[1].split(",")[:2] == ["0", "32"]
    assert rows[2].split(",")[:2] == ["1", "48"]
    assert float(rows[1].split(",")[4]) == pytest.approx(3.5 / math.log(2) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["next 4 32", "next 1 1"], "budget exceeded: training asked for 129 tokens, train.tokens is 128"),
        (["next 1 33"], "a window has at most train.sequence_len, 32"),
        (["next -1 32"], "asked for -1 windows"),
        (["next one 32"], "makes no sense: 'one 32'"),
        (["next 1 32", "loss 0 nan"], "training diverged: loss nan after 32 tokens"),
        (["next 1 32", "loss 0 12.5"], "train.loss_limit is 12 nats"),
        (["next 1 32", "loss 0 x"], "training diverged"),
        (["next 1 32", "loss 0 3.0", "loss 0 3.0"], "training reported step 0 after step 0"),
        (["loss 5 3.0"], "training reported step 5 after step -1"),
        (["ready 0.0"], "makes no sense: 'ready 0.0'"),
        (["crash ValueError: no such\\nthing"], "training crashed: ValueError: no such\nthing"),
        (["refused by nobody"], "makes no sense: 'refused by nobody'"),
        (["done 1.0"], "training asked for no token"),
        (["next 1 32"], "training ended without a result (exit status 0)"),
    ],
)
def test_the_harness_trusts_no_message(tmp_path: Path, lines: list[str], reason: str) -> None:
    with pytest.raises(RunError) as caught:
        follow(Scripted(*lines), tmp_path)
    assert reason in str(caught.value)


def test_a_child_that_fails_after_it_is_done_has_failed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"without a result \(signal 9\)"):
        follow(Scripted("next 1 32", "done 1.0", status=-9), tmp_path)


def test_blocks_are_shuffled_anew_each_epoch_and_by_seed() -> None:
    def epochs(seed: int) -> list[list[int]]:
        feed = Feed(np.arange(321), 32, seed, 10**6, None)
        served = []
        for _ in range(2):
            feed.serve(10, 32)
            windows = np.frombuffer(feed.buffer.map, dtype=np.int64, count=330).reshape(10, 33)
            assert (np.diff(windows, axis=1) == 1).all()
            served.append(windows[:, 0].tolist())
        return served

    first, second = epochs(1)
    assert sorted(first) == sorted(second) == list(range(0, 320, 32))
    assert first != second
    assert epochs(1) == [first, second]
    assert epochs(2)[0] != first


def test_a_crash_in_the_model_shows_where(lab: Lab) -> None:
    lab.tiny("model.head.weight")
    error = lab.refused("training crashed: AttributeError: 'Net' object has no attribute 'head'")
    assert "model/train.py" in error
    assert "data/child.py" in error


def test_changed_shards_are_refused(lab: Lab) -> None:
    with (lab.root / "data/shards/val.bin").open("r+b") as file:
        file.write(b"\1\1")
    lab.refused("shards differ from data/shards/manifest.json: val.bin; restore", status=2)


def test_missing_shards_and_broken_settings(lab: Lab) -> None:
    lab.set(train={"tokens": "many"})
    lab.refused("params.yaml: train.tokens must be int, not 'many'", status=2)
    lab.set(train={"tokens": 4096}, optim={"matrix_lrr": 1.0})
    lab.refused("unknown key optim.matrix_lrr; did you mean optim.matrix_lr?")
    (lab.root / "data/shards/manifest.json").unlink()
    lab.refused("run `dvc repro prepare`", status=2)


def children(pid: int) -> list[int]:
    """Process ids of a process's children."""
    out = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in out.stdout.split()]


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM, signal.SIGKILL]
)
def test_a_killed_harness_leaves_no_process(lab: Lab, number: signal.Signals) -> None:
    lab.tiny("import time; time.sleep(60)")
    process = lab.start("data.harness")
    curve = lab.root / "loss.csv"
    wait_for(lambda: curve.exists() and curve.stat().st_size > 200)
    pids = children(process.pid)
    assert pids
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    assert "Traceback" not in err
    wait_for(lambda: not any(map(alive, pids)))
    assert not (lab.root / "metrics.json").exists()
