"""The sandbox: what bubblewrap is told so that code which nobody has read can do no harm, and the limits.

Inside there is a file system made of what is listed here, read-only but for the experiment's folder; no
network, no process but the stage's own, no home, no privileges. What is listed: the system (`/usr` and a few
files of `/etc`), the Python environment, what PATH names, the GPU, and `sandbox.read` of `program.md`.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ar.errors import BadState
from ar.project.program import Sandbox
from ar.project.program_file import place
from ar.runs import syscalls
from ar.runs.interpreter import Interpreter, hops
from ar.runs.syscalls import Caller
from ar.stage.files import Limits, piped
from ar.stage.snapshot import inside

INSTALL = "install it (apt-get install bubblewrap), or set sandbox: off"
_PROBE_SECONDS = 10
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/run/current-system", "/gnu/store",
)  # fmt: skip
# Of /etc what libraries and tools look up; no keys, and no names of hosts, for there is no network.
_ETC = (
    "OpenCL", "alternatives", "fonts", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias",
    "localtime", "mime.types", "nsswitch.conf", "os-release", "passwd", "pki/tls/certs", "protocols",
    "services", "ssl/certs", "ssl/openssl.cnf", "timezone", "vulkan",
)  # fmt: skip
# What names of hosts and certificates are looked up by, where a stage may use the network.
_NETWORK = ("ca-certificates", "ca-certificates.conf", "gai.conf", "host.conf", "hosts", "resolv.conf")
# Where CUDA, NUMA and thread libraries look at the machine.
_SYS = ("bus", "class", "dev", "devices", "module")
# Files of /proc that belong to root, which a root without privileges may still write: bubblewrap leaves them.
_PROC = ("acpi", "fs", "mtrr", "scsi", "sys", "sysrq-trigger")
_EMPTY = ("/dev", "/etc", "/proc", "/sys", "/tmp", "/var")  # never shown whole
_DEVICES = ("/dev/nvidia*", "/dev/kfd", "/dev/dri", "/dev/dxg")
# Where libraries keep what they keep: most of it under HOME, the rest (DVC's, W&B's) in places of its own.
_INSIDE = {"DVC_SITE_CACHE_DIR": "/tmp/.cache/dvc", "DVC_NO_ANALYTICS": "1", "WANDB_DIR": "/tmp"}
_OFFLINE = {
    "DVC_STUDIO_OFFLINE": "true", "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1", "UV_FROZEN": "1", "UV_NO_SYNC": "1", "UV_OFFLINE": "1",
    "WANDB_MODE": "offline",
}  # fmt: skip
_NAMESPACES = (
    "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
    "--unshare-cgroup-try", "--cap-drop", "ALL", "--die-with-parent", "--new-session",
)  # fmt: skip


@dataclass(frozen=True)
class Bubblewrap:
    """What is in force.

    Args:
        program: path of bubblewrap; empty where stages run without it.
        options: those of bubblewrap's options that not every version has.
        why: the reason why there is none, if `program.md` does not say so itself.
        filters: whether system calls are filtered here.
    """

    program: str = ""
    options: frozenset[str] = frozenset()
    why: str = ""
    filters: bool = False

    def filter(self, caller: Caller) -> bytes:
        """The filter of system calls; empty where none works."""
        return syscalls.program(caller) if self.filters else b""

    def opened_filter(self, caller: Caller) -> list[int]:
        """A descriptor that bubblewrap reads the filter from, which the caller closes; none without one."""
        return [piped(self.filter(caller))] if self.filters else []

    def describe(self, settings: Sandbox) -> str:
        """What it means, in one line."""
        names = f" and {', '.join(settings.env)}" if settings.env else ""
        if self.program:
            network = "the network" if settings.network else "no network"
            reads = f", reads {', '.join(settings.read)}" if settings.read else ""
            others = f"; {', '.join(settings.stages)} may more" if settings.stages else ""
            others += "" if self.filters else "; system calls are not filtered on this machine"
            return (
                f"bubblewrap: a stage has {network}, sees neither your home nor other processes, writes to"
                f" its own folder only{reads}; its environment is a list of allowed names{names}{others}"
            )
        because = f" ({self.why})" if self.why else ""
        return (
            f"off{because}: stages run as you, with your network and files; only their environment is a list"
            f" of allowed names{names}"
        )


def find(settings: Sandbox) -> Bubblewrap:
    """The sandbox that `program.md` asks for, as far as this machine has it.

    Raises:
        BadState: `bwrap` is asked for and does not work here.
    """
    if settings.kind == "off":
        return Bubblewrap()
    bwrap = _probe(shutil.which("bwrap"))
    if settings.kind == "bwrap" and not bwrap.program:
        raise BadState(f"sandbox: bwrap is asked for, but {bwrap.why}", INSTALL)
    return bwrap


@functools.cache
def _probe(program: str | None) -> Bubblewrap:
    """Whether bubblewrap works here: it may be missing, or the system may forbid user namespaces."""
    if program is None:
        return Bubblewrap(why="bubblewrap is not installed")
    try:
        usage = _ask([program, "--help"])
        options = frozenset(name for name in ("--size", "--disable-userns") if name in usage.stdout)
        bwrap = Bubblewrap(program, options)
        if (seccomp := syscalls.program(Caller.STAGE)) and not _trial(bwrap, seccomp).returncode:
            return replace(bwrap, filters=True)
        done = _trial(bwrap)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Bubblewrap(why=f"bubblewrap does not start: {error}")
    if done.returncode:
        line = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Bubblewrap(why=f"bubblewrap does not work here: {line}")
    return bwrap


def _trial(bwrap: Bubblewrap, seccomp: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Bubblewrap around nothing much."""
    nothing = ["--", "/bin/sh", "-c", "exit 0"]
    if not seccomp:
        return _ask([*_base(bwrap, 1 << 20), *nothing])
    descriptor = piped(seccomp)
    try:
        return _ask([*_base(bwrap, 1 << 20), "--seccomp", str(descriptor), *nothing], [descriptor])
    finally:
        os.close(descriptor)


def _ask(command: list[str], descriptors: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_PROBE_SECONDS,
        check=False,
        pass_fds=descriptors,
    )


def limits(settings: Sandbox, folder: Path, share: float) -> Limits:
    """What one run may use: what `program.md` says, or its slot's share of the machine."""
    return Limits(
        memory=settings.memory or int(0.85 * _memory() * share),
        processes=settings.processes or 1000,
        disk=settings.disk or max(int(0.5 * shutil.disk_usage(folder).free * share), 1_000_000_000),
    )


def _memory() -> int:
    """Bytes of memory that this machine, or the container we are in, has."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(Path(path).read_text()))
    return min(found)


def command(
    bwrap: Bubblewrap,
    settings: Sandbox,
    workspace: Path,
    dvc: Path,
    root: Path,
    cache: str,
    limits: Limits,
    python: Interpreter,
) -> list[str]:
    """Bubblewrap with its arguments, to be followed by `--` and a command; empty without bubblewrap.

    Args:
        workspace: the experiment's folder, with git's in it.
        dvc: DVC's folder in it.
        root: the project's own folder, which stays invisible.
        cache: where DVC keeps outputs.
        python: that the stages run.
    """
    if not bwrap.program:
        return []
    found = _base(bwrap, limits.memory, settings.network)
    found += [*_same("--ro-bind-try", readable(root, python.folders)), *_also(settings, root)]
    found += _same("--dev-bind-try", sorted(path for pattern in _DEVICES for path in glob.glob(pattern)))
    for folder in dict.fromkeys([str(workspace), os.path.realpath(workspace)]):
        inner = os.path.join(folder, os.path.relpath(dvc, workspace))
        found += [*_same("--bind", [folder]), *_same("--ro-bind", [os.path.join(folder, ".git"), inner])]
    # Whether a run needs the cache shows when its inputs are there: the launcher may bind it on this folder.
    return [*found, "--dir", cache, "--remount-ro", "/dev", "--remount-ro", "/"]


def refuse_hidden(bwrap: Bubblewrap, settings: Sandbox, root: Path, python: Interpreter) -> None:
    """Run the stages' Python inside, before any stage does: in there, another might answer to its name.

    Raises:
        BadState: it cannot be run there.
    """
    if not bwrap.program or not python.program:
        return
    shown = [*_same("--ro-bind-try", readable(root, python.folders)), *_also(settings, root)]
    if not _finds(bwrap, tuple(shown), python):
        what = f"the sandbox cannot show {python.program}, which the stages run"
        mend = f"put its environment into a folder of its own, or set sandbox: off in {place(root)}"
        raise BadState(what, mend)


@functools.lru_cache(maxsize=8)
def _finds(bwrap: Bubblewrap, shown: Sequence[str], python: Interpreter) -> bool:
    ask = [python.program, "-c", "import sys; sys.exit(sys.prefix != sys.argv[1])", python.prefix]
    return not _ask([*_base(bwrap, 1 << 26), *shown, "--", *ask]).returncode


def _also(settings: Sandbox, root: Path) -> list[str]:
    """Options that show what `program.md` lets stages read; what lies under the home also under theirs."""
    found: list[str] = []
    home = os.path.expanduser("~")
    for path in (_place(name, root) for name in settings.read):
        found += ["--ro-bind-try", path, path]
        if inside(path, [home]) and path != home:
            found += ["--ro-bind-try", path, os.path.join("/tmp", os.path.relpath(path, home))]
    return found


def _place(name: str, root: Path) -> str:
    return os.path.normpath(os.path.join(root, os.path.expanduser(name)))


def refuse_missing(settings: Sandbox, root: Path) -> None:
    """Look for every path that `program.md` lets stages read.

    Raises:
        BadState: one does not exist.
    """
    for name in (*settings.read, *(name for own in settings.stages.values() for name in own.read)):
        if not os.path.exists(_place(name, root)):
            what = f"{place(root)} lets stages read {name}, which does not exist"
            raise BadState(what, f"make it, or correct sandbox.read in {place(root)}")


def without(bwrap: Bubblewrap, root: Path, hidden: Sequence[Path], shown: Path) -> list[str]:
    """Bubblewrap for a program that may use machine and network as the user does, save for some folders; to
    be followed by `--` and a command. Empty without bubblewrap. All that the program starts ends with it.

    Args:
        root: the project's own folder; programs in it that PATH names can be run.
        hidden: folders that are empty for it; one that holds the home stays.
        shown: a folder that it may use in any case.
    """
    if not bwrap.program:
        return []
    home = os.path.realpath(os.path.expanduser("~"))
    places = [os.path.realpath(folder) for folder in hidden]
    within = {path for path in places for other in places if path != other and inside(path, [other])}
    hide = [path for path in places if path not in within and not inside(home, [path])]
    found = [bwrap.program, "--dev-bind", "/", "/", "--unshare-pid", "--unshare-ipc", "--proc", "/proc"]
    found += ["--die-with-parent"]
    for folder in hide:
        found += ["--tmpfs", folder]
    found += _same("--ro-bind", [path for path in readable(root) if inside(os.path.realpath(path), hide)])
    return [*found, *_same("--bind", [str(shown)])]


def environment(env: Mapping[str, str], python: Interpreter, network: bool = False) -> dict[str, str]:
    """A stage's environment, for inside: homes, caches and folders for temporary files are the sandbox's own,
    and nobody waits for a server who can do without."""
    found = {**_INSIDE, **({} if network else _OFFLINE), **env, "HOME": "/tmp", "TMPDIR": "/tmp"}
    if python.user_base:
        found["PYTHONUSERBASE"] = python.user_base  # Python looks for it under HOME
    return found


def _base(bwrap: Bubblewrap, memory: int, network: bool = False) -> list[str]:
    """The system, an empty /tmp and /dev, and nothing else, but for the network."""
    found = [bwrap.program, *(word for word in _NAMESPACES if not (network and word == "--unshare-net"))]
    found += _same("--ro-bind-try", [f"/etc/{name}" for name in _NETWORK] if network else [])
    if "--disable-userns" in bwrap.options:
        found.append("--disable-userns")
    for path in _SYSTEM:
        if os.path.islink(path):
            found += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            found += ["--ro-bind", path, path]
    found += _same("--ro-bind-try", [*(f"/etc/{name}" for name in _ETC), *(f"/sys/{name}" for name in _SYS)])
    proc = [path for path in (f"/proc/{name}" for name in _PROC) if os.path.exists(path)]
    found += ["--proc", "/proc", *_same("--ro-bind", proc), "--dev", "/dev"]
    size = ["--size", str(memory)] if "--size" in bwrap.options else []
    return [*found, *size, "--tmpfs", "/dev/shm", *size, "--tmpfs", "/tmp"]


def _same(option: str, paths: Iterable[str]) -> list[str]:
    """Options that show paths where they are outside, too."""
    return [word for path in paths for word in (option, path, path)]


def readable(root: Path, more: Iterable[str] = ()) -> Iterator[str]:
    """Folders outside the system that a stage's programs live in: the Python environments, PATH, and more.

    A folder that holds the home or the project is never among them: only what lies in it would be meant.
    """
    own = [*more, sys.prefix, sys.base_prefix, *hops(sys.executable)]
    own += [os.environ.get("VIRTUAL_ENV", ""), os.environ.get("CONDA_PREFIX", "")]
    for name in ("PATH", "LD_LIBRARY_PATH"):
        own += os.environ.get(name, "").split(os.pathsep)
    own += [path for path in sys.path if path and os.path.realpath(path) != os.path.realpath(os.getcwd())]
    private = [os.path.realpath(root), os.path.realpath(os.path.expanduser("~"))]
    listed: list[str] = []
    for path in dict.fromkeys([*own, *(os.path.realpath(path) for path in own if path)]):
        real = os.path.realpath(path)
        wide = real in _EMPTY or any(inside(place, [real]) for place in private)
        covered = inside(path, (*_SYSTEM, *listed))
        if os.path.isabs(path) and os.path.exists(path) and not wide and not covered:
            listed.append(path)
            yield path
