"""A clone that a worker has to itself on another machine: made when it is first needed, and used again."""

from __future__ import annotations

import shutil
from pathlib import Path

from ar.git import command
from ar.git.command import GitFailed

_ENV = {"GIT_TERMINAL_PROMPT": "0"}  # nobody is there to answer one
_SECONDS = 600.0  # for the first fetch


def check_out(folder: Path, remote: str, url: str, ref: str) -> None:
    """Have a clone in a folder, with a ref of its remote as it is there now checked out. Whatever else is in
    the checkout goes.

    Raises:
        GitFailed: the remote cannot be reached from this machine, or has no such ref.
        OSError: the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        command.run(folder, "init", "--quiet")
        command.run(folder, "symbolic-ref", "HEAD", "refs/heads/unborn")
    command.run(folder, "config", f"remote.{remote}.url", url)
    fetch = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", remote)
    seen = f"refs/remotes/{remote}/campaign"
    command.run(folder, *fetch, f"+{ref}:{seen}", env=_ENV, seconds=_SECONDS)
    try:
        command.run(folder, "checkout", "--quiet", "--force", "-B", "campaign", seen)
    except GitFailed:
        shutil.rmtree(folder, ignore_errors=True)  # a kill left it half made: the next try begins anew
        raise
