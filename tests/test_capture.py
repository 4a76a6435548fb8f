"""`ar capture`: a command runs as if by itself, and what it prints becomes a metrics file."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from helpers import Ar, commit, edit, runs_of, wait_for

from ar.stage.printed import Lines, NotPrinted, Reader, Wanted

CAPTURE = (sys.executable, "-m", "ar", "capture")


def capture(folder: Path, *args: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*CAPTURE, *args], cwd=folder, capture_output=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def read(text: str, *names: str, curves: tuple[str, ...] = ()) -> Reader:
    reader = Reader([Wanted.parse(name) for name in names], [Wanted(name) for name in curves])
    reader.read(text.encode())
    return reader


# -- what is read -----------------------------------------------------------------------------------------

AUTORESEARCH = """
Step 953 | loss 2.91 | 300.1 s
---
val_bpb:          0.997900
training_seconds: 300.1
mfu_percent:      39.80
num_steps:        953
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (AUTORESEARCH, {"val_bpb": 0.9979, "training_seconds": 300.1, "mfu_percent": 39.8, "num_steps": 953}),
        ("METRIC loss=0.5\nMETRIC loss=0.25", {"loss": 0.25}),
        ('{"test": {"acc": 0.9, "ok": true, "name": "x"}, "n": 3}', {"test.acc": 0.9, "n": 3}),
        ("epoch,loss\n1,0.5\n2,0.25\n", {"epoch": 2, "loss": 0.25}),
        ("time: 1.5e-3 s\nspeed = 12 ns/op\nshare: 93.5%", {"time": 1.5e-3, "speed": 12, "share": 93.5}),
        ("\x1b[32mloss: 0.5\x1b[0m", {"loss": 0.5}),
        (" 10%|#  | loss: 3\r100%|###| done\rloss: 2\r", {"loss": 2}),
        ("2026-01-01 10:00:00 INFO saved to model.pt\nloss: 1\nratio: 3:4", {"loss": 1}),
    ],
)
def test_values_on_lines_of_their_own(text: str, found: dict[str, float]) -> None:
    assert read(text).results() == found


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("loss", "step 1 | loss 2.5 | lr 1\nstep 2 | loss 2.25 | lr 1", 2.25),
        ("loss", "val_loss 9\nloss 2\ntrain/loss=8 other.loss: 7", 2),
        ("val loss", "epoch 3: val loss = 0.5, train loss = 0.1", 0.5),
        ("accuracy", "accuracy is 0.75", 0.75),
        ("acc", "{'acc': 0.5}", 0.5),
        ("test.acc", '{"test": {"acc": 0.5}}', 0.5),
        ("loss", "epoch,loss\n1,0.5\n2,0.25", 0.25),
        ("ns=([0-9.]+) ns/op", "BenchmarkX-8  1000  123.5 ns/op", 123.5),
        ("n=\\d+$", "took 12 of 17", 17),
        ("x", "x: -1e-4", -1e-4),
    ],
)
def test_a_metric_that_is_asked_for(name: str, text: str, value: float) -> None:
    assert list(read(text, name).results().values()) == [value]


@pytest.mark.parametrize(
    "text", ["", "loss: nan", "loss: inf", "valid_loss: 3", '{"loss": null}', "{" * 5000]
)
def test_what_is_missing_or_not_finite_is_no_metric(text: str) -> None:
    with pytest.raises(NotPrinted):
        read(text, "loss").results()


def test_an_error_shows_the_lines_that_came_closest() -> None:
    with pytest.raises(NotPrinted, match=r"valid_bpb: 0\.9"):
        read("step 3\nvalid_bpb: 0.9\ntime 7\nlr 8", "val_bpb").results()


def test_lines_are_read_whole_however_they_arrive() -> None:
    reader, lines = Reader([Wanted("loss")]), Lines()
    for byte in b"loss: 12\nloss: 34.5":
        reader.read(lines.add(bytes([byte])))
    assert reader.values == {"loss": 12}
    reader.read(lines.end())
    assert reader.values == {"loss": 34.5}


def test_points_of_a_curve_have_the_step_that_their_line_says() -> None:
    reader = Reader(curves=[Wanted("loss")])
    points = reader.read(b"step 10 | loss 3\nloss: 2\nepoch=12 loss=1\n" + b'{"step": 14, "loss": 0.5}\n')
    assert [(one.step, one.value) for one in points] == [(10, 3), (None, 2), (12, 1), (14, 0.5)]


# -- how the command runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("blocks", "exit_code"), [(50, 0), (1, 7)])
def test_output_and_exit_code_pass_through_untouched(tmp_path: Path, blocks: int, exit_code: int) -> None:
    """100 MB of it, binary, on both outputs."""
    code = """
import sys
block = bytes(range(256)) * 4096
for _ in range(int(sys.argv[1])):
    sys.stdout.buffer.write(block); sys.stderr.buffer.write(block[::-1])
print("\\nloss: 3")
sys.exit(int(sys.argv[2]))
"""
    block = bytes(range(256)) * 4096
    done = capture(tmp_path, "-m", "loss", "--", sys.executable, "-c", code, str(blocks), str(exit_code))
    assert done.returncode == exit_code
    assert done.stdout == block * blocks + b"\nloss: 3\n"
    assert done.stderr == block[::-1] * blocks
    assert (tmp_path / "metrics.json").exists() == (exit_code == 0)


def test_the_file_is_whole_or_absent(tmp_path: Path) -> None:
    out = tmp_path / "eval" / "m.json"
    done = capture(tmp_path, "--out", "eval/m.json", "-m", "a", "-m", "b=B(\\d)", "--", "echo", "a: 1 B2")
    assert (done.returncode, json.loads(out.read_text())) == (0, {"a": 1, "b": 2})
    assert capture(tmp_path, "--out", "eval/m.json", "-m", "a", "--", "echo", "c: 1").returncode == 1
    assert not out.exists()  # the number of an earlier run is no number of this one
    assert list(out.parent.iterdir()) == []


def test_a_command_that_cannot_run_ends_as_in_a_shell(tmp_path: Path) -> None:
    (tmp_path / "text").touch()
    assert capture(tmp_path, "--", "no-such-program").returncode == 127
    assert capture(tmp_path, "--", "./text").returncode == 126
    assert capture(tmp_path, "-m", "a=(", "--", "true").returncode == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_killed_command_ends_us_likewise(tmp_path: Path, number: signal.Signals) -> None:
    done = capture(tmp_path, "--", "sh", "-c", f"echo loss: 1; kill -{number.value} $$")
    assert (done.returncode, done.stdout) == (-number, b"loss: 1\n")
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signals_reach_the_command(tmp_path: Path, number: signal.Signals) -> None:
    code = """
import os, signal, sys, time
signal.signal(int(sys.argv[1]), lambda *_: (os.write(1, b"loss: 4\\n"), os._exit(0)))
print("ready", flush=True)
for _ in range(600):
    time.sleep(0.1)  # one that comes just before is seen only after it
"""
    process = subprocess.Popen(
        [*CAPTURE, "--", sys.executable, "-c", code, str(number.value)], cwd=tmp_path, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert (process.stdout.read(), process.wait()) == (b"loss: 4\n", 0)
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"loss": 4}


def test_a_process_that_stays_holds_nobody_up(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = capture(tmp_path, "--", "sh", "-c", "echo loss: 1; sleep 120 &")
    assert (done.returncode, done.stdout) == (0, b"loss: 1\n")
    assert time.monotonic() - begun < 60


def test_a_reader_that_goes_ends_the_command_as_it_would(tmp_path: Path) -> None:
    line = f"{' '.join(CAPTURE)} -- yes | head -n 1"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=True, timeout=60)
    assert done.stdout == b"y\n"


def test_a_terminal_stays_one(tmp_path: Path) -> None:
    """With its size, its two outputs in order, and not a byte changed: `\\n` is made `\\r\\n` once."""
    code = """
import os, sys
print(sys.stdout.isatty(), sys.stderr.isatty(), sys.stdin.isatty(), tuple(os.get_terminal_size()))
for done in range(3):
    print(f"\\r{done}/2", end="", file=sys.stderr, flush=True)
print("\\nloss: 1\\tx")
print("loss: 2", file=sys.stderr)
"""
    printed = []
    for before in ((), (*CAPTURE, "-m", "loss", "--")):
        ours, theirs = os.openpty()
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 97, 0, 0))
        command = [*before, sys.executable, "-u", "-c", code]
        process = subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # how a terminal says that nobody writes to it any more
            while more := os.read(ours, 65536):
                text += more
        os.close(ours)
        assert process.wait() == 0
        printed.append(text)
    assert printed[0].startswith(b"True True True (97, 41)\r\n")
    assert printed[0] == printed[1]
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"loss": 2}


def test_a_curve_grows_while_the_command_runs(tmp_path: Path) -> None:
    code = "print('step 5 | loss 3'); print('step 6 | loss 2'); input(); print('val: 1')"
    process = subprocess.Popen(
        [*CAPTURE, "-m", "val", "--curve", "c/loss.csv:loss", "--", sys.executable, "-u", "-c", code],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    curve = tmp_path / "c" / "loss.csv"
    wait_for(lambda: curve.exists() and len(curve.read_text().splitlines()) == 3)
    process.communicate(b"\n")
    rows = [line.split(",") for line in curve.read_text().splitlines()]
    assert rows[0] == ["step", "seconds", "loss"]
    assert [(row[0], row[2]) for row in rows[1:]] == [("5", "3"), ("6", "2")]
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"val": 1}


def test_a_stage_in_the_sandbox(project: Path, ar: Ar) -> None:
    script = (project / "fit.awk").read_text().splitlines(keepends=True)
    (project / "fit.awk").write_text("".join(line for line in script if "m.json" not in line))
    line = "cmd: ar capture --out m.json -m 'val_loss=loss (.*)' -- awk"
    edit(project / "dvc.yaml", "cmd: awk", line)
    commit(project, "Print it")
    ar(project, "run", "-n", "0", "--plain")
    found = [one["metrics"]["m.json:val_loss"] for one in runs_of(project).values()]
    assert found and all(isinstance(value, float) for value in found)
