"""What code that nobody has read might try, but harmless: `python attack.py TARGETS NAME…`, as a stage.

An attempt that comes to its end got through; one that an error ends was refused, and one that is ended from
outside says nothing more. Standard library only, and nothing of ours: it is copied to where it runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import platform
import resource
import socket
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

RESULT = "ar-attack:"  # begins each line with a result
PLANTED = ".ar-self-test"  # the name of what is written where nothing should be
_WAIT = 8.0  # s, for whoever looks after the limits
_PIECE = 16_000_000  # bytes
_CALLS = {"x86_64": {"keyctl": 250, "ptrace": 101, "shmget": 29}}
_CALLS["aarch64"] = {"keyctl": 219, "ptrace": 117, "shmget": 194}
_SESSION_KEYRING = -3
_SEIZE, _DETACH = 0x4206, 17  # of ptrace(2)
# Of DVC's local settings those that a run goes by; others may hold keys.
_HARMLESS = {"cache", "core", "hydra", "index", "parsing", "state"}


class Outcome(StrEnum):
    """What became of an attempt."""

    REFUSED = "refused"
    CONTAINED = "contained"  # ended, or without effect outside
    THROUGH = "got through"
    NOT_AVAILABLE = "not available"  # it could not be tried here


class Absent(Exception):
    """What an attempt is about is not here."""


def read_home(at: dict[str, Any]) -> str:
    return f"read {len(Path(at['home']).read_bytes())} bytes"


def read_git_config(at: dict[str, Any]) -> str:
    return f"read {len(Path(at['git_config']).read_bytes())} bytes"


def read_dvc_settings(at: dict[str, Any]) -> str:
    """Those of the experiment's own folder hold no keys; the project's cannot be read."""
    lines = Path(".dvc/config.local").read_text().splitlines()
    sections = {line.strip("[]'\" ").split()[0] for line in lines if line.startswith("[")}
    if sections - _HARMLESS:
        return f"has the local settings {', '.join(sorted(sections - _HARMLESS))}"
    return f"read {len(Path(at['dvc_settings']).read_bytes())} bytes"


def see_processes(at: dict[str, Any]) -> str:
    found = Path(f"/proc/{at['process']}/stat").read_text().rpartition(")")[2].split()[19]
    if found != at["started"]:
        raise ProcessLookupError("another process has that number here")
    return f"sees process {at['process']}"


def use_network(at: dict[str, Any]) -> str:
    socket.create_connection(("127.0.0.1", at["port"]), timeout=3).close()
    return "reached a server of this machine"


def reach_bound_socket(at: dict[str, Any]) -> str:
    if not at["socket"]:
        raise Absent("no folder that stages see may be written to")
    return _connect(at["socket"])


def reach_abstract_socket(at: dict[str, Any]) -> str:
    return _connect(f"\0{at['abstract']}")


def _connect(address: str) -> str:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.settimeout(3)
        ours.connect(address)
    return "reached a socket of this machine"


def read_keyring(_: dict[str, Any]) -> str:
    return f"has the session's keyring {_call('keyctl', 0, _SESSION_KEYRING, 0)}"


def trace_parent(_: dict[str, Any]) -> str:
    _call("ptrace", _SEIZE, os.getppid(), 0, 0)
    with contextlib.suppress(OSError):
        _call("ptrace", _DETACH, os.getppid(), 0, 0)
    return "traced its parent"


def share_memory_by_key(_: dict[str, Any]) -> str:
    """A segment of System V, which outlives whoever made it and counts for nobody."""
    made = _call("shmget", 0, mmap.PAGESIZE, 0o1600)
    ctypes.CDLL(None).shmctl(made, 0, None)  # IPC_RMID
    return "made a segment of shared memory that no limit counts"


def _call(name: str, *args: int) -> int:
    numbers = _CALLS.get(platform.machine())
    if numbers is None or sys.platform != "linux":
        raise Absent(f"no number of {name} is known for this machine")
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(numbers[name], *(ctypes.c_long(arg) for arg in args)))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def write_outside(at: dict[str, Any]) -> str:
    """What was really written is looked at from outside."""
    wrote, error = [], OSError("nowhere to write")
    for place in at["places"]:
        try:
            Path(place, PLANTED).write_text("x")
            wrote.append(place)
        except OSError as refusal:
            error = refusal
    if not wrote:
        raise error
    return f"wrote to {', '.join(wrote)}"


def link_out(at: dict[str, Any]) -> str:
    os.symlink(at["home"], PLANTED)
    return "left a link that leads out of its folder"


def plant_bytecode(_: dict[str, Any]) -> str:
    """A module as the next stage would import it, and as it would find it compiled, unchecked."""
    source = f'print(\'{RESULT}\', \'["run_planted", "got through", "ran"]\')\n'
    head = b"\x01" + bytes(11)  # unchecked, by a hash: PEP 552
    import importlib.util
    import marshal

    place = Path(importlib.util.cache_from_source("planted_module.py"))
    place.parent.mkdir(exist_ok=True)
    code = marshal.dumps(compile(source, "planted_module.py", "exec"))
    place.write_bytes(importlib.util.MAGIC_NUMBER + head + code)
    Path("planted_module.py").write_text(source)
    return "planted"


def run_planted(_: dict[str, Any]) -> str:
    __import__("planted_module")
    return "a later stage ran what an earlier one had planted"


def hold_memory(at: dict[str, Any]) -> str:
    held = [bytearray(b"x") * _PIECE for _ in range(_pieces(at["memory"]))]
    return _held(f"{len(held) * _PIECE} bytes of memory")


def hold_memory_in_files_without_names(at: dict[str, Any]) -> str:
    for number in range(_pieces(at["memory"])):
        made = os.memfd_create(f"held{number}")
        os.write(made, b"x" * _PIECE)
    return _held("memory in files without names")


def hold_memory_that_is_mapped_nowhere(at: dict[str, Any]) -> str:
    """Shared pages stay when the mapping that they were written through forgets them."""
    held = []
    for _ in range(_pieces(at["memory"])):
        block = mmap.mmap(-1, _PIECE)
        block.write(b"x" * _PIECE)
        block.madvise(mmap.MADV_DONTNEED)
        held.append(block)
    return _held(f"{len(held)} shared blocks of memory")


def hold_memory_in_sockets(at: dict[str, Any]) -> str:
    """Sent, and never received."""
    held, sent = [], 0
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    while sent < 1.6 * at["memory"]:
        held.append(socket.socketpair())
        held[-1][0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE)
        held[-1][0].setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += held[-1][0].send(b"x" * 50_000)
    return _held(f"{sent} bytes in sockets")


def hold_memory_in_temporary_files(at: dict[str, Any]) -> str:
    names = [f"{PLANTED}-{number}" for number in range(_pieces(at["memory"]) // 2 + 1)]
    made = [Path(folder, name) for folder in ("/dev/shm", "/tmp") for name in names]
    try:
        for path in made:
            path.write_bytes(b"x" * _PIECE)
        return _held("memory in files of /dev/shm and /tmp")
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def hold_disk_in_unlinked_files(at: dict[str, Any]) -> str:
    held = []
    for number in range(4):
        stream = open(f"held{number}", "wb")  # noqa: SIM115
        os.unlink(f"held{number}")
        for _ in range(at["disk"] // 2 // 1_000_000):
            stream.write(b"x" * 1_000_000)
        held.append(stream)
    return _held("space on disk in files without names")


def leave_files_with_holes(at: dict[str, Any]) -> str:
    """DVC would copy them in their whole length."""
    for number in range(4):
        with open(f"holes{number}", "wb") as stream:
            stream.truncate(at["disk"] // 2)
    return "left files with holes, longer than it may"


def start_processes(at: dict[str, Any]) -> str:
    started = []
    try:
        for _ in range(2 * at["processes"]):
            if (child := os.fork()) == 0:
                time.sleep(2 * _WAIT)
                os._exit(0)
            started.append(child)
        return _held(f"{len(started)} processes")
    finally:
        for child in started:
            os.kill(child, 9)
            os.waitpid(child, 0)


def forge_count(at: dict[str, Any]) -> str:
    """Leave a process running, and tell in the name of whoever counts them that there is none."""
    return _forge(at, writing=True)


def forge_answer(at: dict[str, Any]) -> str:
    """The same, but tell only whoever waits for the count that it was made."""
    return _forge(at, writing=False)


def _forge(at: dict[str, Any], writing: bool) -> str:
    """Write into pipes that processes of the sandbox have, be it by the end that they write to."""
    if not at["walls"]:
        raise Absent("nobody counts inside")
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith("pipe:") and (writing or not os.lstat(path).st_mode & 0o200):
                end = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                os.write(end, b"0\n" * 9)
                os.close(end)
    if os.fork() == 0:
        os.setsid()
        os.closerange(0, 3)
        time.sleep(_WAIT)
        os._exit(0)
    return "left a process running that nobody counted"


def _pieces(limit: int) -> int:
    return int(1.6 * limit / _PIECE) + 1


def _held(what: str) -> str:
    time.sleep(_WAIT)
    return f"held {what}, more than it may"


def main(argv: list[str]) -> None:
    """Try each of the named attempts, and print what became of it."""
    at, known = json.loads(argv[1]), globals()
    for name in argv[2:]:
        attempt: Callable[[dict[str, Any]], str] = known[name]
        try:
            outcome, words = Outcome.THROUGH, attempt(at)
        except Absent as error:
            outcome, words = Outcome.NOT_AVAILABLE, str(error)
        except (OSError, ImportError, AttributeError, MemoryError) as error:
            outcome, words = Outcome.REFUSED, f"{type(error).__name__}: {error}"
        print(RESULT, json.dumps([name, outcome, words]), flush=True)


if __name__ == "__main__":
    main(sys.argv)
