"""Git's own commands, and the one place that starts them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from subprocess import PIPE, TimeoutExpired

from git import Git
from git.exc import GitCommandNotFound

from ar.errors import BadState, DiskFull


class GitFailed(BadState):
    """A git command exited with an error. `said` is what it printed on standard error, `out` the rest."""

    def __init__(self, command: str, said: str, out: str = "") -> None:
        super().__init__(f"git {command} failed: {brief(said)}")
        self.said = said
        self.out = out


def run(
    folder: Path,
    *args: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> str:
    """What a git command in a folder printed, without the newline at its end.

    Args:
        seconds: after which it is ended; None for no limit.

    Raises:
        GitFailed: it exited with an error.
        BadState: there is no git, or the disk is full.
    """
    try:
        process = Git(str(folder)).execute(["git", *args], istream=PIPE, as_process=True, env=env)
    except GitCommandNotFound:
        raise BadState("git is not on PATH", "install git 2.30 or newer") from None
    try:
        out, said = process.communicate(stdin, timeout=seconds)
    except TimeoutExpired:
        process.kill()
        process.communicate()
        raise GitFailed(args[0], f"no answer within {seconds:g} s") from None
    if process.returncode:
        words = said.decode(errors="replace")
        raise_if_full(words)
        raise GitFailed(args[0], words, out.decode(errors="replace"))
    return str(out.decode(errors="surrogateescape")).removesuffix("\n")


def raise_if_full(said: str) -> None:
    if "No space left" in said or "Out of diskspace" in said:
        raise DiskFull


def brief(text: str, limit: int = 400) -> str:
    return " ".join(text.split())[:limit]
