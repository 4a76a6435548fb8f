"""DVC's cache of outputs, found where DVC finds it, without importing DVC."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ar.formats import load_json
from ar.git.repo import Repo
from ar.project.pipeline_file import Declared

_MOST_READ = 100_000_000  # bytes of a file, and of the listing of a folder: a million files
_MD5 = re.compile(r"[0-9a-f]{32}")
_KEPT = re.compile(r"files/md5/[0-9a-f]{2}/[0-9a-f]{30}")
_MOST_SETTINGS = 100_000  # bytes of a file of settings


@dataclass(frozen=True)
class Cache:
    """A folder of files by their MD5."""

    folder: Path

    @classmethod
    def of(cls, root: Path) -> Cache:
        """The cache of the project at `root`: `cache.dir` as `dvc config` resolves it, or `.dvc/cache`."""
        cache = root / ".dvc" / "cache"
        for file, settings in _sections(root, "cache"):
            if folder := settings.get("dir"):
                cache = Path(os.path.normpath(file.parent.absolute() / Path(folder).expanduser()))
        return cls(cache)

    def output(self, declared: Declared, path: str) -> bytes | None:
        """An output of the pipeline, or a file in a folder that is one; None where it is not here."""
        if md5 := declared.md5(path):
            return self.read(md5)
        for folder in map(str, PurePosixPath(path).parents):
            if md5 := declared.md5(folder):
                return self.read(self._listed(md5).get(path.removeprefix(f"{folder}/"), ""))
        return None

    def _listed(self, md5: str) -> dict[str, str]:
        """The files of a folder that the cache has, with their hashes."""
        content = self.read(md5.removesuffix(".dir"), ".dir") if md5.endswith(".dir") else None
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return {
                str(item["relpath"]): str(item["md5"]) for item in load_json(content or b"[]", _MOST_READ)
            }
        return {}

    def read(self, md5: str, kind: str = "") -> bytes | None:
        """The file with that hash; None where the cache has none, or one that nobody reads into memory.

        Args:
            kind: what the name ends with where it is a folder's listing.
        """
        if _MD5.fullmatch(md5):
            with contextlib.suppress(OSError):
                path = self._place(md5, kind)
                return path.read_bytes() if path.stat().st_size <= _MOST_READ else None
        return None

    def has(self, md5: str) -> bool:
        """Whether it holds the file, or the listing of the folder, with that hash."""
        name, is_folder = md5.removesuffix(".dir"), md5.endswith(".dir")
        return _MD5.fullmatch(name) is None or self._place(name, ".dir" if is_folder else "").is_file()

    def files(self, declared: Declared, path: str) -> list[tuple[str, Path]]:
        """An input or output of the pipeline, or the files of a folder that is one, with where the cache has
        them; those that it has not are left out."""
        md5 = next((stage.deps[path] for stage in declared.locked.values() if path in stage.deps), "")
        md5 = declared.md5(path) or md5
        hashes = (
            {f"{path}/{name}": each for name, each in self._listed(md5).items()}
            if md5.endswith(".dir")
            else {path: md5}
        )
        places = {name: self._place(each) for name, each in hashes.items() if _MD5.fullmatch(each)}
        return [(name, place) for name, place in places.items() if place.is_file()]

    def holds(self, place: Path) -> bool:
        """Whether a path is that of a file by its MD5, and nothing else that may lie in this folder."""
        with contextlib.suppress(ValueError, OSError, RuntimeError):
            inner = place.relative_to(self.folder.resolve()).as_posix()
            return _KEPT.fullmatch(inner) is not None
        return False

    def _place(self, md5: str, kind: str = "") -> Path:
        return self.folder / "files" / "md5" / md5[:2] / f"{md5[2:]}{kind}"


def committed_folder(repo: Repo, rev: str) -> str:
    """The folder for the cache that the settings in a commit name, in their words; empty for DVC's own."""
    found = ""
    for file in (".dvc/config", ".dvc/config.local"):
        text = (repo.read(rev, file) or b"")[:_MOST_SETTINGS].decode(errors="replace")
        found = str(_section(text, "cache").get("dir") or found)
    return found


def remote_url(repo: Repo, rev: str, url: str) -> tuple[str, ...]:
    """Where `remote://NAME/path` leads by the settings in a commit; nothing for any other URL."""
    scheme, _, rest = url.partition("://")
    if scheme != "remote":
        return ()
    name, text = rest.partition("/")[0], (repo.read(rev, ".dvc/config") or b"")[:_MOST_SETTINGS]
    return (str(_section(text.decode(errors="replace"), f'remote "{name.lower()}"').get("url")),)


def committed_config(root: Path, section: str) -> dict[str, Any]:
    """A section of the settings that the repository at `root` itself brings, as they are in its checkout."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return _section((root / ".dvc" / "config").read_text(encoding="utf-8"), section)
    return {}


def config(root: Path, section: str) -> dict[str, Any]:
    """A section of DVC's settings for the project at `root`, as `dvc config` resolves it."""
    return {name: value for _, settings in _sections(root, section) for name, value in settings.items()}


def _sections(root: Path, section: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in _config_files(root):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            yield file, _section(file.read_text(encoding="utf-8"), section)


def _section(text: str, name: str) -> dict[str, Any]:
    """A section of a file of settings; empty where it cannot be read."""
    from configobj import ConfigObj, ConfigObjError

    with contextlib.suppress(ConfigObjError):
        return _lower(_lower(ConfigObj(text.splitlines()).dict()).get(name))
    return {}


def _config_files(root: Path) -> Iterator[Path]:
    """DVC's files of settings; what a later one says counts (`dvc.config.Config.files`)."""
    import platformdirs

    user, system = (os.environ.get(f"DVC_{level}_CONFIG_DIR") for level in ("GLOBAL", "SYSTEM"))
    yield Path(system or platformdirs.site_config_dir("dvc", "iterative"), "config")
    yield Path(user or platformdirs.user_config_dir("dvc", "iterative"), "config")
    yield root / ".dvc" / "config"
    yield root / ".dvc" / "config.local"


def _lower(section: object) -> dict[str, Any]:
    """A section with its names as DVC reads them: in lower case."""
    return {name.lower(): value for name, value in section.items()} if isinstance(section, Mapping) else {}
