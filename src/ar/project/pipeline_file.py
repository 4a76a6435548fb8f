"""What `dvc.yaml` and `dvc.lock` declare, read without DVC.

Both name the paths of a stage from its `wdir`; here every path is one from the root of the project.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import yaml

from ar.git.repo import Repo

PIPELINE_FILE = "dvc.yaml"
LOCK_FILE = "dvc.lock"
ARGS_FILE = ".dvc/tmp/repro.dat"  # what DVC queues with an experiment: how its stages are run
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class LockedStage:
    """A stage as it last ran.

    Args:
        deps, outs: path to MD5; empty where there is none, as for a folder of a remote. An output's is empty
            also where an old DVC wrote it: it hashed text otherwise, and kept it elsewhere.
        params: file to the keys and values that the stage used of it.
    """

    deps: Mapping[str, str] = field(default_factory=dict)
    outs: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Declared:
    """The stages of a project, and the paths that they name.

    Args:
        stages: names, in file order.
        commands: folder and command line of every command, in file order.
        outputs: every output path: outs, metrics and plots.
        cached: outputs that DVC keeps in its cache, and git does not.
        inputs: what stages depend on and no stage makes, in file order.
        metrics, params: the files that hold them.
        plots: files and folders with curves.
        locked: the stages of `dvc.lock`, by name.
    """

    stages: tuple[str, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    outputs: frozenset[str] = frozenset()
    cached: frozenset[str] = frozenset()
    inputs: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    locked: Mapping[str, LockedStage] = field(default_factory=dict)

    @staticmethod
    def read(repo: Repo, rev: str) -> Declared:
        """What a commit or tree declares."""
        return Declared.parse(*repo.read_many([(rev, PIPELINE_FILE), (rev, LOCK_FILE)]))

    @staticmethod
    @lru_cache(maxsize=1024)
    def parse(pipeline: bytes | None, lock: bytes | None) -> Declared:
        """What the two files declare. Templated paths are known once `dvc.lock` has them resolved."""
        data = _mapping(pipeline)
        bodies = {
            str(name): _Body(stage.get("do", stage))  # a foreach stage keeps its body under `do`
            for name, stage in _items(data, "stages")
        }
        locked = {
            name: bodies.get(name.partition("@")[0], _Body({})).locked(stage, name.partition("@")[2])
            for name, stage in _items(_mapping(lock), "stages")
        }
        outs = [
            (kind, path, item)
            for body in bodies.values()
            for kind in ("outs", "metrics", "plots")
            for path, item in body.paths(kind)
        ]
        outputs = {path for _, path, _ in outs} | {path for stage in locked.values() for path in stage.outs}
        deps = [path for body in bodies.values() for path, _ in body.paths("deps")]
        top = [path for path, _ in _Body(data).paths("metrics")]
        return Declared(
            stages=tuple(bodies),
            commands=tuple((body.folder, line) for body in bodies.values() for line in body.commands()),
            outputs=frozenset(_plain(outputs)),
            cached=frozenset(_plain(path for _, path, item in outs if _is_cached(item))),
            inputs=_plain(path for path in deps if path not in outputs),
            metrics=_plain([*(path for kind, path, _ in outs if kind == "metrics"), *top]),
            params=_plain(path for body in bodies.values() for path in body.params()),
            plots=_plain(path for kind, path, _ in outs if kind == "plots"),
            locked=locked,
        )

    def is_output(self, path: str) -> bool:
        """Whether the pipeline writes this path: an output, or a file inside an output folder."""
        parents = {str(parent) for parent in PurePosixPath(path).parents}
        return path in self.outputs or not parents.isdisjoint(output.rstrip("/") for output in self.outputs)

    def is_generated(self, path: str) -> bool:
        """Whether DVC writes this path, so that it is no part of a change: outputs, lock, `.gitignore`."""
        return path == LOCK_FILE or PurePosixPath(path).name == ".gitignore" or self.is_output(path)

    def md5(self, path: str) -> str:
        """The hash of an output as `dvc.lock` has it; empty where it has none."""
        return next((stage.outs[path] for stage in self.locked.values() if path in stage.outs), "")


class _Body:
    """The settings of one stage, which know the folder that its paths start at."""

    def __init__(self, data: Any) -> None:
        self.data: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
        self.folder = str(self.data.get("wdir") or ".")

    def paths(self, kind: str) -> list[tuple[str, Any]]:
        """Each path of a list with the item that names it."""
        items = self._list(kind)
        names = (str(next(iter(item), "") if isinstance(item, Mapping) else item) for item in items)
        return [(self._from_root(name), item) for name, item in zip(names, items, strict=True)]

    def commands(self) -> list[str]:
        command = self.data.get("cmd")
        return (
            [command]
            if isinstance(command, str)
            else [line for line in self._list("cmd") if isinstance(line, str)]
        )

    def params(self) -> list[str]:
        """Parameters files; a key without one is in `params.yaml`."""
        items = self._list("params")
        files = [str(f) for item in items for f in (item if isinstance(item, Mapping) else ["params.yaml"])]
        return [self._from_root(file) for file in files]

    def locked(self, stage: Mapping[str, Any], key: str) -> LockedStage:
        """The stage's entry in `dvc.lock`; `key` tells which of a foreach stage's it is."""
        deps, outs = (
            {
                self._from_root(str(item["path"]), key): str(item.get("md5") or "")
                if kind == "deps" or item.get("hash") == "md5"
                else ""
                for item in stage.get(kind) or []
                if isinstance(item, Mapping) and "path" in item
            }
            for kind in ("deps", "outs")
        )
        params = {self._from_root(str(file), key): values or {} for file, values in _items(stage, "params")}
        return LockedStage(deps, outs, params)

    def _list(self, kind: str) -> list[Any]:
        items = self.data.get(kind)
        return items if isinstance(items, list) else []

    def _from_root(self, path: str, key: str = "${item}") -> str:
        folder = self.folder.replace("${item}", key)
        return path if folder == "." else posixpath.normpath(posixpath.join(folder, path))


def _mapping(content: bytes | None) -> dict[str, Any]:
    with contextlib.suppress(yaml.YAMLError):
        data = yaml.load(content or b"", Loader=_LOADER)  # noqa: S506 - CSafeLoader is the safe loader in C
        if isinstance(data, dict):
            return data
    return {}


def _items(data: Mapping[str, Any], key: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The entries of a mapping that are mappings themselves."""
    section = data.get(key)
    entries = section.items() if isinstance(section, Mapping) else ()
    return [(str(name), entry) for name, entry in entries if isinstance(entry, Mapping)]


def _plain(paths: Any) -> tuple[str, ...]:
    """Without what is a template still, and each once."""
    return tuple(dict.fromkeys(path for path in paths if "${" not in path))


def _is_cached(item: Any) -> bool:
    options = next(iter(item.values()), None) if isinstance(item, Mapping) else None
    return not isinstance(options, Mapping) or options.get("cache", True) is not False
