"""What every `dvc.yaml` and `dvc.lock` of a project declares, read without DVC.

They name the paths of a stage from its `wdir`, which starts at their own folder; here every path is one from
the root of the project, unless it is absolute or a URL.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from ar.errors import BadParams
from ar.formats import BadData, load_yaml
from ar.git.objects import MissingObject
from ar.git.repo import Repo
from ar.project import templates
from ar.project.params import PARAMS_FILE
from ar.project.values import parse

PIPELINE_FILE = "dvc.yaml"
LOCK_FILE = "dvc.lock"
ARGS_FILE = ".dvc/tmp/repro.dat"  # what DVC queues with an experiment: how its stages are run


@dataclass(frozen=True)
class LockedStage:
    """A stage as it last ran.

    Args:
        deps, outs: path to MD5; empty where there is none, as for a folder of a remote. An output's is empty
            also where an old DVC wrote it: it hashed text otherwise, and kept it elsewhere.
        params: file to the keys and values that the stage used of it.
        frozen: DVC does not run it, whatever changes.
    """

    deps: Mapping[str, str] = field(default_factory=dict)
    outs: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    frozen: bool = False


@dataclass(frozen=True)
class Use:
    """What one stage reads and writes.

    Args:
        name: its own, without what tells it from others of a `foreach` or a `matrix`.
        params: file and key of each value, as far as it is known; an empty key is the whole file.
    """

    name: str
    commands: tuple[str, ...]
    deps: frozenset[str]
    outs: frozenset[str]
    params: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Declared:
    """The stages of a project, and the paths that they name.

    Args:
        stages: names, in file order; of another than the root's `dvc.yaml` with its path before them.
        commands: folder and command line of every command, in file order.
        outputs: every output path: outs, metrics and plots.
        cached: outputs that DVC keeps in its cache, and git does not.
        inputs: what stages depend on and no stage makes, in file order.
        metrics, params: the files that hold them.
        plots: files and folders with curves.
        locked: the stages of `dvc.lock`, by name.
        pipelines: path of each `dvc.yaml` to what its stages write and the metrics that it names.
        uses: stage by stage.
        values: files that templates take values from.
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
    pipelines: Mapping[str, frozenset[str]] = field(default_factory=dict)
    uses: tuple[Use, ...] = ()
    values: tuple[str, ...] = ()

    @property
    def absolute(self) -> tuple[str, ...]:
        """Inputs by a path of the machine's, so that they lie outside of an experiment's folder."""
        return tuple(path for path in self.inputs if path.startswith("/"))

    @property
    def fetched(self) -> tuple[str, ...]:
        """Inputs by a URL: DVC itself looks after them, before and after a run."""
        return tuple(path for path in self.inputs if "://" in path)

    def beside(self, prefix: str) -> tuple[str, ...]:
        """Inputs beside the git working tree or further up, from its top: `../data`.

        Args:
            prefix: the project's folder, from that top.
        """
        paths = {posixpath.normpath(posixpath.join(prefix, path)) for path in self.inputs}
        return tuple(sorted(path for path in paths if path.startswith("../")))

    @staticmethod
    def read(repo: Repo, rev: str) -> Declared:
        """What a commit or tree declares."""
        paths: tuple[str, ...] = ()
        with contextlib.suppress(MissingObject):
            paths = repo.named(rev, PIPELINE_FILE)
        found = []
        for folder in map(posixpath.dirname, paths):
            own = [posixpath.join(folder, name) for name in (PIPELINE_FILE, LOCK_FILE)]
            pipeline, lock = repo.read_many([(rev, path) for path in own])
            files = _value_files(pipeline, folder)
            contents = repo.read_many([(rev, path) for path in files])
            found.append(Declared.parse(pipeline, lock, folder, tuple(zip(files, contents, strict=True))))
        return found[0] if len(found) == 1 else _joined(tuple(found))

    @staticmethod
    @lru_cache(maxsize=1024)
    def parse(
        pipeline: bytes | None,
        lock: bytes | None,
        folder: str = "",
        files: tuple[tuple[str, bytes | None], ...] = (),
    ) -> Declared:
        """What two files declare.

        Args:
            folder: that they lie in.
            files: path and content of what may hold values of templates. A path that takes another is known
                once `dvc.lock` has it.
        """
        data, place = _mapping(pipeline), posixpath.join(folder, PIPELINE_FILE)
        stages = dict(_stages(data, folder, dict(files)))
        bodies, prefix = list(stages.values()), f"{place}:" if folder else ""
        locked = {
            f"{prefix}{name}": _body_of(stages, name).locked(stage)
            for name, stage in _items(_mapping(lock), "stages")
        }
        outs = [
            (kind, path, item)
            for body in bodies
            for kind in ("outs", "metrics", "plots")
            for path, item in body.paths(kind)
        ]
        outputs = {path for _, path, _ in outs} | {path for stage in locked.values() for path in stage.outs}
        deps = [path for body in bodies for path, _ in body.paths("deps")]
        top = [path for path, _ in _Body(data, folder).paths("metrics")]
        return Declared(
            stages=tuple(f"{prefix}{name}" for name, _ in _items(data, "stages")),
            commands=tuple((body.folder or ".", line) for body in bodies for line in body.commands()),
            outputs=frozenset(_plain(outputs)),
            cached=frozenset(_plain(path for _, path, item in outs if _is_cached(item))),
            inputs=_plain(path for path in deps if path not in outputs),
            metrics=_plain([*(path for kind, path, _ in outs if kind == "metrics"), *top]),
            params=_plain(path for body in bodies for path in body.params()),
            plots=_plain(path for kind, path, _ in outs if kind == "plots"),
            locked=locked,
            pipelines={place: frozenset([*_plain(outputs), *top])} if data else {},
            uses=tuple(body.use(name, locked.get(f"{prefix}{name}")) for name, body in stages.items()),
            values=_plain(path for path, _ in files),
        )

    def is_output(self, path: str) -> bool:
        """Whether the pipeline writes this path: an output, or a file inside an output folder."""
        return within(path, self.outputs)

    def is_generated(self, path: str) -> bool:
        """Whether DVC writes this path, so that it is no part of a change: outputs, lock, `.gitignore`."""
        return PurePosixPath(path).name in (LOCK_FILE, ".gitignore") or self.is_output(path)

    def md5(self, path: str) -> str:
        """The hash of an output as `dvc.lock` has it; empty where it has none."""
        return next((stage.outs[path] for stage in self.locked.values() if path in stage.outs), "")

    @property
    def locks(self) -> list[str]:
        """Paths of the `dvc.lock` files, there or not."""
        return [posixpath.join(posixpath.dirname(place), LOCK_FILE) for place in self.pipelines]

    def making(self, files: Iterable[str]) -> list[str]:
        """The `dvc.yaml` files whose stages write some files, or that name them as metrics."""
        wanted = list(files)
        return [place for place, made in self.pipelines.items() if any(within(file, made) for file in wanted)]


class _Body:
    """The settings of one stage, which know the folder that its paths start at."""

    def __init__(self, data: Any, base: str) -> None:
        self.data: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
        self.folder = _joined_path(base, str(self.data.get("wdir") or "."))

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
        return [file for file, _ in self._param_keys()]

    def use(self, name: str, locked: LockedStage | None) -> Use:
        params = set(self._param_keys())
        if locked is not None:  # which has those that only a template names
            params |= {(file, str(key)) for file, values in locked.params.items() for key in values}
        outs = {path for kind in ("outs", "metrics", "plots") for path, _ in self.paths(kind)}
        deps = frozenset(path for path, _ in self.paths("deps"))
        plain = name.partition("@")[0]
        return Use(plain, tuple(self.commands()), deps, frozenset(outs), frozenset(params))

    def _param_keys(self) -> list[tuple[str, str]]:
        """Parameters file and key; an empty key stands for the whole file."""
        found: list[tuple[str, str]] = []
        for item in self._list("params"):
            groups = item if isinstance(item, Mapping) else {PARAMS_FILE: [item]}
            for file, keys in groups.items():
                names = keys if isinstance(keys, list) and keys else [""]
                found += [(self._from_root(str(file)), str(key)) for key in names]
        return found

    def locked(self, stage: Mapping[str, Any]) -> LockedStage:
        """The stage's entry in `dvc.lock`."""
        deps, outs = (
            {
                self._from_root(str(item["path"])): str(item.get("md5") or "")
                if kind == "deps" or item.get("hash") == "md5"
                else ""
                for item in stage.get(kind) or []
                if isinstance(item, Mapping) and "path" in item
            }
            for kind in ("deps", "outs")
        )
        params = {self._from_root(str(file)): values or {} for file, values in _items(stage, "params")}
        return LockedStage(deps, outs, params, frozen=self.data.get("frozen") is True)

    def _list(self, kind: str) -> list[Any]:
        items = self.data.get(kind)
        return items if isinstance(items, list) else []

    def _from_root(self, path: str) -> str:
        return _joined_path(self.folder, path)


def _stages(
    data: Mapping[str, Any], folder: str, files: Mapping[str, bytes | None]
) -> Iterator[tuple[str, _Body]]:
    """Every stage that `dvc.yaml` stands for, by its name in `dvc.lock`."""

    def reading(base: str) -> Any:
        return lambda path: _values(_joined_path(base, path), files)

    common = templates.loaded([PARAMS_FILE, *_vars(data)], reading(folder), {})
    for name, entry in _items(data, "stages"):
        for full_name, body, values in templates.stages_of(name, entry, common):
            wdir = _joined_path(folder, str(templates.resolved(body.get("wdir") or ".", values)))
            known = templates.loaded(_vars(body), reading(wdir), values)
            settings = {key: item for key, item in body.items() if key not in ("foreach", "matrix", "vars")}
            yield full_name, _Body(templates.resolved(settings, known), folder)


def _body_of(stages: Mapping[str, _Body], name: str) -> _Body:
    return stages.get(name) or stages.get(name.partition("@")[0]) or _Body({}, "")


def _value_files(pipeline: bytes | None, folder: str) -> list[str]:
    """Files that may hold values of templates."""
    data = _mapping(pipeline)
    if b"${" not in (pipeline or b""):
        return []
    found = [_joined_path(folder, path) for path in (PARAMS_FILE, *templates.files(data.get("vars")))]
    for _, entry in _items(data, "stages"):
        body = entry.get("do") if isinstance(entry.get("do"), Mapping) else entry
        base = _Body(body, folder).folder
        found += [_joined_path(base, path) for path in templates.files(_vars(body or {}))]
    return list(dict.fromkeys(found))


def _vars(data: Mapping[str, Any]) -> list[Any]:
    items = data.get("vars")
    return items if isinstance(items, list) else []


def _values(path: str, files: Mapping[str, bytes | None]) -> Mapping[str, Any]:
    with contextlib.suppress(BadParams):
        return parse(files.get(path) or b"", path)
    return {}


def _joined(parts: tuple[Declared, ...]) -> Declared:
    """Several pipelines of one project as one; what one of them makes is no input of another."""
    outputs = frozenset(path for part in parts for path in part.outputs)
    return Declared(
        stages=tuple(name for part in parts for name in part.stages),
        commands=tuple(command for part in parts for command in part.commands),
        outputs=outputs,
        cached=frozenset(path for part in parts for path in part.cached),
        inputs=_plain(path for part in parts for path in part.inputs if path not in outputs),
        metrics=_plain(path for part in parts for path in part.metrics),
        params=_plain(path for part in parts for path in part.params),
        plots=_plain(path for part in parts for path in part.plots),
        locked={name: stage for part in parts for name, stage in part.locked.items()},
        pipelines={place: made for part in parts for place, made in part.pipelines.items()},
        uses=tuple(use for part in parts for use in part.uses),
        values=_plain(path for part in parts for path in part.values),
    )


def within(path: str, places: Iterable[str]) -> bool:
    """Whether a path is one of the places, or lies in one of them."""
    parents = {path, *(str(parent) for parent in PurePosixPath(path).parents)}
    return any(place.rstrip("/") in parents for place in places)


def _joined_path(folder: str, path: str) -> str:
    if "://" in path or posixpath.isabs(path):
        return path
    joined = posixpath.normpath(posixpath.join(folder, path))
    return "" if joined == "." else joined


def _mapping(content: bytes | None) -> dict[str, Any]:
    with contextlib.suppress(BadData):
        data = load_yaml(content or b"")
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
