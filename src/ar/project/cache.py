"""DVC's cache of outputs, found where DVC finds it, without importing DVC."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Cache:
    """A folder of files by their MD5."""

    folder: Path

    @classmethod
    def of(cls, root: Path) -> Cache:
        """The cache of the project at `root`: `cache.dir` as `dvc config` resolves it, or `.dvc/cache`."""
        from configobj import ConfigObj, ConfigObjError

        cache = root / ".dvc" / "cache"
        for file in _config_files(root):
            with contextlib.suppress(OSError, UnicodeDecodeError, ConfigObjError):
                lines = file.read_text(encoding="utf-8").splitlines()
                folder = _lower(_lower(ConfigObj(lines).dict()).get("cache")).get("dir")
                if folder:
                    cache = Path(os.path.normpath(file.parent.absolute() / Path(folder).expanduser()))
        return cls(cache)

    def read(self, md5: str) -> bytes | None:
        """The file with that hash; None where the cache has none, or the hash is not a plain file's."""
        if _MD5.fullmatch(md5):
            with contextlib.suppress(OSError):
                return (self.folder / "files" / "md5" / md5[:2] / md5[2:]).read_bytes()
        return None


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
