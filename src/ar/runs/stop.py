"""`ar stop`: end one experiment for good, or everything that runs for now."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from ar.errors import BadState
from ar.git import refs
from ar.git.repo import Repo
from ar.history import leases
from ar.history.records import Experiment
from ar.local import claims, locks
from ar.project.project import Project
from ar.runs import outcomes, queue, recovery
from ar.runs.pipeline import Pipeline
from ar.runs.remote_queue import RemoteQueue
from ar.stage.files import Request

WORKER = "worker"  # an `ar worker` holds the lock `worker-<pid>`
_PATIENCE = 60.0
_RACES = 10  # with whoever renews a lease


def stop_all(repo: Repo, say: Callable[[str], None]) -> list[str]:
    """End `ar run` and every `ar worker`: what they have goes back to the queue. Returns who was ended.

    Raises:
        BadState: one does not end.
    """
    ended = []
    for name in locks.names(repo, "run", f"{WORKER}-*"):
        process = locks.holder(repo, name)
        if process is None or not process.tell(signal.SIGTERM):
            continue
        what = f"ar {'run' if name == 'run' else 'worker'} (process {process.pid})"
        say(f"Ending {what} …")
        if not _wait(lambda name=name: locks.holder(repo, name) is None):  # type: ignore[misc]
            raise BadState(f"{what} does not end", f"end it for good: kill -9 {process.pid}")
        ended.append(what)
    return ended


def stop_one(project: Project, pipeline: Pipeline, run: Experiment) -> None:
    """End one experiment, or take it from the queue; it is recorded as cancelled and does not come back.

    Raises:
        BadState: it has ended, or it cannot be ended from here.
    """
    if run.status.ended:
        raise BadState(f"{run.name} has ended already: {run.status}", f"see: ar log {run.name}")
    if _cancel_waiting(project, pipeline, run.name):
        return
    if run.elsewhere and not run.pulled:
        _stop_elsewhere(project, RemoteQueue(pipeline, run.elsewhere.remote), run.name)
        return
    if not project.repo.has_ref(refs.running(run.name)):
        raise BadState(f"a worker of DVC's has {run.name}", f"run: dvc queue kill {run.name}")
    if not claims.ask(project.repo, run.name, Request.CANCEL):
        owner = claims.owner(project.repo, run.name)
        host = owner.host if owner else "another machine"
        raise BadState(f"{run.name} runs on {host}", "stop it there")
    if claims.is_abandoned(project.repo, run.name):
        recovery.recover(project, pipeline)
    if not _wait(lambda: not project.repo.has_ref(refs.running(run.name))):
        owner = claims.owner(project.repo, run.name)
        pid = owner.pid if owner else "unknown"
        raise BadState(f"{run.name} does not end; its worker is process {pid}", "run: ar stop")
    # Its worker may have given it back before it saw the request.
    _cancel_waiting(project, pipeline, run.name)


def _stop_elsewhere(project: Project, queue: RemoteQueue, name: str) -> None:
    """End an experiment of a remote's queue: whoever has it finds that out when it next renews its lease.

    Raises:
        BadState: it has just ended, or somebody else took it.
        Unreachable, Refused: the remote cannot be reached, or written.
    """
    queue.ending = lambda: True
    for _ in range(_RACES):
        queue.look()
        held = leases.held(project.repo, queue.remote).get(name)
        claimed = queue.seize(held) if held else queue.claim(name)
        if claimed is not None:
            if queue.finish(claimed, *outcomes.of_cancelled(project, claimed)):
                return
            break
    raise BadState(f"{name} moved on just now", f"see: ar log {name}")


def _cancel_waiting(project: Project, pipeline: Pipeline, name: str) -> bool:
    claimed = queue.claim(pipeline, only=name)
    if claimed is not None:
        queue.finish(project.repo, claimed, *outcomes.of_cancelled(project, claimed))
    return claimed is not None


def _wait(done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
