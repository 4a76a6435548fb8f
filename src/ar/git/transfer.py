"""What crosses from one repository to another: commits of DVC's workspaces, refs of git remotes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pygit2
from pygit2 import Oid
from pygit2.enums import FileMode

from ar.errors import ArError, NotFound, nearest
from ar.git import command
from ar.git.command import GitFailed
from ar.git.objects import writing
from ar.git.refs import ExperimentRef
from ar.git.repo import Repo


def start(folder: Path) -> None:
    """Make an empty repository of a folder."""
    with writing(folder):
        pygit2.init_repository(str(folder), initial_head="experiment")


def commit_in(repo: Repo, top: Path, ref: ExperimentRef, message: str, paths: Iterable[str]) -> str:
    """Commit another repository's folder there, on top of the ref's baseline, by whoever commits here. Point
    the new ref at it.

    Args:
        paths: what goes in besides the tracked files, from `top`; ignored and missing ones are left out.
    """
    theirs = pygit2.Repository(str(top))
    new = [path for path in paths if os.path.lexists(top / path) and not theirs.path_is_ignored(path)]
    command.run(top, "add", "--update")
    if new:
        command.run(top, "add", "--", *new)
    tree = Oid(hex=command.run(top, "write-tree"))
    author, committer = (repo.signature(role) for role in ("AUTHOR", "COMMITTER"))
    with writing(top):
        parents = [Oid(hex=ref.baseline)]
        return str(theirs.create_commit(str(ref), author, committer, message, tree, parents))


def take_over(repo: Repo, top: Path, rev: str) -> None:
    """Copy a commit and all it needs from another repository, one that borrows our objects.

    Every object is hashed anew on its way. Parts come before what they are part of, so that what is here
    is whole, wherever a copy ends.
    """
    theirs = pygit2.Repository(str(top))

    def copy(oid: Oid) -> None:
        if oid in ours:
            return
        found = theirs[oid]
        if found.type_str == "commit":
            whole = found.peel(pygit2.Commit)
            for needed in (*whole.parent_ids, whole.tree_id):
                copy(needed)
        elif isinstance(found, pygit2.Tree):
            for item in found:
                if item.filemode != FileMode.COMMIT:
                    copy(item.id)
        ours.write(found.type, found.read_raw())

    with writing(repo.git_dir):
        ours = repo.libgit2.odb
        copy(Oid(hex=rev))


def remotes(repo: Repo) -> list[str]:
    """The names of all remotes."""
    return [str(remote.name) for remote in repo.libgit2.remotes]


def remote_of(repo: Repo, name: str | None) -> str:
    """The remote of that name; without one, the branch's upstream, `origin`, or the only one.

    Raises:
        NotFound: there is no such remote, or none at all.
    """
    known = remotes(repo)
    if name is not None:
        if name not in known:
            raise NotFound(f"there is no remote '{name}'", nearest(name, known))
        return name
    branch = (repo.branch() or "").removeprefix("refs/heads/")
    try:
        upstream = repo.run("config", "--get", f"branch.{branch}.remote")
    except GitFailed:
        upstream = ""
    for choice in (upstream, "origin", known[0] if len(known) == 1 else ""):
        if choice in known:
            return choice
    raise NotFound(
        "which remote?" if known else "there is no remote",
        f"name one: {', '.join(known)}" if known else "add one: git remote add origin URL",
    )


def listed(repo: Repo, remote: str, *patterns: str) -> dict[str, str]:
    """Ref to object id, for every ref of a remote that matches any of the patterns.

    Raises:
        ArError: git cannot reach the remote.
    """
    lines = _reach(repo, remote, "ls-remote", "--quiet", remote, *patterns).split("\n")
    return {ref: rev for rev, _, ref in (line.partition("\t") for line in lines) if ref}


def fetch(repo: Repo, remote: str, wanted: Mapping[str, str]) -> None:
    """Bring refs of a remote (the keys) to refs of ours, whatever those hold.

    Raises:
        ArError: git cannot reach the remote.
    """
    specs = "".join(f"+{theirs}:{ours}\n" for theirs, ours in wanted.items())
    if specs:
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--stdin")
        _reach(repo, remote, "fetch", *options, remote, stdin=specs)


def push(repo: Repo, remote: str, names: Iterable[str]) -> bool:
    """Push refs as they are, forward only. False if the remote has moved on in between.

    Raises:
        ArError: git cannot reach the remote, or may not write there.
    """
    try:
        # --no-verify: DVC's own hook would upload its cache with every push.
        _reach(repo, remote, "push", "--quiet", "--no-verify", remote, *(f"{ref}:{ref}" for ref in names))
    except _Refused:
        return False
    return True


class _Refused(ArError):
    """The remote does not hold what we took it to hold."""


def _reach(repo: Repo, remote: str, *args: str, stdin: str = "") -> str:
    try:
        return repo.run(*args, stdin=stdin.encode())
    except GitFailed as error:
        races = ("[rejected]", "fetch first", "non-fast-forward", "cannot lock ref", "incorrect old value")
        if args[0] == "push" and any(words in error.said for words in races):
            raise _Refused(error.message) from None
        raise ArError(f"{remote}: {error.message}", f"does this work? git ls-remote {remote}") from None
