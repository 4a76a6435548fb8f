"""The shell that DVC runs stage commands through: `launcher -c COMMAND`.

DVC starts a stage as `[$SHELL, "-c", command]`. A worker points `$SHELL` here and so gets, without touching
DVC: an environment made of allowed names only, one session for everything the command starts, a time limit
after which all of it is gone, and what it used. Standard library only: it starts once per stage.

What it is to do stands in the file that `AR_LAUNCH` names; what happened is written beside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

TIMED_OUT = 124
_GRACE = 5.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> int:
    """Run one stage command as told; returns its exit code."""
    if len(argv) != 3 or argv[1] != "-c":
        print("ar's launcher is started by DVC only", file=sys.stderr)
        return 2
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what daemonises inside the run still has us as its parent
    plan_file = Path(os.environ["AR_LAUNCH"])
    plan: dict[str, Any] = json.loads(plan_file.read_text())
    env = plan["env"] | {key: value for key, value in os.environ.items() if key.startswith("DVC_")}
    stage = _Stage(argv[2], env, plan_file.parent, plan.get("timeout"))
    return stage.run()


class _Stage:
    def __init__(self, command: str, env: dict[str, str], folder: Path, timeout: float | None) -> None:
        self.command = command
        self.env = env
        self.folder = folder
        self.timeout = timeout
        self.stopping = False

    def run(self) -> int:
        began = time.monotonic()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        process = subprocess.Popen(
            ["/bin/sh", "-c", self.command],
            env=self.env,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        started = _start_time(process.pid)
        self._write("stage.json", {"pid": process.pid, "started": started})
        deadline = began + self.timeout if self.timeout else None
        timed_out = False
        while process.poll() is None and not self.stopping:
            if deadline is not None and time.monotonic() > deadline:
                timed_out = True
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_next_wait(deadline))
        usage = self._end_all(process)
        self._write("usage.json", usage | {"seconds": time.monotonic() - began, "timed_out": timed_out})
        if timed_out:
            print(f"ar: ended after {self.timeout:g} s, the time limit of program.md", file=sys.stderr)
            return TIMED_OUT
        code = process.returncode
        return code if code >= 0 else 128 - code

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _end_all(self, process: subprocess.Popen[bytes]) -> dict[str, float]:
        """End what is left of the run: politely, then for good. Nothing outlives its run."""
        if process.poll() is None:
            _signal_group(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()
        for _ in range(100):
            orphans = _children()
            if not orphans:
                break
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.01)
        import resource

        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        unit = 1 if sys.platform == "darwin" else 1024
        return {
            "cpu_seconds": used.ru_utime + used.ru_stime,
            "peak_memory_mb": used.ru_maxrss * unit / 1e6,
        }

    def _write(self, name: str, data: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            (self.folder / name).write_text(json.dumps(data))


def _next_wait(deadline: float | None) -> float:
    # A signal handler only sets a flag, so waiting is in slices.
    return 0.5 if deadline is None else max(0.0, min(0.5, deadline - time.monotonic()))


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _children() -> list[int]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(OSError):
        return [int(pid) for pid in path.read_text().split()]
    return []


def _start_time(pid: int) -> float:
    """Unix time at which a process started, as psutil computes it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        boot = next(
            float(line.split()[1])
            for line in Path("/proc/stat").read_text().splitlines()
            if line.startswith("btime")
        )
        return boot + ticks / os.sysconf("SC_CLK_TCK")
    return time.time()


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the launcher's own clean-up has to do."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
