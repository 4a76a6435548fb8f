"""Parameters and metrics files: read as flat keys, written by key with the rest of the text kept."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import yaml

from ar.errors import BadParams, nearest
from ar.records import Scalar

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse(content: bytes, path: str) -> dict[str, Any]:
    """The mapping that a YAML, JSON or TOML file holds.

    Raises:
        BadParams: it does not parse, or is not a mapping.
    """
    suffix = PurePosixPath(path).suffix.lower()
    try:
        if suffix == ".json":
            data = json.loads(content)
        elif suffix == ".toml":
            import tomllib

            data = tomllib.loads(content.decode())
        else:
            data = yaml.load(content, Loader=_LOADER)  # noqa: S506 - CSafeLoader is the safe loader in C
    except (ValueError, yaml.YAMLError) as error:
        raise BadParams(f"{path} does not parse: {_first_line(error)}", f"mend {path}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise BadParams(f"{path} should hold keys and values, not {type(data).__name__}", f"mend {path}")
    return data


def flatten(data: Mapping[Any, Any], prefix: str = "") -> dict[str, Scalar]:
    """Nested mapping to dotted keys. Lists become their JSON text: they are compared, not searched."""
    flat: dict[str, Scalar] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        elif value is None or isinstance(value, str | int | float | bool):
            flat[name] = value
        else:
            flat[name] = json.dumps(value, default=str)
    return flat


@lru_cache(maxsize=16384)
def flat(content: bytes, path: str) -> Mapping[str, Scalar]:
    """`parse` and `flatten`; remembered, since thousands of experiments share a few files."""
    return flatten(parse(content, path))


def get(data: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key.

    Raises:
        KeyError: there is none.
    """
    node: Any = data
    for part in key.split("."):
        node = node[part] if isinstance(node, Mapping) else node[int(part)]
    return node


def update(content: bytes, path: str, values: Mapping[str, Any]) -> bytes:
    """The file with values set by dotted key; comments, order and layout stay.

    Raises:
        BadParams: a key does not exist in the file (a new one would be read by nobody), or the format
            cannot be written.
    """
    if not values:
        return content
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".json":
        data: Any = parse(content, path)
        _set_all(data, path, values)
        return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()
    if suffix not in (".yaml", ".yml"):
        raise BadParams(f"{path}: only YAML and JSON can be set", "keep such parameters in params.yaml")
    wanted = parse(content, path)
    _set_all(wanted, path, values)
    text = content.decode()
    for key in values:
        text = _replaced(text, key, get(wanted, key))
    with contextlib.suppress(BadParams):
        if parse(text.encode(), path) == wanted:
            return text.encode()
    raise BadParams(f"{path}: {', '.join(values)} cannot be set without changing more", "is it an alias?")


def _set_all(data: Any, path: str, values: Mapping[str, Any]) -> None:
    known = flatten(data)
    for key, value in values.items():
        try:
            old = get(data, key)
        except (KeyError, IndexError, ValueError, TypeError):
            raise BadParams(f"{path} has no key '{key}'", nearest(key, known)) from None
        parent, _, last = key.rpartition(".")
        node = get(data, parent) if parent else data
        node[last if isinstance(node, Mapping) else int(last)] = _like(old, value)


def _like(old: Any, value: Any) -> Any:
    """Keep a float a float: `lr: 1.0` must not come back as `lr: 1`, which some readers take for an int."""
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


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


def _first_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"line {mark.line + 1}: {getattr(error, 'problem', '')}"
    return str(error).splitlines()[0]
