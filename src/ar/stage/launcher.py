"""The shell that DVC runs stage commands through: `launcher -c COMMAND`.

DVC starts a stage as `[$SHELL, "-c", command]`. A worker points `$SHELL` here and so gets, without touching
DVC: a slot of the machine to itself, an environment made of allowed names only, the sandbox, limits of time,
memory, processes and disk after which all that the command started is gone, a log of bounded size, and what
it used. Standard library only, of ours only what is so too, and of both as little as will do: it starts once
per stage, and the slot waits.

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
from typing import TYPE_CHECKING, Any

from ar.stage import limits, snapshot
from ar.stage.log import Funnel
from ar.stage.processes import born

if TYPE_CHECKING:
    from types import FrameType

TIMED_OUT = 124
REFUSED = 125
STOPPED = 143
PLAN, STAGE, USAGE, ASK = "launch.json", "stage.json", "usage.json", "ask"  # files in the claim's folder
_GRACE = 5.0
_POLL = 0.02  # seconds between two looks for a free slot: half of it is the mean idle gap between trainings
_SLICE = 0.2  # seconds between two looks at what is asked
_COUNTED = 500  # processes whose use is summed up when a run is ended
_LAST = 60.0  # for the kernel to take thousands of processes away
_NICE = -10
_TASKS = 8  # for each process that is allowed
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# What DVC tells its stages; other names of DVC's, a token of its web service among them, stay outside.
_DVC_NAMES = ("DVC_EXP_BASELINE_REV", "DVC_EXP_NAME", "DVC_ROOT", "DVC_STAGE")
# In the sandbox only the command's own processes are left when it has ended: count them, then all end. The
# limit is for what multiplies faster than we look; threads count, and for root it does not hold.
_COUNTING = """trap : TERM
ulimit -u {tasks} 2>/dev/null || ulimit -p {tasks}
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the worker's to interpret
    plan_file = os.environ["AR_LAUNCH"]
    plan: dict[str, Any] = json.loads(_read(plan_file))
    if os.getppid() != plan["worker"]:
        return STOPPED  # it died before the kernel was told to tell us
    return _Stage(argv[2], plan, os.path.dirname(plan_file)).run()


class _Stage:
    """One command: started, watched, ended.

    Args:
        plan: `worker`, its process; `slots` to wait for, each a `name`, a `token` file and `env`; `env`;
            `timeout` in seconds for all stages of the experiment together, or None; `wall`, bubblewrap with
            its arguments, or empty; `workspace`, the experiment's folder; `inputs` and `outputs`, see
            `footprint`; `cache`, DVC's; `limits`, those of `limits.Limits`.
        folder: the claim's.
    """

    def __init__(self, command: str, plan: dict[str, Any], folder: str) -> None:
        self.command = command
        self.env = plan["env"] | {name: os.environ[name] for name in _DVC_NAMES if name in os.environ}
        self.slots: list[dict[str, Any]] = plan["slots"]
        self.folder = folder
        self.timeout: float | None = plan.get("timeout")
        self.wall: list[str] = plan["wall"]
        self.workspace: str = plan["workspace"]
        self.inputs: list[str] = plan["inputs"]
        self.outputs: list[str] = plan["outputs"]
        self.cache: str = plan["cache"]
        self.limits = limits.Limits(**plan["limits"])
        self.launcher = os.getpid()
        self.stopping = False
        self.timed_out = False
        self.left = 0
        self.nice = os.getpriority(os.PRIO_PROCESS, 0)

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        counted, counter = os.pipe()  # opened first: a shell knows descriptors of one digit only
        before = snapshot.take(self.workspace)
        used = limits.usage(self.workspace)
        slot = self._take_slot()
        if slot is None:
            return STOPPED
        with contextlib.suppress(OSError):  # only root may: to act in time on a machine that is swamped
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        earlier = self._earlier()
        oom_kills = _oom_kills()
        began = time.monotonic()
        reading, writing = os.pipe()
        process = self._start(before, slot["env"], writing, counter)
        os.close(writing)
        os.close(counter)
        facts = {"pid": process.pid, "born": born(process.pid), "since": time.time(), "slot": slot["name"]}
        self._write(STAGE, facts)
        looker = limits.Watch(self.limits, self.workspace, used, process.pid if self.wall else None)
        funnel = Funnel(reading, sys.stdout.fileno())
        deadline = began + self.timeout - earlier["seconds"] if self.timeout else None
        reason = self._attend(process, looker, funnel, deadline)
        ended = process.returncode
        usage = self._end_all(process, at_once=bool(reason))
        usage["seconds"] = time.monotonic() - began
        self._free_slot()
        funnel.drain()
        self._count(counted)
        if not (reason or self.timed_out or self.stopping):
            reason = looker.disk() or snapshot.complaint(self.workspace, before, self.inputs, self.outputs)
        if reason or self.timed_out or self.stopping:
            snapshot.clear(self.workspace, before)
        end = {"timed_out": self.timed_out, "reason": reason, "left": self.left}
        end["code"] = ended if ended is None or ended >= 0 else 128 - ended
        end["oom_kills"] = _oom_kills() - oom_kills
        self._write(USAGE, _together(earlier, usage) | end)
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

    def _take_slot(self) -> dict[str, Any] | None:
        """Wait for a slot and hold its token. None if we are told to stop before."""
        self.tokens = [os.open(slot["token"], os.O_RDWR | os.O_CREAT, 0o600) for slot in self.slots]
        begun = os.path.exists(self._file(STAGE))
        while not self._asked("cancel", "requeue", *([] if begun else ["yield", "withdraw"])):
            if not self.slots:
                return {"name": "", "env": {}}
            for slot, token in zip(self.slots, self.tokens, strict=True):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(token, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return slot
            time.sleep(_POLL)
        return None

    def _free_slot(self) -> None:
        for token in self.tokens:
            os.close(token)

    def _asked(self, *what: str) -> bool:
        """Whether this is to end: by a signal, or by a word left in the claim's folder."""
        with contextlib.suppress(OSError):
            self.stopping = self.stopping or _read(self._file(ASK)) in what
        return self.stopping

    def _earlier(self) -> dict[str, float]:
        """What the experiment's earlier stages used."""
        with contextlib.suppress(OSError, ValueError):
            used: dict[str, float] = json.loads(_read(self._file(USAGE)))
            return used
        return {"seconds": 0.0, "cpu_seconds": 0.0, "peak_memory_mb": 0.0}

    def _start(
        self, before: snapshot.Footprint, env: dict[str, str], writing: int, counter: int
    ) -> subprocess.Popen[bytes]:
        command = ["/bin/sh", "-c", self.command]
        if self.wall:
            cache = ["--ro-bind", self.cache, self.cache] if snapshot.leads_to(before, self.cache) else []
            command = [*self.wall, *cache, "--", *command]
            counting = _COUNTING.format(fd=counter, tasks=_TASKS * self.limits.processes)
            command[-2:] = ["-c", counting, "sh", self.command]
        return subprocess.Popen(
            command,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            pass_fds=[counter] if self.wall else [],
            start_new_session=True,
            preexec_fn=self._before_exec,
        )

    def _before_exec(self) -> None:
        """In the child: it dies with us, it is the first to go when memory ends, its files have a limit."""
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self.launcher:
            os._exit(STOPPED)  # it died before the kernel was told to tell us
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, self.nice)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as stream:
            stream.write("1000")
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limits.disk, self.limits.disk))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def _attend(
        self, process: subprocess.Popen[bytes], looker: limits.Watch, funnel: Funnel, deadline: float | None
    ) -> str:
        """Until the command ends, must end, or uses too much; then what, in words."""
        sources = [funnel.source]
        with contextlib.suppress(OSError, AttributeError):
            sources.append(os.pidfd_open(process.pid))  # readable as soon as the process has ended
        due = time.monotonic() + limits.INTERVAL
        while process.poll() is None and not self._asked("cancel", "requeue"):
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
        spent, peak = 0.0, 0
        if process.poll() is not None:
            self.left = len(limits.descendants(os.getpid())) if not self.wall else 0
        else:
            # Whoever ends with the sandbox is waited for by nobody: what it used would be lost.
            pids = limits.descendants(os.getpid(), _COUNTED)
            spent, peak = limits.spent(pids)
            if not at_once:
                for pid in set(limits.descendants(os.getpid())) - ({process.pid} if self.wall else set()):
                    _signal(pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + _LAST
        while (orphans := limits.children_of(os.getpid())) and time.monotonic() < deadline:
            for pid in orphans:
                _signal(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.002)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        unit = 1 if sys.platform == "darwin" else 1024
        return {
            "cpu_seconds": max(used.ru_utime + used.ru_stime, spent),
            "peak_memory_mb": max(used.ru_maxrss * unit, peak) / 1e6,
        }

    def _count(self, counted: int) -> None:
        """Take over what the sandbox says of processes that the command left running."""
        os.set_blocking(counted, False)
        with contextlib.suppress(OSError, ValueError):
            self.left = int(os.read(counted, 16))

    def _write(self, name: str, data: dict[str, Any]) -> None:
        """Whole or not at all: others read it at any time."""
        fresh = self._file(f"{name}.new")
        with contextlib.suppress(OSError):
            with open(fresh, "w") as stream:
                stream.write(json.dumps(data))
            os.replace(fresh, self._file(name))

    def _file(self, name: str) -> str:
        return os.path.join(self.folder, name)


def left_words(count: int) -> str:
    """What is said of processes that outlive their run's command."""
    return (
        "1 process that it left running was ended"
        if count == 1
        else f"{count} processes that it left running were ended"
    )


def _together(earlier: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """What two stages used, one after the other."""
    sums = {name: earlier[name] + now[name] for name in ("seconds", "cpu_seconds")}
    return sums | {"peak_memory_mb": max(earlier["peak_memory_mb"], now["peak_memory_mb"])}


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it booted; 0 if it does not say."""
    with contextlib.suppress(OSError, ValueError):
        words = _read("/proc/vmstat").split()
        return int(words[words.index("oom_kill") + 1])
    return 0


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the launcher's own clean-up has to do."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
