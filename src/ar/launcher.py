"""The shell that DVC runs stage commands through: `launcher -c COMMAND`.

DVC starts a stage as `[$SHELL, "-c", command]`. A worker points `$SHELL` here and so gets, without touching
DVC: an environment made of allowed names only, the sandbox, limits of time, memory, processes and disk after
which all that the command started is gone, a log of bounded size, and what it used. Standard library only,
and of ours only what is so too: it starts once per stage.

What it is to do stands in the file that `AR_LAUNCH` names; what happened is written beside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from ar import footprint, watch
from ar.output import Funnel

TIMED_OUT = 124
REFUSED = 125
_GRACE = 5.0
_SLICE = 0.5
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# What DVC tells its stages; other names of DVC's, a token of its web service among them, stay outside.
_DVC_NAMES = ("DVC_EXP_BASELINE_REV", "DVC_EXP_NAME", "DVC_ROOT", "DVC_STAGE")
# In the sandbox only the command's own processes are left when it has ended: count them, then all end.
_COUNTING = """trap : TERM
/bin/sh -c "$1" {fd}>&-
code=$?
set -- /proc/[0-9]*
echo $(($# - 2)) >&{fd}
exit $code"""


def main(argv: list[str]) -> int:
    """Run one stage command as told; returns its exit code."""
    if len(argv) != 3 or argv[1] != "-c":
        print("ar's launcher is started by DVC only", file=sys.stderr)
        return 2
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what daemonises inside the run still has us as its parent
    plan_file = Path(os.environ["AR_LAUNCH"])
    return _Stage(argv[2], json.loads(plan_file.read_text()), plan_file.parent).run()


class _Stage:
    """One command: started, watched, ended.

    Args:
        plan: `env`; `timeout` in seconds or None; `wall`, bubblewrap with its arguments, or empty;
            `workspace`, the experiment's folder; `inputs` and `outputs`, see `footprint`; `cache`, DVC's;
            `limits`, those of `watch.Limits`.
        folder: where `stage.json` and `usage.json` are written.
    """

    def __init__(self, command: str, plan: dict[str, Any], folder: Path) -> None:
        self.command = command
        self.env = plan["env"] | {name: os.environ[name] for name in _DVC_NAMES if name in os.environ}
        self.folder = folder
        self.timeout: float | None = plan.get("timeout")
        self.wall: list[str] = plan["wall"]
        self.workspace = Path(plan["workspace"])
        self.inputs: list[str] = plan["inputs"]
        self.outputs: list[str] = plan["outputs"]
        self.cache: str = plan["cache"]
        self.limits = watch.Limits(**plan["limits"])
        self.stopping = False
        self.timed_out = False
        self.left = 0

    def run(self) -> int:
        began = time.monotonic()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        before = footprint.take(self.workspace)
        used = watch.usage(self.workspace)
        reading, writing = os.pipe()
        counted, counter = os.pipe()
        process = self._start(before, writing, counter)
        os.close(writing)
        os.close(counter)
        started = _start_time(process.pid)
        self._write("stage.json", {"pid": process.pid, "started": started})
        looker = watch.Watch(self.limits, self.workspace, used, process.pid if self.wall else None)
        funnel = Funnel(reading, sys.stdout.fileno())
        deadline = began + self.timeout if self.timeout else None
        reason = self._attend(process, looker, funnel, deadline)
        usage = self._end_all(process, at_once=bool(reason))
        funnel.drain()
        self._count(counted)
        if not (reason or self.timed_out or self.stopping):
            reason = looker.disk() or footprint.complaint(self.workspace, before, self.inputs, self.outputs)
        facts = {"seconds": time.monotonic() - began, "timed_out": self.timed_out, "reason": reason}
        self._write("usage.json", usage | facts | {"left": self.left})
        if self.timed_out:
            print(f"ar: ended after {self.timeout:g} s, the time limit of program.md", file=sys.stderr)
            return TIMED_OUT
        if self.left:
            print(f"ar: {left_words(self.left)}", file=sys.stderr)
        if reason:
            print(f"ar: ended: {reason}", file=sys.stderr)
            return REFUSED
        code = process.returncode
        return code if code >= 0 else 128 - code

    def _start(self, before: footprint.Footprint, writing: int, counter: int) -> subprocess.Popen[bytes]:
        command = ["/bin/sh", "-c", self.command]
        if self.wall:
            cache = ["--ro-bind", self.cache, self.cache] if footprint.leads_to(before, self.cache) else []
            command = [*self.wall, *cache, "--", *command]
            number = fcntl.fcntl(counter, fcntl.F_DUPFD, 3)
            if number < 10:  # a shell knows no longer ones
                command[-2:] = ["-c", _COUNTING.format(fd=number), "sh", self.command]
        try:
            return subprocess.Popen(
                command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=[number] if self.wall else [],
                start_new_session=True,
                preexec_fn=self._before_exec,
            )
        finally:
            if self.wall:
                os.close(number)

    def _before_exec(self) -> None:
        """In the child: it dies with us, it is the first to go when memory ends, its files have a limit."""
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limits.disk, self.limits.disk))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def _attend(
        self, process: subprocess.Popen[bytes], looker: watch.Watch, funnel: Funnel, deadline: float | None
    ) -> str:
        """Until the command ends, must end, or uses too much; then what, in words."""
        sources = [funnel.source]
        with contextlib.suppress(OSError, AttributeError):
            sources.append(os.pidfd_open(process.pid))  # readable as soon as the process has ended
        due = time.monotonic() + watch.INTERVAL
        while process.poll() is None and not self.stopping:
            now = time.monotonic()
            if deadline is not None and now > deadline:
                self.timed_out = True
                break
            if now >= due:
                reason, wait = looker.look()
                if reason:
                    return reason
                due = time.monotonic() + wait
            until = min(due, deadline or due, now + _SLICE) - now
            ready, _, _ = select.select(sources, [], [], max(0.0, until))
            if funnel.source in ready and not funnel.pump():
                sources.remove(funnel.source)
        return ""

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _end_all(self, process: subprocess.Popen[bytes], at_once: bool) -> dict[str, float]:
        """End what is left of the run: politely if there is time, then for good. Nothing outlives its run."""
        if process.poll() is not None:
            self.left = len(watch.descendants(os.getpid())) if not self.wall else 0
        elif not at_once:
            spared = {process.pid} if self.wall else set()
            for pid in set(watch.descendants(os.getpid())) - spared:
                _signal(pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 10
        while (orphans := watch.children_of(os.getpid())) and time.monotonic() < deadline:
            for pid in orphans:
                _signal(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.002)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        unit = 1 if sys.platform == "darwin" else 1024
        return {
            "cpu_seconds": used.ru_utime + used.ru_stime,
            "peak_memory_mb": used.ru_maxrss * unit / 1e6,
        }

    def _count(self, counted: int) -> None:
        """Take over what the sandbox says of processes that the command left running."""
        os.set_blocking(counted, False)
        with contextlib.suppress(OSError, ValueError):
            self.left = int(os.read(counted, 16))

    def _write(self, name: str, data: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            (self.folder / name).write_text(json.dumps(data))


def left_words(count: int) -> str:
    """What is said of processes that outlive their run's command."""
    return (
        "1 process that it left running was ended"
        if count == 1
        else f"{count} processes that it left running were ended"
    )


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


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


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the launcher's own clean-up has to do."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
