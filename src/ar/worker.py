"""A worker: claims a waiting experiment, runs it in a folder of its own, records how it ended, and again.

A worker is a process that imported DVC once. Its parent writes `WAKE` to its stdin when there may be work,
`FINISH` when the run in hand is to be the last, and reads one JSON event per line from its stdout; when stdin
closes, the run in hand goes back to the queue and the worker ends. Everything that matters is in refs and
notes, so that a worker may be killed at will.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ar import launcher, params, queue, sandbox
from ar.errors import ArError
from ar.history import number, read_layout
from ar.messages import Message
from ar.pipeline import ARGS_FILE, Failure, Pipeline, Workspace
from ar.program import Program
from ar.program import load as load_program
from ar.queue import Claim
from ar.records import Note, Status
from ar.redaction import redact
from ar.repo import Repo
from ar.text import plain

LOG_LIMIT = 16_000
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
        threads: how many threads a stage is told to use (`OMP_NUM_THREADS`); None leaves it alone.
        report: called with an event: `{"event": "started" | "ended" | "requeued", "name": …, …}`.
    """

    def __init__(
        self, repo: Repo, threads: int | None = None, report: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self.repo = repo
        self.pipeline = Pipeline(repo)
        self.threads = threads
        self.report = report or (lambda event: None)
        self.stopping = threading.Event()
        self.finishing = threading.Event()

    def run_next(self) -> bool:
        """Claim and run one experiment. False if none waits."""
        claimed = queue.claim(self.repo, self.pipeline)
        if claimed is None:
            return False
        program = load_program(self.repo.root)
        self.report({"event": "started", "name": claimed.name})
        try:
            rev, note = self._run(claimed, program)
        except BaseException:
            queue.requeue(self.repo, self.pipeline, claimed)
            self.report({"event": "requeued", "name": claimed.name})
            raise
        if self.stopping.is_set() and note.status is not Status.SUCCEEDED:
            queue.requeue(self.repo, self.pipeline, claimed)
            self.report({"event": "requeued", "name": claimed.name})
            return True
        queue.finish(self.repo, claimed, rev, note)
        self.report(
            {"event": "ended", "name": claimed.name, "status": str(note.status), "reason": note.reason}
        )
        return True

    def stop(self) -> None:
        """End the stage that runs, if any; its experiment goes back to the queue."""
        self.stopping.set()
        import psutil

        with contextlib.suppress(psutil.Error):
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    if "launcher" in " ".join(child.cmdline()):
                        child.terminate()

    def _run(self, claimed: Claim, program: Program) -> tuple[str, Note]:
        began = time.monotonic()
        claimed.folder.mkdir(parents=True, exist_ok=True)
        log = claimed.folder / "log"
        claimed.describe(log=str(log))
        plan = claimed.folder / "launch.json"
        with (
            self.pipeline.workspace(claimed.name, claimed.rev, claimed.baseline) as workspace,
            _output_to(log),
            _environment(SHELL=str(_launcher_script(self.repo)), AR_LAUNCH=str(plan)),
        ):
            plan.write_text(json.dumps(self._plan(program, claimed, workspace)))
            outcome = self.pipeline.reproduce(workspace, claimed.message)
            if not isinstance(outcome, Failure):
                self.pipeline.collect(workspace, outcome)
        usage = _read_json(claimed.folder / "usage.json")
        note = Note(
            status=Status.SUCCEEDED,
            log=_tail(log),
            seconds=round(time.monotonic() - began, 3),
            cpu_seconds=_rounded(usage.get("cpu_seconds")),
            peak_memory_mb=_rounded(usage.get("peak_memory_mb")),
            worker=f"{socket.gethostname()}:{os.getpid()}",
            finished=round(time.time(), 3),
            spend=Message.parse(claimed.message).spend,
        )
        if isinstance(outcome, Failure):
            status, reason = Status.CRASHED, _reason(outcome.reason, note.log)
            if usage.get("reason"):
                reason = f"ended: {plain(str(usage['reason']))}"
            if usage.get("timed_out"):
                status, reason = (
                    Status.TIMED_OUT,
                    f"ended after the time limit of {program.budget.timeout:g} s",
                )
            return self._crash_commit(claimed, program), replace(note, status=status, reason=reason)
        lacking = self._lacking(outcome, program)
        if lacking:
            return outcome, replace(note, status=Status.CRASHED, reason=lacking)
        if usage.get("left"):
            return outcome, replace(note, reason=launcher.left_words(int(usage["left"])))
        return outcome, note

    def _plan(self, program: Program, claimed: Claim, workspace: Workspace) -> dict[str, Any]:
        """What the launcher is to do: see there."""
        wall = sandbox.find(program.sandbox)
        env = self._stage_env(program)
        share = min(1.0, self.threads / (os.cpu_count() or 1)) if self.threads else 1.0
        limits = sandbox.limits(program.sandbox, self.repo.root, share)
        declared = read_layout(self.repo, claimed.rev)
        return {
            "env": sandbox.environment(env) if wall.program else env,
            "timeout": program.budget.timeout,
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
            "limits": asdict(limits),
        }

    def _stage_env(self, program: Program) -> dict[str, str]:
        env = {name: os.environ[name] for name in (*ALLOWED_ENV, *program.sandbox.env) if name in os.environ}
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
        if self.threads:
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
                env[name] = str(self.threads)
        return env

    def _crash_commit(self, claimed: Claim, program: Program) -> str:
        """A crash as a permanent commit: the tree that was tried, without its metrics."""
        changes: dict[str, bytes | None] = {ARGS_FILE: None}
        files = self.repo.files(claimed.rev)
        for metric in program.metrics:
            if metric.file in files:
                changes[metric.file] = None
        changes[program.objective.file] = b'{"crashed": 1}\n'
        tree = self.repo.write_tree(claimed.rev, changes)
        return self.repo.commit_tree(tree, [claimed.baseline], claimed.message)

    def _lacking(self, rev: str, program: Program) -> str:
        """What a finished run's metrics lack; empty if nothing."""
        for metric in program.metrics:
            content = self.repo.read(rev, metric.file)
            if content is None:
                continue  # kept in DVC's cache; `history` reads it there
            try:
                value = params.flat(content, metric.file).get(metric.key)
            except ArError as error:
                return f"the run ended, but {error.message}"
            if value is None:
                return f"the run ended, but {metric.file} has no '{metric.key}'"
            if number(value) is None:
                return f"the run ended, but {metric} is {redact(str(value))[:40]}, not a finite number"
        return ""


def main(argv: list[str]) -> int:
    """The process behind `Worker`: `python -m ar.worker ROOT THREADS`."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to interpret
    worker = Worker(
        Repo.open(Path(argv[1])),
        threads=int(argv[2]) or None,
        report=lambda event: print(json.dumps(event), file=events),
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    wake = threading.Event()
    threading.Thread(target=_listen, args=(worker, wake), daemon=True).start()
    print(json.dumps({"event": "ready"}), file=events)
    try:
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
            worker.finishing.set()
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
    source = f"import sys; sys.path.append({str(Path(__file__).parents[1])!r}); import ar.launcher as it; "
    program = f"{source}sys.exit(it.main(sys.argv))"
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


def _tail(path: Path) -> str:
    """The end of a log, readable: of progress bars their last state, no escapes."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        size = stream.tell()
        stream.seek(max(0, size - 4 * LOG_LIMIT))
        content = stream.read()
        if size > 4 * LOG_LIMIT:
            content = re.sub(rb"\A\S{1,4096}", b"", content)  # half a secret could not be told for one
        return redact(plain(content.decode(errors="replace"))).strip()[-LOG_LIMIT:]
    return ""


def _reason(failure: str, log: str) -> str:
    """The failure with the last thing that the run itself said."""
    own = [
        line
        for line in log.splitlines()
        if line.strip() and not line.startswith(("ERROR: failed to", "Running stage", "> "))
    ]
    last = own[-1].strip()[:200] if own else ""
    return redact(f"{failure}: {last}" if last else failure)


def _read_json(path: Path) -> Mapping[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        data = json.loads(path.read_text())
        if isinstance(data, dict):
            return data
    return {}


def _rounded(value: Any) -> float | None:
    return round(value, 3) if isinstance(value, int | float) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv))
