"""`${…}` in `dvc.yaml`, resolved as DVC resolves it; what is not known stays as it stands."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ar.project.values import get

Values = Mapping[str, Any]
_MARK = re.compile(r"(?<!\\)\$\{(.*?)\}")
_INDEX = re.compile(r"\[([^\[\]]*)\]")


def loaded(items: object, read: Callable[[str], Values], known: Values) -> dict[str, Any]:
    """The values of a `vars:` list on top of those known: files, keys of files, and what stands there itself.

    Args:
        read: what a file holds, by its path as it stands there.
    """
    values = dict(known)
    for item in items if isinstance(items, list) else []:
        if isinstance(item, str):
            path, _, keys = item.partition(":")
            data = read(path)
            item = {key: data[key] for key in keys.split(",") if key in data} if keys else data
        if isinstance(item, Mapping):
            values = _merged(values, item)
    return values


def files(items: object) -> list[str]:
    """Paths of the files that a `vars:` list names."""
    return [
        item.partition(":")[0] for item in (items if isinstance(items, list) else []) if isinstance(item, str)
    ]


def resolved(data: Any, values: Values) -> Any:
    """Text, or all text in lists and mappings, with what is known put in. Text that is nothing but one
    `${…}` becomes the value, of whatever type."""
    if isinstance(data, str):
        whole = _MARK.fullmatch(data)
        if whole and (found := _value(whole[1], values)) is not None:
            return found
        return _MARK.sub(lambda mark: _written(_value(mark[1], values), mark[0]), data)
    if isinstance(data, Mapping):
        return {resolved(key, values): resolved(item, values) for key, item in data.items()}
    if isinstance(data, list):
        return [resolved(item, values) for item in data]
    return data


def stages_of(name: str, entry: Values, values: Values) -> Iterator[tuple[str, Values, dict[str, Any]]]:
    """What one entry under `stages:` stands for: name, settings, and the values that hold there.

    A `foreach` or a `matrix` that is not known yet is one stage, whose own values are not known.
    """
    if "matrix" in entry:
        axes = resolved(entry["matrix"], values)
        known = isinstance(axes, Mapping) and all(isinstance(axis, list) for axis in axes.values())
        for combination in itertools.product(*axes.values()) if known else ():
            item = dict(zip(axes, combination, strict=True))
            places = [
                _written(value, "") if _is_scalar(value) else f"{key}{axes[key].index(value)}"
                for key, value in item.items()
            ]
            key = "-".join(places)
            yield f"{name}@{key}", entry, {**values, "item": item, "key": key}
        if not known:
            yield name, entry, dict(values)
    elif "foreach" in entry:
        body = entry.get("do") if isinstance(entry.get("do"), Mapping) else {}
        over = resolved(entry["foreach"], values)
        if isinstance(over, Mapping):
            for key, item in over.items():
                yield f"{name}@{_written(key, '')}", body or {}, {**values, "item": item, "key": key}
        elif isinstance(over, list):
            plain = all(_is_scalar(item) for item in over)
            for index, item in enumerate(over):
                yield f"{name}@{_written(item if plain else index, '')}", body or {}, {**values, "item": item}
        else:
            yield name, body or {}, dict(values)
    else:
        yield name, entry, dict(values)


def _value(expression: str, values: Values) -> Any:
    key = _INDEX.sub(r".\1", expression.strip())
    try:
        return get(values, key)
    except (KeyError, IndexError, ValueError, TypeError):
        return None


def _written(value: Any, unknown: str) -> str:
    """A value in the middle of a text."""
    if value is None or not _is_scalar(value):
        return unknown
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_scalar(value: object) -> bool:
    return not isinstance(value, Mapping) and (isinstance(value, str) or not isinstance(value, Sequence))


def _merged(old: Values, new: Values) -> dict[str, Any]:
    merged = dict(old)
    for key, value in new.items():
        here = merged.get(key)
        both = isinstance(here, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(here, value) if both else value  # type: ignore[arg-type]
    return merged
