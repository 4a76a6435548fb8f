"""System calls that code which nobody has read does without: a filter that the kernel holds it to.

What is refused is no part of training a model: keys that the kernel keeps for the user, other processes'
memory, mounts and namespaces, and parts of the kernel that are known for their flaws. Whoever is refused is
told EPERM and may go on. Numbers are from the kernel's own headers; the same list is refused by systemd,
Docker and Flatpak for the most part. seccomp(2), https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import errno
import platform
import socket
import struct
import sys
from collections.abc import Iterable
from enum import Enum

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_Numbers = dict[str, tuple[int, int | None]]  # on x86_64, on aarch64; None where there is no such call
# For agents' commands too, which work as the user does and may have a sandbox of their own.
_KERNEL: _Numbers = {
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "open_by_handle_at": (304, 265), "acct": (163, 89), "syslog": (103, 116),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "swapon": (167, 224), "swapoff": (168, 225),
    "reboot": (169, 142), "lookup_dcookie": (212, 18), "modify_ldt": (154, None), "iopl": (172, None),
    "ioperm": (173, None), "uselib": (134, None),
}  # fmt: skip
# Other processes, which may be such as watch the stage; mounts; memory that belongs to no process.
_STAGE: _Numbers = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "pidfd_getfd": (438, 438), "kcmp": (312, 272),
    "migrate_pages": (256, 238), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467), "setns": (308, 268), "fanotify_init": (300, 262), "shmget": (29, 194),
    "msgget": (68, 186),
}  # fmt: skip
_CLONE, _UNSHARE, _PRCTL, _IOCTL = (56, 220), (272, 97), (157, 167), (16, 29)
_CLONE3 = 435
_SOCKETS = ((41, 198), (53, 199))  # socket, socketpair
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, 16)  # the last is Linux's AF_NETLINK
_NAMESPACES = 0x7E020000  # of clone's flags, CLONE_NEW… but for that of time, which is unshare's alone
_NEW_TIME = 0x80
_SET_DUMPABLE = 4  # by which a process hides from those outside who count what it uses
_TYPING = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: as if somebody typed it
_X32 = 0x40000000
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000  # the latter with an errno in its lower half
# Of struct seccomp_data: the call's number, the architecture, the lower halves of arguments.
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


class Caller(Enum):
    """Whose calls are filtered."""

    STAGE = "stage"
    AGENT = "agent"  # that works as the user does


def program(caller: Caller, machine: str = "") -> bytes:
    """The filter as the kernel takes it, for bubblewrap's `--seccomp`.

    Empty on a machine whose numbers are not known here.

    Args:
        machine: as `uname -m` has it; empty for this one.
    """
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES or sys.byteorder != "little":
        return b""
    column = list(_ARCHITECTURES).index(machine)
    lines = [_line(_LOAD, _ARCHITECTURE), _line(_EQUAL, _ARCHITECTURES[machine], 1, 0), _refuse()]
    lines.append(_line(_LOAD, _NUMBER))
    if machine == "x86_64":
        lines += [_line(_AT_LEAST, _X32, 0, 1), _refuse()]
    names = _KERNEL if caller is Caller.AGENT else {**_KERNEL, **_STAGE}
    for number in (numbers[column] for numbers in names.values()):
        lines += _when(number, [_refuse()])
    for call in _SOCKETS:
        lines += _when(call[column], [_line(_LOAD, _FIRST), *_only(_FAMILIES)])
    lines += _when(_IOCTL[column], [_line(_LOAD, _SECOND), *_not(_TYPING)])
    if caller is Caller.STAGE:
        lines += _when(_PRCTL[column], [_line(_LOAD, _FIRST), *_not([_SET_DUMPABLE])])
        # The flags of clone3 lie in memory, which no filter sees: without it, libc takes clone.
        lines += _when(_CLONE3, [_refuse(errno.ENOSYS)])
        for call, flags in ((_CLONE, _NAMESPACES), (_UNSHARE, _NAMESPACES | _NEW_TIME)):
            any_of = [_line(_LOAD, _FIRST), _line(_ANY_BIT, flags, 0, 1), _refuse(), _allow()]
            lines += _when(call[column], any_of)
    return b"".join([*lines, _allow()])


def _line(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    """An instruction of linux/filter.h; a test skips that many instructions."""
    return struct.pack("=HBBI", code, true, false, value)


def _allow() -> bytes:
    return _line(_RETURN, _ALLOW)


def _refuse(error: int = errno.EPERM) -> bytes:
    return _line(_RETURN, _REFUSE | error)


def _when(number: int | None, then: list[bytes]) -> list[bytes]:
    """Instructions for one call; they end in a decision, since the number is no longer at hand after them."""
    return [] if number is None else [_line(_EQUAL, number, 0, len(then)), *then]


def _only(values: Iterable[int]) -> list[bytes]:
    """Allow the call for these values of what was loaded."""
    return [*(word for value in values for word in (_line(_EQUAL, value, 0, 1), _allow())), _refuse()]


def _not(values: Iterable[int]) -> list[bytes]:
    """Refuse the call for these values of what was loaded."""
    return [*(word for value in values for word in (_line(_EQUAL, value, 0, 1), _refuse())), _allow()]
