"""The checkout is brought forward whole or not at all, wherever a kill falls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers import Ar, git, run
from judged import WIN, tried

from ar.errors import CannotPromote
from ar.git import refs, worktree
from ar.git.repo import Repo

MINE = "# mine\n"
FORWARD = """
import sys
from pathlib import Path
from ar.git import worktree
from ar.git.repo import Repo
repo = Repo.open(Path(sys.argv[1]))
worktree.forward(repo, repo.branch(), sys.argv[2], sys.argv[3], "refs/tags/mine")
worktree.done(repo)
"""
# In git's place: counts the calls, and kills the whole process group before, after or amid one of them.
SHIM = """#!/bin/sh
n=$(($(cat "$COUNT") + 1)); echo $n > "$COUNT"
if [ "$WHEN" = amid ] && [ "$1" = merge ]; then
  "$GIT" show "$NEW:params.yaml" | head -c 9 > params.yaml
  "$GIT" cat-file -e "$NEW:c.yaml" || rm c.yaml
  : > "$("$GIT" rev-parse --git-dir)/index.lock"
  kill -9 0
fi
if [ "$WHEN" = before ] && { [ $n = "$AT" ] || [ "$1" = "$AT" ]; }; then kill -9 0; fi
"$GIT" "$@"; code=$?
if [ "$WHEN" = after ] && { [ $n = "$AT" ] || [ "$1" = "$AT" ]; }; then kill -9 0; fi
exit $code
"""


@pytest.fixture
def repo(project: Path) -> Repo:
    return Repo.open(project)


@pytest.fixture
def next_(repo: Repo) -> str:
    """A commit on top of the head that changes, adds and removes files."""
    changes = {"params.yaml": b"x: 9\ny: 0.1\nseed: 1\n", "new/file.txt": b"new\n", "c.yaml": None}
    return repo.commit_tree(repo.write_tree("HEAD", changes), [repo.head()], "Next")


def _killed(repo: Repo, new: str, when: str, at: int | str = 0, command: Sequence[str] | None = None) -> bool:
    """Bring the checkout forward, killed at one of its git calls: the n-th, or the first of a name. False if
    it got through."""
    folder = repo.git_dir / "shim"
    folder.mkdir(exist_ok=True)
    (folder / "git").write_text(SHIM)
    (folder / "git").chmod(0o755)
    (folder / "count").write_text("0\n")
    env = {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "GIT": shutil.which("git") or "git",
        "COUNT": str(folder / "count"),
        "WHEN": when,
        "AT": str(at),
        "NEW": new,
    }
    done = subprocess.run(
        command or [sys.executable, "-c", FORWARD, str(repo.root), new, repo.head()],
        env=env,
        cwd=repo.root,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode != 0


def _is_whole(repo: Repo, old: str, new: str) -> str:
    """The commit that the checkout is at, in every file; unrelated dirt as it was."""
    head = repo.head()
    assert head in (old, new)
    assert git(repo.root, "status", "--porcelain") == "M program.md"
    assert (repo.root / "program.md").read_text() == MINE
    assert (repo.root / "new" / "file.txt").exists() == (head == new)
    assert not repo.has_ref(refs.PROMOTING)
    assert (git(repo.root, "tag") == "mine") == (head == new)
    assert git(repo.root, "fsck", "--strict", "--no-dangling") == ""
    return head


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_git_call_it_is_before_or_after(repo: Repo, next_: str, when: str) -> None:
    old = repo.head()
    (repo.root / "program.md").write_text(MINE)
    for at in range(1, 30):
        if not _killed(repo, next_, when, at):
            break
        if worktree.mend(repo):
            worktree.done(repo)
        if _is_whole(repo, old, next_) == next_:
            run(repo.root, "git", "reset", "-q", "--keep", old)
            run(repo.root, "git", "tag", "-d", "mine")
    assert at > 5
    assert _is_whole(repo, old, next_) == next_


def test_killed_amid_writing_files_it_is_undone(repo: Repo, next_: str) -> None:
    old = repo.head()
    (repo.root / "program.md").write_text(MINE)
    assert _killed(repo, next_, "amid")
    assert (repo.root / "params.yaml").read_text() == "x: 9\ny: 0"
    assert git(repo.root, "tag") == "mine"
    assert "undone" in str(worktree.mend(repo))
    assert _is_whole(repo, old, next_) == old
    assert worktree.mend(repo) is None


def test_what_the_user_wrote_since_is_left_alone(repo: Repo, next_: str) -> None:
    assert _killed(repo, next_, "amid")
    (repo.root / "params.yaml").write_text("x: 77\n")
    assert "params.yaml, changed since" in str(worktree.mend(repo))
    assert (repo.root / "params.yaml").read_text() == "x: 77\n"
    assert git(repo.root, "status", "--porcelain") == "M params.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before update-ref", "after update-ref", "amid merge", "after merge"])
def test_the_next_command_mends_a_killed_promotion(measured: Path, ar: Ar, when: str) -> None:
    attempt = tried(measured, WIN)
    repo = Repo.open(measured)
    old = repo.head()
    mine = (measured / "program.md").read_text() + "\nmine\n"
    (measured / "program.md").write_text(mine)
    kind, _, call = when.partition(" ")
    assert _killed(repo, attempt.experiments[0].rev, kind, call, [sys.executable, "-m", "ar", "promote"])
    assert (repo.head() == old) == (when != "after merge")
    done = ar(measured, "promote", attempt.name, check=False)
    assert ("Recovered" in done.stderr) == (when != "before update-ref")
    assert git(measured, "rev-parse", "HEAD^1", "HEAD^2").split() == [old, attempt.experiments[0].rev]
    assert git(measured, "diff", "HEAD", "HEAD^2") == ""
    assert git(measured, "status", "--porcelain") == "M program.md"
    assert (measured / "program.md").read_text() == mine
    assert not repo.has_ref(refs.PROMOTING)
    assert "up to date" in run(measured, "dvc", "status").stdout
    assert git(measured, "fsck", "--strict", "--no-dangling") == ""


@pytest.mark.parametrize("file", ["params.yaml", "new/file.txt"], ids=["a changed file", "an untracked file"])
def test_overlap_is_refused_with_nothing_changed(repo: Repo, next_: str, file: str) -> None:
    head = repo.head()
    (repo.root / file).parent.mkdir(exist_ok=True)
    (repo.root / file).write_text("mine: 1\n")
    before = git(repo.root, "status", "--porcelain", "-uall")
    with pytest.raises(CannotPromote, match=f"in the way: {file}"):
        worktree.forward(repo, repo.branch(), next_, head)
    assert repo.head() == head
    assert (repo.root / file).read_text() == "mine: 1\n"
    assert git(repo.root, "status", "--porcelain", "-uall") == before
    assert not repo.has_ref(refs.PROMOTING)


def test_an_ignored_file_in_the_way_is_not_overwritten(repo: Repo, next_: str) -> None:
    (repo.root / ".git" / "info" / "exclude").write_text("new/\n")
    (repo.root / "new").mkdir()
    (repo.root / "new" / "file.txt").write_text("mine: 1\n")
    with pytest.raises(CannotPromote, match="in the way"):
        worktree.forward(repo, repo.branch(), next_, repo.head())
    assert (repo.root / "new" / "file.txt").read_text() == "mine: 1\n"
