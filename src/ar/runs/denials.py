"""What a failed run missed that the user's own shell has: what the sandbox keeps from it, or git lacks.

Told from the end of its log, by messages of libraries and tools, and by paths that are there outside. It is
a hint for people: nothing is decided by it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ar.local.claims import Claim
from ar.project.pipeline_file import PIPELINE_FILE, Declared
from ar.project.program import Sandbox
from ar.project.program_file import place
from ar.project.project import Project
from ar.runs import interpreter
from ar.stage import files
from ar.stage.files import Plan
from ar.stage.snapshot import inside

_LINES = 40  # of the log's end
_NETWORK = re.compile(
    r"Temporary failure in name resolution|Name or service not known|Could not resolve (host|proxy)"
    r"|nodename nor servname|getaddrinfo (failed|ENOTFOUND|EAI_AGAIN)|Network is unreachable"
    r"|Failed to establish a new connection|Max retries exceeded with url"
    r"|Connection refused|ECONNREFUSED"  # of a server on this machine: the sandbox has a loopback of its own
    r"|[Oo]utgoing traffic has been disabled"
    r"|offline mode is enabled|OfflineModeIsEnabled|unable to resolve host address",
)
_READ_ONLY = re.compile(r"Read-only file system(: '(?P<path>[^']+)')?")
_MISSING = re.compile(
    r"No such file or directory|not found|cannot (open|access|find|stat)|can't open|does not exist"
    r"|FileNotFoundError|Permission denied"
)
_PATH = re.compile(r"(?:~|\.{0,2})/?(?:[\w.@+-]+/)*[\w.@+-]+")


@dataclass(frozen=True)
class Denial:
    """What was missed, in words, and what to do so that it is there."""

    what: str
    mend: str


def of_run(project: Project, claim: Claim, log: str) -> Denial | None:
    """What a failed run missed, while its folder is still there; None where nothing says so."""
    plan = files.read(Plan, claim.plan)
    if plan is None:
        return None
    repo, workspace = project.repo, Path(plan.workspace, project.repo.prefix)
    if not claim.begun:
        return missing(Declared.read(repo, claim.rev).inputs, repo.root, workspace)
    if lacks := re.search(r"^ModuleNotFoundError: No module named '([\w.]+)'", log, re.MULTILINE):
        python = interpreter.find(repo.root, Declared.read(repo, claim.rev).commands)
        words = f"the Python of the stages, {python.program}, has no {lacks[1]}"
        return Denial(words, "install it there, or activate the environment that dvc repro needs")
    settings = project.program.sandbox.of_stage(claim.stage.name if claim.stage else "")
    return of_log(log, settings, repo.root, workspace, bool(plan.usual.sandbox))


def missing(inputs: Iterable[str], root: Path, workspace: Path) -> Denial | None:
    """What stages depend on, no stage makes, and an experiment does not have."""
    for path in inputs:
        if os.path.lexists(workspace / path):
            continue
        parents = [path, *map(str, PurePosixPath(path).parents)]
        if any(os.path.exists(workspace / f"{parent}.dvc") for parent in parents if parent != "."):
            return Denial(f"{path} is not in DVC's cache", f"run: dvc pull, or dvc commit {path}.dvc")
        if not os.path.exists(root / path):
            return Denial(
                f"{path}, a dependency in {PIPELINE_FILE}, is missing", "make it, or correct dvc.yaml"
            )
        return _untracked(path)
    return None


def _untracked(path: str) -> Denial:
    words = f"{path} is in your folder, but neither in git nor in DVC: an experiment does not have it"
    return Denial(words, f"run: dvc add {path}, or git add {path}; then commit")


def of_log(log: str, settings: Sandbox, root: Path, workspace: Path, sandboxed: bool) -> Denial | None:
    """What a failed run's log says that it missed; None where it says nothing of the kind.

    Args:
        root: the project's own folder.
        workspace: the experiment's copy of it.
        sandboxed: whether the run was in the sandbox.
    """
    lines = log.splitlines()[-_LINES:]
    if sandboxed and not settings.network and any(map(_NETWORK.search, lines)):
        return Denial("the sandbox has no network", _allow(root, "network: true"))
    for line in reversed(lines):
        if sandboxed and (found := _READ_ONLY.search(line)):
            where = f" to {found['path']}" if found["path"] else ""
            words = (
                f"the sandbox lets a stage write to its own folder and /tmp only, not{where or ' elsewhere'}"
            )
            return Denial(words, f"write there, or set sandbox: off in {place(root)}")
        if _MISSING.search(line):
            for path in _PATH.findall(line):
                if denial := _missed(path, root, workspace, sandboxed):
                    return denial
    return None


def _missed(path: str, root: Path, workspace: Path, sandboxed: bool) -> Denial | None:
    """The denial of a path that a run did not find, where it is there outside."""
    inner = os.path.normpath(os.path.join(workspace, path))
    if inside(inner, [str(workspace)]):
        own = os.path.relpath(inner, workspace)
        if own != "." and os.path.exists(root / own) and not os.path.exists(inner):
            return _untracked(own)
        return None
    if not sandboxed or not os.path.isabs(path):
        return None
    home = os.path.expanduser("~")
    for outer in (path, os.path.join(home, os.path.relpath(path, "/tmp"))):
        if os.path.exists(outer) and not inside(outer, _SHOWN) and (outer == path or inside(path, ["/tmp"])):
            short = f"~{outer[len(home) :]}" if inside(outer, [home]) else outer
            return Denial(f"the sandbox does not show {short}", _allow(root, f"read: [{short}]"))
    return None


_SHOWN = ("/usr", "/bin", "/lib", "/proc", "/sys", "/dev")


def _allow(root: Path, setting: str) -> str:
    return f"to allow it, in {place(root)}: sandbox: {{{setting}}}"
