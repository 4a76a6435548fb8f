"""`ar worker`, slots, and ending things on purpose."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers import Ar, commit, edit, git, names_of, processes, run, runs_of, start, wait_for

from ar.git.repo import Repo
from ar.history import reader
from ar.local import claims
from ar.project.program_file import load
from ar.project.project import Project
from ar.runs import gpu_meter, slots
from ar.runs.pipeline import Pipeline
from ar.runs.pool import Pool
from ar.runs.slots import Slot
from ar.stage.processes import born


def _slow(root: Path, seconds: float) -> None:
    edit(root / "dvc.yaml", "awk -f", f"sleep {seconds} && awk -f")
    commit(root, "Take time")


def _waiting(root: Path, space: str = "queue") -> list[str]:
    return names_of(root, f"refs/ar/{space}")


def _training(root: Path) -> list[str]:
    repo = Repo.open(root)
    return [name for name in _waiting(root, "running") if claims.stage(repo, name)]


def test_a_worker_by_hand_empties_the_queue(project: Path, ar: Ar) -> None:
    ar(project, "next", "-n", "3")
    out = ar(project, "worker").stdout
    assert "3 ended" in out
    assert {item["status"] for item in runs_of(project).values()} == {"succeeded"}
    assert git(project, "for-each-ref", "refs/ar") == ""
    assert "Nothing was run" in ar(project, "worker").stdout
    assert not list((project / ".git" / "ar").glob("worker-*.lock"))


def test_stopped_by_name_an_experiment_ends_for_good(project: Path, ar: Ar) -> None:
    _slow(project, 334.5)
    ar(project, "next", "-n", "2")
    worker = start(project, "worker")
    wait_for(lambda: _training(project))
    (name,) = _training(project)
    (other,) = _waiting(project)
    assert "before it began" in ar(project, "stop", other).stdout
    assert "cancelled: stopped by the user\n" in ar(project, "stop", name).stdout
    out, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert f"{name} cancelled" in out
    runs = runs_of(project)
    assert runs[name]["status"] == runs[other]["status"] == "cancelled"
    assert git(project, "for-each-ref", "refs/ar") == ""
    assert "sleep 334.5" not in processes()
    assert "has ended already" in ar(project, "stop", name, check=False).stderr
    shown = run(project, "dvc", "exp", "show", "--csv").stdout
    assert name in shown
    assert "Queued" not in run(project, "dvc", "queue", "status").stdout


def test_stopping_all_gives_everything_back(project: Path, ar: Ar) -> None:
    _slow(project, 335.5)
    loop = start(project, "run", "--plain", "-n", "0", "--jobs", "2")
    wait_for(lambda: len(_training(project)) == 2)
    assert f"ar run (process {loop.pid})" in ar(project, "stop").stdout
    loop.communicate(timeout=60)
    assert loop.returncode == 130
    assert _waiting(project, "running") == []
    assert len(_waiting(project)) >= 2
    assert "sleep 335.5" not in processes()
    assert "Nothing runs" in ar(project, "stop").stdout


@pytest.mark.slow
def test_the_next_experiment_is_set_up_while_one_trains(project: Path, ar: Ar) -> None:
    _slow(project, 6)
    ar(project, "next", "-n", "3")
    loop = start(project, "run", "--plain", "-n", "0")
    wait_for(lambda: len(_waiting(project, "running")) == 2)
    history = reader.read(Project(Repo.open(project), load(project)))
    (training,) = _training(project)
    (prepared,) = set(_waiting(project, "running")) - {training}
    status = {item.name: str(item.status) for item in history.experiments}
    assert (status[training], status[prepared]) == ("running", "queued")
    # Told to finish, the worker that waits gives its experiment back.
    os.kill(loop.pid, signal.SIGINT)
    out, _ = loop.communicate(timeout=60)
    assert loop.returncode == 130, out
    assert prepared in _waiting(project)
    assert _waiting(project, "running") == []
    assert [item["status"] for item in runs_of(project).values()].count("succeeded") == 1


def test_a_dead_process_s_id_in_use_by_another_is_not_taken_for_it(project: Path, ar: Ar) -> None:
    """What a killed worker left names a process that is by now somebody else's: it is left alone."""
    ar(project, "next")
    (name,) = _waiting(project)
    rev = git(project, "rev-parse", f"refs/ar/queue/{name}")
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        repo = Repo.open(project)
        folder = claims.folder(repo, name)
        folder.mkdir(parents=True)
        stage = {"pid": innocent.pid, "born": "another-boot/1", "since": 0, "slot": "cpu0"}
        (folder / "stage.json").write_text(json.dumps(stage))
        git(project, "update-ref", f"refs/ar/running/{name}", rev)
        git(project, "update-ref", "-d", f"refs/ar/queue/{name}")
        assert "queued again" in ar(project, "show").stderr
        assert innocent.poll() is None
        assert _waiting(project) == [name]
        assert not folder.exists()
        # One that is meant is ended.
        folder.mkdir(parents=True)
        stage["born"] = born(innocent.pid)
        (folder / "stage.json").write_text(json.dumps(stage))
        git(project, "update-ref", f"refs/ar/running/{name}", rev)
        git(project, "update-ref", "-d", f"refs/ar/queue/{name}")
        assert "queued again" in ar(project, "doctor").stdout
        assert innocent.wait(5) == -signal.SIGKILL
        assert run(project, "dvc", "queue", "status").stdout.count(name) == 1
    finally:
        innocent.kill()


def test_what_finished_is_collected_not_run_again(project: Path, ar: Ar) -> None:
    """The worker is killed between the end of the run and its collection."""
    ar(project, "next")
    (name,) = _waiting(project)
    code = (
        "import os, signal\n"
        "from ar.git import transfer\n"
        "from ar.git.repo import Repo\n"
        "from ar.runs.worker import Worker\n"
        "transfer.take_over = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Worker(Repo.open()).run_next()\n"
    )
    done = run(project, sys.executable, "-c", code, check=False)
    assert done.returncode == -signal.SIGKILL
    assert "its result is collected" in ar(project, "show").stderr
    ended = runs_of(project)[name]
    assert ended["status"] == "succeeded"
    assert "loss" in ar(project, "log", name).stdout
    assert git(project, "for-each-ref", "refs/ar") == ""
    assert not list((project / ".dvc" / "tmp" / "ar" / "exps").glob("*"))
    assert run(project, "git", "fsck", "--connectivity-only").returncode == 0


@pytest.mark.slow
def test_what_kills_its_worker_twice_does_not_come_back(project: Path, ar: Ar) -> None:
    """It asks for it: without a sandbox a stage can reach whoever runs it."""
    edit(project / "program.md", "budget:", "sandbox: off\nbudget:")
    edit(project / "dvc.yaml", "awk -f", "kill -9 $(ps -o ppid= -p $PPID); awk -f")
    commit(project, "Kill the worker")
    ar(project, "next")
    (name,) = _waiting(project)
    out = ar(project, "worker").stdout
    assert "recorded as cancelled" in out
    assert runs_of(project)[name]["status"] == "cancelled"
    assert "its worker died twice" in ar(project, "log", name).stdout
    assert git(project, "for-each-ref", "refs/ar") == ""


# What is asked of the one experiment that waits, while a worker has it.
ASKED = """
import threading, time
from ar.git.repo import Repo
from ar.local import claims
from ar.runs.pipeline import Pipeline
from ar.runs.worker import Worker
from ar.stage.files import Request

repo = Repo.open()
worker = Worker(repo, report=lambda event: on_event(event))
"""


def test_a_cancel_is_not_lost_to_the_worker_s_own_end(project: Path, ar: Ar) -> None:
    ar(project, "next")
    (name,) = _waiting(project)
    code = """
def on_event(event):
    if event.name:
        claims.ask(repo, event.name, Request.CANCEL, "enough")
        worker.end(Request.REQUEUE)

worker.run_next()
"""
    run(project, sys.executable, "-c", ASKED + code)
    assert _waiting(project) == []
    assert runs_of(project)[name]["status"] == "cancelled"
    assert "enough" in ar(project, "log", name).stdout


def test_a_request_that_comes_while_the_folder_is_removed_is_heeded(project: Path, ar: Ar) -> None:
    """The run is cancelled; while its folder goes, the worker is told to finish."""
    _slow(project, 36.5)
    ar(project, "next")
    (name,) = _waiting(project)
    code = """
def cancel(name):
    while not claims.stage(repo, name):
        time.sleep(0.02)
    claims.ask(repo, name, Request.CANCEL)

def on_event(event):
    if event.name:
        threading.Thread(target=cancel, args=(event.name,), daemon=True).start()

def remove(pipeline, name, removed=Pipeline.remove_workspace):
    if claims.stage(repo, name):
        worker.end(Request.YIELD)
    removed(pipeline, name)

Pipeline.remove_workspace = remove
worker.run_next()
"""
    run(project, sys.executable, "-c", ASKED + code)
    assert _waiting(project) == _waiting(project, "running") == []
    assert runs_of(project)[name]["status"] == "cancelled"


def test_refs_that_hold_no_experiment_stop_nobody(project: Path, ar: Ar) -> None:
    """Somebody put them there: a file's content, and a commit without a parent."""
    blob = git(project, "rev-parse", "HEAD:params.yaml")
    root = git(project, "rev-list", "--max-parents=0", "HEAD")
    for space, rev in itertools.product(("queue", "running"), (blob, root)):
        git(project, "update-ref", f"refs/ar/{space}/stray-{rev[:6]}", rev)
    shown = ar(project, "show")
    assert shown.stderr.count("held no experiment") == 4
    assert blob in shown.stderr
    assert git(project, "for-each-ref", "refs/ar") == ""
    git(project, "update-ref", "refs/ar/queue/stray", blob)
    assert json.loads(ar(project, "show", "--json").stdout)["attempts"] == []
    assert "held no experiment" in ar(project, "worker").stdout
    assert git(project, "for-each-ref", "refs/ar") == ""


@pytest.mark.slow
def test_half_a_message_in_dvcs_queue_is_cleared(project: Path, ar: Ar) -> None:
    ar(project, "next")
    (name,) = _waiting(project)
    broker = project / ".dvc" / "tmp" / "exps" / "celery" / "broker" / "in"
    (message,) = broker.glob("*.msg")
    message.write_bytes(message.read_bytes()[:40])
    os.utime(message, (1, 1))
    assert "1 ended" in ar(project, "worker").stdout
    assert runs_of(project)[name]["status"] == "succeeded"
    assert "Queued" not in run(project, "dvc", "queue", "status").stdout


def test_half_a_lock_file_of_dvcs_queue_is_cleared(project: Path, ar: Ar) -> None:
    lock = project / ".dvc" / "tmp" / "exps" / "rwlock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text('{"refs/exps')  # as a kill leaves it that comes just before
    ar(project, "next")
    assert len(_waiting(project)) == 1


def test_slots_follow_the_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert slots.divide(2) == [Slot("cpu0", "", 4), Slot("cpu1", "", 4)]
    assert slots.every_gpu() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-abc")
    assert slots.divide(3) == [Slot("gpu0", "3", 2), Slot("gpu1", "GPU-abc", 2), Slot("gpu0.2", "3", 2)]
    assert slots.divide(1)[0].env["CUDA_VISIBLE_DEVICES"] == "3"
    assert [slot.gpu for slot in slots.every_gpu()] == ["3", "GPU-abc"]


class _Nvml:
    """A machine with one whole GPU and one that is divided in two."""

    class NVMLError(Exception):
        pass

    def nvmlInit(self) -> None: ...  # noqa: N802
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return f"GPU-{index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return uuid

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:  # noqa: N802
        return [int(handle == "GPU-1"), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, place: int) -> str:  # noqa: N802
        if place > 1:
            raise self.NVMLError
        return f"MIG-{place}"

    def nvmlDeviceGetUUID(self, handle: str) -> str:  # noqa: N802
        return handle

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> object:  # noqa: N802
        return type("Memory", (), {"used": 3_000_000_000})

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> object:  # noqa: N802
        return type("Rates", (), {"gpu": 80})


def test_gpus_are_found_through_nvml_and_metered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", _Nvml())
    assert gpu_meter.gpus() == ["GPU-0", "MIG-0", "MIG-1"]
    monkeypatch.setattr(gpu_meter, "_SAMPLE", 0.01)
    with gpu_meter.metered(lambda: "GPU-0") as meter:
        wait_for(lambda: len(meter.percent) > 2)
    assert set(meter.memory_mb) == {3000}
    assert set(meter.percent) == {80}


def test_a_stage_is_pinned_and_the_note_says_what_it_used(
    project: Path, ar: Ar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    edit(project / "dvc.yaml", "awk -f", "echo on GPU $CUDA_VISIBLE_DEVICES && awk -f")
    commit(project, "Say where")
    ar(project, "next")
    (name,) = _waiting(project)
    ar(project, "worker")
    assert "on GPU 5" in ar(project, "log", name).stdout
    rev = git(project, "for-each-ref", "refs/exps/*/*/*", f"refs/exps/**/{name}", "--format=%(objectname)")
    note = json.loads(git(project, "notes", "--ref=ar", "show", rev.split()[0]))
    assert note["slot"] == "gpu0"
    assert note["seconds"] > 0
    assert 0 < note["cpu_seconds"] < 10
    assert note["peak_memory_mb"] > 0.5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_proposals_by_four_processes_while_workers_consume(project: Path, ar: Ar) -> None:
    edit(project / "program.md", "runs: 200", "runs: 1000")
    commit(project, "Room for more")
    proposers = [start(project, "next", "-n", "25") for _ in range(4)]
    wait_for(lambda: _waiting(project))
    workers = [start(project, "worker") for _ in range(2)]
    for process in proposers:
        out, _ = process.communicate(timeout=600)
        assert process.returncode == 0, out
    for process in workers:
        out, _ = process.communicate(timeout=600)
        assert process.returncode == 0, out
    ar(project, "worker")
    runs = runs_of(project)
    assert len(runs) == 100
    assert {item["status"] for item in runs.values()} == {"succeeded"}
    revs = git(project, "for-each-ref", "refs/exps", "--format=%(objectname)").split()
    assert len({git(project, "show", f"{rev}:params.yaml") for rev in revs}) == 100
    assert git(project, "for-each-ref", "refs/ar") == ""
    assert "Queued" not in run(project, "dvc", "queue", "status").stdout


@pytest.mark.slow
def test_dvcs_workers_drain_the_same_queue_at_the_same_time(project: Path, ar: Ar) -> None:
    _slow(project, 1)
    ar(project, "next", "-n", "12")
    names = set(_waiting(project))

    def ended() -> list[str]:
        refs = git(project, "for-each-ref", "refs/exps", "--format=%(refname)").split()
        return [ref.rpartition("/")[2] for ref in refs if "celery" not in ref]

    # DVC's worker keeps the output open that it is born with: into a pipe we would wait for its end.
    subprocess.run(["dvc", "queue", "start"], cwd=project, stdout=subprocess.DEVNULL, check=True)
    wait_for(lambda: ended() != [], 200)
    worker = start(project, "worker")
    out, _ = worker.communicate(timeout=200)
    assert worker.returncode == 0, out
    wait_for(lambda: names <= set(ended()), 200)
    assert sorted(ended()) == sorted(names)  # none ran to two refs
    assert "took" in out  # ours had some of them
    status = run(project, "dvc", "queue", "status").stdout
    assert "Success" in status  # DVC's had others
    wait_for(lambda: "recovered" in ar(project, "doctor").stdout or not _waiting(project))
    assert git(project, "for-each-ref", "refs/ar") == ""
    assert {item["status"] for item in runs_of(project).values()} == {"succeeded"}


@pytest.mark.slow
def test_what_dvcs_worker_had_when_it_was_killed_is_taken_back(project: Path, ar: Ar) -> None:
    _slow(project, 30)
    ar(project, "next")
    subprocess.run(["dvc", "queue", "start"], cwd=project, stdout=subprocess.DEVNULL, check=True)
    wait_for(lambda: "Running" in run(project, "dvc", "queue", "status").stdout, 120)
    assert "put back" not in ar(project, "doctor").stdout  # it is alive

    wdir = Pipeline(Repo.open(project))._queue.wdir
    node = f"dvc-exp-{hashlib.sha256(wdir.encode()).hexdigest()[:6]}-"

    def dvcs() -> list[psutil.Process]:
        signs = (node, str(project / ".dvc" / "tmp" / "exps" / "run"))
        every = list(psutil.process_iter())
        return [it for it in every if any(sign in word for word in _words(it) for sign in signs)]

    assert dvcs()

    for process in dvcs():
        for one in (*process.children(recursive=True), process):
            with contextlib.suppress(psutil.Error):
                one.kill()
    wait_for(lambda: not dvcs())
    assert "put back" in ar(project, "doctor").stdout
    worker = start(project, "worker")
    wait_for(lambda: _training(project) != [])
    assert len(_training(project)) == 1
    ar(project, "stop")
    worker.communicate(timeout=60)
    assert len(_waiting(project)) == 1


def _words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return list(process.cmdline())
    return []


def test_a_folder_called_ar_is_not_run_in_its_place(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "ar").mkdir()
    (project / "ar" / "__init__.py").write_text(f"open({str(project / 'hijacked')!r}, 'w')")
    monkeypatch.chdir(project)
    with Pool(Repo.open(project), [], workers=1):
        pass
    assert not (project / "hijacked").exists()
