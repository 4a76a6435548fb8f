"""What a process of code under test may reach, held by the kernel: Landlock for files, seccomp for the rest.

Both need no privilege and no namespace, so they hold inside `ar`'s sandbox, in a container and outside of
either. They are raised while the process has one thread and none of the code under test; nothing in it can
take them down again. Elsewhere than on Linux, or with a kernel without Landlock, there are none.

https://docs.kernel.org/userspace-api/landlock.html, seccomp(2)
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# The numbers of these system calls are the same on every architecture.
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
RIGHTS = {1: 1 << 13, 2: 1 << 14, 3: 1 << 15, 5: 1 << 16}  # the ABI's rights are all bits below
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# System calls by name: their numbers on x86_64 and aarch64; None where there is none.
SPAWNS: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
}  # fmt: skip
# What outlives the process or passes by the file system's walls, so that one process could tell the next:
# IPC objects, keys, properties of files and of other processes.
LEAVES: dict[str, tuple[int | None, int | None]] = {
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119), "sched_setaffinity": (203, 122), "sched_setattr": (314, 274),
}  # fmt: skip
# What nobody who trains a model needs, and what reaches into other processes or the kernel.
NEVER: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438), "kcmp": (312, 272), "move_pages": (279, 239), "migrate_pages": (256, 238),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "open_by_handle_at": (304, 265),
    "init_module": (175, 105), "finit_module": (313, 273), "kexec_load": (246, 104),
}  # fmt: skip
SOCKETS: dict[str, tuple[int | None, int | None]] = {"socket": (41, 198), "socketpair": (53, 199)}
CLONE, CLONE3, PRLIMIT = (56, 220), 435, (302, 261)
CLONE_THREAD = 0x00010000
_LIBC = ctypes.CDLL(None, use_errno=True)
ALLOW, DENY, NOT_THERE = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS


@dataclass(frozen=True)
class Walls:
    """What is inside them.

    Args:
        read: files and folders that may be read.
        write: folders in which anything may be done with files.
        devices: that may be used, such as a GPU's.
        hidden: files and folders that stay out of reach although they lie in one of `read`.
        compiles: compilers may be run, as torch.compile does; they may do to their files what they like.
    """

    read: tuple[str, ...]
    write: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    compiles: bool = False

    def up(self) -> None:
        """Raises them around this process, for good. It must have one thread.

        Raises OSError where the kernel refuses; does nothing where `holds()` is false.
        """
        if not holds():
            return
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        self._landlock()
        self._seccomp()

    def _landlock(self) -> None:
        rights = _rights()
        abi = _abi()
        # No TCP (ABI 4); no signals and no abstract sockets to those outside (ABI 6).
        attributes = struct.pack("=QQQ", rights, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
        size = 24 if abi >= 6 else 16 if abi >= 4 else 8
        ruleset = _syscall(LANDLOCK_CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(size), 0)
        try:
            reading = READ_FILE | READ_DIR | (EXECUTE if self.compiles else 0)
            hidden = {os.path.realpath(path) for path in self.hidden}
            above = {str(folder) for path in hidden for folder in Path(path).parents}
            for path, whole in _open(dict.fromkeys(map(os.path.realpath, self.read)), hidden, above):
                _allow(ruleset, path, reading if whole else READ_DIR, rights)
            for path in self.write:
                _allow(ruleset, path, rights & ~EXECUTE if not self.compiles else rights, rights)
            for path in ("/dev/null", *self.devices):
                _allow(ruleset, path, READ_FILE | WRITE_FILE | IOCTL_DEV, rights)
            _syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0)
        finally:
            os.close(ruleset)

    def _seccomp(self) -> None:
        column = tuple(AUDIT_ARCH).index(platform.machine())
        names = {**NEVER, **SOCKETS} if not self.devices else NEVER  # a GPU's driver talks through sockets
        names = names if self.compiles else {**names, **SPAWNS, **LEAVES}
        refused = [numbers[column] for numbers in names.values()]
        instructions = _filter(
            AUDIT_ARCH[platform.machine()],
            [number for number in refused if number is not None],
            None if self.compiles else CLONE[column],
            PRLIMIT[column],
        )
        code = ctypes.create_string_buffer(instructions)
        program = struct.pack("=H6xQ", len(instructions) // 8, ctypes.addressof(code))
        kept = ctypes.create_string_buffer(program)
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(kept))


def holds() -> bool:
    """Whether there are walls on this machine."""
    return _abi() > 0 and platform.machine() in AUDIT_ARCH


def _abi() -> int:
    if sys.platform != "linux":
        return 0
    return max(0, int(_LIBC.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def _rights() -> int:
    """All that this kernel's Landlock knows: what is not granted is refused."""
    return max(bound for abi, bound in RIGHTS.items() if abi <= _abi()) - 1


def prctl(option: int, *values: int) -> None:
    """Linux's prctl(2). Raises OSError."""
    full = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    if _LIBC.prctl(option, *full):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def _syscall(number: int, *args: object) -> int:
    result = int(_LIBC.syscall(number, *args))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


def _open(read: Iterable[str], hidden: set[str], above: set[str]) -> Iterator[tuple[str, bool]]:
    """Paths and whether they may be read whole: a folder that holds something hidden is taken apart.

    `above` are the folders that do.
    """
    for path in read:
        if path in hidden:
            continue
        yield path, path not in above
        if path in above:
            # What was compiled for `python -O`, which nothing here is run by, is not worth its many rules.
            inner = (
                entry for entry in os.scandir(path) if not entry.is_symlink() and ".opt-" not in entry.name
            )
            yield from _open((entry.path for entry in inner), hidden, above)


def _allow(ruleset: int, path: str, wanted: int, rights: int) -> None:
    """Grants `wanted` at and below `path`; a path that does not exist grants nothing."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        granted = wanted & rights & (-1 if os.path.isdir(path) else OF_FILES)
        if granted:
            rule = struct.pack("=Qi", granted, descriptor)
            _syscall(LANDLOCK_ADD_RULE, ruleset, 1, ctypes.c_char_p(rule), 0)
    finally:
        os.close(descriptor)


def _filter(arch: int, refused: list[int], clone: int | None, prlimit: int) -> bytes:
    """The filter as classic BPF (linux/filter.h), over struct seccomp_data: nr, arch, ip, six arguments.

    Refuses what is listed, other architectures' calls, with `clone` new processes (not threads), and
    limits set for another process.
    """
    load, equal, above, bits, end = 0x20, 0x15, 0x35, 0x45, 0x06

    def line(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, true, false, value)

    def low(argument: int) -> int:
        return 16 + 8 * argument  # both architectures are little-endian

    deny = line(end, DENY)
    program = [
        line(load, 4), line(equal, arch, 1), deny,
        line(load, 0), line(above, 0x40000000, 0, 1), deny,  # x86_64's second set of numbers, x32
    ]  # fmt: skip
    for number in refused:
        program += [line(equal, number, 0, 1), deny]
    # prlimit64(pid, resource, new, old) only reads where `new` is null
    program += [line(equal, prlimit, 0, 5), line(load, low(2)), line(equal, 0, 0, 2), line(load, low(2) + 4),
                line(equal, 0, 1), deny]  # fmt: skip
    program += [line(load, 0)]
    if clone is not None:
        program += [line(equal, CLONE3, 0, 1), line(end, NOT_THERE)]  # libc then takes clone
        program += [line(equal, clone, 0, 3), line(load, low(0)), line(bits, CLONE_THREAD, 1), deny]
    return b"".join([*program, line(end, ALLOW)])


def system(compiles: bool) -> tuple[str, ...]:
    """What every Python program reads: its library, packages, shared libraries, facts about the machine."""
    root = os.path.realpath(".")
    found = [path for path in sys.path if path and os.path.realpath(path) != root]
    found += [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if path]
    found += [*shared_libraries(), "/nix/store", "/gnu/store"]
    found += ["/proc", "/sys", "/etc/ld.so.cache", "/etc/localtime", "/etc/nsswitch.conf", "/etc/OpenCL"]
    found += ["/dev/zero", "/dev/urandom", "/dev/random", "/usr/share/zoneinfo"]
    if compiles:
        found += [sys.prefix, sys.base_prefix, sys.exec_prefix]
        found += ["/usr", "/bin", "/sbin", "/opt", "/etc", *os.environ.get("PATH", "").split(os.pathsep)]
    return tuple(path for path in found if path and os.path.exists(path))


def shared_libraries() -> list[str]:
    """Those of the system, and no other file that lies beside them, such as another Python's library."""
    folders = [Path(root, name) for root in ("/", "/usr", "/usr/local", sys.base_prefix, sys.prefix)
               for name in ("lib", "lib64")]  # fmt: skip
    patterns = ("*.so", "*.so.*", "*-linux-gnu*", "*-linux-musl*")
    return [str(path) for folder in folders for pattern in patterns for path in folder.glob(pattern)]


def unused_packages() -> tuple[str, ...]:
    """Packages in the interpreter's library that are not imported from there: some copy parts of it."""
    ours = {os.path.realpath(path) for path in sys.path if path}
    library = os.path.realpath(os.path.dirname(os.__file__))
    found = (os.path.join(library, name) for name in ("site-packages", "dist-packages", "ensurepip/_bundled"))
    return tuple(path for path in found if path not in ours)
