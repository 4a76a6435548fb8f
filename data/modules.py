"""Modules of the standard library whose files are about to be out of reach: they stay importable."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType


class FromMemory:
    """Finds and loads modules by name from code that was read before."""

    def __init__(self, kept: dict[str, tuple[str, CodeType]]) -> None:
        self.kept = kept

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: object = None) -> ModuleSpec | None:
        """Python's import system calls it."""
        if name not in self.kept:
            return None
        file, _ = self.kept[name]
        spec = ModuleSpec(name, self, origin=file, is_package=file.endswith("__init__.py"))  # type: ignore[arg-type]
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(os.path.dirname(file))
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        """Runs the code that was kept."""
        exec(self.kept[module.__name__][1], module.__dict__)  # noqa: S102 (the standard library's)


def keep_modules(files: Iterable[str]) -> None:
    """Reads those of `files` that are modules of the standard library and not loaded yet."""
    root = sysconfig.get_path("stdlib")
    kept = {}
    for file in files:
        relative = os.path.relpath(file, root)
        if not file.endswith(".py") or relative.startswith(os.pardir):
            continue
        name = relative.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if name not in sys.modules:
            code = SourceFileLoader(name, file).get_code(name)
            if code is not None:
                kept[name] = (file, code)
    sys.meta_path.insert(0, FromMemory(kept))  # type: ignore[arg-type]
