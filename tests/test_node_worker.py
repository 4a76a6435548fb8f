"""The worker that a node of a cluster keeps, without the cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import Ar, git, wait_for

from ar.cli.common import say
from ar.cluster import home, node_worker, token
from ar.cluster.node_worker import NodeWorker
from ar.cluster.state import State
from ar.errors import BadState
from ar.git import refs
from ar.git.repo import Repo
from ar.project.cache import Cache
from ar.runs.gpu_meter import VISIBLE

TOKEN = "tok-3f9a77c1e0b24d58"


@pytest.fixture
def url(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A remote on which a campaign stands."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nodes"))
    git(shared, "push", "-q", "origin", f"HEAD:{refs.standing(Repo.open(shared).branch())}")
    return git(shared, "remote", "get-url", "origin")


@pytest.fixture
def made(shared: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeWorker]:
    """A worker on a node that has a GPU, and none for it."""
    monkeypatch.setenv(VISIBLE, "7")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    worker = NodeWorker(url, refs.standing(Repo.open(shared).branch()), "", "home-1", 3, ["all"], False)
    yield worker
    worker.end(at_once=True)


def pid_of(worker: NodeWorker) -> int:
    assert worker._process is not None
    return worker._process.pid


def environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(pair.decode().split("=", 1) for pair in pairs if pair)


def test_it_sees_neither_gpus_that_it_was_not_given_nor_rays_token(made: NodeWorker) -> None:
    wait_for(lambda: b"worker" in Path(f"/proc/{pid_of(made)}/cmdline").read_bytes())
    found = environment(pid_of(made))
    assert found[VISIBLE] == ""
    assert TOKEN not in found.values()


def test_slots_of_a_node_share_what_dvc_caches(made: NodeWorker, tmp_path: Path) -> None:
    folder = tmp_path / "nodes" / "ar" / "nodes" / "home-1"
    assert made._repo.root == folder / "slot-3"
    assert Cache.of(made._repo.root).folder == folder / "cache"
    node_worker.share_cache(made._repo.root, tmp_path)  # there already
    assert Cache.of(made._repo.root).folder == folder / "cache"
    assert git(made._repo.root, "status", "--porcelain") == ""


@pytest.mark.parametrize(("named", "secret"), [(True, "ray-5b1c77aa90e2"), (False, "ray-9c1c77aa11b4")])
def test_rays_token_is_shown_nowhere(
    named: bool,
    secret: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text(f"{secret}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    if named:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file.rename(tmp_path / "elsewhere")))
    token.guard()
    say(f"denied for {secret}")
    assert secret not in capsys.readouterr().out


def test_it_tells_of_itself_and_ends_when_it_is_told(made: NodeWorker) -> None:
    wait_for(lambda: State.parse(made.state()).said)
    state = State.parse(made.state())
    assert (state.slot, state.host, state.gpus, state.ended) == (3, os.uname().nodename, "", False)
    made.end(at_once=True)
    wait_for(lambda: State.parse(made.state()).ended)


def test_what_cannot_be_reached_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nodes"))
    worker = NodeWorker(str(tmp_path / "none.git"), "refs/ar/heads/main", "", "home-1", 0, [], False)
    state = State.parse(worker.state())
    assert state.ended
    assert "none.git" in state.said


def test_it_ends_with_the_process_that_keeps_it(shared: Path, url: str, tmp_path: Path) -> None:
    ref = refs.standing(Repo.open(shared).branch())
    code = "import sys, time; from ar.cluster.node_worker import NodeWorker; "
    code += f"it = NodeWorker({url!r}, {ref!r}, '', 'home-1', 0, [], False); "
    code += "print(it._process.pid, flush=True); time.sleep(600)"
    keeper = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert keeper.stdout is not None
    pid = int(keeper.stdout.readline())
    wait_for(lambda: "ar.cluster" not in Path(f"/proc/{pid}/cmdline").read_text())
    keeper.kill()
    keeper.wait()
    keeper.stdout.close()
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())


def test_without_ray_it_says_what_to_install(shared: Path, tmp_path: Path, ar: Ar) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "ray.py").write_text("raise ImportError('no ray')\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "without")}
    done = ar(shared, "run", "--cluster", "auto", "-n", "0", "--plain", check=False, env=env)
    assert done.returncode == 2
    assert "pip install 'ray" in done.stderr


def test_a_bare_repository_takes_a_remotes_place(project: Path) -> None:
    repo = Repo.open(project)
    assert home.remote(repo) == home.remote(repo) == "cluster"
    assert git(project, "remote") == "cluster"
    git(project, "remote", "set-url", "cluster", "elsewhere")
    with pytest.raises(BadState):
        home.remote(repo)
