"""The queue: experiments wait, are claimed by one process, and end with exactly one outcome.

`refs/ar/queue/<name>` says that an experiment waits, `refs/ar/running/<name>` that somebody has it; a ref
moves from one to the other by compare-and-swap. Who has it is in `claims`. DVC's own queue is told of
everything, so that `dvc queue` and `dvc exp show` agree.
"""

from __future__ import annotations

from collections.abc import Callable

from ar.changes.seeding import seeded_tree
from ar.errors import Conflict
from ar.git import refs
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.history.messages import Message
from ar.history.records import Note
from ar.local import claims
from ar.local.claims import Claim
from ar.project.pipeline_file import ARGS_FILE
from ar.project.project import Project
from ar.runs.pipeline import Pipeline
from ar.stage.files import Request, Stage


def planted(
    project: Project, pipeline: Pipeline, tree: str, baseline: str, message: Message, name: str
) -> str:
    """The stash-shaped commit of one run of a tree, ready to be queued."""
    seeded = seeded_tree(project, tree, message.seed)
    seeded = project.repo.write_tree(seeded, {ARGS_FILE: pipeline.pack_arguments(name, baseline)})
    index = project.repo.commit_tree(project.repo.tree(baseline), [baseline], f"index on {baseline[:12]}\n")
    return project.repo.commit_tree(seeded, [baseline, index], message.text(name))


def put(project: Project, pipeline: Pipeline, tree: str, baseline: str, message: Message, name: str) -> str:
    """Queue one run of a tree. Returns the queued commit.

    The order makes every half-way state recoverable: a queue ref without DVC's entry is put again by
    `recover`, DVC's entry without a queue ref is never made. Nobody can claim the experiment in between.

    Raises:
        Conflict: the name is taken.
    """
    stash = planted(project, pipeline, tree, baseline, message, name)
    lock = claims.lock(project.repo, name)
    if lock is None or _ended(project.repo, name) or project.repo.has_ref(refs.running(name)):
        raise Conflict(f"an experiment called '{name}' exists", "choose another name")
    try:
        project.repo.update_refs((refs.queued(name), stash, ZERO), reason="ar: queue")
        pipeline.enqueue(name, stash, baseline, project.repo.commit(stash).message)
    finally:
        claims.unlock(lock)
    return stash


def claim(
    pipeline: Pipeline, only: str = "", base: bool = True, suits: Callable[[Message], bool] = lambda _: True
) -> Claim | None:
    """Take the oldest experiment that waits and suits, or the one called `only`; of the base scale only with
    `base`."""
    repo = pipeline.repo
    for ref, commit in sorted(repo.commits(refs.QUEUE).items(), key=lambda item: (item[1].time, item[0])):
        name = refs.name_of(ref)
        if not refs.is_name(name) or not commit.parents or only not in ("", name):
            continue
        message = Message.parse(commit.message)
        if not (base or message.rung) or not suits(message):
            continue
        if (lock := claims.lock(repo, name)) is None:
            continue
        claimed = Claim.begin(repo, name, commit, lock)
        running = refs.running(name)
        try:
            repo.update_refs((running, commit.rev, ZERO), (ref, ZERO, commit.rev), reason="ar: claim")
        except Conflict:
            claimed.let_go()
            continue
        if not pipeline.take(commit.rev):
            if commit.rev in pipeline.active():
                # `dvc queue start` was faster; `recover` clears the ref once its result is there.
                repo.update_refs((ref, commit.rev, ZERO), (running, ZERO, commit.rev))
                claimed.let_go()
                continue
            if _ended(repo, name):
                drop(repo, claimed)  # it was done with it already
                continue
        return claimed
    return None


def finish(repo: Repo, claimed: Claim, rev: str, note: Note) -> None:
    """Record the one outcome of a claimed experiment, and let go of it.

    The note comes first, then the ref of the experiment appears as the claim's disappears, in one
    transaction: whoever sees the experiment sees how it ended.
    """
    repo.update_note(rev, lambda old: {**old, **note.to_json()})
    ref = str(refs.ExperimentRef(claimed.baseline, claimed.name))
    claim_ref = (refs.running(claimed.name), ZERO, claimed.rev)
    try:
        repo.update_refs((ref, rev, ZERO), claim_ref, reason=f"ar: {note.status}")
    except Conflict:
        if not _ended(repo, claimed.name):
            raise
        repo.update_refs(claim_ref, reason="ar: ended elsewhere")  # DVC's worker had it too: the first counts
    claimed.let_go()


def requeue(pipeline: Pipeline, claimed: Claim) -> None:
    """Give a claimed experiment back, as if it had never been taken."""
    waiting, running = refs.queued(claimed.name), refs.running(claimed.name)
    pipeline.repo.update_refs(
        (waiting, claimed.rev, ZERO), (running, ZERO, claimed.rev), reason="ar: requeue"
    )
    pipeline.take(claimed.rev)  # it is there still if the process that claimed it died before it took it out
    pipeline.enqueue(claimed.name, claimed.rev, claimed.baseline, claimed.message)
    claimed.let_go()


def withdraw(pipeline: Pipeline, name: str, rev: str) -> bool:
    """Take a waiting experiment out of the queue for good. False if it is not waiting any more, or was taken
    before.

    One that a worker has set up already is left to that worker to drop, unless it trains by then.
    """
    repo = pipeline.repo
    try:
        repo.update_refs((refs.queued(name), ZERO, rev), reason="ar: withdraw")
    except Conflict:
        is_new = claims.is_waiting(repo, name) and claims.asked(repo, name) is not Request.WITHDRAW
        return is_new and claims.ask(repo, name, Request.WITHDRAW)
    pipeline.take(rev)
    return True


def _ended(repo: Repo, name: str) -> bool:
    return bool(repo.refs(f"{refs.EXPS}/*/*/{name}"))


def drop(repo: Repo, claimed: Claim) -> None:
    """Let a claimed experiment go, for good: it never began, or has ended elsewhere."""
    repo.update_refs((refs.running(claimed.name), ZERO, claimed.rev), reason="ar: drop")
    claimed.let_go()


def training(repo: Repo) -> dict[str, Stage]:
    """Name to stage, for every claimed experiment that trains on this machine."""
    claimed = map(refs.name_of, repo.refs(refs.RUNNING))
    return {name: stage for name in claimed if (stage := claims.stage(repo, name))}
