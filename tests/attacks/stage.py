"""A stage that goes for the machine, or for whoever reads what it wrote: it does what `attempt` names.

Copied into a scratch project by `test_machine.py`. `machine` tries many things in turn, each in a process of
its own, and prints ESCAPED with the name of what worked; the others leave results that are none.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

METRICS, CURVE = Path("m.json"), Path("loss.csv")
LIBC = ctypes.CDLL(None, use_errno=True)
DEEP = 100_000


def honest() -> None:
    """What any run does."""


# -- results ----------------------------------------------------------------------------------------------


def no_metrics() -> None:
    METRICS.unlink()


def empty_metrics() -> None:
    METRICS.write_text("")


def half_a_file() -> None:
    METRICS.write_text('{"val_loss": 0.0')


def deep_metrics() -> None:
    METRICS.write_text('{"val_loss": ' + "[" * DEEP + "]" * DEEP + "}")


def deep_beside_the_metric() -> None:
    METRICS.write_text('{"val_loss": 0.0, "more": ' + '{"a":' * DEEP + "1" + "}" * DEEP + "}")


def a_huge_integer() -> None:
    METRICS.write_text('{"val_loss": -1' + "0" * 5000 + "}")


def infinity() -> None:
    METRICS.write_text('{"val_loss": -1e999}')


def a_bare_nan() -> None:
    METRICS.write_text('{"val_loss": nan}')


def text() -> None:
    METRICS.write_text('{"val_loss": "0.0"}')


def truth() -> None:
    METRICS.write_text('{"val_loss": false}')


def a_list() -> None:
    METRICS.write_text('{"val_loss": [0.0]}')


def other_letters() -> None:
    METRICS.write_bytes('{"val_loss": 0.0}'.encode("utf-16"))


def null_bytes() -> None:
    METRICS.write_bytes(b'{"val_loss": 0.0}\0\0\0')


def a_folder() -> None:
    METRICS.unlink()
    METRICS.mkdir()


def a_link_to_a_file_of_the_system() -> None:
    METRICS.unlink()
    METRICS.symlink_to("/etc/passwd")


def a_socket() -> None:
    METRICS.unlink()
    socket.socket(socket.AF_UNIX).bind(str(METRICS))


def a_sparse_file() -> None:
    with METRICS.open("ab") as stream:
        stream.truncate(90_000_000)


def aliases_in_a_guard() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)), "cost: 1"]
    Path("c.yaml").write_text("\n".join(lines))


def a_cycle_in_a_guard() -> None:
    Path("c.yaml").write_text("cost: &a [*a]\n")


def a_curve_without_an_end() -> None:
    """It fails nobody: what came before counts."""
    with CURVE.open("a") as stream:
        stream.write(f'7,"{"x" * 200_000}')


def a_curve_of_nonsense() -> None:
    CURVE.write_bytes(b"\xff\xfe\0step,loss\r\r\n" + b"1e999,nan,,,\n" * 1000 + b'"' * 1001)


def refused_after_success() -> None:
    """The judge's own exit code."""
    print("all is well")
    sys.exit(77)


def end_everything() -> None:
    os.kill(-1, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


# -- the machine ------------------------------------------------------------------------------------------


def _project() -> Path:
    """Where the project is, from what git has to know."""
    return Path(Path(".git/objects/info/alternates").read_text().strip()).parents[1]


def try_project_files() -> None:
    (_project() / "program.md").read_text()


def try_project_settings() -> None:
    (_project() / ".dvc" / "config.local").read_text()


def try_history_of_the_project() -> None:
    subprocess.run(["git", "log", "--all"], check=True, capture_output=True)


def try_git_add() -> None:
    subprocess.run(["git", "add", "-A"], check=True, capture_output=True)


def try_index_lock() -> None:
    Path(".git/index.lock").touch()


def try_hook() -> None:
    Path(".git/hooks").mkdir(exist_ok=True)
    Path(".git/hooks/post-index-change").write_text("#!/bin/sh\n")


def try_git_attributes() -> None:
    Path(".git/info/attributes").write_text("* filter=x\n")


def try_git_settings() -> None:
    Path(".git/config").open("a").close()


def try_other_objects() -> None:
    Path(".git/objects/info/alternates").write_text("/\n")


def try_own_ref() -> None:
    Path(".git/refs/exps").mkdir(parents=True)


def try_dvc_settings() -> None:
    Path(".dvc/config.local").open("a").close()


def try_dvc_lock() -> None:
    Path(".dvc/tmp").mkdir(exist_ok=True)
    Path(".dvc/tmp/rwlock").write_text("{}")


def try_other_experiments() -> None:
    if [path.name for path in Path("..").iterdir()] == [Path.cwd().name]:
        raise FileNotFoundError


def try_beside_the_folder() -> None:
    Path("../planted").write_text("x")


def try_start_up_file_of_python() -> None:
    Path(sysconfig.get_path("purelib"), "planted.pth").write_text("import os\n")


def try_program_of_path() -> None:
    Path(sys.executable).with_name("planted").write_text("#!/bin/sh\n")


def try_plan_of_the_launcher() -> None:
    Path(os.environ["AR_LAUNCH"]).read_text()


def try_agent_s_sockets() -> None:
    places = (
        "/run/dbus/system_bus_socket",
        "/var/run/docker.sock",
        os.environ.get("SSH_AUTH_SOCK", "/nowhere"),
    )
    if not any(Path(place).exists() for place in places):
        raise FileNotFoundError


def try_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect("\0ar-attacks-test")


def try_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.sendto(b"x", ("192.0.2.1", 53))


def try_packets() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def try_virtual_machine_s_socket() -> None:
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()


def try_kernel_s_cipher() -> None:
    socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).close()


def try_namespace() -> None:
    _call(LIBC.unshare(0x10000000))


def try_mount() -> None:
    _call(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None))


def try_trace() -> None:
    _call(LIBC.ptrace(16, os.getppid(), 0, 0))


def try_root_of_another() -> None:
    os.chroot("/tmp")


def try_device() -> None:
    os.mknod("node", 0o600 | 0o060000, os.makedev(8, 0))


def try_memory_of_the_machine() -> None:
    Path("/dev/mem").open("rb").close()


def try_messages_of_the_kernel() -> None:
    Path("/dev/kmsg").open("rb").close()


def try_virtual_machines() -> None:
    Path("/dev/kvm").open("rb").close()


def try_file_system_in_user_space() -> None:
    Path("/dev/fuse").open("rb").close()


def try_magic_key() -> None:
    Path("/proc/sysrq-trigger").open("w").close()


def try_control_group() -> None:
    Path("/sys/fs/cgroup/planted").mkdir()


def try_sleep_of_the_machine() -> None:
    Path("/sys/power/state").open("w").close()


def try_clock() -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.time())


def try_name_of_the_machine() -> None:
    socket.sethostname("planted")


def try_more_room() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def try_first_in_line() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -20)


def try_file_for_ever() -> None:
    """`chattr +i`: nobody could remove the folder."""
    with Path("model.txt").open("rb") as stream:
        fcntl.ioctl(stream, 0x40086602, (0x10).to_bytes(8, "little"))


def try_power_of_a_file() -> None:
    os.setxattr("model.txt", "security.capability", b"\x01\0\0\2" + bytes(16))


def try_keyboard_of_the_user() -> None:
    with Path("/dev/tty").open("wb") as stream:
        fcntl.ioctl(stream, 0x5412, b"x")


def plant_in_shared_places() -> None:
    """What works inside, and must not be seen outside."""
    Path("/tmp/ar-attacks-planted").write_text("x")
    Path("/dev/shm/ar-attacks-planted").write_text("x")
    Path("out").mkdir(exist_ok=True)
    Path("out/tool").write_text("#!/bin/sh\n")
    Path("out/tool").chmod(0o6755)


def machine() -> None:
    plant_in_shared_places()
    for name, attack in list(globals().items()):
        if name.startswith("try_"):
            sys.stdout.flush()
            if (child := os.fork()) == 0:
                signal.alarm(10)
                try:
                    attack()
                    print("ESCAPED", name, flush=True)
                except BaseException as error:
                    print("held", name, repr(error)[:80], flush=True)
                os._exit(0)
            os.waitpid(child, 0)


def _call(result: int) -> None:
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")


if __name__ == "__main__":
    chosen = Path("params.yaml").read_text().partition("attempt: ")[2].split()[0]
    Path("out").mkdir(exist_ok=True)
    Path("model.txt").write_text("model\n")
    METRICS.write_text('{"val_loss": 1.0}')
    Path("c.yaml").write_text("cost: 1\n")
    CURVE.write_text("step,loss\n" + "".join(f"{step},{9 - step}\n" for step in range(7)))
    globals()[chosen]()
