"""The Python that stage commands find: the one that `dvc repro` in the user's shell would run.

It need not be ours: `ar` may be installed in an environment of its own.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ar.git import command
from ar.stage.snapshot import inside

_SECONDS = 20
_UV = re.compile(r"(?<![\w./-])uv\s+run(?![\w-])")
_UV_FOLDER = ".venv"  # where uv keeps a project's environment
_WORD = re.compile(r"(?<![\w./-])(?:[\w.-]*/)*python[\d.]*(?![\w./-])")
# Only what is loaded already: in the user's folder, any other module might be a file of theirs.
_ASK = """
import os, sys
site = sys.modules.get("site")
base = site.getuserbase() if site and site.ENABLE_USER_SITE else ""
version = "%d.%d.%d" % sys.version_info[:3]
parts = [sys.executable, version, base, sys.prefix, sys.base_prefix] + sys.path[1:]
sys.stdout.buffer.write(b"\\0".join(os.fsencode(part) for part in parts))
"""


@dataclass(frozen=True)
class Interpreter:
    """One Python.

    Args:
        program: its path; empty where PATH has none.
        version: `3.12.1`.
        prefix: of its environment.
        user_base: where it looks for what was installed for the user only; empty where it does not.
        folders: it and its packages live in them.
        sources: folders of the project itself that it imports from, relative to the project's root.
        shimmed: PATH has something else by its name, which finds it by the working directory.
    """

    program: str = ""
    version: str = ""
    prefix: str = ""
    user_base: str = ""
    folders: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    shimmed: bool = False

    def __str__(self) -> str:
        return f"{self.version} {self.program}".strip()

    def installed(self, package: str) -> str:
        """The version of a package that it would import, by what was written where it was installed; empty
        where there is none."""
        found = importlib.metadata.distributions(name=package, path=list(self.folders))
        return next((one.version for one in found), "")


def named(commands: Iterable[tuple[str, str]]) -> list[str]:
    """The Pythons that commands name, a folder and a line each: words of PATH, or paths from the root."""
    found = []
    for folder, line in commands:
        if _UV.search(line):
            found.append((".", f"{_UV_FOLDER}/bin/python"))
        else:
            found += [(folder, name) for name in _WORD.findall(line)]
    return [os.path.normpath(os.path.join(folder, name)) if "/" in name else name for folder, name in found]


def find(root: Path, commands: Iterable[tuple[str, str]]) -> Interpreter:
    """The Python that these commands of the project's stages, see `named`, would run."""
    names = (os.path.join(root, name) if "/" in name else name for name in named(commands))
    words = tuple(dict.fromkeys([*names, "python", "python3"]))
    return _find(str(root), words, os.environ.get("PATH", os.defpath))


@functools.lru_cache(maxsize=8)
def _find(root: str, names: Sequence[str], path: str) -> Interpreter:
    for name in names:
        program = shutil.which(name, path=path)
        found = _ask(program, root) if program and not _is_tracked(root, name) else None
        if found:
            return found
    return Interpreter()


def _is_tracked(root: str, name: str) -> bool:
    """Whether git has a program of the project, or the environment that it is in: then an experiment may have
    written it, and outside the sandbox it is not run."""
    if not inside(name, [root]):
        return False
    top = os.path.relpath(name, root).partition("/")[0]
    return bool(command.run(Path(root), "ls-files", "--", top))


def _ask(program: str, root: str) -> Interpreter | None:
    try:
        ask = [program, "-c", _ASK]
        done = subprocess.run(ask, cwd=root, capture_output=True, timeout=_SECONDS, check=True)
        executable, version, base, *places = map(os.fsdecode, done.stdout.split(b"\0"))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    prefixes, paths = places[:2], [place for place in places[2:] if os.path.isabs(place)]
    own = [place for place in paths if inside(place, [root]) and not inside(place, prefixes)]
    folders = [*prefixes, *hops(executable), *(place for place in paths if place not in own)]
    return Interpreter(
        program=executable,
        version=version,
        prefix=prefixes[0],
        user_base=base,
        folders=tuple(dict.fromkeys(folders)),
        sources=tuple(os.path.relpath(place, root) for place in own),
        shimmed=os.path.dirname(executable) != os.path.dirname(program),
    )


def hops(program: str) -> list[str]:
    """The folders of a program and of what its links lead to, one after the other."""
    found = [os.path.dirname(program)]
    while os.path.islink(program) and len(found) < 40:
        program = os.path.join(os.path.dirname(program), os.readlink(program))
        found.append(os.path.dirname(program))
    return found


def environment(python: Interpreter, env: Mapping[str, str], workspace: Path) -> dict[str, str]:
    """A stage's environment, in which commands find this Python, and it the workspace's code.

    Args:
        workspace: the experiment's copy of the project's root.
    """
    # Where git has files of bytecode, writing them anew would be a change of the tree.
    found = {**env, "PYTHONDONTWRITEBYTECODE": "1"}
    path = [env.get("PATH", os.defpath), os.path.dirname(sys.executable)]
    if python.shimmed:
        path.insert(0, os.path.dirname(python.program))
    found["PATH"] = os.pathsep.join(path)
    if python.sources:  # installed in place: it is the experiment's copy that is to be measured
        found["PYTHONPATH"] = os.pathsep.join(str(workspace / source) for source in python.sources)
    return found


def environments(root: Path, commands: Iterable[tuple[str, str]]) -> list[str]:
    """Names of the Python environments at the top of the project, such as `.venv`, that commands go by."""
    signs = (*root.glob("*/pyvenv.cfg"), *root.glob("*/conda-meta"))
    lines = [_UV.sub(f"{_UV_FOLDER}/", line) for _, line in commands]
    return sorted(
        {sign.parent.name for sign in signs if any(f"{sign.parent.name}/" in line for line in lines)}
    )
