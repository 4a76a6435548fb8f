"""What runs on a node, in a process that Ray starts: it keeps one `ar worker --remote` alive, in a clone of
its own, and tells of it.

It takes and returns plain strings and numbers: nothing of ours goes through pickle by value.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ar.cluster import token
from ar.cluster.state import State
from ar.errors import ArError
from ar.git import clone, refs, remote
from ar.git.repo import Repo
from ar.local import allowed, node
from ar.project import cache
from ar.redaction import redact
from ar.runs.gpu_meter import VISIBLE
from ar.text import one_line

REMOTE = "origin"  # the campaign's remote, in the clones on nodes
_TAIL = 2000  # bytes of the log in which the last line is looked for


def folder_of(home: str, slot: int) -> Path:
    """Where the clone of a slot lies on each node: it is used again.

    Args:
        home: name of the clone from which the campaign is run.
    """
    import platformdirs

    return Path(platformdirs.user_cache_dir("ar")) / "nodes" / home / f"slot-{slot}"


def share_cache(root: Path, folder: Path) -> None:
    """Have DVC keep what it caches for the project at `root` in a folder that all slots of a node share; not
    where the project or the node's owner has it elsewhere already."""
    if (root / ".dvc").is_dir() and not cache.config(root, "cache").get("dir"):
        with (root / ".dvc" / "config.local").open("a", encoding="utf-8") as file:
            file.write(f'[cache]\n    dir = "{folder}"\n')


class NodeWorker:
    """One slot's worker. It is made on a node; what does not work there is told by `state`.

    Args:
        url: of the campaign's remote.
        ref: where the campaign stands there.
        prefix: folder of the project in its repository; empty where it is the top.
        home: name of the clone from which the campaign is run.
        allowed_there: what that clone's owner has allowed the repository.
        with_gpu: whether Ray has given it one.
    """

    def __init__(
        self,
        url: str,
        ref: str,
        prefix: str,
        home: str,
        slot: int,
        allowed_there: Sequence[str],
        with_gpu: bool,
    ) -> None:
        token.guard()
        self.slot = slot
        self.gpus = os.environ.get(VISIBLE, "") if with_gpu else ""
        self.worker = self.failure = ""
        self._process: subprocess.Popen[bytes] | None = None
        try:
            top = folder_of(home, slot)
            clone.check_out(top, REMOTE, url, ref)
            self._repo = Repo.open(top / prefix)
            remote.guard(self._repo, REMOTE)
            share_cache(self._repo.root, top.with_name("cache"))
            allowed.add(self._repo, allowed_there)
            self.worker = node.name(self._repo)
            self._log = self._repo.own_folder() / "cluster-worker.log"
            self._process = self._start()
        except (ArError, OSError) as error:
            self.failure = one_line(redact(remote.shown(str(error))))

    def _start(self) -> subprocess.Popen[bytes]:
        # Of Ray's settings, its token above all, a worker needs none.
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        env[VISIBLE] = self.gpus  # Ray hides GPUs from nobody who asked for none
        command = [sys.executable, "-P", "-m", "ar.cluster.tether", str(os.getpid())]
        command += ["-C", str(self._repo.root), "worker", "--remote", REMOTE]
        with self._log.open("wb") as log:
            return subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def state(self) -> str:
        host = os.uname().nodename
        if self._process is None:
            return str(State(self.slot, host, self.worker, self.gpus, ended=True, said=self.failure))
        ended = self._process.poll() is not None
        runs = tuple(sorted(map(refs.name_of, self._repo.refs(refs.RUNNING))))
        return str(State(self.slot, host, self.worker, self.gpus, runs, ended, self._said()))

    def end(self, at_once: bool) -> None:
        """End the worker: at once, its experiment going back to the queue, or after what it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM if at_once else signal.SIGINT)

    def _said(self) -> str:
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _TAIL))
            said = log.read().decode(errors="replace").strip().splitlines()
            return one_line(redact(said[-1])) if said else ""
        return ""
