"""The harness's child processes: `python -m data.child train|evaluate FD PARENT CONFIG`.

Everything here is trusted and runs first: torch is imported, threads, seed and determinism are set,
the guard is armed. Only then is `model` imported, which is what the harness measures and judges.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from data.errors import LabError
from data.guard import Guard, RefusedError
from data.process import die_with_parent
from data.settings import TrainSettings, train_settings

CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time",
          "process_time_ns", "thread_time", "thread_time_ns")  # fmt: skip
TRACE_FRAMES = 4  # of a traceback, from the code under test: its end is what helps


def set_up_torch(settings: TrainSettings, seed: int) -> None:
    """Threads, seed and determinism. Raises LabError when the device is not there."""
    import torch

    torch.set_num_threads(settings.threads)
    torch.manual_seed(seed)
    if settings.device == "cpu":
        torch.set_flush_denormal(True)
        torch.use_deterministic_algorithms(True, warn_only=True)
    elif settings.device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for what is not bf16
    if settings.device == "mps":
        available = torch.backends.mps.is_available()
    else:
        available = settings.device == "cpu" or torch.cuda.is_available()
    if not available:
        raise LabError(f"params.yaml: train.device is {settings.device}, which this machine does not have")


def train(config: dict[str, Any], settings: TrainSettings, line: socket.socket, guard: Guard) -> None:
    """Runs `model.train.train` and leaves its weights for the harness."""
    import torch

    from data import weights
    from data.task import Task, send

    task = Task(config["params"], settings, config["vocab_size"], line, Path(config["buffer"]))
    if settings.device == "cuda":
        torch.cuda.init()
    guard.arm()
    clocks = {name: getattr(time, name) for name in CLOCKS}
    send(line, "ready", time.process_time())

    from model.train import train as run

    model = run(task)
    for name, clock in clocks.items():  # nothing here relies on them, but nobody honest replaces one
        if getattr(time, name) is not clock:
            guard.refuse(f"code under test replaced time.{name}")
    task.flush()
    weights.save(Path(config["weights"]), model.state_dict())
    send(line, "done", float(model.flops_per_token()))


def evaluate(config: dict[str, Any], settings: TrainSettings, line: socket.socket, guard: Guard) -> None:
    """Answers each byte from the harness by filling the logits of the windows in the buffer."""
    import torch

    from data import weights
    from data.logits import open_logits
    from data.task import send

    rows, length = config["rows"], settings.sequence_len
    with Path(config["buffer"]).open("r+b") as file:
        windows = torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=torch.int64, count=rows * length)
    output = open_logits(config["logits"])
    state = weights.load(Path(config["weights"]))
    guard.arm()

    from model.train import build

    model = build(config["params"], config["vocab_size"], length)
    model.load_state_dict(state)
    model.to(settings.device).eval()
    send(line, "ready", time.process_time())
    with torch.inference_mode():
        while line.recv(1):
            logits = model(windows.view(rows, length).to(settings.device))
            if logits.shape != output.shape:
                raise LabError(
                    f"probe failed: shape: logits are {tuple(logits.shape)}, not {tuple(output.shape)} "
                    "(rows, tokens, vocabulary)"
                )
            output.copy_(logits)
            if settings.device == "cuda":
                torch.cuda.synchronize()
            send(line, "scored")


def explain(error: BaseException) -> str:
    """An exception of the code under test in one line, the end of its traceback shown before."""
    trace = traceback.TracebackException.from_exception(error)
    ours = [frame for frame in trace.stack if frame.filename.startswith(str(Path.cwd()))]
    frames = traceback.StackSummary.from_list(ours[-TRACE_FRAMES:])
    print("".join(frames.format()).rstrip(), file=sys.stderr)
    return "".join(trace.format_exception_only()).strip()


def main() -> None:
    """Does not return: the process ends without running anybody's exit handlers."""
    role, descriptor, parent, path = sys.argv[1:]
    die_with_parent(int(parent))
    line = socket.socket(fileno=int(descriptor))
    from data.task import send

    config = json.loads(Path(path).read_text())
    settings = train_settings(config["params"])

    def tell(reason: str) -> None:
        send(line, "refused", reason)

    guard = Guard(Path(config["shards"]), Path(config["folder"]), settings.compile, tell)
    status = 1
    try:
        set_up_torch(settings, config["params"]["seed"])
        {"train": train, "evaluate": evaluate}[role](config, settings, line, guard)
        status = 0
    except LabError as error:
        send(line, "fail", error)
    except RefusedError:
        pass  # the harness knows already
    except BaseException as error:  # the code under test may raise anything
        send(line, "crash", explain(error))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
