"""Hydra, as `dvc config hydra.enabled` has it: `params.yaml` is composed of the files of a folder.

The only module that imports Hydra. Nothing of the project is run: no plugins, and no variable of the
environment reaches a composition, whose result goes into commits.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ar.errors import BadParams
from ar.git.repo import Repo
from ar.project import params
from ar.project.values import Scalar, flatten, parse, place

CONFIG = ".dvc/config"
_ONE_AT_A_TIME = threading.Lock()  # Hydra's state is the process's
_ENVIRONMENT = "oc.env"

Files = tuple[tuple[str, bytes], ...]  # path from the folder, and content


@dataclass(frozen=True)
class Source:
    """A file of the composition.

    Args:
        path: from the folder.
        package: the key that what it holds is put under; empty for the top.
    """

    path: str
    package: str


@dataclass(frozen=True)
class Composition:
    """What Hydra makes of the folder.

    Args:
        data: what `params.yaml` would hold; in place of a variable of the environment, its name.
        sources: in the order in which they are put together; what a later one says counts.
    """

    data: Mapping[str, Any]
    sources: tuple[Source, ...]

    @property
    def values(self) -> dict[str, Scalar]:
        return flatten(self.data)


@dataclass(frozen=True)
class Hydra:
    """Where a project has its configuration, as `.dvc/config` says."""

    folder: str
    name: str

    @classmethod
    def of(cls, repo: Repo, rev: str) -> Hydra | None:
        """None where DVC does not compose `params.yaml`, or does so of an installed module."""
        content = repo.read(rev, CONFIG)
        if content is None or b"hydra" not in content.lower():
            return None
        from configobj import ConfigObj, ConfigObjError

        try:
            config = ConfigObj(content.decode().splitlines()).dict()
        except (ConfigObjError, UnicodeDecodeError):
            return None
        section = {key.lower(): value for key, value in config.get("hydra", {}).items()}
        if (
            str(section.get("enabled", "")).lower() not in ("true", "yes", "on", "1")
            or "config_module" in section
        ):
            return None
        return cls(section.get("config_dir", "conf").strip("/"), section.get("config_name", "config"))

    def holds(self, path: str) -> bool:
        """Whether a path of the project lies in the folder."""
        return path.startswith(f"{self.folder}/")

    def composed(self, repo: Repo, rev: str) -> Composition:
        """What a commit's or tree's folder makes.

        Raises:
            BadParams: it does not compose.
        """
        return _composed(self.name, self.files(repo, rev))

    def files(self, repo: Repo, rev: str) -> Files:
        paths = [path for path, entry in repo.files(rev).items() if self.holds(path) and entry.is_file]
        contents = repo.read_many([(rev, path) for path in paths])
        return tuple(
            (path.removeprefix(f"{self.folder}/"), content or b"")
            for path, content in zip(paths, contents, strict=True)
        )

    def with_values(self, repo: Repo, rev: str, values: Mapping[str, Scalar]) -> dict[str, bytes]:
        """The files that say these values, changed so that the composition has them.

        Raises:
            BadParams: no file says one, or something else overrules it.
        """
        contents = dict(self.files(repo, rev))
        changed: dict[str, bytes] = {}
        sources = self.composed(repo, rev).sources
        for key, value in values.items():
            path, inner = _source_of(sources, contents, key)
            contents[path] = changed[path] = params.update(contents[path], path, {inner: value})
        now = _composed(self.name, tuple(contents.items())).values
        for key, value in values.items():
            if now.get(key) != value:
                raise BadParams(
                    f"Hydra composes {key} as {now.get(key)!r}, not {value!r}", f"edit {self.folder}/"
                )
        return {f"{self.folder}/{path}": content for path, content in changed.items()}


def _source_of(sources: tuple[Source, ...], contents: Mapping[str, bytes], key: str) -> tuple[str, str]:
    """The file whose value of a key counts, and the key in it."""
    for source in reversed(sources):
        prefix = f"{source.package}." if source.package else ""
        if source.path in contents and key.startswith(prefix):
            with contextlib.suppress(KeyError):
                inner = key.removeprefix(prefix)
                place(parse(contents[source.path], source.path), inner)
                return source.path, inner
    raise BadParams(f"no file that Hydra composes says {key}", "set it where Hydra reads it")


@lru_cache(maxsize=64)
def _composed(name: str, files: Files) -> Composition:
    if any(b"searchpath" in content for _, content in files):
        raise BadParams("a file for Hydra sets a search path, which leads out of the project", "remove it")
    with _ONE_AT_A_TIME, tempfile.TemporaryDirectory(prefix="ar-hydra-") as folder, _without_environment():
        for path, content in files:
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return _compose(name, folder)


def _compose(name: str, folder: str) -> Composition:
    """With nothing in reach but what the folder holds."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(folder, version_base=None):
            found = compose(config_name=name)
            loader = GlobalHydra.instance().config_loader()
            defaults = loader.compute_defaults_list(
                config_name=name, overrides=[], run_mode=RunMode.RUN
            ).defaults
        data = OmegaConf.to_container(found, resolve=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise BadParams(f"Hydra does not compose {name}: {line}", "try: dvc exp run") from None
    sources = [
        Source(f"{item.config_path}.yaml", item.package or "") for item in defaults if item.config_path
    ]
    return Composition(data if isinstance(data, dict) else {}, tuple(sources))


@contextlib.contextmanager
def _without_environment() -> Iterator[None]:
    """In place of a variable, its name: no key of the user's may reach `params.yaml`."""
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    OmegaConf.register_new_resolver(_ENVIRONMENT, lambda name, *_: f"environment's {name}", replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver(_ENVIRONMENT, oc.env, replace=True)
