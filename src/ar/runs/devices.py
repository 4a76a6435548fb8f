"""Which device a run has on this machine: read from the kernel and from the driver, once a process."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import socket
import statistics
import time
from dataclasses import replace
from pathlib import Path

from ar.history.device import Device
from ar.runs import gpu_meter

CPUINFO = Path("/proc/cpuinfo")
_BLOCK, _TIMES = (
    4_000_000,
    15,
)  # bytes of the fixed work, and how often it is timed: a tenth of a second or two
_NAMELESS = "unknown GPU"  # that we were told of, while no driver says what it is


def of_slot(slot: str) -> Device:
    """The device of a run in a slot of this machine, by the slot's name; empty for a run that had none."""
    return _of_slot(slot, os.environ.get(gpu_meter.VISIBLE), CPUINFO)


@functools.lru_cache(maxsize=64)
def _of_slot(slot: str, visible: str | None, cpuinfo: Path) -> Device:  # noqa: ARG001 - decides which GPUs are
    host, cores = socket.gethostname(), _cores()
    with contextlib.suppress(ValueError, IndexError):
        gpu = gpu_meter.gpus()[int(slot.partition(".")[0].removeprefix("gpu"))]
        model, driver = gpu_meter.model(gpu)
        return Device(host, processor(cpuinfo), cores, model or _NAMELESS, 1, driver)
    return Device(host, processor(cpuinfo), cores)


def timed(device: Device) -> Device:
    """A device of this machine, with how long it takes for the fixed work."""
    work, spread = fixed_work()
    return replace(device, work=work, spread=spread)


@functools.cache
def fixed_work() -> tuple[float, float]:
    """Times a fixed small piece of work on one core, once a process: median seconds, and how far the
    quartiles lie apart, over the median."""
    block, times = bytes(_BLOCK), []
    # By the core's time: trainings of our own that run beside it are no fault of the machine's.
    for _ in range(_TIMES):
        began = time.thread_time()
        hashlib.sha256(block).digest()
        times.append(time.thread_time() - began)
    low, middle, high = statistics.quantiles(times, n=4)
    return round(middle, 6), round((high - low) / middle, 3)


def _cores() -> int:
    """How many this process may use; all of the machine's where the system has no such limit."""
    limited = getattr(os, "sched_getaffinity", None)
    return len(limited(0)) if limited else os.cpu_count() or 0


def processor(cpuinfo: Path) -> str:
    """The first processor's model, by what the kernel says; where it says nothing, the architecture."""
    said: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            said.setdefault(key.strip(), value.strip())
    if name := said.get("model name"):
        # Clouds hide the number, which is the model.
        hidden = not any(sign.isdigit() for sign in name.partition("@")[0])
        number = f"{said.get('cpu family', '')}/{said.get('model', '')}".strip("/")
        return f"{name.partition('@')[0].strip()} {number}" if hidden and number else name
    part = [said[key] for key in ("CPU implementer", "CPU part") if key in said]  # as on Arm
    return " ".join([platform.machine(), *part])
