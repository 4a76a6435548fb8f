"""git objects, refs and notes under concurrency."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import git, run

from ar.errors import ArError, BadState, Conflict, NotARepo
from ar.git import refs
from ar.git.packed_refs import PackedRefs
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.history import reader
from ar.project.project import Project
from ar.runs import budget, queue, recovery


@pytest.fixture
def repo(project: Path) -> Repo:
    return Repo.open(project)


def test_outside_a_repository(tmp_path: Path, bare: Path) -> None:
    with pytest.raises(NotARepo, match="git init"):
        Repo.open(tmp_path)
    run(tmp_path, "git", "init", "-q", "empty")
    with pytest.raises(NotARepo, match="dvc init"):
        Repo.open(tmp_path / "empty")
    (tmp_path / "empty" / ".dvc").mkdir()
    with pytest.raises(NotARepo, match="no commit yet"):
        Repo.open(tmp_path / "empty")
    (bare / "deep" / "down").mkdir(parents=True)
    assert Repo.open(bare / "deep" / "down").root == bare


def test_write_tree_changes_adds_removes_and_keeps_modes(repo: Repo) -> None:
    script = repo.root / "tool.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    run(repo.root, "git", "add", "tool.sh")
    run(repo.root, "git", "commit", "-qm", "Add tool")
    tree = repo.write_tree("HEAD", {"tool.sh": b"#!/bin/sh\nexit 1\n", "new/file.txt": b"x", "c.yaml": None})
    files = repo.files(tree)
    assert files["tool.sh"].mode == "100755"
    assert repo.read(tree, "new/file.txt") == b"x"
    assert "c.yaml" not in files
    assert git(repo.root, "status", "--porcelain") == ""


def test_update_refs_is_all_or_nothing(repo: Repo) -> None:
    head = repo.head()
    repo.update_refs(("refs/ar/queue/a", head, ZERO))
    with pytest.raises(Conflict):
        repo.update_refs(("refs/ar/running/a", head, ZERO), ("refs/ar/queue/b", ZERO, head))
    assert set(repo.refs("refs/ar")) == {"refs/ar/queue/a"}
    with pytest.raises(Conflict):
        repo.update_refs(("refs/ar/queue/a", head, ZERO))
    repo.update_refs(("refs/ar/running/a", head, ZERO), ("refs/ar/queue/a", ZERO, head))
    assert set(repo.refs("refs/ar")) == {"refs/ar/running/a"}


def test_a_ref_that_cannot_be_written_is_no_conflict(repo: Repo) -> None:
    head = repo.head()
    repo.update_refs(("refs/ar/queue/a", head, ZERO))
    with pytest.raises(BadState):
        repo.update_refs(("refs/ar/queue/a/b", head, ZERO))
    with pytest.raises(BadState):
        repo.update_refs(("refs/ar/queue/c", "1" * 40, ZERO))
    with pytest.raises(BadState):
        repo.update_refs(("refs/ar/queue/..", head, ZERO))
    assert set(repo.refs("refs/ar")) == {"refs/ar/queue/a"}


def test_a_ref_whose_lock_is_held_for_an_instant_is_written(repo: Repo) -> None:
    lock = repo.git_dir / "refs" / "ar" / "queue" / "a.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    let_go = threading.Timer(0.3, lock.unlink)
    let_go.start()
    repo.update_refs(("refs/ar/queue/a", repo.head(), ZERO))
    let_go.join()
    assert set(repo.refs("refs/ar")) == {"refs/ar/queue/a"}


@pytest.fixture
def full(repo: Repo) -> Iterator[Path]:
    """The folder of queued experiments, on a file system without a free byte."""
    folder = repo.git_dir / "refs" / "ar" / "queue"
    folder.mkdir(parents=True)
    if (
        os.geteuid()
        or run(folder, "mount", "-t", "tmpfs", "-o", "size=4k", "ar", ".", check=False).returncode
    ):
        pytest.skip("a small file system can be mounted by root only")
    try:
        (folder / "fill.lock").write_bytes(bytes(4096))
        yield folder
    finally:
        run(repo.root, "umount", str(folder))


def test_a_full_disk_is_no_conflict(repo: Repo, full: Path) -> None:
    with pytest.raises(BadState):
        repo.update_refs(("refs/ar/queue/a", repo.head(), ZERO))
    (full / "fill.lock").unlink()
    repo.update_refs(("refs/ar/queue/a", repo.head(), ZERO))
    assert set(repo.refs("refs/ar")) == {"refs/ar/queue/a"}


@pytest.mark.parametrize(
    "headline", ["# pack-refs with: peeled fully-peeled sorted \n", "# pack-refs with: peeled\n", ""]
)
def test_refs_in_one_file_are_found_wherever_they_stand(headline: str) -> None:
    names = [
        "refs/exps/0a",
        "refs/exps/ab/x",
        "refs/exps/ab/x-y",
        "refs/exps/abc",
        "refs/heads/m",
        "refs/tags/é",
        "x",
    ]
    rows = {name: f"{count:040x}" for count, name in enumerate(names)}
    lines = [
        f"{value} {name}\n" + f"^{value}\n" * (count % 2) for count, (name, value) in enumerate(rows.items())
    ]
    packed = PackedRefs((headline + "".join(lines if "sorted" in headline else lines[::-1])).encode())
    for first in (*names, "a", "refs", "refs/", "refs/exps/ab", "refs/exps/ab/", "refs/z", "z"):
        assert packed.of(first) == {name: value for name, value in rows.items() if name == first}
        wanted = {name: value for name, value in rows.items() if name.startswith(first)}
        assert packed.beginning(first) == wanted
        assert list(packed.beginning(first)) == list(wanted)


@pytest.mark.parametrize("pattern", ["refs/ar", "refs/ar/queue/a", "refs/exps/*/*/a", "refs/none", "refs"])
@pytest.mark.parametrize("state", ["loose", "packed", "both"])
def test_refs_are_those_that_git_lists(repo: Repo, state: str, pattern: str) -> None:
    head = repo.head()
    names = ["ar/queue/a", "ar/queue/a-b", "ar/queue/a.b", "ar/queue/b/a", "ar/running/x", "exps/12/34/a"]
    repo.update_refs(*((f"refs/{name}", head, ZERO) for name in [*names, "exps/12/34/a-b", "exps/12/3/4/a"]))
    if state != "loose":
        run(repo.root, "git", "pack-refs", "--all")
    if state == "both":
        other = repo.commit_tree(repo.tree("HEAD"), [head], "Other")
        repo.update_refs(("refs/ar/queue/a", other, head), ("refs/ar/queue/new", head, ZERO))
        repo.update_refs(("refs/ar/running/x", ZERO, head), ("refs/exps/12/34/a", other, head))
    listed = git(repo.root, "for-each-ref", "--format=%(refname) %(objectname)", pattern).splitlines()
    assert list(repo.refs(pattern).items()) == [tuple(line.split(" ")) for line in listed]
    assert repo.count_refs(pattern) == len(listed)


def test_what_no_ref_can_be_read_from_is_left_out(repo: Repo) -> None:
    folder = repo.git_dir / "refs" / "ar" / "queue"
    folder.mkdir(parents=True)
    (folder / "empty").touch()
    (folder / "zeros").write_bytes(bytes(41))  # what a power cut can leave
    (folder / "a.lock").write_text(f"{repo.head()}\n")
    git(repo.root, "symbolic-ref", "refs/ar/queue/symbolic", "refs/heads/main")
    assert repo.refs("refs/ar") == {}


def test_a_ref_that_moves_on_is_never_missed(repo: Repo) -> None:
    head, name = repo.head(), "x"
    stations = [refs.queued(name), refs.running(name), str(refs.ExperimentRef(head, name))]
    repo.update_refs((stations[0], head, ZERO), (refs.queued("stays"), head, ZERO))
    script = f"""
import subprocess
from ar.git.references import ZERO
from ar.git.repo import Repo
repo, stations = Repo.open(), {stations!r}
for turn in range(12):
    for old, new in zip(stations, stations[1:]):
        if turn % 3 == 0:
            subprocess.run(["git", "pack-refs", "--all"], check=True)
        repo.update_refs((new, {head!r}, ZERO), (old, ZERO, {head!r}))
    # Back to the start, while the reader may see it at both ends.
    repo.update_refs((stations[0], {head!r}, ZERO))
    print("back", flush=True)
    input()
    repo.update_refs((stations[-1], ZERO, {head!r}))
"""
    mover = subprocess.Popen(
        [sys.executable, "-c", script], cwd=repo.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    back = threading.Event()

    def listen() -> None:
        for _ in mover.stdout or ():
            back.set()

    threading.Thread(target=listen, daemon=True).start()
    looks = 0
    while mover.poll() is None:
        at_both_ends = back.is_set()
        seen = {refs.name_of(ref) for ref in repo.refs(refs.QUEUE, refs.RUNNING, refs.EXPS)}
        assert seen == {name, "stays"}
        looks += 1
        if at_both_ends and mover.stdin:
            back.clear()
            mover.stdin.write(b"\n")
            mover.stdin.flush()
    assert mover.returncode == 0
    assert looks > 24


def test_what_is_looked_at_while_training_is_timed_starts_no_process(
    measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project.open(measured)
    repo = project.repo
    repo.update_refs((refs.running("x"), repo.head(), ZERO), (refs.queued("y"), repo.head(), ZERO))
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BadState, match="git is not on PATH"):
        repo.run("version")
    assert queue.training(repo) == {}
    assert recovery.abandoned(repo) == ["x"]
    assert set(repo.commits(refs.QUEUE)) == {refs.queued("y")}
    assert budget.used(repo, reader.read(project)).runs
    assert not any(budget.refusals(project))


@pytest.mark.parametrize("look", [Repo.commit, Repo.tree, Repo.files], ids=["commit", "tree", "files"])
def test_a_missing_object_is_told_with_its_mend(repo: Repo, look: Callable[[Repo, str], object]) -> None:
    with pytest.raises(ArError, match="1" * 40) as told:
        look(repo, "1" * 40)
    assert told.value.mend is not None
    assert "git fetch" in told.value.mend


def test_no_note_is_lost_when_many_write_at_once(repo: Repo) -> None:
    revs = [repo.commit_tree(repo.tree("HEAD"), [], f"commit {index}") for index in range(24)]
    script = (
        "import sys; from ar.git.repo import Repo\n"
        "repo = Repo.open()\n"
        "for rev in sys.argv[1:]: repo.update_note(rev, lambda old: {**old, 'n': old.get('n', 0) + 1})\n"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", script, *revs[start::4], revs[0]], cwd=repo.root)
        for start in range(4)
    ]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0, 0]
    notes = repo.notes()
    assert set(notes) == set(revs)
    assert notes[revs[0]]["n"] == 5
    # git's own command reads them too.
    assert '"n": 1' in git(repo.root, "notes", "--ref", "ar", "show", revs[5])


def test_a_note_that_git_wrote_is_read_and_replaced(repo: Repo) -> None:
    head = repo.head()
    run(repo.root, "git", "notes", "--ref", "ar", "add", "-m", '{"by": "hand"}')
    assert repo.note(head) == {"by": "hand"}
    repo.update_note(head, lambda old: {**old, "more": 1})
    assert repo.notes() == {head: {"by": "hand", "more": 1}}


def test_equal_notes_that_git_wrote_are_each_ones_own_at_every_look(repo: Repo) -> None:
    revs = [repo.head(), repo.commit_tree(repo.tree("HEAD"), [], "Another")]
    for rev in revs:
        run(repo.root, "git", "notes", "--ref", "ar", "add", "-m", '{"by": "hand"}', rev)
    assert repo.notes() == {rev: {"by": "hand"} for rev in revs}
    assert repo.notes() == {rev: {"by": "hand"} for rev in revs}


def test_commits_where_git_knows_nobody(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("EMAIL", "")
    rev = repo.commit_tree(repo.tree("HEAD"), [], "anonymous")
    assert git(repo.root, "show", "-s", "--format=%an", rev) == "ar"
