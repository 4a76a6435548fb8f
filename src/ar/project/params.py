"""Parameters by their keys, and files of them written by key with the rest of the text kept."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from ar.errors import BadParams, nearest
from ar.formats import BadData, load_json
from ar.project import python_file
from ar.project.values import dump_yaml, flatten, get, parse, place

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

    A list's value is its JSON text, as `flatten` has it.

    Raises:
        BadParams: a key does not exist in the file (a new one would be read by nobody), or cannot be set.
    """
    if not values:
        return content
    wanted = parse(content, path)
    suffix, new = PurePosixPath(path).suffix.lower(), content
    for key, value in values.items():
        steps = _set(wanted, path, key, value)
        with contextlib.suppress(LookupError, ValueError, TypeError, StopIteration, yaml.YAMLError):
            new = _REPLACED.get(suffix, _yaml)(new, steps, get(wanted, key))
    with contextlib.suppress(BadParams):
        if parse(new, path) == wanted:
            return new
    raise BadParams(f"{path}: {', '.join(values)} cannot be set without changing more", "is it an alias?")


def same_code(path: str, one: bytes, other: bytes) -> bool:
    """Whether two versions of a parameters file differ in values alone, as all do that are no Python."""
    try:
        return not path.endswith(".py") or python_file.code(one) == python_file.code(other)
    except BadData:
        return False


def _set(data: Any, path: str, key: str, value: Any) -> list[Any]:
    """Set a value in the data, and say where it stands."""
    try:
        steps, old = place(data, key), get(data, key)
    except KeyError:
        raise BadParams(f"{path} has no key '{key}'", nearest(key, flatten(data))) from None
    # A float stays one: `lr: 1.0` must not come back as `lr: 1`, which some readers take for an int.
    new = float(value) if isinstance(old, float) and type(value) is int else value
    if isinstance(old, list):
        with contextlib.suppress(ValueError, TypeError):
            new = load_json(value)
        if not isinstance(new, list):
            raise BadParams(f"{path}: {key} is a list, not {value!r}", "for example: [1, 2]")
    node = data
    for step in steps[:-1]:
        node = node[step]
    node[steps[-1]] = new
    return steps


def _json(content: bytes, steps: Sequence[Any], value: Any) -> bytes:
    text = content.decode()
    data = load_json(text)
    node = data
    for step in steps[:-1]:
        node = node[step]
    node[steps[-1]] = value
    indent = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    return (json.dumps(data, indent=indent[1] if indent else 2, ensure_ascii=False) + "\n").encode()


def _toml(content: bytes, steps: Sequence[Any], value: Any) -> bytes:
    import tomlkit

    document = tomlkit.parse(content.decode())
    node: Any = document
    for step in steps[:-1]:
        node = node[step]
    node[steps[-1]] = value
    return tomlkit.dumps(document).encode()


def _yaml(content: bytes, steps: Sequence[Any], value: Any) -> bytes:
    """The YAML text with one value written over, and not a character more."""
    text = content.decode()
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for step in steps:
        if isinstance(node, yaml.MappingNode):
            node = next(item for name, item in node.value if name.value == str(step))
        else:
            node = node.value[step]
    start, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        start, end = len(text[:start].rstrip()), _end(node)
    space = " " if not text[start - 1].isspace() and (start == end or text[start - 1] == ":") else ""
    return (text[:start] + space + dump_yaml(value, flow=True) + text[end:]).encode()


def _end(node: yaml.Node) -> int:
    """Where the last value in a block ends: the block itself does so behind the comments that follow."""
    last = node.value[-1] if isinstance(node, yaml.CollectionNode) and node.value else None
    if last is None:
        return node.end_mark.index
    return _end(last[1] if isinstance(last, tuple) else last)


_REPLACED: Mapping[str, Callable[[bytes, Sequence[Any], Any], bytes]] = {
    ".json": _json,
    ".toml": _toml,
    ".py": python_file.replaced,
}
