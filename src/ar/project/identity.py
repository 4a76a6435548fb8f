"""What makes two trees the same change, whoever measured them with whatever seed."""

from __future__ import annotations

import contextlib
import hashlib
import json

from ar.errors import BadParams
from ar.project import values
from ar.project.pipeline_file import ARGS_FILE, Declared
from ar.project.program import FILE as PROGRAM_FILE
from ar.project.project import Project


def identity(project: Project, tree: str) -> str:
    """What a tree *is*, whoever measured it with whatever seed: 16 hex digits over all that can matter.

    Left out: outputs of the pipeline, `dvc.lock`, `program.md`, `.gitignore` files (DVC writes them), the
    seed, and how a parameters file is laid out.
    """
    repo, program = project.repo, project.program
    declared = Declared.read(repo, tree)
    kept = {
        path: f"{entry.mode} {entry.blob}"
        for path, entry in repo.files(tree).items()
        if path not in (PROGRAM_FILE, ARGS_FILE) and not declared.is_generated(path)
    }
    files = [path for path in sorted(program.param_files) if path in kept]
    for path, content in zip(files, repo.read_many([(tree, path) for path in files]), strict=True):
        with contextlib.suppress(BadParams):
            params = dict(values.flat(content or b"", path))
            if program.seed and program.seed.file == path:
                params.pop(program.seed.key, None)
            kept[path] = json.dumps(params, sort_keys=True, default=str)
    text = "\n".join(f"{path}\0{what}" for path, what in sorted(kept.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
