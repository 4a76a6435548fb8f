"""A stage that misbehaves: `python attempt.py` does what `attempt` in params.yaml names.

Copied into a scratch project by `test_hostile.py`. Where an attempt gets through, it prints ESCAPED; where it
is refused, the exception ends it. `targets.json` names what to go for on the machine outside.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

FOUND = json.loads(Path("targets.json").read_text())
TARGETS = {name: Path(value) for name, value in FOUND.items() if isinstance(value, str)}


def escaped(*what: object) -> None:
    print("ESCAPED", *what)


def nothing() -> None:
    """The experiment that comes after: it reads its input and is done."""
    assert Path("data/input.txt").read_text() == "input\n"


def read_home_key() -> None:
    escaped(TARGETS["home_key"].read_text())


def read_parent_key() -> None:
    escaped(TARGETS["parent_key"].read_text())


def read_environment() -> None:
    escaped(os.environ["PLANTED_API_KEY"])


def read_other_process() -> None:
    for environ in Path("/proc").glob("[0-9]*/environ"):
        content = environ.read_bytes()
        if b"PLANTED_API_KEY" in content:
            escaped(content)
            return
    raise LookupError(f"no process but {[path.name for path in Path('/proc').glob('[0-9]*')]}")


def connect() -> None:
    socket.create_connection(("127.0.0.1", FOUND["port"]), timeout=5)
    escaped("connected")


def resolve() -> None:
    escaped(socket.getaddrinfo("example.com", 443))


def write_repo() -> None:
    (TARGETS["repo"] / "planted").write_text("x")
    escaped("wrote")


def write_git() -> None:
    for place in (Path(".git"), Path(".dvc")):
        try:
            (place / "planted").write_text("x")
            escaped("wrote", place)
        except OSError as error:
            print("refused", error)
    (TARGETS["repo"] / ".git" / "planted").write_text("x")
    escaped("wrote")


def write_usr() -> None:
    Path("/usr/planted-by-a-test").write_text("x")
    escaped("wrote")


def write_cache() -> None:
    for path in TARGETS["cache"].rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_text("x")
            escaped("wrote")
    (TARGETS["cache"] / "planted").write_text("x")
    escaped("wrote")


def write_sysctl() -> None:
    pattern = Path("/proc/sys/kernel/core_pattern")
    pattern.write_text(pattern.read_text())
    escaped("wrote")


def symbolic_link() -> None:
    Path("out").mkdir(exist_ok=True)
    Path("out/x").symlink_to(TARGETS["home_key"])


def hard_link() -> None:
    Path("out").mkdir(exist_ok=True)
    Path("out/x").hardlink_to(TARGETS["home_key"])
    escaped("linked")


def pipe() -> None:
    Path("out").mkdir(exist_ok=True)
    os.mkfifo("out/x")


def nest_folders() -> None:
    for _ in range(3_000):
        Path("deep").mkdir()
        os.chdir("deep")


def wait_with_a_pipe() -> None:
    """Whoever reads the metrics would wait for ever."""
    os.mkfifo("m.json")
    ignore_sigterm()


def change_the_measure() -> None:
    Path("attempt.py").write_text("print('always best')\n")


def fork() -> None:
    for _ in range(10_000):
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
    escaped("forked")


def allocate() -> None:
    held = [bytearray(b"x") * 50_000_000 for _ in range(2_000)]
    escaped(len(held))


def allocate_in_files() -> None:
    for number in range(2_000):
        Path(f"/dev/shm/{number}").write_bytes(bytes(50_000_000))
    escaped()


def ignore_sigterm() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)


def daemonise() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", FOUND["sleep"]])
        os._exit(0)
    os.wait()


def fill_disk() -> None:
    for number in range(1_000):
        Path(f"big{number}").write_bytes(bytes(10_000_000))
    escaped()


def print_much() -> None:
    print("the beginning", flush=True)
    line = b"x" * 1023 + b"\n"
    for _ in range(1_000):
        os.write(1, line * 1024)
    print("the end")


def print_escapes() -> None:
    print("\x1b[2J\x1b]0;owned\x07\x1b[31mred \x9b31mcsi \u202egnihton")
    raise SystemExit("\x1b]52;c;cm0gLXJm\x07stop")


if __name__ == "__main__":
    text = Path("params.yaml").read_text()
    top = Path.cwd()
    globals()[text.partition("attempt: ")[2].split()[0]]()
    os.chdir(top)
    Path("out").mkdir(exist_ok=True)
    Path("m.json").write_text('{"val_loss": 1.0}\n')
    sys.exit(0)
