"""Frozen records that packages hand to each other, each with a JSON round trip."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

_KNOWN_HINTS: dict[type[Record], dict[str, Any]] = {}  # working them out takes longer than all the rest


class Record:
    """A dataclass that goes to plain JSON types and back without losing anything."""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and scalars; fields that hold their default are left out."""
        out: dict[str, Any] = {}
        for spec in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, spec.name)
            if spec.default is not dataclasses.MISSING and value == spec.default:
                continue
            if spec.default_factory is not dataclasses.MISSING and value == spec.default_factory():
                continue
            out[spec.name] = _plain(value)
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote. Unknown keys are ignored: a newer `ar` may have written them."""
        return cls(**{name: _typed(hint, data[name]) for name, hint in _hints(cls).items() if name in data})


def _hints(cls: type[Record]) -> dict[str, Any]:
    """Field name to its type."""
    if cls not in _KNOWN_HINTS:
        hints = typing.get_type_hints(cls)
        _KNOWN_HINTS[cls] = {spec.name: hints[spec.name] for spec in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return _KNOWN_HINTS[cls]


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _typed(hint: Any, value: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        chosen = [arg for arg in args if arg is not type(None)]
        return _typed(chosen[0], value) if len(chosen) == 1 else value
    if origin is tuple:
        return tuple(_typed(args[0], item) for item in value)
    if origin in (dict, Mapping) or hint is dict:
        return dict(value)
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_json(value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    return value
