"""Campaigns on a Ray cluster: real ones, on this machine's loopback."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import Ar, attempts_of, commit, edit, git, share, start, wait_for
from storms import check, storm
from victims import processes_of

from ar.cluster import home

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="to have Ray: pip install '.[cluster]'"),
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster whose head has no room for anything: `add` gives it some."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("AR_LEASE_SECONDS", "600")  # what is freed sooner was freed by the head
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nodes"))
    health = {
        "health_check_initial_delay_ms": 1000,
        "health_check_period_ms": 1000,
        "health_check_timeout_ms": 2000,
        "health_check_failure_threshold": 5,
    }
    settings = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
    settings["_system_config"] = health  # a node that stands still is dead after some seconds
    made = Cluster(initialize_head=True, head_node_args=settings)
    yield made
    made.shutdown()


def add(cluster: Any, cpus: int = 1, gpus: int = 0) -> Any:
    return cluster.add_node(num_cpus=cpus, num_gpus=gpus, object_store_memory=80_000_000)


def left_on(folder: Path) -> str:
    """What a campaign has left in its clone and on its remote of what waits or runs."""
    spaces = ("refs/ar/queue", "refs/ar/running", "refs/ar/leases", "refs/ar/finished")
    there = folder / ".git" / "ar" / "cluster.git"
    return git(folder, "for-each-ref", *spaces) + git(there, "for-each-ref", *spaces)


def test_each_slot_has_a_gpu_of_its_own(measured: Path, cluster: Any, ar: Ar) -> None:
    add(cluster, cpus=2, gpus=2)
    asked = ("--cluster", cluster.address, "--jobs", "2", "--per-job-gpus", "1")
    done = ar(measured, "run", *asked, "-n", "2", "--plain")
    up = [line.rpartition(", ")[2] for line in done.stdout.splitlines() if "a worker is up" in line]
    assert {"GPU 0", "GPU 1"} <= set(up)
    assert len(attempts_of(measured)) >= 3
    assert left_on(measured) == ""


def test_what_a_node_had_that_died_runs_on_another(project: Path, cluster: Any, ar: Ar) -> None:
    edit(project / "dvc.yaml", "cmd: awk", "cmd: sleep 8 && awk")
    commit(project, "Take some time")
    first = add(cluster)
    head = start(project, "run", "--cluster", cluster.address, "--jobs", "1", "-n", "0", "--plain")
    there = project / ".git" / "ar" / home.FOLDER
    wait_for(lambda: there.exists() and git(there, "for-each-ref", "refs/ar/running"), seconds=120)
    shown = ar(project, "cluster", "status").stdout
    add(cluster)
    cluster.remove_node(first, allow_graceful=False)
    said, _ = head.communicate(timeout=240)
    assert head.returncode == 0, said
    runs = [run for one in attempts_of(project) for run in one["experiments"]]
    assert {run["status"] for run in runs} == {"succeeded"}, said
    assert set(Counter(run["seed"] for run in runs).values()) == {1}
    assert left_on(project) == ""
    assert "slot" in shown


def test_what_a_killed_worker_had_runs_again(project: Path, cluster: Any) -> None:
    edit(project / "dvc.yaml", "cmd: awk", "cmd: sleep 4 && awk")
    commit(project, "Take some time")
    add(cluster, cpus=2)
    head = start(project, "run", "--cluster", cluster.address, "--jobs", "2", "-n", "0", "--plain")
    there = project / ".git" / "ar" / home.FOLDER
    for victim in ("ray::NodeWorker", "worker --remote"):
        wait_for(lambda: there.exists() and git(there, "for-each-ref", "refs/ar/running"), seconds=120)
        wait_for(functools.partial(processes, victim))
        for process in processes(victim):
            process.kill()
    said, _ = head.communicate(timeout=240)
    assert head.returncode == 0, said
    runs = [run for one in attempts_of(project) for run in one["experiments"]]
    assert {run["status"] for run in runs} == {"succeeded"}, said
    assert set(Counter(run["seed"] for run in runs).values()) == {1}
    assert left_on(project) == ""
    wait_for(lambda: not processes("worker --remote"))


class Nodes:
    """The nodes of a cluster that have room for a slot each, with all that Ray has started on them."""

    kinds: Sequence[str] = ("raylet", "actor", "loop", "worker", "launcher", "training", "machine")

    def __init__(self, cluster: Any, clones: Path, count: int) -> None:
        self.cluster = cluster
        self.clones = clones
        for _ in range(count):
            add(cluster)

    def find(self, kind: str) -> list[psutil.Process]:
        match kind:
            case "raylet":
                return [one for node in self.cluster.worker_nodes for one in raylet_of(node)]
            case "actor":
                return processes("ray::NodeWorker")
            case "loop":
                return processes("worker --remote")
            case "machine":
                found = self.find("raylet")[:1]
                return [*found, *(below for one in found for below in one.children(recursive=True))]
        return list(processes_of(self.clones, kind, 0))

    def look_after(self) -> None:
        for node in list(self.cluster.worker_nodes):
            if not raylet_of(node):
                self.cluster.remove_node(node, allow_graceful=False)
                add(self.cluster)

    def end(self) -> None:
        """Its head has had all of them end by now."""

    def said(self) -> str:
        return "\n".join(path.read_text() for path in self.clones.rglob("cluster-worker.log"))


def raylet_of(node: Any) -> list[psutil.Process]:
    """The process that stands for a node, while it is there."""
    with contextlib.suppress(psutil.Error):
        [started] = node.all_processes["raylet"]
        if started.process.poll() is None:
            return [psutil.Process(started.process.pid)]
    return []


@pytest.mark.timeout(1800)
def test_sixty_experiments_of_a_clusters_campaign_under_fire(
    slow_project: Path, tmp_path: Path, cluster: Any, ar: Ar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAY", "1.0")
    monkeypatch.setenv("AR_LEASE_SECONDS", "5")
    bare, clones = share(slow_project), tmp_path / "nodes"
    head = ("--cluster", cluster.address, "--jobs", "3")
    names = storm(
        slow_project,
        ar,
        count=60,
        head=head,
        others=lambda: [Nodes(cluster, clones, 3)],
        strikes=80,
        away=10,
        pause=(0.5, 4.0),
    )
    wait_for(lambda: not processes("worker --remote"))
    check(bare, [slow_project, *sorted(clones.glob("ar/nodes/*/slot-*"))], names, ar)


def processes(words: str) -> list[psutil.Process]:
    """Those of the cluster of this test, by words of their command lines."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if words in " ".join(process.cmdline()):
                found.append(process)
    return found
