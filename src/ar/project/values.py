"""Parameters and metrics files, read: as plain data, and as flat keys with scalar values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import yaml

from ar.errors import BadParams

Scalar = str | int | float | bool | None
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
        mark = getattr(error, "problem_mark", None)
        place = (
            f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error).splitlines()[0]
        )
        raise BadParams(f"{path} does not parse: {place}", f"mend {path}") from None
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


def number(value: Scalar) -> float | None:
    """A finite number, or None: booleans, text, NaN and infinities are no measurements."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
