"""What runs are measured on: how it is found on a machine, noted, and told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers import Ar, edit, names_of, run_next, runs_of

from ar.campaign.campaign import Campaign
from ar.git.repo import Repo
from ar.history.device import Device, short
from ar.judge.ledger import ledger
from ar.project.project import Project
from ar.runs import devices, gpu_meter
from ar.runs.events import Event, EventKind
from ar.runs.worker import Worker


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


class Machine:
    """A worker's machine that looks as if it had another processor."""

    def __init__(self, root: Path, model: str, folder: Path) -> None:
        self.root = root
        self.cpuinfo = folder / model
        self.cpuinfo.write_text(f"model name\t: {model}\n")

    def run_next(self) -> None:
        where = f"devices.CPUINFO = Path({str(self.cpuinfo)!r})"
        run_next(self.root, f"from pathlib import Path; from ar.runs import devices; {where}")

    def refusal(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """What its worker says that takes nothing."""
        said: list[Event] = []
        monkeypatch.setattr(devices, "CPUINFO", self.cpuinfo)
        assert not Worker(Repo.open(self.root), report=said.append).run_next()
        (event,) = said
        assert event.kind is EventKind.PASSED
        return event.reason


def test_two_machines_take_what_is_for_them_and_judge_it_apart(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (Machine(project, model, tmp_path) for model in ("Alpha 1", "Beta 2"))
    campaign = Campaign(Project.open(project))

    def queue(seed: int, only_on: str) -> None:
        campaign.measure_incumbent(campaign.history(), seed, only_on=only_on)

    queue(1, "")
    one.run_next()
    assert campaign.history().devices == ("Alpha 1",)
    queue(1, "Beta 2")
    assert "Beta 2" in one.refusal(monkeypatch)
    queue(2, "")
    one.run_next()  # passes over what waits for the other
    assert len(names_of(project, "refs/ar/queue")) == 1
    two.run_next()
    history = campaign.history()
    assert history.devices == ("Alpha 1", "Beta 2")
    seeds = [
        sorted(run.seed or 0 for run in ledger(campaign.program, history, device=device).base)
        for device in history.devices
    ]
    assert seeds == [[1, 2], [1]]


def test_what_the_programme_says_of_devices_is_heeded(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (Machine(project, model, tmp_path) for model in ("Alpha 1", "Beta 2"))
    edit(project / "program.md", "seed: seed\n", "seed: seed\ndevices: ['Alpha *']\n")
    campaign = Campaign(Project.open(project))
    campaign.measure_incumbent(campaign.history(), 1, only_on="Beta 2")
    assert "Beta 2" in two.refusal(monkeypatch)
    one.run_next()  # a class that does not count any more is asked for by nobody
    assert campaign.history().devices == ("Alpha 1",)


def test_ar_worker_ends_with_words_where_nothing_may_run_on_what_is_here(project: Path, ar: Ar) -> None:
    edit(project / "program.md", "seed: seed\n", "seed: seed\ndevices: ['NVIDIA H200']\n")
    ar(project, "next")
    said = ar(project, "worker").stdout
    assert devices.of_slot("").device_class in said and "devices:" in said
    assert len(names_of(project, "refs/ar/queue")) == 1
