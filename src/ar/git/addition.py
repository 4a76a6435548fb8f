"""Files that are new to a checkout: committed by themselves, with all else of the user's left as it is.

What the user has staged stays staged, what he has changed stays changed, and neither is in the commit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pygit2

from ar.errors import BadState
from ar.git import command
from ar.git.command import GitFailed
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.git.worktree import QUIET


def repository(folder: Path) -> Path | None:
    """The top of the git working tree that a folder lies in; None where it lies in none."""
    try:
        return Path(command.run(folder, "rev-parse", "--show-toplevel"))
    except GitFailed:
        return None


def start(folder: Path) -> None:
    """Make a git repository of a folder; nothing is committed."""
    command.run(folder, "init", "--quiet")


def held(folder: Path) -> set[str]:
    """Paths below a folder that HEAD has, from there; none before the first commit, or outside of git."""
    listed = ""
    with contextlib.suppress(GitFailed):
        listed = command.run(folder, "ls-tree", "-r", "-z", "--name-only", "HEAD")
    return {path for path in listed.split("\0") if path}


def changed(folder: Path, paths: Iterable[str]) -> list[str]:
    """Those paths of a folder that HEAD has, and that are otherwise in the checkout."""
    if not held(folder):
        return []
    return command.run(folder, *QUIET, "diff", "--relative", "--name-only", "HEAD", "--", *paths).splitlines()


def opened(root: Path) -> Repo:
    """A project's repository, which need not have a commit yet."""
    top, common = command.run(root, "rev-parse", "--show-toplevel", "--git-common-dir").splitlines()
    return Repo(root, Path(top), (root / common).resolve())


def committed(repo: Repo, paths: Iterable[str], added: Mapping[str, str], message: str) -> str:
    """Commit files of the project as they are in the checkout, on top of HEAD. Returns the commit.

    Args:
        paths: from the project's root.
        added: of files that somebody else may have changed, too: lines that were put to their end.

    Raises:
        Conflict: the branch has moved.
        BadState: a file is gone, or cannot be read.
    """
    head = repo.resolve("HEAD")
    before = repo.tree(head) if head else repo.empty_tree()
    names = [repo.path(path) for path in paths]
    with repo.own_index(before) as env:
        listed = "".join(f"{name}\0" for name in names).encode(errors="surrogateescape")
        try:
            repo.run(*QUIET, "update-index", "-z", "--add", "--stdin", stdin=listed, env=env)
        except GitFailed as error:
            raise BadState(f"cannot commit: {error.said.strip()}", "run: ar init again") from None
        tree = repo.run("write-tree", env=env)
    ours = {path: (repo.read(before, path) or b"") + lines.encode() for path, lines in added.items()}
    tree = repo.write_tree(tree, ours) if ours else tree
    commit = repo.commit_tree(tree, [head] if head else [], message)
    repo.update_refs(("HEAD", commit, head or ZERO), reason="commit: ar init")
    _into_index(repo, before, tree, [*names, *map(repo.path, ours)])
    return commit


def _into_index(repo: Repo, before: str, after: str, names: Iterable[str]) -> None:
    """Let the user's index have what was committed, but for files that he staged as his own."""
    old, new = repo.peel(before, pygit2.Tree), repo.peel(after, pygit2.Tree)
    staged = {}
    for line in filter(None, repo.run("ls-files", "-s", "-z").split("\0")):
        meta, name = line.split("\t", 1)
        staged[name] = meta.split()[1]
    lines = []
    for name in names:
        was = str(old[name].id) if name in old else None
        if staged.get(name) == was:
            lines.append(f"{new[name].filemode:06o} {new[name].id}\t{name}\0")
    text = "".join(lines).encode(errors="surrogateescape")
    repo.run(*QUIET, "update-index", "-z", "--add", "--index-info", stdin=text)
    with contextlib.suppress(GitFailed):  # its exit status says that files differ
        repo.run(*QUIET, "update-index", "-q", "--refresh")
