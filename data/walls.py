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
PR_SET_NO_NEW_PRIVS = 38
LOAD, EQUAL, ABOVE, BITS, END = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of classic BPF

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
    "mincore": (27, 232), "cachestat": (451, 451), "preadv2": (327, 286),  # which pages others have read
}  # fmt: skip
# What a process needs that only computes and answers on its line: memory, threads, time, its own end. No
# file: reading one leaves an access time, which another process can see.
COMPUTES: dict[str, tuple[int | None, int | None]] = {
    "sendto": (44, 206), "recvfrom": (45, 207), "write": (1, 64), "writev": (20, 66), "close": (3, 57),
    "fstat": (5, 80), "lseek": (8, 62), "poll": (7, None), "ppoll": (271, 73), "select": (23, None),
    "pselect6": (270, 72), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216),
    "madvise": (28, 233), "membarrier": (324, 283), "clone": (56, 220), "clone3": (435, 435),
    "set_robust_list": (273, 99), "rseq": (334, 293), "set_tid_address": (218, 96), "futex": (202, 98),
    "exit": (60, 93), "exit_group": (231, 94), "tgkill": (234, 131), "getpid": (39, 172),
    "gettid": (186, 178), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "getcpu": (309, 168), "nanosleep": (35, 101),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "gettimeofday": (96, 169), "time": (201, None),
    "getrandom": (318, 278), "getrusage": (98, 165), "uname": (63, 160), "sysinfo": (99, 179),
}  # fmt: skip
MMAP, SECCOMP = (9, 222), (317, 277)
MAP_ANONYMOUS, SET_MODE_FILTER, ALL_THREADS = 0x20, 1, 1
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
        _install(instructions)


def only_compute() -> None:
    """From now on, all threads of this process can do nothing but compute and answer, for good.

    Inside `Walls` that are up. Raises OSError where the kernel refuses; does nothing where `holds()` is
    false.
    """
    if holds():
        column = tuple(AUDIT_ARCH).index(platform.machine())
        allowed = [numbers[column] for numbers in COMPUTES.values()]
        arch, mmap = AUDIT_ARCH[platform.machine()], MMAP[column]
        _install(_compute_filter(arch, [number for number in allowed if number is not None], mmap))


def _install(instructions: bytes) -> None:
    """Adds a seccomp filter, in all threads: a call passes if every filter lets it."""
    code = ctypes.create_string_buffer(instructions)
    program = struct.pack("=H6xQ", len(instructions) // 8, ctypes.addressof(code))
    kept = ctypes.create_string_buffer(program)
    number = SECCOMP[tuple(AUDIT_ARCH).index(platform.machine())]
    if _syscall(number, SET_MODE_FILTER, ALL_THREADS, kept):
        raise OSError(errno.EBUSY, "a thread has a filter of its own")


# Facts about this process, and about the machine if they stay as they are: counters are a channel between
# processes.
MACHINE = (
    "/proc/self", "/proc/cpuinfo", "/proc/version", "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible", "/sys/devices/system/cpu/present",
)  # fmt: skip


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


def _line(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    """One instruction of classic BPF, with how many to skip if its test is true or false."""
    return struct.pack("=HBBI", code, true, false, value)


def _low(argument: int) -> int:
    """Where the low half of an argument lies: both architectures are little-endian."""
    return 16 + 8 * argument


def _native(arch: int) -> list[bytes]:
    """Refuses other architectures' calls and x86_64's second set of numbers, x32; loads the call's number."""
    deny = _line(END, DENY)
    return [_line(LOAD, 4), _line(EQUAL, arch, 1), deny, _line(LOAD, 0), _line(ABOVE, 0x40000000, 0, 1), deny]


def _compute_filter(arch: int, allowed: list[int], mmap: int) -> bytes:
    """Lets pass what is listed, and `mmap` of memory that is no file's."""
    program = _native(arch)
    for number in allowed:
        program += [_line(EQUAL, number, 0, 1), _line(END, ALLOW)]
    program += [_line(EQUAL, mmap, 0, 3), _line(LOAD, _low(3)), _line(BITS, MAP_ANONYMOUS, 0, 1)]
    return b"".join([*program, _line(END, ALLOW), _line(END, DENY)])


def _filter(arch: int, refused: list[int], clone: int | None, prlimit: int) -> bytes:
    """The filter as classic BPF (linux/filter.h), over struct seccomp_data: nr, arch, ip, six arguments.

    Refuses what is listed, other architectures' calls, with `clone` new processes (not threads), and
    limits set for another process.
    """
    deny = _line(END, DENY)
    program = _native(arch)
    for number in refused:
        program += [_line(EQUAL, number, 0, 1), deny]
    # prlimit64(pid, resource, new, old) only reads where `new` is null
    program += [_line(EQUAL, prlimit, 0, 5), _line(LOAD, _low(2)), _line(EQUAL, 0, 0, 2),
                _line(LOAD, _low(2) + 4), _line(EQUAL, 0, 1), deny]  # fmt: skip
    program += [_line(LOAD, 0)]
    if clone is not None:
        program += [_line(EQUAL, CLONE3, 0, 1), _line(END, NOT_THERE)]  # libc then takes clone
        program += [_line(EQUAL, clone, 0, 3), _line(LOAD, _low(0)), _line(BITS, CLONE_THREAD, 1), deny]
    return b"".join([*program, _line(END, ALLOW)])


def system(compiles: bool) -> tuple[str, ...]:
    """What every Python program reads: its library, packages, shared libraries, facts about the machine."""
    root = os.path.realpath(".")
    found = [path for path in sys.path if path and os.path.realpath(path) != root]
    found += [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if path]
    found += [*shared_libraries(), "/nix/store", "/gnu/store"]
    found += [*MACHINE, "/etc/ld.so.cache", "/etc/localtime", "/etc/nsswitch.conf", "/etc/OpenCL"]
    found += ["/dev/zero", "/dev/urandom", "/dev/random", "/usr/share/zoneinfo"]
    if compiles:
        found += ["/proc", "/sys", sys.prefix, sys.base_prefix, sys.exec_prefix]
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
