"""Frozen records that packages hand to each other, each with a JSON round trip."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Self

_SCALARS = (bool, int, float, str)
_Reader = Callable[[Any], Any]


class Record:
    """A dataclass that goes to plain JSON types and back without losing anything."""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and scalars; fields that hold their default are left out."""
        held = ((spec, getattr(self, spec.name)) for spec in dataclasses.fields(self))  # type: ignore[arg-type]
        return {spec.name: _plain(value) for spec, value in held if value != _default(spec)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote. Unknown keys are ignored: a newer `ar` may have written them.

        Raises:
            TypeError, ValueError: something is missing, or not of its field's type.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"{cls.__name__} of {type(data).__name__}")
        readers = _readers(cls)  # type: ignore[arg-type]
        return cls(**{name: read(data[name]) for name, read in readers.items() if name in data})


@functools.cache  # working them out takes longer than all the rest
def _readers(cls: type[Record]) -> dict[str, _Reader]:
    """Field name to what makes its value of plain JSON types."""
    hints = typing.get_type_hints(cls)
    return {spec.name: _reader(hints[spec.name]) for spec in dataclasses.fields(cls)}  # type: ignore[arg-type]


def _default(spec: dataclasses.Field[Any]) -> Any:
    return spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory()


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _reader(hint: Any) -> _Reader:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        chosen = tuple(arg for arg in args if arg is not type(None))
        inner = _reader(chosen[0]) if len(chosen) == 1 else functools.partial(_of_type, chosen)
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        item = _reader(args[0])
        return lambda value: tuple(map(item, _of_type((tuple, list), value)))
    if origin in (dict, Mapping):
        item = _reader(args[1])
        return lambda value: {
            _of_type((str,), key): item(each) for key, each in _of_type((Mapping,), value).items()
        }
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_json
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return lambda value: hint(_of_type((str,), value))
    if hint in _SCALARS:
        return functools.partial(_of_type, (int, float) if hint in (int, float) else (hint,))
    return lambda value: value


def _of_type(kinds: tuple[Any, ...], value: Any) -> Any:
    """The value, if it is of one of the types; a truth value is no number."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(f"{type(value).__name__} where {kinds} belongs")
    return value
