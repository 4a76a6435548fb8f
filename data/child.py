"""The harness's other side: `python -m data.child FD PARENT` forks the processes that run code under test.

This server imports torch and nothing of the model, reads no data, and outlives what it forks. In a forked
process threads, seed and determinism are set and the walls raised before `model` is imported, which is what
the harness measures and judges. From then on nothing that the process says or writes is trusted.
"""

from __future__ import annotations

import gc
import glob
import json
import math
import mmap
import os
import resource
import socket
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data import weights
from data.errors import LabError
from data.modules import keep_modules
from data.process import PR_SET_CHILD_SUBREAPER, die_with_parent, kill_orphans, prctl
from data.settings import TrainSettings, train_settings
from data.task import Task, send
from data.walls import Walls, only_compute, system, unused_packages

TRACE_FRAMES = 4  # of a traceback, from the code under test: its end is what helps
MOST_DESCRIPTORS = 8
GPUS = ("/dev/nvidia*", "/dev/kfd", "/dev/dri")


@dataclass(frozen=True)
class Role:
    """What one process was handed."""

    config: dict[str, Any]
    settings: TrainSettings
    line: socket.socket
    descriptors: list[int]

    def array(self, index: int, dtype: torch.dtype) -> Tensor:
        """Shared memory as a flat tensor."""
        return torch.frombuffer(mmap.mmap(self.descriptors[index], 0), dtype=dtype)


def set_up_torch(settings: TrainSettings, seed: int) -> None:
    """Threads, seed and determinism. Raises LabError when the device is not there."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(seed)
    if settings.device == "cpu":
        torch.set_flush_denormal(True)
        torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms also imports a compiler
    elif settings.device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for what is not bf16
    if settings.device == "mps":
        available = torch.backends.mps.is_available()
    else:
        available = settings.device == "cpu" or torch.cuda.is_available()
    if not available:
        raise LabError(f"params.yaml: train.device is {settings.device}, which this machine does not have")


def raise_walls(config: dict[str, Any], settings: TrainSettings) -> None:
    """From now on: the system and the model's code to read, an empty folder to write, no other process."""
    folder = config["folder"]
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    root = os.getcwd()
    ours = [path for path in glob.glob("data/*.py") if os.path.isfile(path)]
    hidden: tuple[str, ...] = (root, os.path.join(root, "data"), *unused_packages())
    if not settings.compile:  # compilers run in interpreters of their own, which need all of their library
        keep_modules(config["hidden"])
        hidden += tuple(config["hidden"])
    read = (
        *system(settings.compile),
        os.path.join(root, "model"),
        *(os.path.join(root, path) for path in ours),
    )
    devices: tuple[str, ...] = ()
    if settings.device != "cpu":
        devices = tuple(path for name in GPUS for path in glob.glob(name))
        read += ("/proc", "/sys")  # where drivers look
    Walls(read, (folder,), devices, hidden, settings.compile).up()


def train(role: Role) -> None:
    """Runs `model.train.train` and leaves its weights for the harness."""
    config, settings, line = role.config, role.settings, role.line
    out, _ = role.descriptors
    task = Task(config["params"], settings, config["vocab_size"], line, role.array(1, torch.int64))
    if settings.device == "cuda":
        torch.cuda.init()
    send(line, "ready", time.process_time())

    from model.train import train as run

    model = run(task)
    task.flush()
    weights.save(out, model.state_dict())
    send(line, "done", float(model.flops_per_token()))


def evaluate(role: Role) -> None:
    """Answers each byte from the harness by filling the logits of the windows in the buffer."""
    config, settings, line = role.config, role.settings, role.line
    shape = (config["rows"], settings.sequence_len)
    windows = role.array(1, torch.int64)[: math.prod(shape)].view(shape)
    output = role.array(2, torch.float32).view(*shape, config["vocab_size"])
    state = weights.load(role.descriptors[0])

    from model.train import build

    model = build(config["params"], config["vocab_size"], settings.sequence_len)
    model.load_state_dict(state)
    model.to(settings.device).eval()
    with torch.inference_mode():
        model(windows.to(settings.device))  # of zeros, to no avail: what is imported late is imported here
        if settings.device == "cpu" and not settings.compile:
            only_compute()
        send(line, "ready")
        while line.recv(1):
            logits = model(windows.to(settings.device))
            if logits.shape != output.shape:
                raise LabError(
                    f"logits are {tuple(logits.shape)}, not {tuple(output.shape)} (rows, tokens, vocabulary)"
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


def play(config: dict[str, Any], line: socket.socket, descriptors: list[int]) -> int:
    """One role, in the forked process. Returns the exit status."""
    try:
        settings = train_settings(config["params"])
        if config["cpu_limit"] is not None:
            limit = math.ceil(config["cpu_limit"])  # the kernel ends it
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        raise_walls(config, settings)
        set_up_torch(settings, config["params"]["seed"])
        {"train": train, "evaluate": evaluate}[config["role"]](Role(config, settings, line, descriptors))
        return 0
    except LabError as error:
        send(line, "fail", error)
    except BaseException as error:  # the code under test may raise anything
        send(line, "crash", explain(error))
    return 1


def fork(config: dict[str, Any], server: socket.socket, descriptors: list[int]) -> int:
    """The process id of a forked process that plays its role and ends without running anybody's handlers."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        server.close()
        die_with_parent(parent)
        prctl(PR_SET_CHILD_SUBREAPER, 0)
        status = play(config, socket.socket(fileno=descriptors[0]), descriptors[1:])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def children_seconds() -> float:
    """CPU time of all processes that were waited for, and of those that they waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Serves the harness until it closes its end."""
    server = socket.socket(fileno=int(sys.argv[1]))
    die_with_parent(int(sys.argv[2]))
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a process leaves behind is ended here, and counted
    gc.freeze()
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
    while True:
        request, descriptors, _, _ = socket.recv_fds(server, 1 << 16, MOST_DESCRIPTORS)
        while request and not request.endswith(b"\n"):
            more = server.recv(1 << 16)
            request = request + more if more else b""
        if not request:
            return
        before = children_seconds()
        pid = fork(json.loads(request), server, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _, status, used = os.wait4(pid, 0)
        kill_orphans()
        usage = {
            "status": os.waitstatus_to_exitcode(status),
            "cpu_seconds": children_seconds() - before,
            "peak_bytes": used.ru_maxrss * unit,
        }
        server.sendall(json.dumps(usage).encode() + b"\n")


if __name__ == "__main__":
    main()
