"""Parameters and metrics files, read: as plain data, and as flat keys with scalar values."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, ClassVar

import yaml

from ar.errors import BadParams
from ar.project import python_file

Scalar = str | int | float | bool | None


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as DVC reads it: its version 1.2, where `1e-4` is a number and `on` a word. A date stays text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


def _integer(loader: Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "").lower()
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2], 10)
    return sign * int(digits if base == 10 else digits[2:], base)


_NUMBER = r"""[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
    |[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"""
# The scalars of YAML 1.2, as ruamel.yaml tells them, and the characters that each may begin with.
_RESOLVERS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("float", _NUMBER, "-+0123456789."),
    ("int", r"[-+]?0b[0-1_]+|[-+]?0o?[0-7_]+|[-+]?[0-9_]+|[-+]?0x[0-9a-fA-F_]+", "-+0123456789"),
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
)
for _tag, _pattern, _first in _RESOLVERS:
    _regex = re.compile(rf"(?:{_pattern})\Z", re.VERBOSE)
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _regex, list(_first))
Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def load_yaml(content: bytes | str) -> Any:
    """Raises: yaml.YAMLError, ValueError."""
    return yaml.load(content, Loader=Loader)  # noqa: S506 - a safe loader, in C where there is one


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would read as anything but text."""


for _first, _resolvers in Loader.yaml_implicit_resolvers.items():
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
            data = json.loads(content)
        elif suffix == ".py":
            data = python_file.parse(content)
        elif suffix == ".toml":
            import tomllib

            data = tomllib.loads(content.decode())
        else:
            data = load_yaml(content)
    except (ValueError, SyntaxError, RecursionError, yaml.YAMLError) as error:
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
