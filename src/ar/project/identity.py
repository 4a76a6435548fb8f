"""What makes two trees the same change, whoever measured them with whatever seed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import PurePosixPath

from ar.errors import BadParams
from ar.formats import BadData
from ar.project import python_file, values
from ar.project.params import same_code
from ar.project.pipeline_file import ARGS_FILE, Declared
from ar.project.program import FILES as PROGRAM_FILES
from ar.project.project import Project
from ar.project.scope import Scope

_PROSE = re.compile(r".*\.(md|rst|adoc|org|ipynb)", re.IGNORECASE)
_ABOUT = re.compile(
    r"(.*/)?(readme|licen[cs]e|copying|notice|authors|contributing|changelog|citation|codeowners|security)"
    r"(\.(md|rst|adoc|org|txt))?",
    re.IGNORECASE,
)
_OTHER_TOOLS = re.compile(r"\.(github|gitlab|circleci|vscode|idea|editorconfig|mailmap|pre-commit)\b.*")


def identity(project: Project, tree: str) -> str:
    """What a tree *is*, whoever measured it with whatever seed: 16 hex digits over all that can matter.

    Left out: outputs of the pipeline, `dvc.lock`, `program.md`, `.gitignore` files (DVC writes them),
    documents that no stage reads, the seed, and how a parameters file is laid out.
    """
    repo, program = project.repo, project.program
    declared = Declared.read(repo, tree)
    kept = {
        path: f"{entry.mode} {entry.blob}"
        for path, entry in repo.files(tree).items()
        if path not in (*PROGRAM_FILES, ARGS_FILE)
        and not declared.is_generated(path)
        and not _is_unread(path, declared, program.scope)
    }
    files = [path for path in sorted(program.param_files) if path in kept]
    for path, content in zip(files, repo.read_many([(tree, path) for path in files]), strict=True):
        with contextlib.suppress(BadParams, BadData):
            params = dict(values.flat(content or b"", path))
            if program.seed and program.seed.file == path:
                params.pop(program.seed.key, None)
            code = python_file.code(content or b"") if path.endswith(".py") else ""
            kept[path] = json.dumps(params, sort_keys=True, default=str) + code
    text = "\n".join(f"{path}\0{what}" for path, what in sorted(kept.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_edited(project: Project, before: str, after: str) -> bool:
    """Whether two trees differ in more than values of parameters."""
    repo, files = project.repo, project.program.param_files
    for path in repo.changed(before, after):
        if path not in files:
            return True
        old, new = repo.read(before, path), repo.read(after, path)
        if old is None or new is None or not same_code(path, old, new):
            return True
    return False


def _is_unread(path: str, declared: Declared, scope: Scope) -> bool:
    """Whether a file is for people or other tools only: a document that no stage depends on or names.

    Of code that no stage declares nobody knows that none reads it, nor of a text that a proposal may edit.
    """
    is_prose = _PROSE.fullmatch(path) and not scope.covers(path)
    if not (is_prose or _ABOUT.fullmatch(path) or _OTHER_TOOLS.fullmatch(path)):
        return False
    pure = PurePosixPath(path)
    read = {path, *map(str, pure.parents)}
    deps = {*declared.inputs, *(dep for stage in declared.locked.values() for dep in stage.deps)}
    if any(dep.rstrip("/") in read for dep in deps):
        return False
    return not any(pure.name in line for _, line in declared.commands)
