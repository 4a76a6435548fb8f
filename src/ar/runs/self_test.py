"""`ar doctor --attack`: harmless attacks on the walls of this machine, in the very sandbox that stages have.

Each runs as a stage would, by the launcher and with a plan that a worker made, but for limits that are small
enough to be exceeded within a second. What became of it is told by the attacker, who is ours, by the
launcher, and by what is there afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ar.errors import BadState
from ar.git.repo import Repo
from ar.local import claims
from ar.local.claims import Claim
from ar.project.cache import Cache
from ar.project.project import Project
from ar.runs import demands, sandbox
from ar.runs.pipeline import Workspace
from ar.runs.worker import Worker, launcher_script
from ar.stage import attack, files
from ar.stage.attack import Outcome
from ar.stage.files import Cause, Limits, Plan, Usage

_LIMITS = Limits(memory=200_000_000, processes=40, disk=40_000_000)
_SECONDS = 60.0  # a stage may take for all attempts that it makes
_AT_ONCE = {
    "read_home": "a file of your home", "read_git_config": "git's settings of the project",
    "read_dvc_settings": "DVC's settings of the project", "see_processes": "processes outside",
    "use_network": "network", "reach_bound_socket": "sockets of the machine, by path",
    "reach_abstract_socket": "sockets of the machine, abstract", "read_keyring": "the kernel's keys",
    "trace_parent": "memory of other processes", "share_memory_by_key": "System V's shared memory",
    "write_outside": "writing outside its folder",
}  # fmt: skip
_ONE_BY_ONE = {
    "link_out": "a link out of its folder", "hold_memory": "memory",
    "hold_memory_in_files_without_names": "memory in memfds",
    "hold_memory_that_is_mapped_nowhere": "memory, shared and unmapped",
    "hold_memory_in_sockets": "memory in sockets",
    "hold_memory_in_temporary_files": "memory in temporary files",
    "hold_disk_in_unlinked_files": "disk in unlinked files",
    "leave_files_with_holes": "disk in files with holes", "start_processes": "processes",
    "forge_count": "a forged count of processes",
    "forge_answer": "a forged answer to the count", "plant_bytecode": "bytecode for a later stage",
}  # fmt: skip
_ENDED = (Outcome.CONTAINED, "it was ended")


@dataclass(frozen=True)
class Attempt:
    """One attack, and what became of it.

    Args:
        wall: what it was on, in a few words.
        detail: how it was refused, ended, or got through.
    """

    wall: str
    outcome: Outcome
    detail: str


def attempts(project: Project) -> Iterator[Attempt]:
    """Try every wall, one after the other.

    Raises:
        BadState: the sandbox is not what `program.md` asks for, or another self-test runs.
        NotAllowed: this machine's owner has not allowed what the stages demand.
    """
    repo, head = project.repo, project.repo.head()
    demands.refuse(repo, demands.of_stages(repo, project.program, head))
    name = f"self-test-{os.getpid()}"
    if (lock := claims.lock(repo, name)) is None:
        raise BadState(f"another process has {name}", "run the command again")
    rev = repo.commit_tree(repo.tree(head), [head], "Self-test\n")
    claim = Claim.begin(repo, name, repo.commit(rev), lock)
    worker = Worker(repo)
    try:
        with worker.pipeline.workspace(name, claim.rev, head) as workspace, _targets(project) as targets:
            plan = worker.plan(project.program, claim, workspace)
            yield from _Attacker(repo, claim, plan, workspace, targets).all()
    finally:
        claim.let_go()
        worker.pipeline.close()


@contextlib.contextmanager
def _targets(project: Project) -> Iterator[dict[str, Any]]:
    """What to go for on this machine outside; gone afterwards."""
    repo, home = project.repo, str(Path.home())
    with contextlib.ExitStack() as held:
        canary = held.enter_context(tempfile.NamedTemporaryFile(prefix=attack.PLANTED, dir=home))
        canary.write(b"not for stages\n")
        canary.flush()
        server = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = secrets.token_hex(8)
        held.enter_context(_listening(f"\0{abstract}"))
        bound = ""
        for folder in sandbox.readable(repo.root):
            if os.access(folder, os.W_OK):
                bound = f"{folder}/{attack.PLANTED}-{secrets.token_hex(4)}"
                held.enter_context(_listening(bound))
                held.callback(os.unlink, bound)
                break
        cache = str(Cache.of(repo.root).folder)
        places = [str(repo.root), str(repo.git_dir), home, "/usr", cache, "/etc"]
        for place in places:
            held.callback(Path(place, attack.PLANTED).unlink, missing_ok=True)
        yield {
            "home": canary.name, "git_config": str(repo.git_dir / "config"),
            "dvc_settings": str(repo.root / ".dvc" / "config"), "process": os.getpid(),
            "started": Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19],
            "port": server.getsockname()[1], "socket": bound, "abstract": abstract, "places": places,
            "memory": _LIMITS.memory, "processes": _LIMITS.processes, "disk": _LIMITS.disk,
        }  # fmt: skip


@contextlib.contextmanager
def _listening(address: str) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        yield


class _Attacker:
    """Runs attempts as stages of one claimed experiment, which is never recorded."""

    def __init__(
        self, repo: Repo, claim: Claim, plan: Plan, workspace: Workspace, targets: dict[str, Any]
    ) -> None:
        self.repo = repo
        self.claim = claim
        self.plan = plan._replace(limits=_LIMITS, timeout=_SECONDS, slots=[])
        self.root = workspace.root
        self.targets = targets | {"walls": bool(plan.usual.sandbox)}

    def all(self) -> Iterator[Attempt]:
        """Those that only reach out share a stage; those on limits and on what is left have one each."""
        said, _ = self._stage(list(_AT_ONCE))
        for name, wall in _AT_ONCE.items():
            yield Attempt(wall, *self._seen(name, *said.get(name, _ENDED)))
        for name, wall in _ONE_BY_ONE.items():
            said, usage = self._stage([name])
            found = said.get(name, _ENDED)
            if usage is None:
                found = Outcome.NOT_AVAILABLE, "the launcher did not come to its end"
            elif usage.cause is not Cause.NONE:
                refused = usage.cause is Cause.REFUSED
                found = Outcome.REFUSED if refused else Outcome.CONTAINED, usage.why
            elif name.startswith("forge_") and usage.left:
                found = Outcome.CONTAINED, f"{usage.left} left running, counted from outside"
            elif name == "link_out" and not os.path.lexists(self.root / attack.PLANTED):
                found = Outcome.CONTAINED, "it was removed"
            elif name == "plant_bytecode":
                later = self._stage(["run_planted"])[0]
                found = later.get("run_planted", _ENDED)
            yield Attempt(wall, *found)

    def _seen(self, name: str, outcome: Outcome, detail: str) -> tuple[Outcome, str]:
        """What the attacker says, and what is there outside."""
        if name == "write_outside" and outcome is Outcome.THROUGH:
            there = [place for place in self.targets["places"] if Path(place, attack.PLANTED).exists()]
            words = f"wrote to {', '.join(there)}" if there else "nothing of it is there outside"
            return (Outcome.THROUGH if there else Outcome.CONTAINED), words
        return outcome, detail

    def _stage(self, names: Sequence[str]) -> tuple[dict[str, tuple[Outcome, str]], Usage | None]:
        """What attempts say of themselves that one stage makes, and what the launcher says of it."""
        self.claim.begin_again()
        files.write(self.claim.plan, self.plan)
        shutil.copy(str(attack.__file__), self.root / "attack.py")
        command = shlex.join([sys.executable, "attack.py", json.dumps(self.targets), *names])
        script = launcher_script(self.repo)
        env = os.environ | {"AR_LAUNCH": str(self.claim.plan), "DVC_STAGE": "self-test"}
        with self.claim.log.open("wb") as log:
            subprocess.run(
                [str(script), "-c", command], cwd=self.root, env=env, stdout=log, stderr=log, check=False
            )
        said = {}
        for line in self.claim.log.read_text(errors="replace").splitlines():
            if line.startswith(attack.RESULT):
                name, outcome, words = json.loads(line.removeprefix(attack.RESULT))
                said[name] = Outcome(outcome), words
        return said, self.claim.usage
