"""Attacks on the harness from inside: the model's code tries each, in training and in both evaluations.

One run makes them all and prints what came of it. It must succeed, as nothing that an attack did counts.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from helpers import edit

from data import walls
from data.errors import TamperError
from data.settings import data_settings, load
from data.sources import out_of_reach, stdlib
from tests.lab.conftest import ROOT, Lab

pytestmark = [
    pytest.mark.skipif(not walls.holds(), reason="this kernel has no Landlock"),
    pytest.mark.xdist_group("walls"),  # the run that makes all attacks is made once
]

# Each is a function of the model's code; what it returns has got through, what it raises has not.
ATTACKS = r"""
import ctypes, gc, glob, json, mmap, os, signal, socket, subprocess, sys, tempfile, threading
import numpy, torch

libc = ctypes.CDLL(None, use_errno=True)
VAL = os.path.realpath("data/shards/val.bin")
SERVER = os.getppid()
HARNESS = int(open("model/harness").read())

def call(name, *args):
    result = getattr(libc, name)(*args)
    if result in (-1, None):
        raise OSError(ctypes.get_errno(), name)
    return result

def system(command):
    code = libc.system(command.encode())
    if code:
        raise OSError(code, command)

def threads():
    found = []
    thread = threading.Thread(target=lambda: found.append(1))
    thread.start()
    thread.join()
    assert found
    return True

def scratch():
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    return True

def by_folder():
    return os.open("val.bin", os.O_RDONLY, dir_fd=os.open("data/shards", os.O_RDONLY | os.O_DIRECTORY))

def linked():
    os.link(VAL, tempfile.gettempdir() + "/val")
    return open(tempfile.gettempdir() + "/val", "rb").read(1)

def symlinked():
    os.symlink(VAL, tempfile.gettempdir() + "/soft")
    return open(tempfile.gettempdir() + "/soft", "rb").read(1)

def forked():
    if os.fork() == 0:
        os._exit(0)
    return True

def read_memory():
    data = ctypes.create_string_buffer(8)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(data), 8)
    return call("process_vm_readv", HARNESS, local, 1, local, 1, 0)

def mapped():
    names = [line.split()[-1] for line in open("/proc/self/maps") if "shards" in line or "corpus" in line]
    return names[0]

def found_array():
    return next(x for x in gc.get_objects() if isinstance(x, numpy.memmap))

def held_descriptor():
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    return next(link for link in links if "shards" in link or link.endswith(".csv"))

def rewritten_weights():
    paths = [path for path in glob.glob("/proc/self/fd/*") if os.path.lexists(path)]
    return open(next(path for path in paths if os.readlink(path).endswith(".safetensors")), "r+b")

CHEATS = {
    "opens the held-out shard": lambda: open(VAL, "rb"),
    "opens the training shard": lambda: open("data/shards/train.bin", "rb"),
    "opens the tokenizer": lambda: open("data/shards/tokenizer.json"),
    "maps it with numpy": lambda: numpy.memmap("data/shards/test.bin", mode="r"),
    "maps it with torch": lambda: torch.from_file(VAL, size=8, dtype=torch.uint8),
    "opens it from its folder's descriptor": by_folder,
    "opens it with libc": lambda: call("open", VAL.encode(), 0),
    "opens it with a raw system call": lambda: call("syscall", 257, -100, VAL.encode(), 0, 0),
    "links it": linked,
    "links it softly": symlinked,
    "has a helper read it": lambda: subprocess.run(["cat", VAL], check=True, stdout=subprocess.DEVNULL),
    "has a shell read it": lambda: system(f"cat {VAL} >/dev/null"),
    "reads the corpus": lambda: open(glob.glob("corpus/*")[0]),
    "reads the parameters": lambda: open("params.yaml"),
    "reads the metrics": lambda: open("loss.csv"),
    "finds it mapped": mapped,
    "finds an array": found_array,
    "finds a descriptor": held_descriptor,
    "reopens the weights to write": rewritten_weights,
    "writes metrics": lambda: open("metrics.json", "w"),
    "writes the curve": lambda: open("loss.csv", "a"),
    "removes the curve": lambda: os.remove("loss.csv"),
    "renames the curve": lambda: os.rename("loss.csv", "curve"),
    "rewrites the harness": lambda: open("data/harness.py", "a"),
    "rewrites the model": lambda: open("model/train.py", "a"),
    "leaves bytecode": lambda: open("model/__pycache__/x.pyc", "wb"),
    "leaves a file": lambda: open("/tmp/left-by-the-model", "w"),
    "leaves shared memory": lambda: open("/dev/shm/left-by-the-model", "w"),
    "leaves a segment": lambda: call("shmget", 4711, 4096, 0o1600),
    "leaves a queue": lambda: call("msgget", 4711, 0o1600),
    "leaves a key": lambda: call("syscall", 248, b"user", b"left", b"x", 1, -3),
    "leaves a time": lambda: os.utime("model/train.py", (1, 1)),
    "leaves a mode": lambda: os.chmod("model/train.py", 0o600),
    "leaves an attribute": lambda: os.setxattr("model/train.py", "user.left", b"x"),
    "leaves a limit": lambda: __import__("resource").prlimit(SERVER, 7, (999, 9999)),
    "leaves a priority": lambda: os.setpriority(os.PRIO_PROCESS, SERVER, 5),
    "leaves a CPU": lambda: os.sched_setaffinity(SERVER, {0}),
    "forks": forked,
    "forks with libc": lambda: call("fork"),
    "runs a program": lambda: os.execv("/bin/true", ["true"]),
    "starts a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "enters namespaces": lambda: call("unshare", 0x10000000),
    "opens a socket": lambda: socket.socket(),
    "opens a local socket": lambda: socket.socket(socket.AF_UNIX),
    "reads the harness's memory": lambda: open(f"/proc/{HARNESS}/mem", "r+b"),
    "reads the server's memory": lambda: open(f"/proc/{SERVER}/mem", "r+b"),
    "reads it by system call": read_memory,
    "traces the harness": lambda: call("ptrace", 16, HARNESS, 0, 0),
    "reads through the harness's root": lambda: open(f"/proc/{HARNESS}/root{VAL}", "rb"),
    "reads through its folder": lambda: open(f"/proc/{HARNESS}/cwd/data/shards/val.bin", "rb"),
    "reads through its descriptors": lambda: [open(fd) for fd in glob.glob(f"/proc/{HARNESS}/fd/*")][0],
    "reads the machine's counters": lambda: open("/proc/vmstat"),
    "reads what it has done": lambda: open("/proc/stat"),
    "reads how it is doing": lambda: open("/proc/loadavg"),
    "reads about the server": lambda: open(f"/proc/{SERVER}/stat"),
    "kills the harness": lambda: os.kill(HARNESS, signal.SIGKILL),
    "stops the server": lambda: os.kill(SERVER, signal.SIGSTOP),
}
HONEST = {
    "starts a thread": threads,
    "keeps a file for a while": scratch,
    "reads about the machine": lambda: open("/proc/cpuinfo").read(1),
    "writes to nowhere": lambda: open("/dev/null", "w").write("x"),
    "imports what is not loaded": lambda: __import__("csv") and __import__("wave"),
    "reads a limit": lambda: __import__("resource").getrlimit(7),
}

def outcomes():
    found = {}
    for name, act in {**CHEATS, **HONEST}.items():
        try:
            found[name] = not act()
        except (OSError, StopIteration, IndexError, RuntimeError):
            found[name] = True
    print("\nOUTCOMES " + json.dumps(found), flush=True)
"""
NAMES = [line.split('"')[1] for line in ATTACKS.splitlines() if line.startswith('    "') and '": ' in line]
HONEST = NAMES[NAMES.index("starts a thread") :]


@pytest.fixture(scope="module")
def outcomes(prepared: Lab, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bool]]:
    """By process, by attack: whether it was contained."""
    root = tmp_path_factory.mktemp("walls") / "lab"
    shutil.copytree(prepared.root, root)
    lab = Lab(root)
    lab.tiny()
    (root / "model/attacks.py").write_text(ATTACKS)
    code = (root / "model/train.py").read_text()
    build = "    from model.attacks import outcomes\n    outcomes()\n    return Net(vocab_size)\n"
    (root / "model/train.py").write_text(code.replace("    return Net(vocab_size)\n", build))
    before = {path: path.read_bytes() for path in root.rglob("*.py")}
    tell = (
        "import os, sys; open('model/harness', 'w').write(str(os.getpid()))\n"
        "from data.harness import main; sys.exit(main())"
    )
    result = subprocess.run(
        [sys.executable, "-c", tell], cwd=root, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert {path: path.read_bytes() for path in root.rglob("*.py")} == before
    assert json.loads((root / "metrics.json").read_text())["walls"] == "kernel"
    lines = [line for line in result.stdout.splitlines() if line.startswith("OUTCOMES ")]
    return [json.loads(line.removeprefix("OUTCOMES ")) for line in lines]


def test_the_same_is_tried_in_each_process(outcomes: list[dict[str, bool]]) -> None:
    assert len(outcomes) == 3  # training, the round of decoys, the real pass
    assert all(list(found) == NAMES for found in outcomes)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in HONEST])
def test_an_attack_is_contained(outcomes: list[dict[str, bool]], name: str) -> None:
    assert [found[name] for found in outcomes] == [True, True, True]


@pytest.mark.parametrize("name", HONEST)
def test_what_honest_code_does_works(outcomes: list[dict[str, bool]], name: str) -> None:
    assert [found[name] for found in outcomes] == [False, False, False]


ONCE_SHOWN = r"""
import mmap, os, threading
import torch

FILE = torch.__file__
HELD = os.open(FILE, os.O_RDONLY)
FOLDER = os.open(os.path.dirname(FILE), os.O_RDONLY)

def thread():
    done = []
    one = threading.Thread(target=lambda: done.append(torch.ones(2) @ torch.ones(2)))
    one.start(), one.join()
    return done

LATE = {  # each leaves a trace in the file system, for the process that comes next
    "reads a file": lambda: open(FILE).read(1),
    "reads what it had opened": lambda: os.read(HELD, 1),
    "reads a part of it": lambda: os.pread(HELD, 1, 5),
    "maps it": lambda: mmap.mmap(HELD, 1, prot=mmap.PROT_READ)[0],
    "lists a folder that it had opened": lambda: os.listdir(FOLDER),
    "asks for a file's times": lambda: os.stat(FILE),
    "asks for a link's target": lambda: os.readlink("/proc/self/exe"),
    "has it read ahead": lambda: os.posix_fadvise(HELD, 0, 4096, os.POSIX_FADV_WILLNEED) is None,
    "copies it": lambda: os.sendfile(1, HELD, 0, 1),
    "leaves a file": lambda: open(os.environ["TMPDIR"] + "/x", "w"),
    "starts a thread": thread,
}
calls = 0

def outcomes():
    global calls
    calls += 1
    if calls == 2:
        found = {}
        for name, act in LATE.items():
            try:
                found[name] = not act()
            except OSError:
                found[name] = True
        print("\nOUTCOMES " + str(found), flush=True)
"""


def test_a_process_that_was_shown_windows_leaves_no_trace(lab: Lab) -> None:
    lab.tiny()
    (lab.root / "model/attacks.py").write_text(ONCE_SHOWN)
    path = lab.root / "model/train.py"
    edit(path, "    def forward(self, tokens):\n", "    def forward(self, tokens):\n        outcomes()\n")
    path.write_text("from model.attacks import outcomes\n" + path.read_text())
    result = lab.run()
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith("OUTCOMES ")]
    found = [ast.literal_eval(line.removeprefix("OUTCOMES ")) for line in lines]
    assert len(found) == 2
    for outcomes in found:
        assert [name for name, contained in outcomes.items() if not contained] == ["starts a thread"]


def test_without_walls_the_metrics_say_so(lab: Lab) -> None:
    lab.tiny()
    path = lab.root / "data/walls.py"
    path.write_text(path.read_text().replace("return _abi() > 0 and", "return False and"))
    assert lab.metrics()["walls"] == "unprotected"


def test_computing_in_the_evaluation_is_counted_and_bounded(lab: Lab) -> None:
    lab.tiny()
    model = lab.root / "model/train.py"
    slow = (
        "        import time\n"
        "        end = time.process_time() + {}\n"
        "        while time.process_time() < end: pass\n"
    )
    code = model.read_text()
    forward = "        return self.table(tokens)\n"
    model.write_text(code.replace(forward, slow.format(0.2) + forward))
    assert lab.metrics()["eval_cpu_seconds"] > 0.4  # a call at least in each of two processes
    (lab.root / "metrics.json").unlink()
    model.write_text(code.replace(forward, slow.format(60) + forward))
    lab.refused("evaluation took", TamperError.exit_code)


def test_nothing_told_before_hides_a_refusal(lab: Lab) -> None:
    lab.tiny("print('train: interrupted', flush=True)\ntask.batch(1)")
    lab.refused("budget exceeded", TamperError.exit_code)


def readable(path: Path) -> bool:
    """Whether its content can be had."""
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_the_held_out_part_of_the_default_corpus_cannot_be_read() -> None:
    held = [Path(path) for path in out_of_reach(data_settings(load(ROOT / "params.yaml")))]
    library = Path(sysconfig.get_path("stdlib")).resolve()  # Debian keeps one of its files elsewhere
    rest = {path for path in stdlib().paths if path.resolve().is_relative_to(library)} - set(held)
    fd, theirs = os.pipe()
    if (pid := os.fork()) == 0:
        walls.Walls(walls.system(False), hidden=(*walls.unused_packages(), *map(str, held))).up()
        os.write(theirs, b"%d %d" % (sum(map(readable, held)), sum(map(readable, rest))))
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(rest) > 300 and os.read(fd, 100) == b"0 %d" % len(rest)
    os.close(fd), os.close(theirs)


def test_nothing_but_shared_libraries_is_read_in_the_system_s_folders() -> None:
    ours = {os.path.realpath(path) for path in sys.path}
    granted = {os.path.realpath(path) for path in walls.system(False)} - ours
    library = os.path.realpath(Path(os.__file__).parent)
    assert not [path for path in granted if (library + "/").startswith(path.rstrip("/") + "/")]
    assert not granted & {"/", "/usr", "/usr/lib", "/usr/lib64", "/usr/local", "/usr/local/lib"}


def test_a_hidden_file_in_a_readable_folder_stays_out_of_reach(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("a/kept", "a/b/kept", "a/b/hidden"):
        (tmp_path / name).write_text(name)
    fd, theirs = os.pipe()
    if (pid := os.fork()) == 0:
        walls.Walls((str(tmp_path),), hidden=(str(tmp_path / "a/b/hidden"),)).up()
        for name in ("a/kept", "a/b/kept", "a/b/hidden"):
            try:
                os.write(theirs, (tmp_path / name).read_bytes() + b"\n")
            except OSError as error:
                os.write(theirs, type(error).__name__.encode() + b"\n")
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(fd, 1000).split() == [b"a/kept", b"a/b/kept", b"PermissionError"]
    os.close(fd), os.close(theirs)
