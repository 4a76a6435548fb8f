"""A worker: claims a waiting experiment, runs it in a folder of its own, records how it ended, and again.

A worker is a process that imported DVC once. Its parent writes `WAKE` to its stdin when there may be work
(it waits for the first), `FINISH` when the run in hand is to be the last, and reads one JSON event per line
from its stdout; when stdin closes, the run in hand goes back to the queue and the worker ends. Everything
that matters is in refs and notes, so that a worker may be killed at will.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ar.errors import ArError
from ar.git import refs
from ar.git.repo import Repo, read_json
from ar.history.messages import Message
from ar.history.records import Note
from ar.local import claims
from ar.local.claims import Ask, Claim
from ar.project.pipeline_file import Declared
from ar.project.program import Program
from ar.project.program import load as load_program
from ar.project.project import Project
from ar.runs import budget, faults, outcomes, queue, sandbox
from ar.runs.early_stop import Lookout, incumbents_curve
from ar.runs.pipeline import Failure, Pipeline, Workspace
from ar.runs.slots import Meter, Slot, metered
from ar.stage import launcher, processes

WAKE, FINISH = b"\n", b"f"
# What a stage may see of our environment. Everything else, keys above all, stays outside.
ALLOWED_ENV = (
    "CUDA_VISIBLE_DEVICES", "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME",
    "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH", "PYTHONDONTWRITEBYTECODE",
    "PYTHONHASHSEED", "TERM", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
)  # fmt: skip


class Worker:
    """Runs claimed experiments, one after the other.

    Args:
        slots: where a stage may train, whichever is free first; none where it need not wait for any.
        report: called with an event: `{"event": …, "name": …}`: "started", "retried" after a fault of the
            machine's, "ended", "requeued" or "withdrawn"; or `{"event": "refused", "reason": …}` where the
            budget forbids to run what waits.
    """

    def __init__(
        self,
        repo: Repo,
        slots: Sequence[Slot] = (),
        report: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.repo = repo
        self.pipeline = Pipeline(repo)
        self.slots = slots
        self.report = report or (lambda event: None)
        self.stopping = threading.Event()
        self.finishing = threading.Event()
        self._claimed: Claim | None = None

    def run_next(self) -> bool:
        """Claim and run one experiment. False if none waits, or the budget has no run left."""
        claimed = self._claim()
        if claimed is None:
            return False
        self._claimed = claimed
        self._pass_on()
        self.report({"event": "started", "name": claimed.name})
        end = {"event": "requeued"}
        try:
            end = self._run(claimed, load_program(self.repo.root))
        except BaseException:
            queue.requeue(self.pipeline, claimed)
            raise
        finally:
            self._claimed = None
            self.report({"name": claimed.name, **end})
        return True

    def _claim(self) -> Claim | None:
        with self.repo.lock("claim"):  # two workers must not both take the budget's last run
            nothing, base = budget.refusals(Project(self.repo, load_program(self.repo.root)))
            claimed = None if nothing else queue.claim(self.pipeline, base=not base)
        if claimed is None and (nothing or base) and self.repo.refs(refs.QUEUE):
            self.report({"event": "refused", "reason": nothing or base})
        return claimed

    def finish(self) -> None:
        """Make the run in hand the last; one that does not train yet goes back to the queue."""
        self.finishing.set()
        self._pass_on()

    def stop(self) -> None:
        """End the stage that runs, if any; its experiment goes back to the queue."""
        self.stopping.set()
        self._pass_on()

    def _pass_on(self) -> None:
        """Tell the launcher what we were told, before or after there is a claim to tell it of."""
        claimed = self._claimed
        if claimed is not None and (self.stopping.is_set() or self.finishing.is_set()):
            claims.ask(self.repo, claimed.name, Ask.REQUEUE if self.stopping.is_set() else Ask.YIELD)

    def _run(self, claimed: Claim, program: Program, fault: str = "") -> dict[str, Any]:
        """Run and settle one claimed experiment. Returns the event that says how.

        Args:
            fault: what ended its first run, where this is the second.
        """
        with self.pipeline.workspace(claimed.name, claimed.rev, claimed.baseline) as workspace:
            with self._metered(claimed) as meter, self._lookout(claimed, program, workspace):
                outcome = self._reproduce(claimed, program, workspace)
            if not isinstance(outcome, Failure) or not claimed.heeded:
                seen = "" if fault or not isinstance(outcome, Failure) else faults.of_run(claimed)
                if not seen:
                    rev, note = outcomes.of_run(Project(self.repo, program), claimed, outcome, meter)
                    return self._finish(claimed, (rev, replace(note, retried=fault)))
        if not claimed.heeded:
            self.report({"event": "retried", "name": claimed.name, "reason": seen})
            claimed.begin_again()
            return self._run(claimed, program, seen)
        # Whoever takes it next sets up the same folder: it goes back only now that ours is gone.
        if claimed.heeded is Ask.CANCEL:
            return self._finish(claimed, outcomes.of_cancelled(Project(self.repo, program), claimed))
        if claimed.heeded is Ask.WITHDRAW:
            queue.drop(self.repo, claimed)
            return {"event": "withdrawn"}
        queue.requeue(self.pipeline, claimed)
        return {"event": "requeued"}

    def _reproduce(self, claimed: Claim, program: Program, workspace: Workspace) -> Failure | str:
        plan = claimed.folder / launcher.PLAN
        with (
            _output_to(claimed.log),
            _environment(SHELL=str(_launcher_script(self.repo)), AR_LAUNCH=str(plan)),
        ):
            plan.write_text(json.dumps(self._plan(program, claimed, workspace)))
            outcome = self.pipeline.reproduce(workspace, claimed.message)
            if not isinstance(outcome, Failure):
                self.pipeline.collect(workspace, outcome)
        if isinstance(outcome, Failure) and claimed.begun and not (claimed.folder / launcher.USAGE).exists():
            # The launcher was killed before it could end what it had started.
            stage = read_json(claimed.folder / launcher.STAGE)
            processes.end_run(self.repo.root, claimed.name, stage, plan)
        return outcome

    def _lookout(self, claimed: Claim, program: Program, workspace: Workspace) -> Lookout:
        what = program.early_stop
        known = incumbents_curve(Project(self.repo, program), claimed.baseline, claimed.message)
        return Lookout(
            workspace.root, what, known, lambda why: claims.ask(self.repo, claimed.name, Ask.CANCEL, why)
        )

    def _metered(self, claimed: Claim) -> contextlib.AbstractContextManager[Meter]:
        gpus = {slot.name: slot.gpu for slot in self.slots if slot.gpu}
        if not gpus:
            return contextlib.nullcontext(Meter())
        return metered(lambda: gpus.get(str(claims.stage(self.repo, claimed.name).get("slot")), ""))

    def _finish(self, claimed: Claim, end: tuple[str, Note]) -> dict[str, Any]:
        rev, note = end
        queue.finish(self.repo, claimed, rev, note)
        return {"event": "ended", "status": str(note.status), "reason": note.reason}

    def _plan(self, program: Program, claimed: Claim, workspace: Workspace) -> dict[str, Any]:
        """What the launcher is to do: see there."""
        wall = sandbox.find(program.sandbox)
        env = self._stage_env(program)
        share = min((slot.share for slot in self.slots), default=1.0)
        limits = sandbox.limits(program.sandbox, self.repo.root, share)
        declared = Declared.read(self.repo, claimed.rev)
        return {
            "worker": os.getpid(),
            "slots": [slot.describe(self.repo) for slot in self.slots],
            "env": sandbox.environment(env) if wall.program else env,
            "timeout": program.timeout(Message.parse(claimed.message).rung),
            "wall": sandbox.command(
                wall,
                program.sandbox,
                workspace.top,
                workspace.root / ".dvc",
                self.repo.root,
                self.pipeline.cache,
                limits,
            ),
            "workspace": str(workspace.top),
            "inputs": [str(workspace.root / path) for path in sorted(declared.inputs)],
            "outputs": [str(workspace.root / path) for path in sorted(declared.outputs)],
            "cache": self.pipeline.cache,
            "limits": limits._asdict(),
        }

    def _stage_env(self, program: Program) -> dict[str, str]:
        env = {name: os.environ[name] for name in (*ALLOWED_ENV, *program.sandbox.env) if name in os.environ}
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
        return env


def main(argv: list[str]) -> int:
    """The process behind `Worker`: `python -m ar.runs.worker ROOT SLOTS`, the slots as JSON."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to interpret
    worker = Worker(
        Repo.open(Path(argv[1])),
        slots=[Slot(**slot) for slot in json.loads(argv[2])],
        report=lambda event: print(json.dumps(event), file=events),
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    wake = threading.Event()
    threading.Thread(target=_listen, args=(worker, wake), daemon=True).start()
    try:
        worker.pipeline.load()
        print(json.dumps({"event": "ready"}), file=events)
        wake.wait()
        while not worker.stopping.is_set() and not worker.finishing.is_set():
            if worker.run_next():
                continue
            print(json.dumps({"event": "idle"}), file=events)
            wake.wait()
            wake.clear()
    except BrokenPipeError:
        return 0
    except (ArError, OSError) as error:
        print(json.dumps({"event": "failed", "reason": str(error)}), file=events)
        return 2
    return 0


def _listen(worker: Worker, wake: threading.Event) -> None:
    descriptor = sys.stdin.fileno()
    told = b"?"
    while told:
        select.select([descriptor], [], [])
        told = os.read(descriptor, 4096)
        if FINISH in told:
            worker.finish()
        if not told:
            worker.stop()
        wake.set()


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """What we and our children print goes to the file: DVC and its stages write to our descriptors."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in (*saved, target):
            os.close(descriptor)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _launcher_script(repo: Repo) -> Path:
    """An executable that DVC can use as a shell: our launcher, in an interpreter that loads nothing else."""
    script = repo.git_dir / "ar" / "launcher"
    source = f"import os, sys; sys.path.append({str(Path(__file__).parents[2])!r}); "
    source += "import ar.stage.launcher as it; "
    program = f"{source}code = it.main(sys.argv); sys.stderr.flush(); os._exit(code)"
    content = f'#!/bin/sh\nexec {_quoted(sys.executable)} -I -S -c {_quoted(program)} "$@"\n'
    if not script.exists() or script.read_text() != content:
        fresh = script.with_name(f"launcher.{os.getpid()}")
        fresh.write_text(content)
        fresh.chmod(0o700)
        fresh.replace(script)
    return script


def _quoted(path: str) -> str:
    import shlex

    return shlex.quote(path)


if __name__ == "__main__":
    code = main(sys.argv)
    os._exit(code)  # DVC and what it loaded take their time to be taken down; nothing of ours hangs on it
