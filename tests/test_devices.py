"""What runs are measured on: how it is found on a machine, noted, and told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers import Ar, runs_of

from ar.history.device import Device, short
from ar.runs import devices, gpu_meter


@pytest.mark.parametrize(
    ("said", "model"),
    [
        ("AMD EPYC 7763 8-Core Processor", "AMD EPYC 7763"),
        ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", "Intel Xeon Platinum 8375C"),
        ("13th Gen Intel(R) Core(TM) i9-13900K", "13th Gen Intel Core i9-13900K"),
        ("AMD EPYC 25/1", "AMD EPYC 25/1"),
        ("", ""),
    ],
)
def test_a_processor_by_its_model(said: str, model: str) -> None:
    assert short(said) == model == Device(cpu=said).device_class


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("model name\t: AMD EPYC 7763 8-Core Processor\nmodel name\t: x\n", "AMD EPYC 7763 8-Core Processor"),
        ("cpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n", "AMD EPYC 25/1"),
        ("cpu family\t: 6\nmodel\t: 85\nmodel name\t: Intel Xeon @ 2.60GHz\n", "Intel Xeon 6/85"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "arch 0x41 0xd0c"),
        (None, "arch"),
    ],
)  # fmt: skip
def test_the_processor_is_what_the_kernel_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str | None, name: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arch")
    if lines is not None:
        (tmp_path / "cpuinfo").write_text(lines)
    assert devices.processor(tmp_path / "cpuinfo") == name


class _Nvml:
    class NVMLError(Exception):
        pass

    def nvmlInit(self) -> None: ...  # noqa: N802
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        raise self.NVMLError

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return ("NVIDIA H200", "NVIDIA L4")[handle]

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "570.1"


def test_a_run_on_a_gpu_is_of_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpu_meter.VISIBLE, "1,0,GPU-gone")
    monkeypatch.setitem(sys.modules, "pynvml", _Nvml())
    first = devices.of_slot("gpu0.2")
    assert (first.device_class, first.gpus, first.driver) == ("NVIDIA L4", 1, "570.1")
    assert devices.of_slot("gpu1").device_class == "NVIDIA H200"
    assert devices.of_slot("gpu2").device_class == "unknown GPU"
    assert devices.of_slot("cpu0").device_class == devices.of_slot("").device_class == short(first.cpu)
    monkeypatch.setenv(gpu_meter.VISIBLE, "0")
    assert devices.of_slot("gpu0").device_class == "NVIDIA H200"


def test_the_note_says_what_a_run_was_measured_on(project: Path, ar: Ar) -> None:
    ar(project, "next")
    ar(project, "worker")
    (run,) = runs_of(project).values()
    here = devices.of_slot("")
    assert run["device_class"] == here.device_class
    assert here.device_class in ar(project, "log", run["name"]).stdout
