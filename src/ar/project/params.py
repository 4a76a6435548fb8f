"""Parameters by their keys, and files of them written by key with the rest of the text kept."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from ar.errors import BadParams, nearest
from ar.project.values import flatten, get, parse

PARAMS_FILE = "params.yaml"


@dataclass(frozen=True)
class ParamKey:
    """One value of a parameters file: `optim.matrix_lr`, or `other.json:optim.matrix_lr`."""

    file: str
    key: str

    def __str__(self) -> str:
        return self.key if self.file == PARAMS_FILE else f"{self.file}:{self.key}"

    @property
    def flat(self) -> str:
        """The key of `Experiment.params`."""
        return f"{self.file}:{self.key}"

    @classmethod
    def parse(cls, text: str) -> ParamKey:
        file, _, key = text.rpartition(":")
        return cls(file or PARAMS_FILE, key)

    def is_under(self, scope: ParamKey) -> bool:
        """Whether `scope` is this key or a group that holds it."""
        return self.file == scope.file and (self.key == scope.key or self.key.startswith(f"{scope.key}."))


def update(content: bytes, path: str, values: Mapping[str, Any]) -> bytes:
    """The file with values set by dotted key; comments, order and layout stay.

    Raises:
        BadParams: a key does not exist in the file (a new one would be read by nobody), or the format
            cannot be written.
    """
    if not values:
        return content
    suffix = PurePosixPath(path).suffix.lower()
    if suffix not in (".json", ".yaml", ".yml"):
        raise BadParams(f"{path}: only YAML and JSON can be set", "keep such parameters in params.yaml")
    wanted = parse(content, path)
    _set_all(wanted, path, values)
    if suffix == ".json":
        return (json.dumps(wanted, indent=2, ensure_ascii=False) + "\n").encode()
    text = content.decode()
    for key in values:
        text = _replaced(text, key, get(wanted, key))
    with contextlib.suppress(BadParams):
        if parse(text.encode(), path) == wanted:
            return text.encode()
    raise BadParams(f"{path}: {', '.join(values)} cannot be set without changing more", "is it an alias?")


def _set_all(data: Any, path: str, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        try:
            old = get(data, key)
        except (KeyError, IndexError, ValueError, TypeError):
            raise BadParams(f"{path} has no key '{key}'", nearest(key, flatten(data))) from None
        parent, _, last = key.rpartition(".")
        node = get(data, parent) if parent else data
        # A float stays one: `lr: 1.0` must not come back as `lr: 1`, which some readers take for an int.
        new = float(value) if isinstance(old, float) and type(value) is int else value
        node[last if isinstance(node, Mapping) else int(last)] = new


def _replaced(text: str, key: str, value: Any) -> str:
    """The YAML text with the value of one dotted key written over, and not a character more."""
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for part in key.split("."):
        if isinstance(node, yaml.MappingNode):
            node = next(item for name, item in node.value if name.value == part)
        else:
            node = node.value[int(part)]
    start, end = node.start_mark.index, node.end_mark.index
    new = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    space = " " if start == end and not text[start - 1].isspace() else ""  # an empty value has no place yet
    return text[:start] + space + new.removesuffix("\n").removesuffix("\n...") + text[end:]
