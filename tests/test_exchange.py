"""Campaigns over a plain git remote: both sides end with the union, whoever pushes when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, git, run

from ar.agents import account
from ar.errors import NotFound
from ar.git import refs, transfer
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.history import exchange
from ar.history.spend import Spend

CAMPAIGN = """
import sys
from pathlib import Path
from ar.git import refs
from ar.history import exchange
from ar.git.references import ZERO
from ar.git.repo import Repo
repo, who = Repo.open(Path(sys.argv[1])), sys.argv[2]
head = repo.head()
for turn in range(int(sys.argv[3])):
    name = f"{who}-{turn}"
    rev = repo.commit_tree(repo.tree(head), [head], name)
    repo.update_note(rev, lambda old: {"status": "succeeded", "log": name})
    repo.update_refs((str(refs.ExperimentRef(head, name)), rev, ZERO))
    repo.update_note(head, lambda old: {**old, name: turn})
    exchange.push(repo, "origin")
    if turn % 3 == 2:
        exchange.pull(repo, "origin")
"""


@pytest.fixture
def remote(tmp_path: Path, project: Path) -> Path:
    """A bare repository that holds the project's branch."""
    folder = tmp_path / "remote.git"
    run(tmp_path, "git", "init", "-q", "--bare", str(folder))
    run(project, "git", "push", "-q", str(folder), "main")
    return folder


def _clone(remote: Path, name: str) -> Path:
    folder = remote.parent / name
    run(remote.parent, "git", "clone", "-q", str(remote), str(folder))
    return folder


def _add(repo: Repo, name: str, **note: Any) -> str:
    head = repo.head()
    rev = repo.commit_tree(repo.tree(head), [head], f"{name} {note}")
    repo.update_note(rev, lambda _: note)
    repo.update_refs((str(refs.ExperimentRef(head, name)), rev, ZERO))
    return rev


def _state(folder: Path) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    repo = Repo.open(folder)
    return repo.refs(refs.EXPS), dict(repo.notes())


def test_two_clones_that_push_at_once_both_end_with_the_union(remote: Path) -> None:
    clones = [_clone(remote, name) for name in ("one", "two")]
    turns = 8
    running = [
        subprocess.Popen([sys.executable, "-c", CAMPAIGN, str(folder), folder.name, str(turns)])
        for folder in clones
    ]
    assert [process.wait(timeout=240) for process in running] == [0, 0]
    for folder in clones:
        exchange.pull(Repo.open(folder), "origin")
    one, two = map(_state, clones)
    assert one == two
    names = {f"{who}-{turn}" for who in ("one", "two") for turn in range(turns)}
    experiments, notes = one
    assert {refs.name_of(ref) for ref in experiments} == names
    # No note is lost, and of the note that both wrote all the time no key.
    assert {notes[rev]["log"] for rev in experiments.values()} == names
    assert set(notes[git(clones[0], "rev-parse", "HEAD")]) == names
    for folder in clones:
        assert git(folder, "fsck", "--strict", "--no-dangling") == ""
        assert git(folder, "status", "--porcelain") == ""


def test_experiments_appear_with_their_notes_and_nothing_is_overwritten(remote: Path) -> None:
    one, two = (Repo.open(_clone(remote, name)) for name in ("one", "two"))
    same, other = _add(one, "same", status="succeeded", log="one"), _add(two, "same", status="crashed")
    _add(one, "fresh", status="succeeded")
    one.update_refs((refs.queued("waits"), one.head(), ZERO))
    account.record(one, "claude", Spend(100, 0, 10))
    account.record(two, "claude", Spend(5, 0, 1))
    pushed = exchange.push(one, "origin")
    assert (pushed.experiments, pushed.notes) == (2, 2)

    pulled = exchange.pull(two, "origin")

    assert (pulled.experiments, pulled.notes) == (1, 2)
    assert same != other and pulled.clashes == ("same",)
    assert two.refs(refs.EXPS)[str(refs.ExperimentRef(two.head(), "same"))] == other
    assert (
        two.note(two.refs(refs.EXPS)[str(refs.ExperimentRef(two.head(), "fresh"))])["status"] == "succeeded"
    )
    assert not two.refs(refs.QUEUE)
    assert account.total(two) == Spend(5, 0, 1)
    assert account.read(two).told == Spend(100, 0, 10)
    assert exchange.pull(two, "origin") == exchange.Exchanged("origin", 0, 0, pulled.clashes)
    exchange.push(two, "origin")
    exchange.pull(one, "origin")
    assert account.total(one) == Spend(100, 0, 10)
    assert account.read(one).told == Spend(5, 0, 1)
    assert one.notes() == two.notes()


def test_clones_that_never_met_join_too(remote: Path) -> None:
    one, two = (Repo.open(_clone(remote, name)) for name in ("one", "two"))
    for repo, log in ((one, "a"), (two, "b")):
        repo.update_note(repo.head(), lambda _, log=log: {"status": "succeeded", log: 1, "log": log})
    run(one.root, "git", "notes", "--ref", "ar", "add", "-f", "-m", "not JSON", "HEAD^")
    exchange.push(one, "origin")
    exchange.push(two, "origin")
    exchange.pull(one, "origin")
    assert one.notes() == two.notes() == {one.head(): {"status": "succeeded", "a": 1, "b": 1, "log": "b"}}
    assert git(two.root, "notes", "--ref", "ar", "show", "HEAD^") == "not JSON"


OPEN = {"decision": "open", "runs": 3}
LEFT = {"decision": "discard", "runs": 3, "label": "superseded"}
WON = {"decision": "promote", "runs": 2}
LOST = {"decision": "discard", "runs": 5}


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "joined"),
    [
        ({"a": 1}, {"a": 2}, {"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        ({"verdict": OPEN}, {"verdict": WON}, {"verdict": OPEN}, {"verdict": WON}),
        ({}, {"verdict": OPEN}, {"verdict": WON}, {"verdict": WON}),
        ({}, {"verdict": LOST}, {"verdict": WON}, {"verdict": LOST}),
        ({}, {"verdict": LEFT}, {"verdict": OPEN}, {"verdict": OPEN}),
        ({}, {"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 0}, {"a": [1]}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_notes_join_alike_on_both_sides(
    base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any], joined: dict[str, Any]
) -> None:
    assert exchange.join(base, ours, theirs) == joined
    assert exchange.join(base, theirs, ours) == joined


def test_which_remote(remote: Path) -> None:
    repo = Repo.open(_clone(remote, "one"))
    assert transfer.remote_of(repo, None) == "origin"
    with pytest.raises(NotFound, match="no remote 'orign'"):
        transfer.remote_of(repo, "orign")
    with pytest.raises(NotFound):
        transfer.remote_of(repo, "--upload-pack=touch /tmp/x")
    run(repo.root, "git", "remote", "rename", "origin", "lab")
    assert transfer.remote_of(repo, None) == "lab"
    run(repo.root, "git", "remote", "remove", "lab")
    with pytest.raises(NotFound, match="no remote"):
        transfer.remote_of(repo, None)


def test_a_remote_that_is_gone_is_said_so(remote: Path, ar: Ar) -> None:
    folder = _clone(remote, "one")
    run(folder, "git", "remote", "set-url", "origin", str(remote.parent / "gone"))
    done = ar(folder, "push", check=False)
    assert done.returncode == 2
    assert "git ls-remote origin" in done.stderr


@pytest.mark.slow
def test_a_fresh_clone_shows_all_and_measures_for_itself(measured: Path, tmp_path: Path, ar: Ar) -> None:
    folder = tmp_path / "campaign.git"
    run(tmp_path, "git", "init", "-q", "--bare", str(folder))
    run(measured, "git", "remote", "add", "origin", str(folder))
    run(measured, "git", "push", "-q", "origin", "main")
    others = _clone(folder, "others")
    ar(measured, "push")
    assert " experiments and " in ar(others, "pull").stdout
    loops = [
        subprocess.Popen(
            [sys.executable, "-m", "ar", "run", "-n", "2", "--no-promote", "--plain"],
            cwd=root,
            stdout=subprocess.DEVNULL,
        )
        for root in (measured, others)
    ]
    while any(loop.poll() is None for loop in loops):
        for root in (measured, others):
            ar(root, "push")
    assert [loop.returncode for loop in loops] == [0, 0]
    for root in (measured, others, measured):
        ar(root, "push")
        ar(root, "pull")
    known = [_shown(ar, root) for root in (measured, others)]
    assert known[0].keys() == known[1].keys()
    fresh = _clone(folder, "fresh")
    ar(fresh, "pull")
    # Whoever can write to the remote may have made it up: here everything is still to be measured.
    assert _shown(ar, fresh) == dict.fromkeys(known[0], "foreign")
    ar(fresh, "run", "-n", "1", "--plain")
    assert set(_shown(ar, fresh).values()) > {"foreign", "baseline"}


def _shown(ar: Ar, root: Path) -> dict[str, str]:
    """Name of every run to what became of its attempt."""
    attempts = json.loads(ar(root, "show", "--json").stdout)["attempts"]
    return {run["name"]: attempt["outcome"] for attempt in attempts for run in attempt["experiments"]}
