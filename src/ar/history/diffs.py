"""What an experiment changed, as a patch without what its run wrote."""

from __future__ import annotations

from ar.project.pipeline_file import ARGS_FILE, LOCK_FILE, Declared
from ar.project.project import Project


def changed(project: Project, old: str, new: str, stat: bool = False) -> str:
    """The diff that matters between two commits: without outputs, `dvc.lock` and what DVC queues with it."""
    declared = Declared.read(project.repo, new)
    written = sorted(declared.outputs | {metric.file for metric in project.program.metrics})
    return project.repo.diff(old, new, exclude=[LOCK_FILE, ARGS_FILE, *written], stat=stat)
