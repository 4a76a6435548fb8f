"""Numbers that a stage's script has at its top: read from its text, which is never imported nor run."""

from __future__ import annotations

import ast
import contextlib
import posixpath
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ar.project import naming, python_file
from ar.project.pipeline_file import Declared
from ar.project.ranges import around

_MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Literal:
    """`NAME = 3e-4` at the top level of a script, and where that stands."""

    name: str
    value: bool | int | float
    file: str
    line: int

    @property
    def is_setting(self) -> bool:
        """Whether its name and value are those of something to be searched, or of a seed of the work."""
        if naming.is_of_data(self.name):
            return False
        is_seed = type(self.value) is int and naming.is_seed(self.name)
        return is_seed or around(self.name, self.value) is not None


def of_stages(declared: Declared, read: Callable[[str], bytes | None]) -> list[Literal]:
    """What the Python files that the stages' commands run assign at their top, in the order of the stages.

    Args:
        read: a file of the project by its path; None where there is none.
    """
    paths = [path for folder, command in declared.commands for path in _scripts(folder, command)]
    return [item for path in dict.fromkeys(paths) for item in of_file(path, read(path) or b"")]


def of_file(path: str, content: bytes) -> list[Literal]:
    """What a Python file assigns at its top."""
    if len(content) > _MOST_BYTES:
        return []
    return [Literal(name, value, path, line) for name, value, line in _assigned(content)]


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
