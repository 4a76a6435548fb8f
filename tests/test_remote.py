"""Refs of a git remote moved by compare-and-swap, and leases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import git

from ar.git import refs, remote
from ar.git.references import ZERO
from ar.git.remote import Move, Refused, Unreachable
from ar.git.repo import Repo
from ar.history.leases import Held, Lease, Watch, held
from ar.redaction import redact

NAME = "x-1.5-2.9-abcdef"
RACERS = 12


def _leased(repo: Repo, worker: str, **values: object) -> str:
    return Lease.from_json({"worker": worker, "seconds": 60, **values}).write(repo, repo.head())


def test_of_many_racers_exactly_one_claims(shared: Path) -> None:
    repo = Repo.open(shared)
    assert remote.move(repo, "origin", Move(refs.queued(NAME), repo.head(), ZERO))
    together = threading.Barrier(RACERS)

    def claim(racer: int) -> bool:
        lease = _leased(repo, f"racer-{racer}")
        together.wait()
        taken = Move(refs.queued(NAME), ZERO, repo.head()), Move(refs.running(NAME), lease, ZERO)
        return remote.move(repo, "origin", *taken)

    with ThreadPoolExecutor(RACERS) as pool:
        won = list(pool.map(claim, range(RACERS)))
    remote.mirror(repo, "origin", remote.all_of("origin", refs.QUEUE, refs.RUNNING))
    assert won.count(True) == 1
    assert held(repo, "origin")[NAME].lease.worker == f"racer-{won.index(True)}"
    assert not repo.refs(refs.at_remote("origin", refs.QUEUE))


def test_all_of_a_set_moves_or_nothing(shared: Path) -> None:
    repo = Repo.open(shared)
    head = repo.head()
    assert remote.move(repo, "origin", Move(refs.queued("a"), head, ZERO))
    lease = _leased(repo, "w")
    wrong = Move(refs.queued("a"), lease, ZERO), Move(refs.queued("b"), lease, ZERO)
    assert not remote.move(repo, "origin", *wrong)
    assert not remote.move(repo, "origin", Move(refs.queued("a"), ZERO, lease))
    assert set(remote.look(repo, "origin", f"{refs.QUEUE}/*")) == {refs.queued("a")}


def test_what_was_done_counts_though_the_answer_was_lost(shared: Path) -> None:
    repo = Repo.open(shared)
    moves = Move(refs.queued("a"), repo.head(), ZERO), Move(refs.queued("b"), repo.head(), ZERO)
    assert remote.move(repo, "origin", *moves)
    assert remote.move(repo, "origin", *moves)


def test_a_remote_that_is_gone_is_told_from_one_that_takes_nothing(shared: Path, tmp_path: Path) -> None:
    repo, there = Repo.open(shared), tmp_path / "shared.git"
    put = Move(refs.queued(NAME), repo.head(), ZERO)
    hook = there / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho over quota >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(Refused):
        remote.move(repo, "origin", put)
    hook.unlink()
    there.rename(tmp_path / "away")
    with pytest.raises(Unreachable):
        remote.move(repo, "origin", put)
    with pytest.raises(Unreachable):
        remote.mirror(repo, "origin", remote.all_of("origin", refs.QUEUE))
    (tmp_path / "away").rename(there)
    assert remote.move(repo, "origin", put)


def test_a_push_to_a_folder_is_told_of_no_experiments_but_those_beside_it(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, there = Repo.open(shared), tmp_path / "shared.git"
    head, trace = repo.head(), tmp_path / "trace"
    beside, others = (refs.ExperimentRef(rev, "x") for rev in (head, "ab" * 20))
    for ref in (beside, others):
        git(there, "update-ref", str(ref), git(there, "rev-parse", "HEAD"))

    def told(*moves: Move) -> str:
        monkeypatch.setenv("GIT_TRACE_PACKET", str(trace))
        assert remote.move(repo, "origin", *moves)
        monkeypatch.delenv("GIT_TRACE_PACKET")
        found = trace.read_text()
        trace.unlink()
        return found

    said = told(Move(refs.queued(NAME), head, ZERO))
    assert str(beside) not in said
    said = told(Move(str(refs.ExperimentRef(head, "y")), head, ZERO), Move(refs.queued(NAME), ZERO, head))
    assert str(beside) in said
    assert str(others) not in said
    git(shared, "config", "remote.origin.receivepack", "git-receive-pack")
    assert str(others) in told(Move(refs.queued(NAME), head, ZERO))


def test_what_a_crash_left_locked_on_a_remote_is_named(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_TRIES", 1)
    repo = Repo.open(shared)
    lock = tmp_path / "shared.git" / f"{refs.queued(NAME)}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with pytest.raises(Refused) as caught:
        remote.move(repo, "origin", Move(refs.queued(NAME), repo.head(), ZERO))
    assert f"{NAME}.lock" in caught.value.message


def test_an_addresss_password_is_shown_nowhere(shared: Path) -> None:
    repo, token = Repo.open(shared), "tok-3f9a77c1e0b24d58"
    git(shared, "remote", "add", "web", f"https://me:{token}@localhost:1/x.git")
    remote.guard(repo, "web")
    assert token not in redact(f"fatal: {token} was said")
    with pytest.raises(Unreachable) as caught:
        remote.look(repo, "web", "refs/*")
    assert token not in str(caught.value)
    assert token not in remote.shown(f"To https://me:{token}@localhost/x.git")


def test_a_lease_says_who_has_what(shared: Path) -> None:
    repo = Repo.open(shared)
    rev = _leased(repo, "node-1", host="there", pid=7, device="gpu0", since=12.5, sequence=3, lost=1)
    lease = Lease.parse(repo.commit(rev))
    assert lease == Lease("node-1", "there", 7, "", "gpu0", 12.5, 3, 60.0, 1)
    assert lease.renewed().sequence == 4
    assert lease.broken().is_broken
    assert lease.broken().lost == 2


@pytest.mark.parametrize(
    "text", ["", "{", '{"worker": 3}', '["worker"]', '{"worker": "x"' + " " * 5000 + "}"]
)
def test_what_is_no_lease_is_passed_over(shared: Path, text: str) -> None:
    repo = Repo.open(shared)
    rev = repo.commit_tree(repo.empty_tree(), [repo.head()], f"Held\n\n{text}")
    repo.update_refs((refs.at_remote("origin", refs.running(NAME)), rev, ZERO))
    assert held(repo, "origin") == {}


def test_a_lease_runs_out_by_how_long_it_was_seen_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    watch, lease = Watch(), Lease("w", since=-1e9, seconds=60.0)
    first, second = (Held(NAME, "0" * 40, rev * 40, lease) for rev in "12")
    watch.see({NAME: first})
    now += 59.0
    watch.see({NAME: first})
    assert not watch.has_run_out(first)
    now += 2.0
    assert watch.has_run_out(first)
    assert not watch.has_run_out(second)
    watch.see({NAME: second})
    assert not watch.has_run_out(second)
    assert watch.has_run_out(Held(NAME, "0" * 40, "3" * 40, lease.broken()))
