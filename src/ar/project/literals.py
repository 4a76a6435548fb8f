"""Numbers that a stage's script has at its top: read from its text, which is never imported nor run."""

from __future__ import annotations

import ast
import contextlib
import posixpath
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from ar.git.repo import Repo
from ar.project import python_file
from ar.project.pipeline_file import Declared

_MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Literal:
    """`NAME = 3e-4` at the top level of a script, and where that stands."""

    name: str
    value: bool | int | float
    file: str
    line: int


def of_stages(repo: Repo, head: str, declared: Declared) -> list[Literal]:
    """What the Python files that the stages' commands run assign at their top, in the order of the stages."""
    files = repo.files(head)
    paths = [path for folder, command in declared.commands for path in _scripts(folder, command)]
    found = []
    for path in dict.fromkeys(paths):
        if path in files and files[path].is_file:
            content = repo.read(head, path) or b""
            if len(content) <= _MOST_BYTES:
                found += [Literal(name, value, path, line) for name, value, line in _assigned(content)]
    return found


def _scripts(folder: str, command: str) -> Iterator[str]:
    """Paths that may be Python files which a command line runs: `python a/b.py`, `python -m a.b`."""
    with contextlib.suppress(ValueError):  # an open quote
        parts = shlex.split(command)
        for part, before in zip(parts, ["", *parts], strict=False):
            if part.endswith(".py"):
                yield posixpath.normpath(posixpath.join(folder, part))
            elif before == "-m":
                stem = posixpath.normpath(posixpath.join(folder, part.replace(".", "/")))
                yield from (f"{stem}.py", f"{stem}/__main__.py")


def _assigned(content: bytes) -> Iterator[tuple[str, bool | int | float, int]]:
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        for name, node in python_file.constants(ast.parse(content).body):
            number = ast.literal_eval(node)
            if isinstance(number, bool | int | float):
                yield name, number, node.lineno
