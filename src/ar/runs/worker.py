"""A worker: claims a waiting experiment, runs it in a folder of its own, records how it ended, and again.

A worker is a process that imported DVC once. Its parent writes `WAKE` and `FINISH` to its stdin (it waits
for the first `WAKE`) and reads its events from its stdout; when stdin closes, the run in hand goes back to
the queue and the worker ends. All that matters is in refs and notes: a worker may be killed at any time.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ar.changes import integrity
from ar.errors import ArError, full_disk
from ar.git import refs
from ar.git.remote import Unreachable
from ar.git.repo import Repo
from ar.history import reader
from ar.history.messages import BASELINE_AGENT, Message
from ar.history.records import Note
from ar.judge import nodes
from ar.local import claims, locks, orphans
from ar.local.claims import Claim
from ar.project.identity import identity
from ar.project.pipeline_file import ARGS_FILE, LOCK_FILE, Declared
from ar.project.program import FILE, Program, Sandbox
from ar.project.program_file import current as current_program
from ar.project.project import Project
from ar.runs import demands, devices, faults, interpreter, outcomes, sandbox, showing
from ar.runs.early_stop import curve_watch, incumbents_curve
from ar.runs.events import FINISH, WAKE, Event, EventKind
from ar.runs.gpu_meter import Meter, metered
from ar.runs.keeper import LOST
from ar.runs.pipeline import Failure, Outputs, Pipeline, Workspace, changed
from ar.runs.queues import Home, Queue
from ar.runs.remote_queue import RemoteQueue
from ar.runs.slots import Slot
from ar.runs.syscalls import Caller
from ar.stage import files, snapshot
from ar.stage.files import Inside, Plan, Request, Requested

_LOOK = 0.1  # seconds between two looks at what is asked
# What a stage may see of our environment. Everything else, keys above all, stays outside.
ALLOWED_ENV = (
    "CONDA_DEFAULT_ENV", "CONDA_PREFIX", "CUDA_VISIBLE_DEVICES", "HOME", "LANG", "LANGUAGE", "LC_ALL",
    "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME",
    "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH", "PYTHONDONTWRITEBYTECODE",
    "PYTHONHASHSEED", "TERM", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
)  # fmt: skip


class Worker:
    """Runs claimed experiments, one after the other.

    Args:
        slots: where a stage may train, whichever is free first; none where it need not wait for any.
        only: name of the one experiment that it may take; empty for all that wait.
        report: called with every event.
        remote: whose queue it works on; empty for the clone's own.
    """

    def __init__(
        self,
        repo: Repo,
        slots: Sequence[Slot] = (),
        only: str = "",
        report: Callable[[Event], None] | None = None,
        remote: str = "",
    ) -> None:
        self.repo = repo
        self.pipeline = Pipeline(repo)
        self.slots = slots
        self.only = only
        self.report = report or (lambda event: None)
        self.share = 1.0  # of the machine that a run may use, where no slot says
        self.told: Request | None = None
        self.queue: Queue = Home(self.pipeline) if not remote else self._of_remote(remote)
        self._claimed: Claim | None = None
        self._memory = reader.Memory()

    def _of_remote(self, name: str) -> RemoteQueue:
        return RemoteQueue(
            self.pipeline,
            name,
            device=", ".join(self._classes),
            tell=lambda words: self.report(Event(EventKind.TOLD, reason=words)),
            ending=lambda: self.told is Request.REQUEUE,
        )

    def run_next(self) -> bool:
        """Claim and run one experiment. False if none waits, or the budget has no run left."""
        claimed = self._claim()
        if claimed is None:
            return False
        self._claimed = claimed
        self._pass_on()
        self.report(Event(EventKind.STARTED, claimed.name))
        end = EventKind.REQUEUED
        try:
            end = self._run(claimed)
        except BaseException:
            self.queue.requeue(claimed)
            raise
        finally:
            self._claimed = None
            self.report(Event(end, claimed.name, LOST if end is EventKind.LOST else ""))
        return True

    def _claim(self) -> Claim | None:
        program, passed = current_program(self.repo), list[Message]()
        aside = self._set_aside(program)

        def suits(message: Message) -> bool:
            if message.only_at not in ("", self._host):
                return False
            found = any(self._suits(slot, program, message) for slot in self._places)
            found = found and (message.aa or not aside)  # an A/A check tells whether all is well again
            passed.extend([] if found else [message])
            return found

        # Two workers must not both take the budget's last run, which on a remote is for others to see to.
        with contextlib.nullcontext() if self.queue.remote else locks.hold(self.repo, "claim"):
            nothing, base = self.queue.refusals()
            try:
                claimed = None if nothing else self.queue.claim(self.only, not base, suits)
            except Unreachable:
                return None  # whoever wakes us looks whether it is back, and tells
        if claimed is None and (nothing or base) and self.repo.refs(refs.QUEUE):
            self.report(Event(EventKind.REFUSED, reason=nothing or base))
        elif claimed is None and passed:
            self.report(Event(EventKind.PASSED, reason=aside or self._lack(program, passed)))
        return claimed

    def _set_aside(self, program: Program) -> str:
        """Why this machine is set aside, in words; empty while it is not. It is held against others, which
        there are on a remote's queue alone."""
        if not self.queue.remote:
            return ""
        history = reader.read(Project(self.repo, program), self._memory)
        here = [devices.timed(devices.of_slot(slot)) for slot in self._places]
        found = (one for it in here for one in nodes.set_aside(program, history, it) if one.host == it.host)
        return next((f"this machine is set aside: {one.words}" for one in found), "")

    @property
    def _places(self) -> list[str]:
        """Names of its slots; one without a name where it need not wait for any."""
        return [slot.name for slot in self.slots] or [""]

    @property
    def _host(self) -> str:
        return devices.of_slot(self._places[0]).host

    @property
    def _classes(self) -> list[str]:
        """The classes of devices that it has."""
        return list(dict.fromkeys(devices.of_slot(slot).device_class for slot in self._places))

    def _suits(self, slot: str, program: Program, message: Message) -> bool:
        """Whether an experiment may run in a slot. What is to run on a class that does not count any more may
        run on any."""
        here, wanted = devices.of_slot(slot).device_class, message.only_on
        return program.allows_device(here) and (wanted in ("", here) or not program.allows_device(wanted))

    def _lack(self, program: Program, passed: Sequence[Message]) -> str:
        """Why nothing of what waits may run on the devices that it has."""
        here, wanted = ", ".join(self._classes), sorted({message.only_on for message in passed})
        if not any(map(program.allows_device, self._classes)):
            return f"nothing runs here, on {here}: it is not among devices: in {FILE}"
        return f"what waits is to run on {', '.join(wanted)}, and here is {here}"

    def end(self, how: Request) -> None:
        """Claim nothing more; the run in hand goes back to the queue, unless `how` spares it."""
        self.told = how
        self._pass_on()

    def _pass_on(self) -> None:
        """Tell the launcher what we were told, whether that was before or after we claimed an experiment."""
        claimed, told = self._claimed, self.told
        if claimed is not None and told is not None:
            claims.ask(self.repo, claimed.name, told)

    def _run(self, claimed: Claim) -> EventKind:
        """Run and settle one claimed experiment, again where the machine failed it. Returns how that went."""
        project, fault, tries = Project(self.repo, self.queue.program(claimed)), "", 0
        if flaw := self.queue.flaw(claimed):
            return self._finish(claimed, *outcomes.of_refused(project, claimed, flaw))
        while True:
            tries += 1
            left = self._try(claimed, project, fault, tries)
            if isinstance(left, str) and not isinstance(left, EventKind):
                fault = left
                self.report(Event(EventKind.RETRIED, claimed.name, fault))
                claimed.begin_again()
                asked = _rest(claimed, faults.pause(claimed.message, tries) or 0.0)
                if asked is None:
                    continue
                left = asked
            return left if isinstance(left, EventKind) else self._heed(claimed, project, left)

    def _finish(self, claimed: Claim, rev: str, note: Note) -> EventKind:
        return EventKind.ENDED if self.queue.finish(claimed, rev, note) else EventKind.LOST

    def _try(self, claimed: Claim, project: Project, fault: str, tries: int) -> EventKind | Requested | str:
        """Run it, and record its end if that is one.

        Returns:
            How it went once its end is recorded; else what is asked of it, or the machine's fault that it is
            to be tried again for.
        """
        end = functools.partial(claims.ask, self.repo, claimed.name, Request.CANCEL)
        program, again = project.program, ""
        with self.pipeline.workspace(claimed.name, claimed.rev, claimed.baseline) as workspace:
            incumbent = incumbents_curve(project, claimed.baseline, claimed.message)
            watch = curve_watch(workspace.root, program.early_stop, incumbent, end)
            with self._metered(claimed) as meter, watch, showing.shown(self.repo, claimed):
                outcome = self.reproduce(claimed, program, workspace)
            asked = claimed.requested if isinstance(outcome, Failure) else None
            if isinstance(outcome, Failure) and faults.pause(claimed.message, tries) is not None:
                again = faults.of_run(claimed, outcome)
            if not asked and not again:
                rev, note = outcomes.of_run(project, claimed, outcome, meter)
                python = interpreter.find(self.repo.root, Declared.read(self.repo, claimed.rev).commands)
                told = replace(note, retried=fault, python=str(python))
                if note.device:
                    device = replace(devices.timed(note.device), torch=python.installed("torch"))
                    told = replace(told, device=device)
                return self._finish(claimed, rev, told)
        # Whoever takes it next sets up the same folder: it goes back only once ours is gone.
        return claimed.requested or asked or again

    def _heed(self, claimed: Claim, project: Project, asked: Requested) -> EventKind:
        """Do what is asked of an experiment that did not come to its end."""
        match asked.request:
            case Request.CANCEL:
                return self._finish(claimed, *outcomes.of_cancelled(project, claimed, asked.why))
            case Request.WITHDRAW:
                self.queue.drop(claimed)
                return EventKind.WITHDRAWN
            case Request.DISOWN:
                self.queue.disown(claimed)
                return EventKind.LOST
        self.queue.requeue(claimed)
        return EventKind.REQUEUED

    def reproduce(self, claimed: Claim, program: Program, workspace: Workspace) -> Failure | str:
        """Let DVC run the pipeline in a claimed experiment's folder; it prints to the claim's log.

        Raises:
            NotAllowed: this machine's owner has not allowed what that takes.
        """
        demands.refuse(self.repo, demands.of_stages(self.repo, program, claimed.baseline))
        told = {"SHELL": str(launcher_script(self.repo)), "AR_LAUNCH": str(claimed.plan)}
        with _output_to(claimed.log), changed(os.environ, told):
            plan = self.plan(program, claimed, workspace)
            declared = Declared.read(self.repo, claimed.rev)
            targets = declared.making(metric.file for metric in program.written) or list(declared.pipelines)
            written = dict[str, list[str]]()

            def begin(outputs: Outputs) -> None:
                written.update(outputs)
                # Where a stage makes its folder anew, DVC writes the list of what git ignores there again.
                folders = {Path(path).parent for paths in outputs.values() for path in paths}
                ignores = sorted(f"{folder}/.gitignore" for folder in folders)
                files.write(claimed.plan, plan._replace(outputs=written, rewrite=plan.rewrite + ignores))

            outcome = self.pipeline.reproduce(workspace, claimed.message, targets, begin)
            if not isinstance(outcome, Failure):
                may = [*plan.rewrite, *(path for paths in written.values() for path in paths)]
                outcome = self._as_queued(claimed, outcome, workspace, may)
        if isinstance(outcome, Failure) and outcome.launcher_died:
            orphans.end_all(self.repo.root, claimed)  # as the launcher did not live to do
        return outcome

    def _metered(self, claimed: Claim) -> contextlib.AbstractContextManager[Meter]:
        gpus = {slot.name: slot.gpu for slot in self.slots if slot.gpu}
        if not gpus:
            return contextlib.nullcontext(Meter())
        return metered(lambda: gpus.get(stage.slot, "") if (stage := claimed.stage) else "")

    def plan(self, program: Program, claimed: Claim, workspace: Workspace) -> Plan:
        """What the launcher is to do for each of its stages."""
        message, bubblewrap = Message.parse(claimed.message), sandbox.find(program.sandbox)
        share = min((slot.share for slot in self.slots), default=self.share)
        limits = sandbox.limits(program.sandbox, self.repo.root, share)
        dvc, cache = workspace.root / ".dvc", self.pipeline.cache
        declared = Declared.read(self.repo, claimed.rev)
        python = interpreter.find(self.repo.root, declared.commands)
        if interpreter.named(declared.commands):
            sandbox.refuse_hidden(bubblewrap, program.sandbox, self.repo.root, python)
        sandbox.refuse_missing(program.sandbox, self.repo.root)
        external = Declared.read(self.repo, claimed.baseline).absolute
        shown = replace(program.sandbox, read=(*program.sandbox.read, *external, *workspace.links))

        def inside(settings: Sandbox) -> Inside:
            env = {name: os.environ[name] for name in (*ALLOWED_ENV, *settings.env) if name in os.environ}
            env = interpreter.environment(python, env, workspace.root)
            if not bubblewrap.program:
                return Inside([], env)
            command = sandbox.command(
                bubblewrap, settings, workspace.top, dvc, self.repo.root, cache, limits, python
            )
            seccomp = bubblewrap.filter(Caller.STAGE).hex()
            return Inside(command, sandbox.environment(env, python, settings.network), seccomp)

        return Plan(
            worker=os.getpid(),
            slots=[
                slot.place(self.repo)
                for slot in [it for it in self.slots if self._suits(it.name, program, message)] or self.slots
            ],
            timeout=program.timeout(message.rung),
            usual=inside(shown),
            own={name: inside(shown.of_stage(name)) for name in program.sandbox.stages},
            workspace=str(workspace.top),
            outputs={},
            rewrite=[str(workspace.root / path) for path in self._rewritten(program, claimed)],
            fixed=[
                str(workspace.root / path)
                for path in (*declared.inputs, *declared.params, *sorted(program.param_files))
            ],
            cache=cache,
            limits=limits,
            handed=program.handed,
        )

    def _as_queued(self, claimed: Claim, rev: str, workspace: Workspace, may: Sequence[str]) -> Failure | str:
        """The result, if only what stages may write, and what DVC does, is other in it than was queued."""
        for path in self.repo.changed(claimed.rev, rev):
            dvcs = path == ARGS_FILE or Path(path).name in (LOCK_FILE, ".gitignore")
            if not dvcs and not snapshot.inside(str(workspace.root / path), may):
                return Failure(f"{path} is not as it was queued")
        return rev

    def _rewritten(self, program: Program, claimed: Claim) -> list[str]:
        """Files that stages may change though none declares them: `dvc.yaml`, to which DVCLive adds, and what
        runs of the baseline change. They themselves may change any."""
        project = Project(self.repo, program)
        own = Message.parse(claimed.message).agent == BASELINE_AGENT
        if own or identity(project, claimed.rev) == identity(project, claimed.baseline):
            return [""]
        usual = integrity.reference(reader.read(project, self._memory), claimed.baseline)
        pipelines = Declared.read(self.repo, claimed.baseline).pipelines
        return [*pipelines, *self.repo.changed(claimed.baseline, usual)]


def _rest(claimed: Claim, seconds: float) -> Requested | None:
    """Let some time pass before an experiment is tried again; at once what is asked of it meanwhile."""
    until = time.monotonic() + seconds
    while (asked := claimed.requested) is None and time.monotonic() < until:
        time.sleep(_LOOK)
    return asked


def main(argv: list[str]) -> int:
    """The process behind `Worker`: `python -m ar.runs.worker ROOT SLOTS ONLY REMOTE`, the slots as JSON."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to interpret
    slots = [Slot(**slot) for slot in json.loads(argv[2])]
    repo = Repo.open(Path(argv[1]))
    worker = Worker(repo, slots, argv[3], lambda event: print(event, file=events), argv[4])
    signal.signal(signal.SIGTERM, lambda *_: worker.end(Request.REQUEUE))
    wake = threading.Event()
    threading.Thread(target=_listen, args=(worker, wake), daemon=True).start()
    try:
        devices.fixed_work()  # now, while nothing of ours runs yet
        worker.pipeline.load()
        print(Event(EventKind.READY), file=events)
        wake.wait()
        while worker.told is None:
            if worker.run_next():
                continue
            print(Event(EventKind.IDLE), file=events)
            wake.wait()
            wake.clear()
    except BrokenPipeError:
        return 0
    except Exception as error:
        full = full_disk(error)
        if not full and not isinstance(error, ArError | OSError):
            raise
        print(Event(EventKind.FAILED, reason=str(full or error)), file=events)
        return 2
    return 0


def _listen(worker: Worker, wake: threading.Event) -> None:
    told = WAKE
    while told:
        told = os.read(sys.stdin.fileno(), 4096)
        if FINISH in told or not told:
            worker.end(Request.YIELD if told else Request.REQUEUE)
        wake.set()


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """What we and our children print goes to the file: DVC and its stages write to our descriptors."""
    saved = os.dup(1), os.dup(2)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)

    def point(*targets: int) -> None:
        for stream, descriptor, place in zip((sys.stdout, sys.stderr), (1, 2), targets, strict=True):
            stream.flush()
            os.dup2(place, descriptor)

    try:
        point(target, target)
        yield
    finally:
        point(*saved)
        for descriptor in (*saved, target):
            os.close(descriptor)


def launcher_script(repo: Repo) -> Path:
    """An executable that DVC can use as a shell: our launcher, in an interpreter that loads nothing else."""
    script = repo.git_dir / "ar" / "launcher"
    program = (
        f"import os, sys; sys.path.append({str(Path(__file__).parents[2])!r}); "
        "import ar.stage.launcher as it; code = it.main(sys.argv); sys.stderr.flush(); os._exit(code)"
    )
    start = f'exec {shlex.quote(sys.executable)} -I -S -c {shlex.quote(program)} "$@"'
    content = f"#!/bin/sh\n{start}\n"
    if not script.exists() or script.read_text() != content:
        files.write_whole(script, content.encode(), mode=0o700)
    return script


if __name__ == "__main__":
    code = main(sys.argv)
    os._exit(code)  # tearing down DVC and what it loaded takes a while, and nothing of ours needs it
