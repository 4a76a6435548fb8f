"""What DVC itself would touch in a run, outside every sandbox: it removes and writes outputs, and fetches.

It is told of the stages as DVC has read them, however their files are written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ar.project.imports import Import
from ar.project.pipeline_file import Declared
from ar.project.scope import is_obeyed


def flaw(
    stages: Iterable[Any], root: str, declared: Declared, beside: Iterable[str], imports: Iterable[Import]
) -> str:
    """Why DVC must not be given these stages; empty if nothing speaks against it.

    Args:
        stages: DVC's.
        root: folder of the project that it is given.
        declared: what the baseline declares, each input of which the machine's owner has allowed.
        beside: paths of those that lie beside the repository, where DVC looks for them.
        imports: those of the baseline, which he has allowed, too.
    """
    known, inputs = {each.file for each in imports}, {*declared.inputs, *beside}
    for stage in stages:
        place = os.path.relpath(stage.path, root)
        for out in stage.outs:
            if "://" in out.def_path or not _is_inside(out.fs_path, root):
                return f"{place} has an output that lies outside of the project: {out.def_path}"
            if is_obeyed(os.path.relpath(out.fs_path, root)):
                return f"{place} has an output that DVC or git would obey: {out.def_path}"
        if stage.deps and place.endswith(".dvc"):
            if place not in known:
                return f"{place} brings in data, and the baseline's does not"
            continue
        for dep in stage.deps:
            is_url = "://" in dep.def_path
            if (is_url or not _is_inside(dep.fs_path, root)) and not {dep.def_path, dep.fs_path} & inputs:
                return f"{place} depends on what lies outside of the project: {dep.def_path}"
    return ""


def _is_inside(path: str, root: str) -> bool:
    """Whether a path lies in a folder, by its name and by the links on its way."""
    inner = os.path.relpath(path, root)
    real = os.path.relpath(os.path.realpath(Path(path).parent), os.path.realpath(root))
    return not any(each == ".." or each.startswith("../") for each in (inner, real))
