"""Parameters that a Python file holds, as DVC finds them: read from its text, which is never run.

They are constants at the top, in classes, and what an `__init__` assigns to `self`.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ar.formats import MOST_CODE, BadData, check


def parse(content: bytes) -> dict[str, Any]:
    """Names and values, nested as their classes are; a value is plain data.

    Raises:
        BadData: it is no Python, or exceeds a bound.
    """
    with _bounded(content):
        data = _plain(_held(ast.parse(content)))
    check(data)
    return data


@contextlib.contextmanager
def _bounded(content: bytes) -> Iterator[None]:
    """Raises BadData for what is too long, no Python, or nested too deep for what is done with it."""
    if len(content) > MOST_CODE:
        raise BadData(f"larger than {MOST_CODE // 1_000_000} MB")
    try:
        yield
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadData((str(error) or "nested too deep").splitlines()[0]) from None


def replaced(content: bytes, place: Sequence[Any], value: Any) -> bytes:
    """The file with the value at a place written over, and not a character more.

    Raises:
        KeyError: there is none.
    """
    node: Any = _held(ast.parse(content))
    for step in place:
        if isinstance(node, ast.Dict):
            keys = [ast.literal_eval(key) if key else None for key in node.keys]
            node = dict(zip(keys, node.values, strict=True))
        elif isinstance(node, ast.List | ast.Tuple):
            node = node.elts
        node = node[step]
    if isinstance(node, Mapping):
        raise KeyError(place[-1])
    lines = content.splitlines(keepends=True)  # the offsets of `ast` are bytes in a line
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    new: Any = tuple(value) if isinstance(node, ast.Tuple) and isinstance(value, list) else value
    return content[:start] + repr(new).encode() + content[end:]


@lru_cache(maxsize=4096)
def code(content: bytes) -> str:
    """A hash of all that a file is besides its parameters' values, comments and layout. It is asked for with
    every identity of a tree, of which a history has many.

    Raises:
        BadData: it is no Python, or exceeds a bound.
    """
    with _bounded(content):
        tree = ast.parse(content)
        values = _Values(set(map(id, _nodes(_held(tree)))))
        return hashlib.sha256(ast.dump(values.visit(tree)).encode(errors="replace")).hexdigest()


class _Values(ast.NodeTransformer):
    """Takes values out of a tree."""

    def __init__(self, values: set[int]) -> None:
        self.values = values

    def visit(self, node: ast.AST) -> Any:
        return ast.Constant(None) if id(node) in self.values else super().visit(node)


def _nodes(held: Mapping[str, Any]) -> Iterator[ast.expr]:
    for node in held.values():
        if isinstance(node, Mapping):
            yield from _nodes(node)
        else:
            yield node


def _held(tree: ast.Module | ast.ClassDef | ast.FunctionDef) -> dict[str, Any]:
    """Name to the node of its value, or to a mapping of such for a class."""
    found: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = _held(node)
        elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
            found |= dict(constants(node.body, of_self=True))
    return found | dict(constants(tree.body))


def constants(body: Sequence[ast.stmt], of_self: bool = False) -> Iterator[tuple[str, ast.expr]]:
    """Name and value of what is assigned a constant, to a variable or to an attribute of `self`."""
    for node in body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        with contextlib.suppress(ValueError, TypeError, RecursionError, MemoryError):
            ast.literal_eval(value)
            if isinstance(target, ast.Attribute) and of_self and ast.unparse(target.value) == "self":
                yield target.attr, value
            elif isinstance(target, ast.Name) and not of_self:
                yield target.id, value


def _plain(held: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _plain(node) if isinstance(node, Mapping) else _data(ast.literal_eval(node))
        for name, node in held.items()
    }


def _data(value: Any) -> Any:
    """Tuples and sets as lists, as a parameter's value is compared."""
    if isinstance(value, Mapping):
        return {key: _data(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_data(item) for item in value), key=repr)
    return [_data(item) for item in value] if isinstance(value, list | tuple) else value
