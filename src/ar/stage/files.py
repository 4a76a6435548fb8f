"""Files that are whole or not at all, whoever reads them at whatever time, and what lies in a claim's folder:
a record in each.

The worker writes the plan; the launcher writes the stage it started and, at its end, what that used; whoever
wants the run to end leaves a request. Standard library only: the launcher reads and writes them.
"""

# Annotations are not postponed: a named tuple would compile each of them whenever a stage starts.

import contextlib
import fcntl
import json
import os
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from ar.stage.processes import Process

PLAN, STAGE, USAGE, REQUEST = "launch.json", "stage.json", "usage.json", "request.json"


class Request(StrEnum):
    """What somebody wants of a claimed experiment, each stronger than those before it."""

    YIELD = "yield"  # back to the queue, unless it trains already
    WITHDRAW = "withdraw"  # out of the queue as if it had never been in it, unless it trains already
    REQUEUE = "requeue"  # end it; back to the queue
    CANCEL = "cancel"  # end it for good, and record that
    DISOWN = "disown"  # end it, and record nothing: it is somebody else's by now

    @property
    def ends_training(self) -> bool:
        return self in (Request.REQUEUE, Request.CANCEL, Request.DISOWN)


class Cause(StrEnum):
    """Why the launcher ended a stage, or does not accept what it left."""

    NONE = ""
    TIME = "time"  # its time was up
    EXCESS = "excess"  # it used more than it may
    REFUSED = "refused"  # it did to its folder what it may not do
    MACHINE = "machine"  # the machine has too little left


class Breach(NamedTuple):
    """What a stage has to end for, in words too."""

    cause: Cause
    why: str


class Limits(NamedTuple):
    """What a stage may use. Sizes in bytes.

    Args:
        memory: of all its processes together, files in `/tmp` and `/dev/shm` of the sandbox included.
        processes: at once, threads not counted.
        disk: by which its folder may grow.
    """

    memory: int
    processes: int
    disk: int


class Place(NamedTuple):
    """A slot as the launcher sees it: `token` is the file whose lock is the slot."""

    name: str = ""
    env: dict[str, str] = {}  # noqa: RUF012  (never changed)
    token: str = ""


class Inside(NamedTuple):
    """How one stage is run.

    Args:
        sandbox: bubblewrap with its arguments; empty without it.
        env: the whole environment but for the slot's and DVC's own names.
        filter: of system calls, in hexadecimal; empty without it.
    """

    sandbox: list[str]
    env: dict[str, str]
    filter: str = ""


class Plan(NamedTuple):
    """What the launcher is to do.

    Args:
        slots: to wait for, whichever is free first; none where it need not wait.
        timeout: in seconds, for all stages of the experiment together.
        usual: how stages are run.
        own: how those are run that are an exception, by their names.
        outputs: of each stage, by the name that DVC tells it, absolute; by an empty one, of any stage.
        rewrite: absolute paths that stages may change besides.
        fixed: those that none may, though `rewrite` has them.
        cache: the folder that DVC keeps outputs in.
        handed: names of environment variables whose values must not get into the log.
    """

    worker: int
    slots: list[Place]
    timeout: float | None
    usual: Inside
    own: dict[str, Inside]
    workspace: str
    outputs: dict[str, list[str]]
    rewrite: list[str]
    fixed: list[str]
    cache: str
    limits: Limits
    handed: list[str] = []  # noqa: RUF012  (never changed)


class Stage(NamedTuple):
    """The stage command that was started.

    Args:
        pid, born: its process, see `processes`.
        since: unix time of its start.
        earlier: seconds that the experiment's stages before it took.
        name: the stage's, in its `dvc.yaml`.
    """

    pid: int
    born: str
    since: float
    slot: str
    earlier: float = 0.0
    name: str = ""

    @property
    def began(self) -> float:
        """Unix time at which the experiment began, as if its stages had followed each other at once."""
        return self.since - self.earlier


class Usage(NamedTuple):
    """What an experiment's stages used so far, and how the last of them ended.

    Args:
        seconds, cpu_seconds: summed over stages; `peak_memory_mb` (10⁶ bytes) is the largest of them.
        code: the last command's exit code, 128 and more for a signal; None where we ended it.
        oom_kills: processes that the kernel killed for want of memory meanwhile.
        left: processes that the command left running.
        cause, why: for which the launcher ended it or refuses what it left; in words.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    code: int | None = None
    oom_kills: int = 0
    left: int = 0
    cause: Cause = Cause.NONE
    why: str = ""


class Requested(NamedTuple):
    """A request, and the reason for it; empty where none was given."""

    request: Request
    why: str = ""


_Record = TypeVar("_Record", Plan, Stage, Usage, Requested, Process)
_NESTED: dict[str, Callable[[Any], Any]] = {
    "limits": lambda values: Limits(*values),
    "usual": lambda values: Inside(*values),
    "own": lambda stages: {name: Inside(*values) for name, values in stages.items()},
    "slots": lambda slots: [Place(*values) for values in slots],
    "cause": Cause,
    "request": Request,
}
_SCALARS: dict[Any, tuple[type, ...]] = {int: (int,), str: (str,), float: (int, float)}
_MOST = 16_000_000  # characters of a file


def read(kind: type[_Record], path: str | os.PathLike[str]) -> _Record | None:
    """The record in a file; None where it holds none. Keys that are not known are left out."""
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.loads(stream.read(_MOST))
        known = {name: data[name] for name in kind._fields if name in data}
        made = {name: _NESTED.get(name, lambda same: same)(value) for name, value in known.items()}
        if not all(isinstance(made[name], _SCALARS.get(kind.__annotations__[name], object)) for name in made):
            return None
        return kind(**made)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def write(path: str | os.PathLike[str], record: Plan | Stage | Usage | Requested) -> None:
    """Put a record in the place of what the file holds. No folder is made: a claim without one is over."""
    _replace(path, json.dumps(record._asdict()).encode(), None)


def write_whole(path: str | os.PathLike[str], content: bytes, mode: int | None = None) -> None:
    """Put content in the place of what the file holds; its folder is made where there is none.

    Args:
        mode: permissions of the file; None for the usual ones.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    _replace(path, content, mode)


def _replace(path: str | os.PathLike[str], content: bytes, mode: int | None) -> None:
    folder, name = os.path.split(path)
    draft = os.path.join(folder, f".{name}.{os.getpid()}")
    try:
        with open(draft, "wb") as stream:
            stream.write(content)
        if mode is not None:
            os.chmod(draft, mode)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise


def piped(content: bytes) -> int:
    """A descriptor from which a child reads this, some kilobytes at most; the caller closes it."""
    reading, writing = os.pipe()
    try:
        os.write(writing, content)
    finally:
        os.close(writing)
    return reading


def leave_request(folder: str | os.PathLike[str], request: Request, why: str = "") -> bool:
    """Leave a request in a claim's folder, unless a stronger one, or the same, lies there.

    Returns whether this request stands; False also where there is no such folder.
    """
    path = os.path.join(folder, REQUEST)
    order = list(Request)
    with contextlib.suppress(OSError):
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            old = read(Requested, path)
            if old is not None and order.index(old.request) >= order.index(request):
                return old.request is request
            write(path, Requested(request, why))
            return True
        finally:
            os.close(held)
    return False
