"""A bare repository on this machine's disk that takes a remote's place where there is none."""

from __future__ import annotations

from ar.errors import BadState
from ar.git import command, transfer
from ar.git.repo import Repo

NAME = "cluster"
FOLDER = "cluster.git"


def remote(repo: Repo) -> str:
    """The name of the remote that stands for it, both made where they are not there. Only nodes that share
    this disk reach it.

    Raises:
        BadState: there is another remote of that name.
    """
    folder = repo.own_folder() / FOLDER
    if not (folder / "HEAD").exists():
        command.run(repo.top, "init", "--quiet", "--bare", str(folder))
    if NAME not in transfer.remotes(repo):
        repo.run("remote", "add", NAME, str(folder))
        repo.run("config", f"remote.{NAME}.skipFetchAll", "true")
    elif repo.run("remote", "get-url", NAME) != str(folder):
        raise BadState(f"the remote {NAME} is another", f"use it: --remote {NAME}; or rename it")
    return NAME
