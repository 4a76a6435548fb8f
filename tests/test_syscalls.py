"""The filter of system calls: what it refuses to code in the sandbox, and what goes on as before."""

from __future__ import annotations

import os
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ar.project.program import Sandbox
from ar.runs import sandbox, syscalls
from ar.runs.interpreter import Interpreter
from ar.runs.sandbox import Bubblewrap
from ar.runs.syscalls import Caller
from ar.stage.files import Limits

ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def _decide(calls: bytes, number: int, *args: int, architecture: int) -> int:
    """What the kernel would do: an interpreter of the few instructions that a filter has."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(*args, 0, 0, 0, 0, 0, 0)[:6])
    lines = list(struct.iter_unpack("=HBBI", calls))
    place = held = 0
    while True:
        code, true, false, value = lines[place]
        place += 1
        match code:
            case 0x20:
                held = struct.unpack_from("=I", data, value)[0]
            case 0x06:
                return value
            case 0x15:
                place += true if held == value else false
            case 0x35:
                place += true if held >= value else false
            case 0x45:
                place += true if held & value else false
            case _:
                raise AssertionError(code)


@pytest.mark.parametrize(
    ("x86_64", "aarch64", "args", "stage", "agent"),
    [
        (250, 219, (), EPERM, EPERM),  # keyctl
        (425, 425, (), EPERM, EPERM),  # io_uring_setup
        (101, 117, (), EPERM, ALLOW),  # ptrace
        (165, 40, (), EPERM, ALLOW),  # mount
        (29, 194, (), EPERM, ALLOW),  # shmget
        (435, 435, (), ENOSYS, ALLOW),  # clone3
        (56, 220, (0x11,), ALLOW, ALLOW),  # clone: fork
        (56, 220, (0x3D0F00,), ALLOW, ALLOW),  # clone: a thread
        (56, 220, (0x10000011,), EPERM, ALLOW),  # clone with a user namespace
        (272, 97, (0x80,), EPERM, ALLOW),  # unshare a time namespace
        (272, 97, (0x400,), ALLOW, ALLOW),  # unshare descriptors
        (41, 198, (1,), ALLOW, ALLOW),  # socket: AF_UNIX
        (41, 198, (16,), ALLOW, ALLOW),  # AF_NETLINK
        (41, 198, (38,), EPERM, EPERM),  # AF_ALG
        (53, 199, (40,), EPERM, EPERM),  # socketpair: AF_VSOCK
        (16, 29, (0, 0x5412), EPERM, EPERM),  # ioctl: TIOCSTI
        (16, 29, (0, 0x5401), ALLOW, ALLOW),  # ioctl: TCGETS
        (157, 167, (4, 0), EPERM, ALLOW),  # prctl: PR_SET_DUMPABLE
        (157, 167, (38, 1), ALLOW, ALLOW),  # prctl: PR_SET_NO_NEW_PRIVS
        (0, 63, (), ALLOW, ALLOW),  # read
        (444, 444, (), ALLOW, ALLOW),  # landlock_create_ruleset
    ],
)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_is_decided(
    machine: str, x86_64: int, aarch64: int, args: tuple[int, ...], stage: int, agent: int
) -> None:
    number, architecture = x86_64 if machine == "x86_64" else aarch64, ARCHITECTURES[machine]
    for caller, decision in ((Caller.STAGE, stage), (Caller.AGENT, agent)):
        calls = syscalls.program(caller, machine)
        assert _decide(calls, number, *args, architecture=architecture) == decision


def test_other_sets_of_numbers_are_refused() -> None:
    calls = syscalls.program(Caller.STAGE, "x86_64")
    assert _decide(calls, 0, architecture=0x40000003) == EPERM  # i386
    assert _decide(calls, 0x40000000, architecture=ARCHITECTURES["x86_64"]) == EPERM  # x32
    assert syscalls.program(Caller.STAGE, "riscv64") == b""


@pytest.fixture(scope="module")
def bwrap() -> Bubblewrap:
    found = sandbox.find(Sandbox())
    if not found.filters:
        pytest.skip(f"no filter of system calls on this machine: {found.why}")
    return found


def _inside(bwrap: Bubblewrap, folder: Path, program: str) -> str:
    """What a Python program prints in a stage's sandbox."""
    for name in (".git", ".dvc"):
        (folder / name).mkdir(exist_ok=True)
    found = Limits(10**9, 100, 10**9)
    python = Interpreter(sys.executable, prefix=sys.prefix, folders=(sys.prefix,))
    argv = sandbox.command(bwrap, Sandbox(), folder, folder / ".dvc", folder, "/cache", found, python)
    [seccomp] = bwrap.opened_filter(Caller.STAGE)
    try:
        done = subprocess.run(
            [*argv, "--seccomp", str(seccomp), "--", sys.executable, "-c", program],
            capture_output=True, text=True, pass_fds=[seccomp], cwd=folder, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(seccomp)
    assert done.returncode == 0, done.stderr
    return done.stdout


WORKS = """
import ctypes, multiprocessing, socket, tempfile, threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory

def double(it): return 2 * it

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
            assert list(pool.map(double, range(4))) == [0, 2, 4, 6]
    block = shared_memory.SharedMemory(create=True, size=1 << 20)
    block.buf[0] = 1
    block.close(); block.unlink()
    with multiprocessing.Manager() as manager:
        assert manager.list([1])[0] == 1
    thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
    socket.create_server(("127.0.0.1", 0)).close()
    socket.socketpair()[0].close()
    print("done")
"""


def test_processes_threads_and_shared_memory_work(bwrap: Bubblewrap, tmp_path: Path) -> None:
    (tmp_path / "works.py").write_text(WORKS)
    said = _inside(bwrap, tmp_path, "import runpy; runpy.run_path('works.py', run_name='__main__')")
    assert said.split() == ["thread", "done"]


def test_a_program_may_put_itself_into_walls_of_its_own(bwrap: Bubblewrap, tmp_path: Path) -> None:
    """A harness holds the code under test by Landlock, and by a filter of its own."""
    program = (
        "import ctypes, struct; libc = ctypes.CDLL(None, use_errno=True)\n"
        "code = ctypes.create_string_buffer(struct.pack('=HBBI', 6, 0, 0, 0x7fff0000))\n"
        "held = struct.pack('=H6xQ', 1, ctypes.addressof(code))\n"
        "print(libc.prctl(38, 1, 0, 0, 0), libc.prctl(22, 2, held, 0, 0))\n"
        "print(libc.syscall(444, None, 0, 1) > 0 or ctypes.get_errno())\n"
    )
    said = _inside(bwrap, tmp_path, program).split()
    assert said[:2] == ["0", "0"]
    assert said[2] in ("True", "38", "95")  # ENOSYS and EOPNOTSUPP where the kernel has no Landlock


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")
def test_what_is_refused_is_refused_by_the_kernel(bwrap: Bubblewrap, tmp_path: Path) -> None:
    program = (
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
        "for number in (250, 321, 425, 298, 323, 101, 310, 165, 428, 308, 29):\n"
        "    print(libc.syscall(number, 0, 0, 0, 0, 0), ctypes.get_errno())\n"
    )
    assert set(_inside(bwrap, tmp_path, program).splitlines()) == {"-1 1"}
