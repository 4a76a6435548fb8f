"""DVC's default remote, as settings name it, without importing DVC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ar.git.remote import password
from ar.project import cache
from ar.redaction import hand, is_secret

_CHAIN = "remote://"


@dataclass(frozen=True)
class Storage:
    """Where DVC keeps data for all clones.

    Args:
        settings: of it, and of those remotes that its address starts with, by their names.
        committed: what of that the repository itself brings; the rest is set by this machine's owner.
    """

    name: str
    settings: Mapping[str, Mapping[str, Any]]
    committed: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, root: Path) -> Storage | None:
        """That of the project at `root`, as `dvc config` resolves it; None where it has none."""
        name = str(cache.config(root, "core").get("remote") or "")
        if not name:
            return None
        settings = dict(_chained(root, name))
        committed = {each: cache.committed_config(root, section(each)) for each in settings}
        return cls(name, settings, {each: found for each, found in committed.items() if found})

    @property
    def secrets(self) -> list[str]:
        """What of its settings nobody may see."""
        pairs = [pair for each in self.settings.values() for pair in each.items()]
        found = [str(value) for key, value in pairs if _is_hidden(key)]
        return [*found, *(word for key, value in pairs if key == "url" if (word := password(str(value))))]

    def guard(self) -> None:
        """Count its secrets as such from here on, wherever they may turn up."""
        hand(self.secrets)


def shown(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings for people, without the secrets among them."""
    return {key: str(value) for key, value in settings.items() if not _is_hidden(key)}


def section(name: str) -> str:
    """The section of DVC's settings for a remote."""
    return f'remote "{name.lower()}"'


def _chained(root: Path, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    seen = set[str]()
    while name and name not in seen:
        seen.add(name)
        found = cache.config(root, section(name))
        yield name, found
        url = str(found.get("url") or "")
        name = url.removeprefix(_CHAIN).partition("/")[0] if url.startswith(_CHAIN) else ""


def _is_hidden(key: str) -> bool:
    return is_secret(key) or key == "connection_string"
