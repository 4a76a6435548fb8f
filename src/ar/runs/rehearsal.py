"""A rehearsal of the first run: the pipeline as a worker runs it, for a few seconds; nothing is kept."""

from __future__ import annotations

import os
from dataclasses import replace

from ar.changes.seeding import seeded_tree
from ar.errors import BadState
from ar.history.records import Note
from ar.local import claims
from ar.local.claims import Claim
from ar.project.pipeline_file import Declared
from ar.project.project import Project
from ar.runs import denials, outcomes
from ar.runs.gpu_meter import Meter
from ar.runs.pipeline import Failure
from ar.runs.worker import Worker

SECONDS = 15.0  # most faults of a set-up show as soon as everything is imported and the data are opened


def rehearse(project: Project, seed: int | None, seconds: float = SECONDS) -> Note:
    """Run the head's pipeline, and say how that ended; `TIMED_OUT` where it was well under way.

    Args:
        seed: the first that the campaign will use.

    Raises:
        BadState: the sandbox is not what `program.md` asks for.
    """
    repo, head = project.repo, project.repo.head()
    timeout = min(seconds, project.program.timeout() or seconds)
    program = replace(project.program, budget=replace(project.program.budget, timeout=timeout))
    name = f"rehearsal-{os.getpid()}"
    rev = repo.commit_tree(seeded_tree(project, repo.tree(head), seed), [head], "Rehearsal\n")
    if (lock := claims.lock(repo, name)) is None:
        raise BadState(f"another process has {name}", "run the command again")
    claim = Claim.begin(repo, name, repo.commit(rev), lock)
    worker = Worker(repo)
    try:
        with worker.pipeline.workspace(name, rev, head) as workspace:
            outcome = worker.reproduce(claim, program, workspace)
            note = outcomes.of_run(Project(repo, program), claim, outcome, Meter())[1]
            inputs = Declared.read(repo, head).inputs
            lacks = (
                denials.missing(inputs, repo.root, workspace.root) if isinstance(outcome, Failure) else None
            )
            return replace(note, reason=lacks.what, mend=lacks.mend) if lacks else note
    finally:
        claim.let_go()
        worker.pipeline.close()
