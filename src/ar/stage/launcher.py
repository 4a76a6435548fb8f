"""The shell that DVC runs stage commands through: `launcher -c COMMAND`.

DVC starts a stage as `[$SHELL, "-c", command]`. A worker points `$SHELL` here and so gets, without touching
DVC: a slot of the machine to itself, an environment made of allowed names only, the sandbox, limits of time,
memory, processes and disk after which all that the command started is gone, a log of bounded size, and what
it used. Standard library only, of ours only what is so too, and of both as little as will do: it starts once
per stage, and the slot waits.

What it is to do stands in the file that `AR_LAUNCH` names; what happened is written beside it (`files`).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from ar.stage import files, limits, snapshot, sockets
from ar.stage.files import Breach, Cause, Place, Plan, Requested, Stage, Usage
from ar.stage.log import Funnel
from ar.stage.processes import born, contents
from ar.stage.unnamed import Unnamed

TIMED_OUT = 124
REFUSED = 125
STOPPED = 143
_GRACE = 5.0
_POLL = 0.02  # seconds between two looks for a free slot: half of it is the mean idle gap between trainings
_SLICE = 0.2  # seconds between two looks at what is asked
_COUNTED = 500  # processes whose use is summed up when a run is ended
_LAST = 60.0  # for the kernel to take thousands of processes away
_NICE = -10
_TASKS = 8  # for each process that is allowed
_NAMED = 5  # of the files that are removed
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# What DVC tells its stages; other names of DVC's, a token of its web service among them, stay outside.
_DVC_NAMES = ("DVC_EXP_NAME", "DVC_ROOT", "DVC_STAGE")
# By this one, DVCLive adds what it wrote to git's index, which the sandbox does not let it.
_DVC_NAMES_OUTSIDE = (*_DVC_NAMES, "DVC_EXP_BASELINE_REV")
# With its first process a sandbox ends, and all in it: so that one waits until what the command left running
# was counted from outside. That shows by the end of a pipe, which nobody can forge by writing to it; whoever
# tells in its name that the command has ended is counted himself. The limit is for what multiplies faster
# than we look; threads count, and for root it does not hold.
_WAITING = """trap : TERM
ulimit -u {tasks} 2>/dev/null || ulimit -p {tasks}
/bin/sh -c "$1" {ended}>&- {counted}<&-
code=$?
echo >&{ended}
while read -r _; do :; done <&{counted}
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
    plan = files.read(Plan, plan_file)
    if plan is None or os.getppid() != plan.worker:
        return STOPPED  # the worker died before the kernel was told to tell us
    folder = os.path.dirname(plan_file)
    try:
        return _Stage(argv[2], plan, folder).run()
    except Exception:
        # What the launcher itself trips over is not the command's doing: it ends as if it had been killed.
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
        raise


class _Stage:
    """One command, of the claim that has the folder: started, watched, ended."""

    def __init__(self, command: str, plan: Plan, folder: str) -> None:
        # Pipes, opened first: a shell knows descriptors of one digit only.
        self.ended, self.counted = os.pipe(), os.pipe()
        self.over = float("inf")  # when a command that has ended must be gone with its sandbox
        self.command = command
        self.plan = plan
        self.name = os.environ.get("DVC_STAGE", "").rpartition(":")[2].partition("@")[0]
        self.sandbox, env, seccomp = plan.own.get(self.name, plan.usual)
        self.filter = files.piped(bytes.fromhex(seccomp)) if seccomp else None
        told = _DVC_NAMES if self.sandbox else _DVC_NAMES_OUTSIDE
        self.env = env | {name: os.environ[name] for name in told if name in os.environ}
        self.folder = folder
        self.launcher = os.getpid()
        self.stopping = False
        self.left = 0
        self.nice = os.getpriority(os.PRIO_PROCESS, 0)

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        plan, before = self.plan, snapshot.take(self.plan.workspace)
        held = limits.usage(plan.workspace)
        earlier = files.read(Usage, self._file(files.USAGE)) or Usage()
        if (slot := self._take_slot()) is None:
            return STOPPED
        with contextlib.suppress(OSError):  # only root may: to act in time on a machine that is swamped
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        oom_kills = _oom_kills()
        command = self._whole_command(before)
        began = time.monotonic()
        reading, writing = os.pipe()
        self.process = process = self._start(command, slot.env, writing)
        os.close(writing)
        for descriptor in self._handed_on():
            os.close(descriptor)
        stage = Stage(process.pid, born(process.pid), time.time(), slot.name, earlier.seconds, self.name)
        self._write(files.STAGE, stage)
        monitor = limits.Monitor(plan.limits, plan.workspace, held, process.pid if self.sandbox else None)
        funnel = Funnel(reading, sys.stdout.fileno(), [os.environ.get(name, "") for name in plan.handed])
        deadline = began + plan.timeout - earlier.seconds if plan.timeout else float("inf")
        breach = self._attend(monitor, funnel, deadline)
        code = process.returncode  # of its own: None where it runs still
        usage = self._end_all(at_once=breach is not None and breach.cause is not Cause.TIME)
        seconds = time.monotonic() - began
        for token in self.tokens:
            os.close(token)
        funnel.drain()
        if breach is None and not self.stopping:
            found = snapshot.compare(plan.workspace, before, self._may())
            monitor.unnamed = Unnamed()  # it went with the processes
            breach = monitor.disk() or (Breach(Cause.REFUSED, _told(found.flaw)) if found.flaw else None)
            _clear_away(plan.workspace, found.strays)
        if breach or self.stopping:
            snapshot.clear(plan.workspace, before)
        usage = usage._replace(
            seconds=earlier.seconds + seconds,
            cpu_seconds=earlier.cpu_seconds + usage.cpu_seconds,
            peak_memory_mb=max(earlier.peak_memory_mb, usage.peak_memory_mb),
            code=None if code is None else _shell_code(code),
            oom_kills=_oom_kills() - oom_kills,
            left=self.left,
        )
        self._write(files.USAGE, usage._replace(cause=breach.cause, why=breach.why) if breach else usage)
        return self._exit_code(breach, process.returncode)

    def _may(self) -> snapshot.May:
        """What this stage may do to its folder; what other stages write is not its own."""
        plan, own = self.plan, os.environ.get("DVC_STAGE", "")
        others = [path for stage, paths in plan.outputs.items() if stage not in ("", own) for path in paths]
        write = [*plan.outputs.get(own, []), *plan.outputs.get("", [])]
        return snapshot.May(write, plan.rewrite, [*plan.fixed, *others])

    def _exit_code(self, breach: Breach | None, code: int) -> int:
        """What DVC is told; the log says why."""
        if breach and breach.cause is Cause.TIME:
            print(f"ar: {breach.why}", file=sys.stderr)
            return TIMED_OUT
        if self.left:
            print(f"ar: {left_words(self.left)}", file=sys.stderr)
        if breach:
            print(f"ar: ended: {breach.why}", file=sys.stderr)
            return REFUSED
        return _shell_code(code)

    def _take_slot(self) -> Place | None:
        """Wait for a slot and hold its token. None if we are told to stop before."""
        self.tokens = [os.open(slot.token, os.O_RDWR | os.O_CREAT, 0o600) for slot in self.plan.slots]
        begun = os.path.exists(self._file(files.STAGE))
        while not self._told_to_stop(begun):
            if not self.plan.slots:
                return Place()
            for slot, token in zip(self.plan.slots, self.tokens, strict=True):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(token, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return slot
            time.sleep(_POLL)
        return None

    def _told_to_stop(self, begun: bool = True) -> bool:
        """Whether this is to end: by a signal, or by a request left in the claim's folder."""
        if not self.stopping and (left := files.read(Requested, self._file(files.REQUEST))):
            self.stopping = left.request.ends_training or not begun
        return self.stopping

    def _whole_command(self, before: snapshot.Marks) -> list[str]:
        if not self.sandbox:
            return ["/bin/sh", "-c", self.command]
        cache = self.plan.cache
        shown = ["--ro-bind", cache, cache] if snapshot.leads_to(before, cache) else []
        filtered = [] if self.filter is None else ["--seccomp", str(self.filter)]
        tasks = _TASKS * self.plan.limits.processes
        waiting = _WAITING.format(ended=self.ended[1], counted=self.counted[0], tasks=tasks)
        hidden = sockets.masks(self.sandbox)
        return [*self.sandbox, *shown, *hidden, *filtered, "--", "/bin/sh", "-c", waiting, "sh", self.command]

    def _handed_on(self) -> list[int]:
        """What the sandbox is given of ours; nothing is left of it here once it is started."""
        return [self.ended[1], self.counted[0], *([] if self.filter is None else [self.filter])]

    def _start(self, command: list[str], env: dict[str, str], writing: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            pass_fds=self._handed_on() if self.sandbox else [],
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
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.plan.limits.disk, self.plan.limits.disk))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def _attend(self, monitor: limits.Monitor, funnel: Funnel, deadline: float) -> Breach | None:
        """Until the command ends or has to end; then for what of its own."""
        sources = [funnel.source, self.ended[0]]
        with contextlib.suppress(OSError, AttributeError):
            sources.append(os.pidfd_open(self.process.pid))  # readable as soon as the process has ended
        due = time.monotonic() + limits.INTERVAL
        while self.process.poll() is None and not self._told_to_stop():
            if (now := time.monotonic()) > self.over:
                return None
            if now > deadline:
                limit = f"{self.plan.timeout:g} s, its time limit"
                return Breach(Cause.TIME, f"ended after {limit}")
            if now >= due:
                breach, wait = monitor.look()
                if breach:
                    return breach
                due = time.monotonic() + wait
            until = min(due, deadline, now + _SLICE) - now
            ready, _, _ = select.select(sources, [], [], max(0.0, until))
            if funnel.source in ready and not funnel.pump():
                sources.remove(funnel.source)
            if self.ended[0] in ready and not self._count():
                sources.remove(self.ended[0])
            funnel.show()
        return None

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _end_all(self, at_once: bool) -> Usage:
        """End what is left of the run: politely if there is time, then for good. Nothing outlives its run."""
        process, spent, peak = self.process, 0.0, 0
        self._let_go()
        if process.poll() is not None:
            if not self.sandbox:
                self.left = len(limits.descendants(os.getpid()))
        else:
            # Whoever ends with the sandbox is waited for by nobody: what it used would be lost.
            pids = limits.descendants(os.getpid(), _COUNTED)
            spent, peak = limits.spent(pids)
            if not at_once:
                spared = {process.pid} if self.sandbox else set()
                for pid in set(limits.descendants(os.getpid())) - spared:
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
        return Usage(
            cpu_seconds=max(used.ru_utime + used.ru_stime, spent),
            peak_memory_mb=max(used.ru_maxrss * unit, peak) / 1e6,
        )

    def _count(self) -> bool:
        """Count what a command in the sandbox left running, once it has ended; False where nobody says so any
        more. Of several counts the largest holds."""
        if not os.read(self.ended[0], 4096):
            return False
        for first in limits.children_of(self.process.pid)[:1]:
            waiting = limits.children_of(first)[:1]
            others = set(limits.descendants(first)) - set(waiting)
            self.left = max(self.left, sum(bool(born(pid)) for pid in others))
        self.over = min(self.over, time.monotonic() + _GRACE)
        self._let_go()
        return True

    def _let_go(self) -> None:
        """Let the sandbox's first process end, once its command has."""
        if self.counted[1] >= 0:
            os.close(self.counted[1])
            self.counted = self.counted[0], -1

    def _write(self, name: str, record: Stage | Usage) -> None:
        with contextlib.suppress(OSError):
            files.write(self._file(name), record)

    def _file(self, name: str) -> str:
        return os.path.join(self.folder, name)


def _clear_away(folder: str, strays: Sequence[str]) -> None:
    """Remove what no output is, before another stage or DVC reads it; the log says what."""
    for path in strays:
        snapshot.remove(path)
    if strays:
        names = ", ".join(os.path.relpath(path, folder) for path in strays[:_NAMED])
        more = f" and {len(strays) - _NAMED} more" if len(strays) > _NAMED else ""
        print(f"ar: removed what no stage declares as its output: {_told(names)}{more}", file=sys.stderr)


def _told(text: str) -> str:
    """Words that a stage chose, names of files, without what it was handed."""
    from ar.redaction import redact

    return redact(text)


def left_words(count: int) -> str:
    """What is said of processes that outlive their run's command."""
    processes, were = ("process", "was") if count == 1 else ("processes", "were")
    return f"{count} {processes} that it left running {were} ended"


def _shell_code(code: int) -> int:
    """An exit code as a shell has it: a signal is 128 and more."""
    return code if code >= 0 else 128 - code


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it booted; 0 if it does not say."""
    with contextlib.suppress(OSError, ValueError):
        words = contents("/proc/vmstat").split()
        return int(words[words.index("oom_kill") + 1])
    return 0


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the launcher's own clean-up has to do."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
