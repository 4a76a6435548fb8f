"""Stage `train`: runs training, measures it from outside, evaluates it. `python -m data.harness`.

The judge's eye: this process never imports `model`. It hands out tokens and counts them, takes time,
CPU and memory from the kernel, scores logits itself, and writes metrics.json last, if nothing failed.
What the code under test says is never a refusal: only this process refuses, by its exit code.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import walls, weights
from data.buffer import Buffer
from data.console import Progress, say
from data.curve import Curve
from data.errors import DivergedError, LabError, RunError, TamperError
from data.evaluate import TOLERANCE, Call, Exam, Score, choose_windows, rows_per_call, score
from data.feed import Feed
from data.logits import Logits
from data.pace import Pace
from data.process import Child, Server, Terminated, Usage, supervision
from data.settings import TrainSettings, data_settings, load, train_settings
from data.shards import FOLDER, Manifest, read_split, read_token_bytes
from data.sources import out_of_reach

if TYPE_CHECKING:
    import numpy as np

METRICS = Path("metrics.json")
CURVE = Path("loss.csv")
CHECKPOINT = Path("data/checkpoint")
HELD_OUT = ("val", "test")

# What an evaluating process may take: seconds to start, and training steps' worth of time for each token.
# A step is three forward passes or more, so this is six of them.
START_SECONDS = {"cpu": 5.0, "cuda": 60.0, "mps": 60.0}
STEPS_PER_TOKEN = 2.0

# Dense bf16 FLOP/s of devices by a part of their name, from NVIDIA's data sheets.
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}


@dataclass
class Trained:
    """What the harness saw of a training run."""

    seconds: float
    cpu_seconds: float
    work: float  # cpu_seconds in units of `data.pace`; NaN where another device does the work
    peak_bytes: int
    tokens: int
    steps: int
    flops_per_token: float  # by the model's own count

    def time_limit(self, device: str, tokens: int) -> float:
        """Seconds that an evaluation of `tokens` may take: of CPU time, or by the clock on other devices."""
        seconds = self.cpu_seconds if device == "cpu" else self.seconds
        return START_SECONDS[device] + STEPS_PER_TOKEN * seconds / self.tokens * tokens


class Harness:
    """One run: settings and manifest, and a private folder for what its processes exchange."""

    def __init__(self, params: dict[str, Any], manifest: Manifest, folder: Path) -> None:
        self.params = params
        self.settings: TrainSettings = train_settings(params)
        self.manifest = manifest
        self.folder = folder
        self.weights = folder / "weights.safetensors"
        self.hidden: list[str] = []  # more than what lies in the repository

    def start(self, server: Server, role: str, access: str, descriptors: list[int], **config: Any) -> Child:
        """A process of `data.child` with the weights (`access`: rb or w+b) and other open files."""
        common = {
            "role": role,
            "params": self.params,
            "vocab_size": self.manifest.vocab_size,
            "folder": tempfile.mkdtemp(dir=self.folder),  # its own, so that it finds nothing of others
            "hidden": self.hidden,
            "cpu_limit": None,
        }
        with self.weights.open(access) as file:
            return server.start({**common, **config}, [file.fileno(), *descriptors])

    def train(self, server: Server) -> Trained:
        """Runs training to its end. Raises RunError when it fails or breaks a rule."""
        tokens = read_split(FOLDER, self.manifest, "train")
        settings = self.settings
        feed = Feed(tokens, settings.sequence_len, self.params["seed"], settings.tokens, settings.max_seconds)
        split = self.manifest.splits["train"]
        with (
            contextlib.closing(Curve(CURVE, split.bytes / split.tokens)) as curve,
            Progress("train", 1.0) as progress,
        ):
            child = self.start(server, "train", "w+b", [feed.buffer.descriptor])
            return self._follow(child, feed, curve, progress)

    def _follow(self, child: Child, feed: Feed, curve: Curve, progress: Progress) -> Trained:
        """Answers the training process until it ends."""
        started = cpu_at_start = flops = None
        steps = -1
        pace = Pace()
        while (words := child.receive()) is not None:
            match words:
                case ["ready", cpu] if started is None:
                    # still trusted code: `model` is imported after this message
                    started = feed.start = time.monotonic()
                    cpu_at_start = float(cpu)
                case ["next", rows, length] if started is not None:
                    reply = feed.serve(*integers(rows, length))
                    if self.settings.device == "cpu":
                        pause = pace.keep()
                        started, feed.start = started + pause, feed.start + pause
                    child.reply(reply)
                case ["loss", step, value] if started is not None:
                    (number,), loss = integers(step), finite(value)
                    if not steps < number <= feed.requests:
                        raise RunError(f"training reported step {step} after step {steps}")
                    steps = number
                    if not loss <= self.settings.loss_limit:
                        raise DivergedError(
                            f"training diverged: loss {value} after {feed.served:,} tokens; "
                            f"train.loss_limit is {self.settings.loss_limit:g} nats"
                        )
                    seconds = time.monotonic() - started
                    bpb = curve.add(steps, feed.served, seconds, loss)
                    speed = feed.served / max(seconds, 1e-9)
                    note = f"loss {loss:.3f}  {bpb:.3f} bits/byte  {speed:,.0f} tokens/s"
                    progress.update(feed.progress, note)
                case ["done", value]:
                    flops = finite(value)
                case _:
                    raise failure("training", words)
        usage = child.wait()
        if started is None or cpu_at_start is None or flops is None or usage.status:
            raise RunError(f"training ended without a result ({ending(usage.status)})")
        seconds = time.monotonic() - started
        progress.close(f"{feed.served:,} tokens")
        if not feed.served:
            raise RunError("training asked for no token")
        cpu_seconds = usage.cpu_seconds - cpu_at_start
        return Trained(
            seconds,
            cpu_seconds,
            pace.work(cpu_seconds),
            usage.peak_bytes,
            feed.served,
            min(steps + 1, feed.requests),
            flops,
        )

    def evaluate(self, server: Server, trained: Trained) -> tuple[dict[str, Score], float]:
        """The scores of the trained weights on val and test, and the CPU time that they took.

        Raises TamperError when a probe fails, DivergedError when a score is no number.
        """
        import numpy as np

        settings = self.settings
        length = settings.sequence_len
        count = max(1, settings.eval_tokens // length)
        splits = [choose_windows(read_split(FOLDER, self.manifest, name), length, count) for name in HELD_OUT]
        rows = rows_per_call(settings.device, length, self.manifest.vocab_size)
        windows = np.concatenate(splits)
        fillers = choose_windows(read_split(FOLDER, self.manifest, "train"), length, len(windows))
        exam = Exam(windows, fillers, rows, self.manifest.vocab_size)
        answers, cpu_seconds = [], 0.0
        with Progress("evaluate", sum(map(len, exam.rounds))) as progress:
            for calls in exam.rounds:
                tokens = len(calls) * rows * length
                limit = trained.time_limit(settings.device, tokens)
                got, usage = self._ask(server, exam, calls, progress, limit)
                answers.append(got)
                cpu_seconds += usage.cpu_seconds
            nats = exam.judge(answers, TOLERANCE[settings.device])
            parts = np.split(nats, np.cumsum([len(split) for split in splits])[:-1])
            scores = {
                name: score(part, split[:, 1:], read_token_bytes(FOLDER))
                for name, part, split in zip(HELD_OUT, parts, splits, strict=True)
            }
            progress.close(f"val {scores['val'].bits_per_byte:.4f} bits/byte")
        return scores, cpu_seconds

    def _ask(
        self, server: Server, exam: Exam, calls: list[Call], progress: Progress, limit: float
    ) -> tuple[list[np.ndarray], Usage]:
        """The answers of one fresh process. Raises RunError when it fails, or takes too long."""
        import numpy as np

        shape = calls[0].inputs.shape
        inputs = Buffer(8 * math.prod(shape))
        logits = Logits(self.settings.device, (*shape, self.manifest.vocab_size))
        descriptors = [inputs.descriptor, logits.buffer.descriptor]
        answers: list[np.ndarray] = []
        began = time.monotonic()
        child = self.start(server, "evaluate", "rb", descriptors, rows=shape[0], cpu_limit=limit)
        words = child.receive()
        for call in calls:
            if words != (["scored"] if answers else ["ready"]):
                break
            np.frombuffer(inputs.map, dtype=np.int64)[:] = call.inputs.ravel()
            child.reply(b"+")
            words = child.receive()
            answers.append(logits.nats(exam.windows[call.windows, 1:]))
            progress.update(len(answers))
        usage = child.wait()
        spent = usage.cpu_seconds if self.settings.device == "cpu" else time.monotonic() - began
        if spent >= math.floor(limit):
            raise TamperError(f"evaluation took {spent:.1f} s: it may take the time of six forward passes")
        if words is not None and words != ["scored"]:
            raise failure("evaluation", words)
        if words is None or usage.status:
            raise RunError(f"the model's process ended while being evaluated ({ending(usage.status)})")
        return answers, usage

    def run(self) -> dict[str, Any]:
        """The whole run; returns the metrics."""
        with Server() as server:
            self.hidden = out_of_reach(data_settings(self.params))
            trained = self.train(server)
            number = weights.count(self.weights)
            scores, eval_cpu_seconds = self.evaluate(server, trained)
        metrics: dict[str, Any] = {
            "val_bpb": scores["val"].bits_per_byte,
            "test_bpb": scores["test"].bits_per_byte,
            "train_seconds": round(trained.seconds, 3),
            "cpu_seconds": round(trained.cpu_seconds, 3),
            "eval_cpu_seconds": round(eval_cpu_seconds, 3),
            "peak_memory_mb": round(trained.peak_bytes / 1e6, 1),
            "tokens": trained.tokens,
            "tokens_per_second": round(trained.tokens / trained.seconds, 1),
            "params": number,
            "steps": trained.steps,
            "corpus": self.manifest.corpus,
            "curve": "told by training",
            "walls": "kernel" if walls.holds() else "unprotected",
        }
        if math.isfinite(trained.work):
            metrics["work"] = round(trained.work * (1 + eval_cpu_seconds / trained.cpu_seconds), 1)
        peak = peak_flops(self.settings.device)
        if peak is not None and math.isfinite(trained.flops_per_token):
            metrics["mfu"] = trained.flops_per_token * trained.tokens / trained.seconds / peak
        return metrics


def integers(*words: str) -> tuple[int, ...]:
    """Message words as integers. Raises RunError when they are none."""
    try:
        return tuple(int(word) for word in words)
    except ValueError as error:
        raise RunError(f"training sent a message that makes no sense: {' '.join(words)[:80]!r}") from error


def finite(word: str) -> float:
    """A message word as a float, NaN if it is none."""
    try:
        return float(word)
    except ValueError:
        return math.nan


def failure(name: str, words: list[str]) -> RunError:
    """What a child's last message says."""
    text = " ".join(words[1:]).replace("\\n", "\n")
    if words[0] == "crash":
        return RunError(f"{name} crashed: {text}")
    if words[0] == "fail":
        return RunError(text)
    return RunError(f"{name} sent a message that makes no sense: {' '.join(words)[:80]!r}")


def ending(status: int) -> str:
    """An exit status in words."""
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def peak_flops(device: str) -> float | None:
    """Dense bf16 FLOP/s of the CUDA device, or None if it is no CUDA device or not a known one."""
    if device != "cuda":
        return None
    import torch

    name = torch.cuda.get_device_name()
    return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)


def keep_checkpoint(source: Path | None) -> None:
    """`data/checkpoint`, which always exists for DVC: with the weights if there are any to keep."""
    shutil.rmtree(CHECKPOINT, ignore_errors=True)
    CHECKPOINT.mkdir(parents=True)
    if source is not None:
        shutil.copyfile(source, CHECKPOINT / "weights.safetensors")
    else:
        (CHECKPOINT / "none.txt").write_text("train.save_checkpoint is false, or training diverged\n")


def write_atomically(path: Path, text: str) -> None:
    """The file appears whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def run() -> dict[str, Any]:
    """Checks, trains, evaluates, and writes the metrics."""
    METRICS.unlink(missing_ok=True)
    params = load()
    train_settings(params)
    manifest = Manifest.load(FOLDER)
    manifest.verify(FOLDER)
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        harness = Harness(params, manifest, Path(folder))
        try:
            metrics = harness.run()
            keep_checkpoint(harness.weights if harness.settings.save_checkpoint else None)
        except DivergedError as error:
            say(f"train: {error}")
            metrics = {"val_bpb": math.nan, "test_bpb": math.nan, "corpus": manifest.corpus}
            keep_checkpoint(None)
    write_atomically(METRICS, json.dumps(metrics, indent=2) + "\n")
    return metrics


def main() -> int:
    """The command. Returns the exit status."""
    try:
        with supervision():
            metrics = run()
    except LabError as error:
        say(f"train: {error}")
        return error.exit_code
    except OSError as error:
        say(f"train: {error.filename or 'data'}: {error.strerror}")
        return 2
    except KeyboardInterrupt:
        say("train: interrupted; nothing of the run is left")
        return 130
    except Terminated as signal:
        say("train: terminated; nothing of the run is left")
        return 128 + int(signal.args[0])
    print(json.dumps(metrics))
    return 0


if __name__ == "__main__":
    sys.exit(main())
