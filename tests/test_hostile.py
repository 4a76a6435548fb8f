"""Code that nobody has read does its worst: each attempt is contained, recorded, and the campaign goes on.

One worker runs all attempts, one after the other: what one did to the machine, the next would show.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, allow, attempts_of, commit, git, run

from ar.project.program import Sandbox
from ar.runs import sandbox

pytestmark = pytest.mark.xdist_group("hostile")  # its two scenes are run once

KEY = "planted-marmalade-4711"
PIPELINE = """\
stages:
  prepare:
    cmd: mkdir data && echo input > data/input.txt
    outs: [data]
  fit:
    cmd: python attempt.py
    deps: [attempt.py, targets.json, data]
    params: [attempt, seed]
    outs: [out]
    metrics:
    - m.json: {cache: false}
"""
PROGRAM = """\
---
objective: {{metric: "m.json:val_loss", direction: minimize}}
seed: seed
scope: {{params: [attempt]}}
search: {{attempt: [nothing, fork]}}
budget: {{runs: 200, timeout: 60s}}
sandbox: {{kind: {kind}, memory: 400MB, processes: 200, disk: 100MB}}
---
"""
ALL = (
    "read_home_key", "read_parent_key", "read_environment", "read_other_process", "connect", "resolve",
    "write_repo", "write_git", "write_usr", "write_cache", "write_sysctl", "symbolic_link", "hard_link",
    "pipe", "wait_with_a_pipe", "nest_folders", "change_the_measure", "fork", "allocate",
    "allocate_in_files", "ignore_sigterm", "daemonise", "fill_disk", "print_much", "print_escapes", "nothing",
)  # fmt: skip
WITHOUT_WALLS = (
    "read_environment", "symbolic_link", "hard_link", "pipe", "change_the_measure", "fork", "allocate",
    "daemonise", "fill_disk", "nothing",
)  # fmt: skip
WORK = """
import sys
from pathlib import Path
from ar.runs import queue
from ar.campaign.campaign import Campaign
from ar.history.messages import Message
from ar.project.project import Project
from ar.project.program_file import load
from ar.git.repo import Repo
from ar.runs.worker import Worker

root, *attempts = sys.argv[1:]
repo = Repo.open(Path(root))
campaign = Campaign(Project.open(repo.root))
program = repo.root / "program.md"
worker = Worker(repo)
patient = program.read_text()
assert patient.count("timeout: 60s") == 1
impatient = patient.replace("timeout: 60s", "timeout: 3s")
for number, attempt in enumerate(attempts):
    program.write_text(impatient if attempt in ("ignore_sigterm", "wait_with_a_pipe") else patient)
    tree = repo.write_tree("HEAD", {"params.yaml": f"attempt: {attempt}\\nseed: 1\\n".encode()})
    message = Message(attempt, agent="human", candidate=f"{number:016x}", seed=1)
    name = f"{attempt.replace('_', '-')}-{number}"
    queue.put(campaign.project, campaign.pipeline, tree, repo.head(), message, name)
    worker.run_next()
"""


class Scene:
    """A scratch project in which every attempt was queued and run, and what is known of it afterwards."""

    def __init__(self, place: Path, kind: str, attempts: tuple[str, ...], ar: Ar) -> None:
        self.place = place
        self.root = place / "project"
        self.secret = place / "home" / ".ssh" / "id_ed25519"
        self.sleep = "86.42" if kind == "bwrap" else "86.43"
        self._plant()
        git_dir = self.root / ".git"
        with closing(socket.create_server(("127.0.0.1", 0))) as server:
            server.settimeout(0)
            self._write(kind, server.getsockname()[1])
            before = {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()}
            environ = os.environ | {"PLANTED_API_KEY": KEY, "HOME": str(place / "home")}
            with subprocess.Popen(["sleep", "600"], env=environ) as victim:
                try:
                    run(self.root, sys.executable, "-c", WORK, str(self.root), *attempts, env=environ)
                finally:
                    victim.kill()
            try:
                server.accept()
                self.connected = True
            except BlockingIOError:
                self.connected = False
        self.changed = [
            path
            for path, content in before.items()
            if git_dir not in path.parents and path.read_bytes() != content
        ]
        shown = attempts_of(self.root)
        self.runs: dict[str, dict[str, Any]] = {
            run_["name"].rpartition("-")[0].replace("-", "_"): run_
            for attempt in shown
            for run_ in attempt["experiments"]
        }
        notes = {name: git(self.root, "notes", "--ref=ar", "show", r["rev"]) for name, r in self.runs.items()}
        self.logs = {name: json.loads(note).get("log", "") for name, note in notes.items()}

    def _plant(self) -> None:
        self.secret.parent.mkdir(parents=True)
        self.secret.write_text(KEY)
        (self.place / "key.pem").write_text(KEY)
        shutil.copy(Path(os.environ["HOME"]) / ".gitconfig", self.place / "home")

    def _write(self, kind: str, port: int) -> None:
        self.root.mkdir()
        run(self.root, "git", "init", "-q")
        run(self.root, "dvc", "init", "-q")
        run(self.root, "dvc", "config", "cache.type", "hardlink")
        targets = {
            "home_key": str(self.secret),
            "parent_key": str(self.place / "key.pem"),
            "repo": str(self.root),
            "cache": str(self.root / ".dvc" / "cache"),
            "port": port,
            "sleep": self.sleep,
        }
        (self.root / "targets.json").write_text(json.dumps(targets))
        shutil.copy(Path(__file__).with_name("hostile.py"), self.root / "attempt.py")
        (self.root / "dvc.yaml").write_text(PIPELINE)
        (self.root / "params.yaml").write_text("attempt: nothing\nseed: 1\n")
        (self.root / "program.md").write_text(PROGRAM.format(kind=kind))
        run(self.root, "dvc", "repro", "-q")
        commit(self.root, "Start")
        allow(self.root)

    def contained(self, attempt: str, reason: str, status: str = "crashed") -> None:
        """Recorded so, with such a reason, and nothing got through."""
        run_ = self.runs[attempt]
        assert "ESCAPED" not in self.logs[attempt]
        assert KEY not in self.logs[attempt]
        assert (run_["status"], reason in str(run_["reason"])) == (status, True), (
            run_["reason"],
            self.logs[attempt],
        )


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Not under /tmp: of that, the sandbox has one of its own."""
    with tempfile.TemporaryDirectory(prefix="ar-tests-", dir="/var/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def ar() -> Ar:
    return lambda folder, *args, **kwargs: run(folder, sys.executable, "-m", "ar", *args, **kwargs)


@pytest.fixture(scope="module")
def scene(place: Path, ar: Ar, isolated_home: Path) -> Scene:
    """With bubblewrap."""
    wall = sandbox.find(Sandbox())
    if not wall.program:
        pytest.skip(f"no sandbox on this machine: {wall.why}")
    return Scene(place / "walled", "bwrap", ALL, ar)


@pytest.fixture(scope="module")
def bare(place: Path, ar: Ar, isolated_home: Path) -> Scene:
    """Without: what the launcher does by itself."""
    return Scene(place / "bare", "off", WITHOUT_WALLS, ar)


def _processes() -> str:
    return subprocess.run(["ps", "axo", "args"], capture_output=True, text=True, check=True).stdout


def test_a_key_in_the_home_folder_cannot_be_read(scene: Scene) -> None:
    scene.contained("read_home_key", "FileNotFoundError")


def test_a_key_beside_the_project_cannot_be_read(scene: Scene) -> None:
    scene.contained("read_parent_key", "FileNotFoundError")


def test_a_key_in_the_environment_is_not_passed_on(scene: Scene) -> None:
    scene.contained("read_environment", "KeyError: 'PLANTED_API_KEY'")


def test_other_processes_cannot_be_seen(scene: Scene) -> None:
    scene.contained("read_other_process", "LookupError: no process but")


def test_there_is_no_network(scene: Scene) -> None:
    scene.contained("connect", "ConnectionRefusedError")
    assert not scene.connected


def test_no_name_is_resolved(scene: Scene) -> None:
    scene.contained("resolve", "socket.gaierror")


def test_the_project_cannot_be_written(scene: Scene) -> None:
    scene.contained("write_repo", "Error: [Errno")
    assert not (scene.root / "planted").exists()
    assert git(scene.root, "status", "--porcelain") == ""


def test_the_repository_cannot_be_written(scene: Scene) -> None:
    scene.contained("write_git", "Error: [Errno")
    assert not list(scene.root.rglob("planted"))
    assert run(scene.root, "git", "fsck", "--strict").returncode == 0


def test_the_system_cannot_be_written(scene: Scene) -> None:
    scene.contained("write_usr", "Read-only file system")
    assert not Path("/usr/planted-by-a-test").exists()


def test_the_cache_can_be_read_and_not_written(scene: Scene) -> None:
    scene.contained("write_cache", "Read-only file system")
    assert scene.changed == []
    assert "changed" not in run(scene.root, "dvc", "status").stdout


def test_the_kernel_cannot_be_set(scene: Scene) -> None:
    """A root without privileges still owns these files; a program named in one would run outside."""
    scene.contained("write_sysctl", "Error: [Errno")


def test_a_symbolic_link_is_not_collected(scene: Scene) -> None:
    scene.contained("symbolic_link", "ended: it left a link that leads out of its outputs: out/x")
    assert KEY not in run(scene.root, "git", "log", "--all", "-p").stdout


def test_a_hard_link_cannot_be_made(scene: Scene) -> None:
    scene.contained("hard_link", "FileNotFoundError")


def test_a_pipe_is_not_waited_for(scene: Scene) -> None:
    scene.contained("pipe", "ended: it left something that is neither file nor folder: out/x")


def test_a_pipe_in_place_of_the_metrics_is_not_waited_for(scene: Scene) -> None:
    scene.contained("wait_with_a_pipe", "ended after the time limit of 3 s", "timed out")


def test_folders_without_end_are_refused_and_removed(scene: Scene) -> None:
    scene.contained("nest_folders", "ended: its folder cannot be read: File name too long")


def test_the_measure_stays_as_it_was(scene: Scene) -> None:
    scene.contained("change_the_measure", "ended: it changed attempt.py, which is none of its outputs")


def test_ten_thousand_processes_are_ended(scene: Scene) -> None:
    scene.contained("fork", "ended: it started more than 200 processes")


def test_a_hundred_gigabytes_are_not_had(scene: Scene) -> None:
    scene.contained("allocate", "ended: it used more than 400 MB of memory")


def test_files_in_memory_count(scene: Scene) -> None:
    scene.contained("allocate_in_files", "")
    reason = scene.runs["allocate_in_files"]["reason"]
    assert "more than 400 MB of memory" in reason or "No space left" in reason


def test_who_ignores_the_signal_is_killed(scene: Scene) -> None:
    scene.contained("ignore_sigterm", "ended after the time limit of 3 s", "timed out")


def test_nothing_outlives_its_run(scene: Scene) -> None:
    scene.contained("daemonise", "1 process that it left running was ended", "succeeded")
    assert f"sleep {scene.sleep}" not in _processes()


def test_the_disk_is_not_filled(scene: Scene) -> None:
    scene.contained("fill_disk", "ended: it wrote more than 100 MB to disk")


def test_a_gigabyte_of_output_is_cut(scene: Scene) -> None:
    scene.contained("print_much", "", "succeeded")
    assert len(scene.logs["print_much"]) < 20_000
    assert scene.logs["print_much"].rstrip().endswith("the end")


def test_escapes_do_not_reach_the_terminal(scene: Scene, ar: Ar) -> None:
    scene.contained("print_escapes", "stop")
    name = scene.runs["print_escapes"]["name"]
    shown = scene.logs["print_escapes"] + ar(scene.root, "log", name).stdout + ar(scene.root, "show").stdout
    assert "red" in shown
    assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e"} & set(shown)


def test_the_campaign_goes_on(scene: Scene) -> None:
    assert scene.runs["nothing"]["status"] == "succeeded"
    assert len(scene.runs) == len(ALL)
    assert git(scene.root, "for-each-ref", "refs/ar") == ""
    assert not list((scene.root / ".dvc" / "tmp" / "ar" / "exps").iterdir())


@pytest.mark.slow
def test_without_bubblewrap_limits_and_collection_are_the_same(bare: Scene) -> None:
    bare.contained("read_environment", "KeyError: 'PLANTED_API_KEY'")
    bare.contained("symbolic_link", "ended: it left a link that leads out of its outputs: out/x")
    bare.contained("pipe", "ended: it left something that is neither file nor folder: out/x")
    bare.contained("change_the_measure", "ended: it changed attempt.py, which is none of its outputs")
    bare.contained("fork", "ended: it started more than 200 processes")
    bare.contained("allocate", "ended: it used more than 400 MB of memory")
    bare.contained("fill_disk", "ended: it wrote more than 100 MB to disk")
    bare.contained("daemonise", "1 process that it left running was ended", "succeeded")
    assert (
        "ended: it left a hard link to a file outside its folder: out/x" in bare.runs["hard_link"]["reason"]
    )
    assert f"sleep {bare.sleep}" not in _processes()
    assert bare.runs["nothing"]["status"] == "succeeded"
