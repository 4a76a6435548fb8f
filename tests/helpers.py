"""What tests of the tool share: commands, changes to a project, and what became of its experiments."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import forks

from ar.agents import Agent, Channel, make
from ar.errors import ArError
from ar.git.repo import Repo
from ar.history import reader
from ar.local import allowed
from ar.project.program import AgentSpec
from ar.project.project import Project
from ar.runs import demands
from ar.views import export

PROGRAM = """\
---
objective: {metric: "m.json:val_loss", direction: minimize}
guards:
  - {metric: "c.yaml:cost", direction: minimize}
seed: seed
scope: {files: [fit.awk], params: [x, y]}
search:
  x: {low: 0.5, high: 6.0}
  y: {low: 0.01, high: 1.0, log: true}
budget: {runs: 200, timeout: 60s}
---
Find the floor of the bowl.
"""

Ar = Callable[..., subprocess.CompletedProcess[str]]


def run(folder: Path, *args: str, check: bool = True, **kwargs: object) -> subprocess.CompletedProcess[str]:
    """A command in a folder; what it printed is in the failure. Those of `ar` and DVC are forked, where they
    may be."""
    done: subprocess.CompletedProcess[str] | None = None
    if forks.server and not kwargs.keys() - {"input", "env"}:
        environment = cast("dict[str, str]", kwargs.get("env") or os.environ)
        done = forks.server.run(folder, args, str(kwargs.get("input", "")), environment)
    if done is None:
        done = subprocess.run(args, cwd=folder, capture_output=True, text=True, timeout=240, **kwargs)  # type: ignore[call-overload]
    if check and done.returncode:
        raise AssertionError(f"{args} exited with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and mtimes of the working tree and of git's index, without DVC's and git's own stores."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in _user_files(root)}


def _user_files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        store = parts[0] == ".git" or parts[:2] in ((".dvc", "tmp"), (".dvc", "cache"))
        if path.is_file() and not store:
            yield path
    yield root / ".git" / "index"


def git(folder: Path, *args: str) -> str:
    """What a git command printed."""
    return run(folder, "git", *args).stdout.strip()


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Until another thread or process has brought something about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.05)


def commit(folder: Path, message: str) -> None:
    """Commit all that changed or is new."""
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", message)


def share(folder: Path) -> Path:
    """Make a bare repository beside a project its `origin`. Returns it."""
    there = folder.parent / "shared.git"
    run(folder.parent, "git", "init", "-q", "--bare", str(there))
    git(folder, "remote", "add", "origin", str(there))
    git(folder, "push", "-q", "-u", "origin", "HEAD")
    git(there, "symbolic-ref", "HEAD", git(folder, "symbolic-ref", "HEAD"))
    return there


def clone_of(folder: Path, name: str) -> Path:
    """Another clone of a project's `origin`, beside it."""
    run(folder.parent, "git", "clone", "-q", git(folder, "remote", "get-url", "origin"), name)
    return folder.parent / name


def swap(text: str, old: str, new: str) -> str:
    """A text with one part replaced, which must stand in it exactly once."""
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in\n{text}"
    return text.replace(old, new)


def edit(path: Path, old: str, new: str) -> None:
    """Replace one part of a file, which must stand in it exactly once."""
    path.write_text(swap(path.read_text(), old, new))


def allow(folder: Path) -> None:
    """What a user does who has read what the project would run here: `ar allow`, without its process."""
    with contextlib.suppress(ArError):  # no project to allow anything of, yet
        demands.allow(Project.open(folder))


def allowed_agent(repo: Repo, spec: AgentSpec, channel: Channel | None = None) -> Agent:
    """An agent, as for a user who has allowed it."""
    allowed.add(repo, demands.of_agent(spec))
    return make(spec, repo, channel)


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    """`ar` in the background, in a process group of its own; errors are in its output."""
    allow(folder)
    return subprocess.Popen(
        [sys.executable, "-m", "ar", *args],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def typed(folder: Path, keys: str, *args: str, code: int = 0) -> str:
    """`ar` on a terminal on which somebody types, with its exit code. Returns what is on it in the end."""
    ours, theirs = os.openpty()
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-m", "ar", *args], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        os.write(ours, keys.encode())
        with contextlib.suppress(OSError):  # the terminal is gone with the process
            while more := os.read(ours, 1000):
                shown += more
        assert process.wait(60) == code, shown
    os.close(ours)
    return shown.decode()


def run_next(folder: Path, first: str = "", remote: str = "") -> None:
    """Run the oldest waiting experiment, in a process of its own as workers do, after some lines of code.

    Args:
        remote: whose queue to take it from; empty for the project's own.
    """
    allow(folder)
    code = "from ar.git.repo import Repo; from ar.runs.worker import Worker; "
    code += f"Worker(Repo.open(), remote={remote!r}).run_next()"
    run(folder, sys.executable, "-c", f"{first}\n{code}")


def processes() -> str:
    """The command line of every process of this machine."""
    return run(Path("/"), "ps", "axo", "args").stdout


def names_of(folder: Path, space: str) -> list[str]:
    """Names of the experiments whose refs lie in a space such as `refs/ar/queue`, oldest first."""
    refs = git(folder, "for-each-ref", space, "--sort=creatordate", "--format=%(refname)").split()
    return [ref.rpartition("/")[2] for ref in refs if "celery" not in ref]


def attempts_of(folder: Path) -> list[dict[str, Any]]:
    """What `ar show --json` tells of every attempt, newest first."""
    project = Project.open(folder)
    return json.loads(export.to_json(reader.read(project), project.program))["attempts"]  # type: ignore[no-any-return]


def runs_of(folder: Path) -> dict[str, dict[str, Any]]:
    """What `ar show --json` tells of every run at the base scale, by its name."""
    return {one["name"]: one for attempt in attempts_of(folder) for one in attempt["experiments"]}
