"""What DVC keeps of a campaign that machines share comes from DVC's remote, and goes there."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import allow, clone_of, commit, edit, git, run, run_next, runs_of

from ar.campaign import headway
from ar.campaign.campaign import Campaign
from ar.changes.proposal import prepare
from ar.errors import BadState
from ar.git.repo import Repo
from ar.history import exchange
from ar.history.ideas import Proposal
from ar.local import allowed, joined
from ar.project.cache import Cache
from ar.project.pipeline_file import Declared
from ar.project.project import Project
from ar.project.storage import Storage
from ar.redaction import redact
from ar.runs import demands, recovery
from ar.runs.delivery import Delivery
from ar.runs.pipeline import Pipeline
from ar.runs.remote_queue import RemoteQueue

TOKENS = ("tok-3f9a77c1e0b24d58", "pw-5b1c77aa90e24d58", "ses-77c15b1caa90f9a3")


@pytest.fixture
def storage(shared: Path, tmp_path: Path) -> Path:
    """DVC's remote of a project that reads data and makes a model."""
    there = tmp_path / "storage"
    (shared / "rows.csv").write_text("1\n2\n")
    run(shared, "dvc", "add", "-q", "rows.csv")
    edit(shared / "dvc.yaml", "deps: [", "deps: [rows.csv, ")
    edit(
        shared / "dvc.yaml",
        "params.yaml\n",
        "params.yaml && cat params.yaml rows.csv > model.txt\n    outs: [model.txt]\n",
    )
    run(shared, "dvc", "remote", "add", "-q", "-d", "storage", str(there))
    run(shared, "dvc", "push", "-q")
    commit(shared, "Read data, make a model")
    git(shared, "push", "-q")
    return there


@pytest.fixture
def server() -> Iterator[str]:
    """The address of one that has nothing for anybody."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(401)

        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}/x"
        made.shutdown()


@pytest.fixture
def node(shared: Path, storage: Path) -> Path:
    folder = clone_of(shared, "node")
    joined.add(Repo.open(folder), "origin")
    return folder


def put(folder: Path, x: float) -> str:
    campaign = Campaign(Project.open(folder))
    campaign.queue = RemoteQueue(campaign.pipeline, "origin")
    proposal = Proposal(f"x 1.5 → {x}", "Nearer to the floor.", "human", {"x": x})
    return campaign.submit(prepare(campaign.project, proposal, campaign.history()), 1)[1]


def model_of(folder: Path, name: str) -> str:
    """The hash of what a run made."""
    repo = Repo.open(folder)
    [rev] = repo.refs(f"refs/exps/*/*/{name}").values()
    return Declared.read(repo, rev).md5("model.txt")


def test_what_stages_read_comes_and_what_may_be_kept_goes(shared: Path, node: Path, storage: Path) -> None:
    allow(node)
    campaign = Campaign(Project.open(shared))
    campaign.queue = RemoteQueue(campaign.pipeline, "origin")
    for seed in (1, 2):
        campaign.measure_incumbent(campaign.history(), seed)
        run_next(node, remote="origin")
    better, worse = put(shared, 2.9), put(shared, 0.5)
    for _ in range(2):
        run_next(node, remote="origin")
    assert {runs_of(node)[name]["status"] for name in (better, worse)} == {"succeeded"}
    there = Cache(storage)
    assert there.has(model_of(node, better))
    assert not there.has(model_of(node, worse))
    repo = Repo.open(shared)
    joined.add(repo, "origin")
    exchange.pull(repo, "origin")
    assert not Cache.of(shared).has(model_of(shared, better))
    [rev] = repo.refs(f"refs/exps/*/*/{better}").values()
    allow(shared)
    campaign.queue.fetch_outputs(rev)
    assert Cache.of(shared).has(model_of(shared, better))
    assert not (node / "rows.csv").exists()  # the checkout is the user's
    assert git(node, "status", "--porcelain") == ""


def test_what_a_killed_worker_did_not_bring_is_brought_with_its_result(
    shared: Path, node: Path, storage: Path
) -> None:
    allow(node)
    name = put(shared, 2.9)
    killed = (
        "import os; from ar.runs.delivery import Delivery; Delivery.bring_outputs = lambda *_: os._exit(9)"
    )
    with pytest.raises(AssertionError, match="exited with 9"):
        run_next(node, killed, remote="origin")
    recovery.recover(Project.open(node), Pipeline(Repo.open(node)))
    assert runs_of(node)[name]["status"] == "succeeded"
    assert Cache(storage).has(model_of(node, name))


def test_nothing_is_brought_that_nobody_has_allowed(node: Path, storage: Path) -> None:
    repo, told = Repo.open(node), list[str]()
    delivery = Delivery(Pipeline(repo), "origin", told.append)
    with pytest.raises(BadState) as caught:
        delivery.fetch_inputs(repo.head())
    assert caught.value.mend == "run: dvc pull rows.csv.dvc"
    assert "ar allow" in caught.value.message
    assert not (node / ".dvc" / "cache").exists()
    allow(node)
    delivery.fetch_inputs(repo.head())
    edit(node / ".dvc" / "config", str(storage), "/elsewhere")
    assert set(demands.of_storage(found(node))) - allowed.read(repo)


def found(folder: Path) -> Storage:
    storage = Storage.of(folder)
    assert storage is not None
    return storage


def test_of_ones_own_settings_nothing_is_asked(project: Path) -> None:
    assert Storage.of(project) is None
    run(project, "dvc", "remote", "add", "-q", "--local", "-d", "mine", "/somewhere")
    assert list(demands.of_storage(found(project))) == []


def test_secrets_of_a_remote_are_shown_nowhere(node: Path, server: str) -> None:
    repo, told = Repo.open(node), list[str]()
    url = server.replace("://", f"://me:{TOKENS[0]}@")
    settings = f"['remote \"storage\"']\nurl = {url}\npassword = {TOKENS[1]}\n"
    (node / ".dvc" / "config.local").write_text(settings)
    edit(node / ".dvc" / "config", "url = ", f"session_token = {TOKENS[2]}\n    url = ")
    [line] = demands.of_storage(found(node))
    allow(node)
    with pytest.raises(BadState) as caught:
        Delivery(Pipeline(repo), "origin", told.append).fetch_inputs(repo.head())
    said = "\n".join([line, *told, str(caught.value)])
    kept = [path.read_text() for path in (node / ".git" / "ar").rglob("*") if path.is_file()]
    assert not [token for token in TOKENS if token in "\n".join([said, *kept, redact(" ".join(TOKENS))])]


def test_metrics_that_only_a_cache_has_are_refused(shared: Path) -> None:
    campaign = Campaign(Project.open(shared))
    campaign.queue = RemoteQueue(campaign.pipeline, "origin")
    headway.begin(campaign)
    edit(shared / "dvc.yaml", "m.json: {cache: false}", "m.json")
    commit(shared, "Cache the metric")
    with pytest.raises(BadState) as caught:
        headway.begin(campaign)
    assert "m.json" in caught.value.message
