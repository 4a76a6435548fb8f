"""From a change to the tree of one run of it: the seed set, and what must run again forgotten."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from ar.project import params
from ar.project.params import ParamKey
from ar.project.pipeline_file import LOCK_FILE, Declared, LockedStage, within
from ar.project.program import Program
from ar.project.project import Project
from ar.project.values import dump_yaml, flat, flatten, parse


def seeded_tree(project: Project, tree: str, seed: int | None) -> str:
    """The tree to run for one seed: seed set, and the stages an experiment may influence taken out of
    `dvc.lock`, so that they run whatever DVC remembers. A replicate without a seed key runs just as well.
    """
    repo, key = project.repo, project.program.seed
    changes: dict[str, bytes | None] = {}
    if key is not None and seed is not None:
        content = repo.read(tree, key.file)
        if content is not None and flat(content, key.file).get(key.key) != seed:
            changes[key.file] = params.update(content, key.file, {key.key: seed})
    declared = Declared.read(repo, tree)
    touched = influenced_stages(declared.locked, project.program)
    for place in declared.pipelines:
        folder = posixpath.dirname(place)
        path, prefix = posixpath.join(folder, LOCK_FILE), f"{place}:" if folder else ""
        lock = repo.read(tree, path)
        if lock is not None:
            data = parse(lock, path)
            stages = data.get("stages") or {}
            kept = {name: stage for name, stage in stages.items() if f"{prefix}{name}" not in touched}
            changes[path] = f"{dump_yaml(data | {'stages': kept})}\n".encode()
    return repo.write_tree(tree, changes) if changes else tree


def influenced_stages(stages: Mapping[str, LockedStage], program: Program) -> set[str]:
    """Names of the stages of `dvc.lock` that an experiment may influence: they measure, depend on the scope
    or the seed, or follow from those. DVC runs no frozen stage, and keeps what it has of it."""
    influenced: set[str] = set()
    measured = {metric.file for metric in program.written}
    while True:
        made = {out for name in influenced for out in stages[name].outs}
        more = {
            name
            for name, stage in stages.items()
            if not stage.frozen
            and (
                any(within(file, stage.outs) for file in measured)
                or any(within(path, made) or within(out, [path]) for path in stage.deps for out in made)
                or _uses_scope(stage, program)
            )
        }
        if more <= influenced:
            return influenced
        influenced |= more


def _uses_scope(stage: LockedStage, program: Program) -> bool:
    keys = [*program.scope.params, *([program.seed] if program.seed else [])]
    used = [
        ParamKey(file, name)
        for file, values in stage.params.items()
        for name in (flatten(values) | dict(values))
    ]
    is_set = any(name.is_under(key) or key.is_under(name) for name in used for key in keys)
    return is_set or any(program.scope.reaches(path) for path in stage.deps)
