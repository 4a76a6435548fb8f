"""The queue on a git remote: claims, results, and what becomes of them where machines stop or vanish."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from helpers import (
    Ar,
    allow,
    clone_of,
    commit,
    edit,
    git,
    names_of,
    run,
    run_next,
    runs_of,
    share,
    start,
    wait_for,
)

from ar.campaign.campaign import Campaign
from ar.campaign.sync import Sync
from ar.changes.proposal import prepare
from ar.errors import BadProposal
from ar.git import refs, remote
from ar.git.references import ZERO
from ar.git.remote import Move, Refused, Unreachable
from ar.git.repo import Repo
from ar.history import exchange, leases
from ar.history.ideas import Proposal
from ar.history.messages import Message
from ar.history.records import Note, Status
from ar.local import joined
from ar.project.project import Project
from ar.runs import outbox, outcomes, recovery
from ar.runs.lookout import Lookout
from ar.runs.pipeline import Pipeline
from ar.runs.remote_queue import RemoteQueue


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AR_LEASE_SECONDS", "1")


@pytest.fixture
def node(shared: Path) -> Path:
    """Another clone, that has joined the campaign."""
    folder = clone_of(shared, "node")
    joined.add(Repo.open(folder), "origin")
    allow(folder)
    return folder


def queue_of(folder: Path) -> RemoteQueue:
    return RemoteQueue(Pipeline(Repo.open(folder)), "origin")


def put(folder: Path, x: float = 2.9) -> str:
    """Queue a change on the remote. Returns its name."""
    campaign = Campaign(Project.open(folder))
    campaign.queue = queue_of(folder)
    proposal = Proposal(f"x 1.5 → {x}", "Nearer to the floor.", "human", {"x": x})
    _, name = campaign.submit(prepare(campaign.project, proposal, campaign.history()), 1)
    return name


def there(folder: Path, space: str) -> list[str]:
    """Names of what the remote has in a space such as `refs/ar/queue`."""
    return sorted(map(refs.name_of, remote.look(Repo.open(folder), "origin", f"{space}/*")))


def claimed_by(queue: RemoteQueue, name: str = ""):  # type: ignore[no-untyped-def]
    claimed = queue.claim(name)
    assert claimed is not None
    return claimed


def cancelled(queue: RemoteQueue, claimed) -> tuple[str, Note]:  # type: ignore[no-untyped-def]
    project = Project(queue.repo, queue.program(claimed))
    return outcomes.of_cancelled(project, claimed)


def test_who_loses_races_spreads_over_what_waits(
    shared: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for x in (2.9, 2.8, 2.7):
        put(shared, x)
    queue, take, tried = queue_of(node), RemoteQueue._take, list[str]()
    queue.look()
    oldest, second, third = queue.waiting()

    def beaten(self: RemoteQueue, name: str, *rest):  # type: ignore[no-untyped-def]
        tried.append(name)
        return take(self, name, *rest) if len(tried) == 3 else None

    monkeypatch.setattr(RemoteQueue, "_take", beaten)
    monkeypatch.setattr("random.choice", lambda free: free[-1])
    claimed = queue.claim()
    assert claimed is not None
    assert tried == [oldest, third, second]  # of one, of four, of what is left
    queue.drop(claimed)


def test_a_worker_elsewhere_runs_and_publishes_what_is_queued(shared: Path, node: Path) -> None:
    name = put(shared)
    assert there(shared, refs.QUEUE) == [name]
    assert names_of(shared, refs.QUEUE) == []
    run_next(node, remote="origin")
    assert there(shared, refs.QUEUE) == there(shared, refs.RUNNING) == []
    assert there(shared, refs.EXPS) == [name]
    assert runs_of(node)[name]["status"] == "succeeded"
    repo = Repo.open(shared)
    joined.add(repo, "origin")
    exchange.pull(repo, "origin")
    ours, theirs = runs_of(shared)[name], runs_of(node)[name]
    assert ours == theirs
    assert git(node, "for-each-ref", "refs/ar/leases", "refs/ar/running", "refs/ar/finished") == ""


def test_what_a_remote_brings_stays_foreign_where_nobody_has_joined(shared: Path, node: Path) -> None:
    name = put(shared)
    run_next(node, remote="origin")
    repo = Repo.open(shared)
    exchange.pull(repo, "origin")
    assert name not in {run.name for run in Campaign(Project.open(shared)).history().experiments}
    assert name in {run.name for each in Campaign(Project.open(shared)).history().pulled for run in each.own}


def test_the_same_run_is_not_queued_twice(shared: Path, node: Path) -> None:
    first = put(shared)
    with pytest.raises(BadProposal):
        put(node)  # which has not looked since
    assert there(shared, refs.QUEUE) == [first]
    put(node, x=2.8)
    assert len(there(shared, refs.QUEUE)) == 2


def test_all_that_waits_in_a_clone_is_handed_over_but_what_is_refused(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_TRIES", 1)
    campaign = Campaign(Project.open(shared))
    for x in (2.7, 2.8, 2.9):
        proposal = Proposal(f"x 1.5 → {x}", "Nearer to the floor.", "human", {"x": x})
        campaign.submit(prepare(campaign.project, proposal, campaign.history()), 1)
    first, *others = sorted(names_of(shared, refs.QUEUE))
    lock = shared.parent / "shared.git" / f"{refs.queued(first)}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with pytest.raises(Refused):
        outbox.hand_over(campaign.pipeline, "origin", print)
    assert there(shared, refs.QUEUE) == others
    assert names_of(shared, refs.QUEUE) == [first]
    lock.unlink()
    assert outbox.hand_over(campaign.pipeline, "origin", print)
    assert there(shared, refs.QUEUE) == [first, *others]
    assert names_of(shared, refs.QUEUE) == []


def test_what_was_handed_over_by_a_process_that_was_killed_amid_that_is_not_queued_again(
    shared: Path, node: Path
) -> None:
    campaign = Campaign(Project.open(shared))
    joined.add(campaign.repo, "origin")
    proposal = Proposal("x 1.5 → 2.9", "Nearer to the floor.", "human", {"x": 2.9})
    _, name = campaign.submit(prepare(campaign.project, proposal, campaign.history()), 1)
    rev = campaign.repo.resolve(refs.queued(name))
    assert rev is not None
    outbox.hand_over(campaign.pipeline, "origin", print)
    campaign.repo.update_refs((refs.queued(name), rev, ZERO))  # the kill came before it had gone here
    run_next(node, remote="origin")
    exchange.pull(campaign.repo, "origin")
    assert outbox.hand_over(campaign.pipeline, "origin", print)
    assert there(shared, refs.QUEUE) == names_of(shared, refs.QUEUE) == []
    assert runs_of(shared)[name] == runs_of(node)[name]


def test_what_has_had_its_end_and_was_queued_again_is_run_once_more_at_most(shared: Path, node: Path) -> None:
    name = put(shared)
    rev = remote.look(Repo.open(shared), "origin", refs.queued(name))[refs.queued(name)]
    run_next(node, remote="origin")
    assert remote.move(Repo.open(shared), "origin", Move(refs.queued(name), rev, ZERO))
    late = queue_of(shared)
    claimed = claimed_by(late)
    assert not late.finish(claimed, *cancelled(late, claimed))
    assert there(shared, refs.RUNNING) == there(shared, refs.QUEUE) == []
    assert exchange_note(node, name)["status"] == "succeeded"


def test_what_is_refused_holds_up_nothing_else_and_is_not_tried_at_once(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign, tried = Campaign(Project.open(shared)), list[str]()

    def refuse(pipeline: Pipeline, there: str, tell: object) -> bool:
        tried.append(there)
        raise Refused("it is full")

    monkeypatch.setattr(outbox, "hand_over", refuse)
    campaign.queue = queue_of(shared)
    sync = Sync(campaign)
    campaign.repo.update_note(campaign.repo.head(), lambda note: {**note, "status": "succeeded"})
    for _ in range(2):
        sync._give()
    assert tried == ["origin"]
    assert remote.look(campaign.repo, "origin", refs.NOTES) == {refs.NOTES: campaign.repo.resolve(refs.NOTES)}
    assert list(sync.said()) == ["it is full"]


def test_what_ends_the_thread_that_keeps_up_with_a_remote_ends_the_run(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(outbox, "hand_over", fail)
    campaign = Campaign(Project.open(shared))
    campaign.queue = queue_of(shared)
    with Sync(campaign) as sync:
        sync._thread.join(20)
        with pytest.raises(ZeroDivisionError):
            list(sync.said())


TROUBLED = """\
#!/bin/sh
# Where a file tells it to, git cannot check what is new: it refuses that, and does the rest of a push.
real=$(command -v git)
export GIT_EXEC_PATH="$0.path"
if [ ! -d "$0.path" ]; then
    mkdir "$0.path"
    cat > "$0.path/git" <<END
#!/bin/sh
[ "\\$1" = rev-list ] && [ -e "$0.on" ] && exit 1
exec "$real" "\\$@"
END
    chmod +x "$0.path/git"
fi
"$real" receive-pack "$@"
code=$?
[ -e "$0.on" ] && [ -e "$0.away" ] && mv "$1" "$1.away"
rm -f "$0.on" "$0.away"
exit $code
"""


@pytest.fixture
def trouble(shared: Path, node: Path) -> Callable[..., None]:
    """What to call for a remote that does a part of the node's next push; with `away` it then vanishes."""
    script = shared.parent / "troubled.sh"
    script.write_text(TROUBLED)
    script.chmod(0o755)
    git(node, "config", "remote.origin.receivepack", str(script))

    def begin(*, away: bool = False) -> None:
        for name in ["on", "away"][: 1 + away]:
            Path(f"{script}.{name}").touch()

    return begin


def test_what_a_remote_in_trouble_does_in_part_is_done_whole(
    shared: Path, node: Path, trouble: Callable[..., None]
) -> None:
    name, queue = put(shared), queue_of(node)
    trouble()
    claimed = claimed_by(queue)
    assert there(shared, refs.RUNNING) == [name]
    trouble()
    assert queue.finish(claimed, *cancelled(queue, claimed))
    assert there(shared, refs.RUNNING) == there(shared, refs.QUEUE) == []
    assert exchange_note(shared, name)["status"] == "cancelled"


@pytest.mark.parametrize("settled_by", ["the next claim", "recovery"])
def test_what_a_remote_did_in_part_before_it_went_away_is_put_right(
    shared: Path, node: Path, trouble: Callable[..., None], settled_by: str
) -> None:
    name, queue, bare = put(shared), queue_of(node), shared.parent / "shared.git"
    trouble(away=True)
    with pytest.raises(Unreachable):
        queue.claim()
    bare.with_name("shared.git.away").rename(bare)
    assert there(shared, refs.RUNNING) == there(shared, refs.QUEUE) == []  # what git made of it
    if settled_by == "recovery":
        recovery.recover(Project.open(node), queue.pipeline)
    else:
        assert queue.claim() is None
    assert there(shared, refs.QUEUE) == [name]
    assert git(node, "for-each-ref", refs.LEASES) == ""
    queue.drop(claimed_by(queue))


@pytest.mark.parametrize("words", ["An end", "Another end"])
def test_what_was_taken_from_its_holder_is_not_published_by_it(shared: Path, node: Path, words: str) -> None:
    name = put(shared)
    slow, quick = queue_of(node), queue_of(shared)
    late = claimed_by(slow)
    slow._keepers[name].stop()  # its machine stands still
    assert quick.claim() is None
    held = leases.held(quick.repo, "origin")[name]
    assert held.lease.host == os.uname().nodename
    assert quick.break_(held)
    taken = claimed_by(quick)
    first, second = (
        repo.commit_tree(repo.tree(late.baseline), [late.baseline], message, when=1e9)
        for repo, message in ((quick.repo, "An end"), (slow.repo, words))
    )
    assert (first == second) is (words == "An end")  # two workers may make the very same commit
    assert quick.finish(taken, first, cancelled(quick, taken)[1])
    ended = remote.look(quick.repo, "origin", f"{refs.EXPS}/*", f"{refs.WORKERS_NOTES}/*")
    assert not slow.finish(late, second, cancelled(slow, late)[1])
    assert remote.look(quick.repo, "origin", f"{refs.EXPS}/*", f"{refs.WORKERS_NOTES}/*") == ended
    assert git(node, "for-each-ref", "refs/ar/leases", "refs/ar/running", "refs/exps") == ""


def test_a_lease_is_renewed_for_as_long_as_it_is_held(shared: Path, node: Path) -> None:
    name = put(shared)
    queue = queue_of(node)
    claimed = claimed_by(queue)
    lookout = Lookout(queue_of(shared))
    began = time.monotonic()
    while time.monotonic() < began + 2.5:
        lookout.queue.look()
        assert lookout.free_lost() == []
        time.sleep(0.1)
    assert leases.held(lookout.queue.repo, "origin")[name].lease.sequence > 1
    queue._keepers[name].stop()
    wait_for(lambda: lookout.finds() and lookout.free_lost() == [name])
    queue.disown(claimed)


def test_a_remote_that_is_away_for_a_while_costs_nothing(shared: Path, node: Path) -> None:
    name = put(shared)
    queue, told = queue_of(node), list[str]()
    queue.tell = told.append
    claimed = claimed_by(queue)
    bare, away = shared.parent / "shared.git", shared.parent / "away.git"
    bare.rename(away)
    waits = iter([True, True])

    def ending() -> bool:
        if next(waits, None) is None and away.exists():
            away.rename(bare)
        return False

    queue.ending = ending
    assert queue.finish(claimed, *cancelled(queue, claimed))
    assert there(shared, refs.EXPS) == [name]
    assert sum("published later" in words for words in told) == 1


def test_a_remote_that_goes_away_within_a_publication_costs_nothing(
    shared: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [put(shared), put(shared, x=2.8)]
    queue = queue_of(node)
    first, second = claimed_by(queue), claimed_by(queue)
    assert queue.finish(first, *cancelled(queue, first))
    git(node, "update-ref", "-d", refs.at_remote("origin", f"{refs.WORKERS_NOTES}/{queue.worker}"))
    bare, away = shared.parent / "shared.git", shared.parent / "away.git"
    look, waits = remote.look, iter([True])

    def look_once(repo: Repo, there: str, *patterns: str) -> dict[str, str]:
        found = look(repo, there, *patterns)
        if len(patterns) == 2 and next(waits, None):  # at what became of a push
            bare.rename(away)
        return found

    def ending() -> bool:
        if away.exists():
            away.rename(bare)
        return False

    monkeypatch.setattr(remote, "look", look_once)
    queue.ending = ending
    assert queue.finish(second, *cancelled(queue, second))
    assert next(waits, None) is None
    assert there(shared, refs.EXPS) == sorted(names)


def test_a_result_that_a_killed_process_had_is_published_later(shared: Path, node: Path) -> None:
    name = put(shared)
    queue = queue_of(node)
    claimed = claimed_by(queue)
    bare, away = shared.parent / "shared.git", shared.parent / "away.git"
    bare.rename(away)
    queue.ending = lambda: True
    queue.finish(claimed, *cancelled(queue, claimed))
    assert [line for line in recovery.recover(Project.open(node), queue.pipeline) if name in line]
    away.rename(bare)
    assert there(shared, refs.EXPS) == []
    recovery.recover(Project.open(node), queue.pipeline)
    assert there(shared, refs.EXPS) == [name]
    assert there(shared, refs.RUNNING) == []
    assert runs_of(node)[name]["status"] == "cancelled"


def test_what_a_remote_has_waiting_is_held_to_the_scope(shared: Path, node: Path) -> None:
    repo = Repo.open(shared)
    edits = {
        "fit.awk": b"BEGIN {}\n",
        "dvc.yaml": b"stages: {fit: {cmd: touch /tmp/owned, outs: [m.json]}}\n",
    }
    message = Message("Harmless", "", "human", candidate="0" * 16, seed=1)
    rev = repo.commit_tree(repo.write_tree(repo.head(), edits), [repo.head()], str(message))
    assert remote.move(repo, "origin", Move(refs.queued("harmless-1"), rev, ZERO))
    run_next(node, remote="origin")
    found = runs_of(node)["harmless-1"]
    assert found["status"] == "crashed"
    assert "dvc.yaml" in found["reason"]
    assert there(shared, refs.EXPS) == ["harmless-1"]


def test_nothing_of_a_remotes_runs_that_this_machine_has_not_allowed(shared: Path) -> None:
    folder = clone_of(shared, "node")
    edit(shared / "program.md", "seed: seed", "seed: seed\nsandbox: {network: true}")
    git(shared, "commit", "-qam", "Open the network")
    name = put(shared)
    joined.add(Repo.open(folder), "origin")
    done = run(
        folder, "timeout", "60", sys.executable, "-m", "ar", "worker", "--remote", "origin", check=False
    )
    assert done.returncode == 2
    assert "network" in done.stderr
    assert there(shared, refs.QUEUE) == [name]


def test_a_machine_without_the_data_gives_back_and_says_what_brings_it(shared: Path) -> None:
    (shared / "rows.csv").write_text("1\n2\n")
    run(shared, "dvc", "add", "-q", "rows.csv")
    edit(shared / "dvc.yaml", "deps: [", "deps: [rows.csv, ")
    commit(shared, "Read data")
    git(shared, "push", "-q")
    name, folder = put(shared), clone_of(shared, "node")
    joined.add(Repo.open(folder), "origin")
    allow(folder)
    done = run(folder, sys.executable, "-m", "ar", "worker", "--remote", "origin", check=False)
    assert done.returncode == 2
    assert "dvc pull rows.csv.dvc" in done.stderr
    assert there(shared, refs.QUEUE) == [name]


def test_a_worker_that_was_killed_loses_nothing(shared: Path, node: Path) -> None:
    edit(shared / "dvc.yaml", "awk -f", "sleep 2 && awk -f")
    git(shared, "commit", "-qam", "Take time")
    git(shared, "push", "-q")
    name = put(shared)
    worker = start(node, "worker", "--remote", "origin")
    wait_for(lambda: there(shared, refs.RUNNING))
    os.killpg(worker.pid, signal.SIGKILL)  # its pool is gone, and its worker ends with it
    other = start(clone_of(shared, "other"), "worker", "--remote", "origin")
    wait_for(lambda: there(shared, refs.EXPS) == [name])
    assert there(shared, refs.RUNNING) == there(shared, refs.QUEUE) == []
    other.send_signal(signal.SIGTERM)
    out, _ = other.communicate(timeout=60)
    assert name in out
    worker.communicate()
    recovery.recover(Project.open(node), Pipeline(Repo.open(node)))
    assert git(node, "for-each-ref", "refs/ar/leases", "refs/ar/running", "refs/ar/finished") == ""
    assert Note.from_json(exchange_note(shared, name)).status == Status.SUCCEEDED


def exchange_note(folder: Path, name: str) -> dict[str, object]:
    """The note that the remote has of an experiment."""
    repo = Repo.open(folder)
    joined.add(repo, "origin")
    exchange.pull(repo, "origin")
    [rev] = repo.refs(f"{refs.EXPS}/*/*/{name}").values()
    return repo.note(rev)


LISTED = """\
#!/bin/sh
# Proposes one value of x after the other, of which somebody else has tried the first.
count=$(cat "$0.count" 2> /dev/null || echo 0)
echo $((count + 1)) > "$0.count"
set -- 2.9 2.2 2.4 2.6 2.7 2.8
shift "$count"
sed -i "s/^x: .*/x: $1/" params.yaml
printf 'Set x to %s\\n\\nInsist: it is another value.\\n' "$1"
"""


def test_two_heads_with_different_agents_make_one_campaign(measured: Path, ar: Ar, tmp_path: Path) -> None:
    share(measured)
    exchange.push(Repo.open(measured), "origin")
    other = clone_of(measured, "other")
    script = tmp_path / "listed.sh"
    script.write_text(LISTED)
    script.chmod(0o755)
    agent = {"kind": "command", "command": [str(script)], "timeout": 20}
    edit(other / "program.md", "budget:", f"agent: {json.dumps(agent)}\nbudget:")
    put(measured)
    heads = [
        start(folder, "run", "--remote", "origin", "-n", "2", "--plain", "--jobs", "1")
        for folder in (measured, other)
    ]
    said = [head.communicate(timeout=240)[0] for head in heads]
    assert [head.returncode for head in heads] == [0, 0], said
    assert there(measured, refs.QUEUE) == there(measured, refs.RUNNING) == []
    for folder in (measured, other):  # one of them ended first
        exchange.pull(Repo.open(folder), "origin")
    ours, theirs = (
        json.loads(ar(folder, "show", "--json").stdout)["attempts"] for folder in (measured, other)
    )
    assert ours == theirs
    runs = [(one["candidate"], run["seed"], run["name"]) for one in ours for run in one["experiments"]]
    twice = [one for one in runs if sum(other[:2] == one[:2] for other in runs) > 1]
    assert not twice, (twice, said)
    by = Counter(one["agent"] for one in ours)
    assert by["search"] >= 2
    assert by["command"] >= 2


def test_every_clone_tells_who_runs_what_where(shared: Path, node: Path, ar: Ar) -> None:
    name, waits = put(shared), put(shared, x=2.8)
    claimed = claimed_by(queue_of(node), name)
    joined.add(Repo.open(shared), "origin")
    host = os.uname().nodename
    shown = ar(shared, "show").stdout
    assert f"{name} on {host}" in " ".join(shown.split())
    assert "1 waiting" in shown
    runs = runs_of(shared)
    assert (runs[name]["status"], runs[name]["where"]) == ("running", f"on {host}")
    assert (runs[waits]["status"], runs[waits]["where"]) == ("queued", "waits on origin")
    assert f"{name} on {host}" in ar(shared, "doctor", check=False).stdout.replace("\n", " ")
    ar(shared, "stop", name)
    assert there(shared, refs.RUNNING) == []
    assert runs_of(shared)[name]["status"] == "cancelled"
    assert not queue_of(node).finish(claimed, *cancelled(queue_of(node), claimed))


def test_the_token_of_a_remote_reaches_nobody(shared: Path, ar: Ar) -> None:
    token = "tok-3f9a77c1e0b24d58"
    git(shared, "remote", "set-url", "origin", f"http://me:{token}@localhost:1/x.git")
    tried = ar(shared, "run", "--remote", "origin", "-n", "0", "--plain", check=False)
    assert tried.returncode == 2
    assert "cannot be reached" in tried.stderr
    looked = ar(shared, "show", check=False)
    assert "as it was at the last look" in looked.stderr
    for done in (tried, looked, ar(shared, "doctor", check=False)):
        assert token not in done.stdout + done.stderr
    kept = [path for path in (shared / ".git" / "ar").rglob("*") if path.is_file()]
    assert not [path for path in kept if token.encode() in path.read_bytes()]


@contextlib.contextmanager
def serving(*command: str) -> Iterator[None]:
    """A server, while the block lasts."""
    server = subprocess.Popen(command)
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_a_worker_in_a_shallow_clone_over_gits_own_server(shared: Path) -> None:
    bare = shared.parent / "shared.git"
    if not (Path(run(bare, "git", "--exec-path").stdout.strip()) / "git-daemon").exists():
        pytest.skip("git daemon is not installed")
    port = free_port()
    url = f"git://127.0.0.1:{port}/shared.git"
    options = ("--reuseaddr", "--export-all", "--enable=receive-pack", "--listen=127.0.0.1", f"--port={port}")
    with serving("git", "daemon", *options, f"--base-path={bare.parent}", str(bare.parent)):
        wait_for(lambda: run(bare, "git", "ls-remote", url, check=False).returncode == 0)
        git(shared, "remote", "set-url", "origin", url)
        run(bare.parent, "git", "clone", "-q", "--depth", "1", url, "shallow")
        folder = bare.parent / "shallow"
        joined.add(Repo.open(folder), "origin")
        name = put(shared)
        run_next(folder, remote="origin")
        assert there(shared, refs.EXPS) == [name]
        assert runs_of(folder)[name]["status"] == "succeeded"
        assert git(folder, "rev-parse", "--is-shallow-repository") == "true"


def test_a_worker_over_ssh(shared: Path, node: Path, tmp_path: Path) -> None:
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None:
        pytest.skip("sshd is not installed")
    if os.geteuid() == 0 and not Path("/run/sshd").is_dir():
        pytest.skip("root's sshd needs the folder /run/sshd")
    for key in ("host", "mine"):
        run(tmp_path, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    port = free_port()
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": tmp_path / "mine.pub",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
    }
    (tmp_path / "sshd.conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    known = f"-o UserKnownHostsFile={tmp_path / 'known'} -o StrictHostKeyChecking=accept-new"
    for folder in (shared, node):
        git(folder, "config", "core.sshCommand", f"ssh -F none -i {tmp_path / 'mine'} -p {port} {known}")
        url = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{shared.parent / 'shared.git'}"
        git(folder, "remote", "set-url", "origin", url)
    with serving(sshd, "-D", "-f", str(tmp_path / "sshd.conf"), "-E", str(tmp_path / "sshd.log")):
        wait_for(lambda: run(shared, "git", "ls-remote", "origin", check=False).returncode == 0)
        name = put(shared)
        run_next(node, remote="origin")
        assert there(shared, refs.EXPS) == [name]
        assert runs_of(node)[name]["status"] == "succeeded"


@pytest.mark.slow
def test_a_worker_that_stood_still_past_its_lease_publishes_nothing(shared: Path, node: Path) -> None:
    edit(shared / "dvc.yaml", "awk -f", "sleep 4 && awk -f")
    git(shared, "commit", "-qam", "Take time")
    git(shared, "push", "-q")
    name = put(shared)
    stopped = start(node, "worker", "--remote", "origin")
    wait_for(lambda: there(shared, refs.RUNNING))
    tree = [stopped.pid, *(child.pid for child in psutil.Process(stopped.pid).children(recursive=True))]
    for pid in tree:
        os.kill(pid, signal.SIGSTOP)
    other = clone_of(shared, "other")
    quick = start(other, "worker", "--remote", "origin")
    wait_for(lambda: there(shared, refs.EXPS) == [name])
    before = remote.look(Repo.open(shared), "origin", "refs/*")
    for pid in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not names_of(node, refs.RUNNING))
    stopped.send_signal(signal.SIGTERM)
    said = stopped.communicate(timeout=60)[0]
    assert f"{name} is not published" in said
    assert remote.look(Repo.open(shared), "origin", "refs/*") == before
    quick.send_signal(signal.SIGTERM)
    assert name in quick.communicate(timeout=60)[0]
    assert git(node, "for-each-ref", "refs/ar/leases", "refs/ar/running", "refs/ar/finished") == ""
    run(shared.parent / "shared.git", "git", "fsck", "--strict")
