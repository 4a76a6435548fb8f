"""The GPUs of this machine: which we may use, and what one does during a run.

`CUDA_VISIBLE_DEVICES` says which there are; where it is not set, NVIDIA's management library (NVML) does.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"
_SAMPLE = 1.0  # seconds between two looks at a GPU


def gpus() -> list[str]:
    """The GPUs that we may use, as `CUDA_VISIBLE_DEVICES` names them."""
    told = os.environ.get(VISIBLE)
    if told is not None:
        names = [name.strip() for name in told.split(",")]
        # CUDA itself stops at the first that is not valid; -1 is the common way to say "none".
        return [] if names[0] in ("", "-1") else [name for name in names if name]
    with _nvml() as nvml:
        if nvml is None:
            return []
        handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
        return [uuid for handle in handles for uuid in _uuids(nvml, handle)]


def _uuids(nvml: Any, handle: Any) -> list[str]:
    """Of a GPU, or of the instances that it is divided into (MIG)."""
    with contextlib.suppress(nvml.NVMLError):
        if nvml.nvmlDeviceGetMigMode(handle)[0]:
            found = []
            for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
                with contextlib.suppress(nvml.NVMLError):
                    part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
                    found.append(nvml.nvmlDeviceGetUUID(part))
            return found
    return [nvml.nvmlDeviceGetUUID(handle)]


def model(gpu: str) -> tuple[str, str]:
    """Model of a GPU, named as by `gpus`, and version of its driver; empty where the driver does not say."""
    with _nvml() as nvml:
        if nvml is not None:
            with contextlib.suppress(nvml.NVMLError, ValueError):
                return nvml.nvmlDeviceGetName(_handle(nvml, gpu)), nvml.nvmlSystemGetDriverVersion()
    return "", ""


def _handle(nvml: Any, gpu: str) -> Any:
    if gpu.isdecimal():
        return nvml.nvmlDeviceGetHandleByIndex(int(gpu))
    return nvml.nvmlDeviceGetHandleByUUID(gpu)


@dataclass
class Meter:
    """What a GPU did during a run, look by look: memory in use in MB (10⁶ bytes), percent of time at work."""

    memory_mb: list[float] = field(default_factory=list)
    percent: list[float] = field(default_factory=list)


@contextlib.contextmanager
def metered(gpu_in_use: Callable[[], str]) -> Iterator[Meter]:
    """Look at the GPU in use (no name: none yet) once a second, for as long as the block lasts."""
    meter, done = Meter(), threading.Event()
    thread = threading.Thread(target=_look, args=(gpu_in_use, meter, done), daemon=True)
    thread.start()
    try:
        yield meter
    finally:
        done.set()
        thread.join()


def _look(gpu_in_use: Callable[[], str], meter: Meter, done: threading.Event) -> None:
    with _nvml() as nvml:
        while nvml is not None and not done.wait(_SAMPLE):
            if not (gpu := gpu_in_use()):
                continue
            with contextlib.suppress(nvml.NVMLError, ValueError):
                handle = _handle(nvml, gpu)
                meter.memory_mb.append(nvml.nvmlDeviceGetMemoryInfo(handle).used / 1e6)
                meter.percent.append(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    """NVIDIA's management library, or None where there is no driver."""
    try:
        import pynvml as nvml

        nvml.nvmlInit()
    except Exception:  # not installed, no driver, a driver that is being replaced: all mean "no GPU"
        yield None
        return
    try:
        yield nvml
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()
