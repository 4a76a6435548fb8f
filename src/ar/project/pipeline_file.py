"""What `dvc.yaml` and `dvc.lock` declare, read without DVC."""

from __future__ import annotations

import contextlib
import posixpath
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from ar.git.repo import Repo

PIPELINE_FILE = "dvc.yaml"
LOCK_FILE = "dvc.lock"
ARGS_FILE = ".dvc/tmp/repro.dat"  # what DVC queues with an experiment: how its stages are run


@dataclass(frozen=True)
class Layout:
    """A pipeline: its stages and the paths that they name, from the root of the project.

    Args:
        stages: names, in file order.
        outputs: every output path: outs, metrics and plots.
        cached: outputs that DVC keeps in its cache, and git does not.
        inputs: what stages depend on and no stage makes.
        metrics, params: the files that hold them.
        plots: files and folders with curves.
    """

    stages: tuple[str, ...] = ()
    outputs: frozenset[str] = frozenset()
    inputs: frozenset[str] = frozenset()
    cached: frozenset[str] = frozenset()
    metrics: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()


def layout(pipeline: bytes | None, lock: bytes | None) -> Layout:
    """The layout of a pipeline. Templated paths are known once `dvc.lock` has them resolved."""
    declared = _mapping(pipeline)
    stages = declared.get("stages") or {}
    outputs, metrics, params, plots = set(), [], [], []
    inputs: set[str] = set()
    cached: set[str] = set()
    for stage in stages.values():
        if not isinstance(stage, dict):
            continue
        body = stage.get("do", stage)  # a foreach stage keeps its body under `do`
        for kind in ("outs", "metrics", "plots"):
            paths = [_from_wdir(stage, _path_of(item)) for item in body.get(kind) or []]
            outputs.update(paths)
            cached.update(
                path for path, item in zip(paths, body.get(kind) or [], strict=True) if _is_cached(item)
            )
            if kind == "metrics":
                metrics += paths
            elif kind == "plots":
                plots += paths
        inputs.update(_from_wdir(stage, _path_of(item)) for item in body.get("deps") or [])
        params += [
            next(iter(item)) if isinstance(item, dict) else "params.yaml" for item in body.get("params") or []
        ]
    for name, stage in (_mapping(lock).get("stages") or {}).items():
        outs = [out for out in stage.get("outs") or [] if isinstance(out, dict) and "path" in out]
        outputs.update(_from_wdir(stages.get(str(name).partition("@")[0]), str(out["path"])) for out in outs)
    top = declared.get("metrics") or []
    metrics += [_path_of(item) for item in top]
    return Layout(
        stages=tuple(str(name) for name in stages),
        outputs=frozenset(path for path in outputs if "${" not in path),
        inputs=frozenset(path for path in inputs - outputs if "${" not in path),
        cached=frozenset(path for path in cached if "${" not in path),
        metrics=tuple(dict.fromkeys(path for path in metrics if "${" not in path)),
        params=tuple(dict.fromkeys(path for path in params if "${" not in path)),
        plots=tuple(dict.fromkeys(path for path in plots if "${" not in path)),
    )


def read_layout(repo: Repo, rev: str) -> Layout:
    pipeline, lock = repo.read_many([(rev, PIPELINE_FILE), (rev, LOCK_FILE)])
    return layout(pipeline, lock)


def is_generated(path: str, plan: Layout) -> bool:
    """Whether DVC writes this path, which makes it no part of a change: outputs, lock, `.gitignore`."""
    return path == LOCK_FILE or PurePosixPath(path).name == ".gitignore" or is_output(path, plan)


def is_output(path: str, plan: Layout) -> bool:
    """Whether the pipeline writes this path: an output, or a file inside an output folder."""
    parents = {str(parent) for parent in PurePosixPath(path).parents}
    return path in plan.outputs or not parents.isdisjoint(output.rstrip("/") for output in plan.outputs)


def _mapping(content: bytes | None) -> dict[str, Any]:
    with contextlib.suppress(yaml.YAMLError):
        data = yaml.load(content or b"", Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
        if isinstance(data, dict):
            return data
    return {}


def _from_wdir(stage: Any, path: str) -> str:
    """A path of a stage, seen from the folder of `dvc.yaml`."""
    body = stage.get("do", stage) if isinstance(stage, dict) else {}
    folder = str(body.get("wdir") or ".") if isinstance(body, dict) else "."
    return path if folder == "." else posixpath.normpath(f"{folder}/{path}")


def _is_cached(item: Any) -> bool:
    options = next(iter(item.values())) if isinstance(item, dict) else None
    return not isinstance(options, dict) or options.get("cache", True) is not False


def _path_of(item: Any) -> str:
    return str(next(iter(item)) if isinstance(item, dict) else item)
