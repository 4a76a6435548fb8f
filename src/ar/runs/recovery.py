"""Mend what killed processes left: finish, requeue or record it, and clear what it lay in.

Safe at any time, from any process: whatever somebody alive has is locked, and is left alone.
"""

from __future__ import annotations

import contextlib
import shutil
import time

from ar.errors import ArError, Conflict
from ar.git import refs, transfer
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.local import claims, orphans
from ar.local.claims import Claim
from ar.project.project import Project
from ar.runs import half_claims, outcomes, queue, showing
from ar.runs.gpu_meter import Meter
from ar.runs.keeper import queue_of
from ar.runs.pipeline import Pipeline
from ar.runs.remote_queue import RemoteQueue
from ar.stage.files import Request

_STALE_LOCK = 60.0  # seconds; git holds a ref's lock file for milliseconds


def abandoned(repo: Repo) -> list[str]:
    """Claimed experiments whose process is gone. Cheap: it imports no DVC."""
    return [name for name in map(refs.name_of, repo.refs(refs.RUNNING)) if claims.is_abandoned(repo, name)]


def recover(project: Project, pipeline: Pipeline) -> list[str]:
    """Mend everything. Says what it did, a line each."""
    _clear_locks(project.repo)
    pipeline.mend()
    ended = {ref.name for ref in map(refs.ExperimentRef.parse, project.repo.refs(refs.EXPS)) if ref}
    done = _clear_strays(project.repo)
    for ref, commit in project.repo.commits(refs.RUNNING).items():
        name = refs.name_of(ref)
        held = claims.lock(project.repo, name)
        if held is None:
            continue  # alive
        folder = claims.folder(project.repo, name)
        claimed = Claim(name, commit.rev, commit.parents[0], commit.message, folder, held)
        if where := queue_of(project.repo, name):
            done.append(f"{name} {_settle_there(project, pipeline, where, claimed)}")
            continue
        with contextlib.suppress(Conflict):
            done.append(f"{name} {_settle(project, pipeline, claimed, name in ended)}")
    _clear_leases(project.repo)
    done += _check_queue(pipeline, ended)
    _clear_folders(pipeline)
    return done


def _clear_strays(repo: Repo) -> list[str]:
    """Remove what was put among our refs and is no experiment: the least is a commit with a parent."""
    done = []
    for ref, rev in repo.refs(refs.QUEUE, refs.RUNNING).items():
        if repo.resolve(rev) is None or not repo.commit(rev).parents:
            with contextlib.suppress(Conflict):
                repo.update_refs((ref, ZERO, rev), reason="ar: recover")
                done.append(f"{ref} held no experiment but {rev}; the ref is removed")
    return done


def _settle(project: Project, pipeline: Pipeline, claimed: Claim, ended: bool) -> str:
    """Give an abandoned experiment its end, or another beginning."""
    orphans.end_all(project.repo.root, claimed)
    if ended:
        queue.drop(project.repo, claimed)
        return "had ended; its claim is cleared"
    with contextlib.suppress(ArError):
        rev = pipeline.left_behind(claimed.name, claimed.baseline)
        if rev is not None:
            rev, note = outcomes.of_run(project, claimed, rev, Meter())
            queue.finish(project.repo, claimed, rev, note)
            return "had finished when its process was killed; its result is collected"
    asked = claimed.requested
    if asked and asked.request is Request.CANCEL:
        queue.finish(project.repo, claimed, *outcomes.of_cancelled(project, claimed, asked.why))
        return "was being stopped when its process was killed; it is recorded as cancelled"
    queue.requeue(pipeline, claimed)
    return "was running in a process that is gone; it is queued again"


def _settle_there(project: Project, pipeline: Pipeline, where: str, claimed: Claim) -> str:
    """What `_settle` does, for an experiment of a remote's queue."""
    orphans.end_all(project.repo.root, claimed)
    if where not in transfer.remotes(project.repo):
        claimed.lock.close()
        return f"is of the queue of {where}, which is no remote here any more; add it again: git remote add"
    queue = RemoteQueue(pipeline, where, ending=lambda: True)
    try:
        published = queue.settle(claimed)
        if published is None and (rev := queue.pipeline.left_behind(claimed.name, claimed.baseline)):
            published = queue.finish(claimed, *outcomes.of_run(project, claimed, rev, Meter()))
    except ArError as error:
        claimed.lock.close()
        return f"is done, and published once that can be: {error.message}"
    if published is not None:
        words = (
            "its result is published" if published else "somebody else has it by now: nothing is published"
        )
        return f"had finished when its process was killed; {words}"
    asked = claimed.requested
    if asked and asked.request is Request.CANCEL:
        queue.finish(claimed, *outcomes.of_cancelled(project, claimed, asked.why))
        return "was being stopped when its process was killed; it is recorded as cancelled"
    queue.abandon(claimed)
    return f"was running in a process that is gone; it is free again on {queue.remote}"


def _clear_leases(repo: Repo) -> None:
    """Give back what a process was killed over before it had taken it here, too."""
    known = transfer.remotes(repo)
    for where in known:
        # Where it is away, the lease runs out, and this is for the next time.
        with contextlib.suppress(ArError):
            half_claims.settle(repo, where)
    for ref in repo.refs(refs.LEASES):
        name = refs.name_of(ref)
        if queue_of(repo, name) not in known and not repo.has_ref(refs.running(name)):
            repo.update_refs((ref, ZERO, None))


def _check_queue(pipeline: Pipeline, ended: set[str]) -> list[str]:
    """Hold our queue and DVC's to the same entries."""
    waiting = pipeline.repo.refs(refs.QUEUE)
    if not waiting:
        return []
    done = []
    pipeline.reclaim()
    known = pipeline.queued() | pipeline.active()
    for ref, rev in waiting.items():
        name = refs.name_of(ref)
        with contextlib.suppress(Conflict):
            if name in ended:
                pipeline.repo.update_refs((ref, ZERO, rev), reason="ar: recover")
                done.append(f"{name} was run by DVC's queue; taken over")
            elif rev not in known and (held := claims.lock(pipeline.repo, name)) is not None:
                if pipeline.repo.resolve(ref) == rev:
                    commit = pipeline.repo.commit(rev)
                    pipeline.take(rev)
                    pipeline.enqueue(name, rev, commit.parents[0], commit.message)
                    done.append(f"{name} was missing in DVC's queue; put back")
                claims.unlock(held)
    return done


def _clear_folders(pipeline: Pipeline) -> None:
    """Remove the folders and files of claims that nobody has."""
    showing.clear(pipeline.repo)
    claimed = set(map(refs.name_of, pipeline.repo.refs(refs.RUNNING)))
    for name in (claims.names(pipeline.repo) | pipeline.workspaces()) - claimed:
        held = claims.lock(pipeline.repo, name)
        if held is not None:
            if not pipeline.repo.has_ref(refs.running(name)):
                pipeline.remove_workspace(name)
                shutil.rmtree(claims.folder(pipeline.repo, name), ignore_errors=True)
            claims.unlock(held)


def _clear_locks(repo: Repo) -> None:
    """Lock files of git processes that were killed half-way; git itself would wait for them for ever."""
    ours = [repo.git_dir / "refs" / space for space in ("ar", "exps", "notes")]
    found = [path for folder in ours for path in folder.rglob("*.lock")]
    for path in (*found, repo.git_dir / "packed-refs.lock", *(repo.git_dir / "ar").glob("ar-index-*")):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
