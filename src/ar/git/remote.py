"""Refs of a git remote, read by prefix and moved by compare-and-swap: all of a set or none.

Whether a push that failed lost a race, or was refused, or never arrived, is told by what the remote holds
afterwards, never by what git says of it. A push whose answer was lost on the way counts by that, too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ar.errors import ArError
from ar.git import command, refs
from ar.git.command import GitFailed, brief
from ar.git.references import ZERO, pause
from ar.git.repo import Repo
from ar.redaction import hand

_SECONDS = 120.0  # for one exchange with a remote, after which it counts as out of reach
_GLANCE = 5.0  # the same, where somebody waits for what is only to be shown
_TRIES = 5  # of a push that is refused, though nobody moved what it moves: others may be at the lock files
_LOGIN = re.compile(r"(?<=://)[^\s/@]+@")
_ERROR = "remote: error: "
# Nobody is there to answer a prompt.
_ENV = {"GIT_TERMINAL_PROMPT": "0"}


class Unreachable(ArError):
    """A remote cannot be read: no network, no leave, or it is gone. It may come back."""


class Refused(ArError):
    """A remote can be read and not written to: it is read-only, full, or does not take such refs."""


@dataclass(frozen=True)
class Move:
    """A ref of a remote that is to move.

    Args:
        new: what it is to hold; ZERO deletes it. One that holds it already counts as moved.
        old: what it must hold now; ZERO for "must not exist".
    """

    ref: str
    new: str
    old: str


def move(repo: Repo, remote: str, *moves: Move, end: str = "") -> bool:
    """Move refs of a remote in one transaction, all or none. False where somebody else was faster.

    A remote in trouble may do a part all the same: where git cannot check new objects there, it refuses what
    is to hold them, and yet deletes what is to be deleted. The rest is then done by another push.

    Args:
        end: a ref that says, where it exists, that a part was not done by us: somebody else did it all, and
            has gone on from there.

    Raises:
        Unreachable: nobody knows whether it was done.
        Refused: it was not, and that is nobody's race.
    """
    names = [it.ref for it in moves]
    narrowed, said, left = narrow(repo, remote, names), "", list(moves)
    for attempt in range(_TRIES):
        try:
            # --no-verify: DVC's own hook would upload its cache with every push.
            options = ("--porcelain", "--atomic", "--no-verify", "--no-signed", "--recurse-submodules=no")
            _run(repo, "push", *options, *narrowed, *map(_lease, left), remote, *map(_spec, left))
            return True
        except GitFailed as error:
            said = _refusal(error)
        now = look(repo, remote, *names, *filter(None, [end]))
        left = [it for it in moves if now.get(it.ref, ZERO) != it.new]
        if not left:
            return True
        if any(now.get(it.ref, ZERO) != it.old for it in left) or (len(left) < len(moves) and end in now):
            return False
        pause(10 * attempt)
    what = f"{remote} can be read, but not written to: {shown(said)}"
    raise Refused(what, f"check your rights and the space there; does this work? git push {remote} HEAD")


def _lease(move: Move) -> str:
    return f"--force-with-lease={move.ref}:{'' if move.old == ZERO else move.old}"


def _spec(move: Move) -> str:
    return f"{'' if move.new == ZERO else move.new}:{move.ref}"


def narrow(repo: Repo, remote: str, names: Iterable[str]) -> list[str]:
    """Options of a push that moves some refs, for a remote that is a folder of this machine's, or one that it
    mounts: git's other side leaves out the experiments that nobody moves. Otherwise it would tell us of each,
    and hold the new commits against each; with 100,000 of them that is nearly all that a push costs.

    Another remote's git is none of ours to set up; nor is a folder's where the user has done so.
    """
    addresses = repo.run("remote", "get-url", "--push", "--all", remote).split("\n")
    is_set_up = f"remote.{remote}.receivepack" in repo.libgit2.config
    if is_set_up or not all((repo.top / it.removeprefix("file://")).is_dir() for it in addresses):
        return []
    # Git refuses to move what it hides.
    spaces = sorted({ref.rpartition("/")[0] for ref in names if ref.startswith(f"{refs.EXPS}/")})
    settings = [f"receive.hideRefs={refs.EXPS}", *(f"receive.hideRefs=!{space}" for space in spaces)]
    # That is the repository itself, for git that has new commits on trial beside it.
    settings.append("core.alternateRefsPrefixes=refs/heads")
    command = ["git", *(word for setting in settings for word in ("-c", setting)), "receive-pack"]
    return [f"--receive-pack={shlex.join(command)}"]


def look(repo: Repo, remote: str, *patterns: str) -> dict[str, str]:
    """Ref to object id, for every ref of a remote that matches any of the patterns.

    Raises:
        Unreachable: it cannot be read.
    """
    try:
        lines = _run(repo, "ls-remote", "--quiet", remote, *patterns).split("\n")
    except GitFailed as error:
        raise _unreachable(remote, error) from None
    return {ref: rev for rev, _, ref in (line.partition("\t") for line in lines) if ref}


def mirror(repo: Repo, remote: str, spaces: Mapping[str, str], glance: bool = False) -> None:
    """Have the refs of a remote whose names match patterns (the keys) as refs of ours, with all they need;
    what went there goes here. No others are looked at, however many the remote has.

    Args:
        spaces: a pattern has one `*` at its end, and so has what stands for it here.
        glance: do not wait for long.

    Raises:
        Unreachable: it cannot be read.
    """
    specs = "".join(f"+{theirs}:{ours}\n" for theirs, ours in spaces.items())
    options = (
        *("--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"),
        *("--no-auto-maintenance", "--stdin"),
    )
    seconds = _GLANCE if glance else _SECONDS
    for attempt in range(1 if glance else _TRIES):
        try:
            _run(repo, "fetch", *options, remote, stdin=specs.encode(), seconds=seconds)
            return
        except GitFailed as error:
            failure = error
            pause(10 * attempt)  # another process of this clone's may be at the same refs
    raise _unreachable(remote, failure)


def all_of(remote: str, *spaces: str) -> dict[str, str]:
    """For `mirror`: everything below some spaces, where `refs.at_remote` has it."""
    return {f"{space}/*": f"{refs.at_remote(remote, space)}/*" for space in spaces}


def shown(text: str) -> str:
    """A text for people: without the names and passwords that addresses may hold."""
    return _LOGIN.sub("", text)


def guard(repo: Repo, remote: str) -> None:
    """Count the password in a remote's address as a secret from here on, wherever it may turn up."""
    urls = repo.run("remote", "get-url", "--all", remote).split("\n")
    urls += repo.run("remote", "get-url", "--push", "--all", remote).split("\n")
    found = [part for url in urls for part in (password(url),) if part]
    hand([*found, *map(unquote, found)])


def password(url: str) -> str:
    """The password in an address; empty where there is none."""
    try:
        parts = urlsplit(url)
        return parts.password or (parts.username or "" if parts.scheme.startswith("http") else "")
    except ValueError:
        return ""


def _run(repo: Repo, *args: str, stdin: bytes = b"", seconds: float = _SECONDS) -> str:
    return command.run(repo.top, *args, stdin=stdin, env=_ENV, seconds=seconds)


def _unreachable(remote: str, error: GitFailed) -> Unreachable:
    said = shown(brief(error.said)).rstrip(".")
    return Unreachable(f"{remote} cannot be reached: {said}", f"does this work? git ls-remote {remote}")


def _refusal(error: GitFailed) -> str:
    """Why a remote refused a push: of the lines `flag <tab> from:to <tab> summary`, what those say that were
    turned down, if there are any, and the errors that the remote's own git printed."""
    rows = (line.split("\t") for line in error.out.split("\n"))
    summaries = [row[2] for row in rows if len(row) == 3 and row[0] == "!"]
    errors = [brief(line.removeprefix(_ERROR)) for line in error.said.split("\n") if line.startswith(_ERROR)]
    return ", ".join(dict.fromkeys([*summaries, *errors])) or brief(error.said)
