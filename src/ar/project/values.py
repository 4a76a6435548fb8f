"""Parameters and metrics files, read: as plain data, and as flat keys with scalar values."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import yaml

from ar import formats
from ar.errors import BadParams
from ar.project import python_file

Scalar = str | int | float | bool | None


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would read as anything but text."""


for _first, _resolvers in formats.YamlLoader.yaml_implicit_resolvers.items():
    for _tag, _regex in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _regex, [_first])


def dump_yaml(value: Any, flow: bool = False) -> str:
    """YAML that reads the same in either version, without the end of the last line; `flow` takes one line."""
    style: dict[str, Any] = {"default_flow_style": True, "width": math.inf} if flow else {}
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **style)
    return text.removesuffix("\n").removesuffix("\n...")


def parse(content: bytes, path: str) -> dict[str, Any]:
    """The mapping that a YAML, JSON, TOML or Python file holds; a Python file is read, never run.

    Raises:
        BadParams: it does not parse, or is not a mapping.
    """
    suffix = PurePosixPath(path).suffix.lower()
    try:
        if suffix == ".json":
            data = formats.load_json(content)
        elif suffix == ".py":
            data = python_file.parse(content)
        elif suffix == ".toml":
            data = formats.load_toml(content)
        else:
            data = formats.load_yaml(content)
    except formats.BadData as error:
        place = f"line {error.line}: {error}" if error.line else str(error)
        raise BadParams(f"{path} does not parse: {place}", f"mend {path}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise BadParams(f"{path} should hold keys and values, not {type(data).__name__}", f"mend {path}")
    return data


def flatten(data: Mapping[Any, Any]) -> dict[str, Scalar]:
    """Nested mapping to dotted keys. Lists become their JSON text: they are compared, not searched.

    Raises:
        BadParams: with the names of the groups before each of them, the keys are too much text.
    """
    flat: dict[str, Scalar] = {}
    size = 0
    for name, value in _leaves(data):
        size += len(name)
        if size > formats.MOST_TEXT:
            raise BadParams("its keys are too long for so many of them", "shorten the names of its groups")
        flat[name] = _scalar(value)
    return flat


def _scalar(value: Any) -> Scalar:
    plain = value is None or isinstance(value, str | int | float | bool)
    return value if plain else json.dumps(value, default=str)


def _leaves(data: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@lru_cache(maxsize=16384)
def flat(content: bytes, path: str) -> Mapping[str, Scalar]:
    """`parse` and `flatten`; remembered, since thousands of experiments share a few files."""
    return flatten(parse(content, path))


def place(data: Any, key: str) -> list[Any]:
    """The keys and indices that lead to the value at a dotted key; keys may have dots in themselves.

    Raises:
        KeyError: there is none.
    """
    if not key:
        return []
    parts = key.split(".")
    for length in range(1, len(parts) + 1):
        head, rest = ".".join(parts[:length]), ".".join(parts[length:])
        steps: list[Any] = []
        if isinstance(data, Mapping):
            steps = [name for name in (head, *data) if str(name) == head and name in data][:1]
        elif isinstance(data, list) and head.isdecimal() and int(head) < len(data):
            steps = [int(head)]
        for step in steps:
            with contextlib.suppress(KeyError):
                return [step, *place(data[step], rest)]
    raise KeyError(key)


def get(data: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key.

    Raises:
        KeyError: there is none.
    """
    node: Any = data
    for step in place(data, key):
        node = node[step]
    return node


def element(data: Mapping[str, Any], key: str) -> Scalar:
    """The value at a dotted key as `flatten` has it; in a list, `layers.0` is the first, as DVC counts.

    Raises:
        KeyError: there is none, or a group.
    """
    value = get(data, key)
    if isinstance(value, Mapping):
        raise KeyError(key)
    return _scalar(value)


def is_infinite(value: Scalar) -> bool:
    """Whether a measurement came to NaN or infinity, as a number or (JSON has none) in words."""
    try:
        return isinstance(value, str | float) and not math.isfinite(float(value))
    except ValueError:
        return False


def number(value: Scalar) -> float | None:
    """A finite number, or None: booleans, text, NaN and infinities are no measurements."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
