"""git objects, refs and notes under concurrency."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import git, run

from ar.errors import Conflict, NotARepo
from ar.git.repo import ZERO, Repo


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


def test_commits_where_git_knows_nobody(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("EMAIL", "")
    rev = repo.commit_tree(repo.tree("HEAD"), [], "anonymous")
    assert git(repo.root, "show", "-s", "--format=%an", rev) == "ar"
