"""Many workers at one remote's queue, over git's own daemon on loopback: each has a clone, claims with `ar`'s
own classes, and publishes at once that it ran nothing. The clones lie in memory where that can be:
workers have disks of their own, and do not wait for the remote's.

Prints how many claims a second there were and how long one took, what a run costs the workers and the remote
in processor time, and whether each experiment was claimed once and published once.
"""

from __future__ import annotations

import contextlib
import json
import resource
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sleeping import call, project

from ar.git import refs
from ar.git.remote import Unreachable, look
from ar.git.repo import Repo
from ar.history.messages import Message
from ar.local import joined
from ar.project.project import Project
from ar.runs import outcomes
from ar.runs.pipeline import Pipeline
from ar.runs.remote_queue import RemoteQueue

_A_PROCESS = 25  # workers, a thread each


def rush(root: Path, workers: int, runs: int) -> None:
    """Let them loose, and say what came of it."""
    folder, bare = project(root / "project"), root / "shared.git"
    call(root, "git", "init", "-q", "--bare", str(bare))
    repo = Repo.open(folder)
    with daemon(root) as address, tempfile.TemporaryDirectory(prefix="ar-rush-", dir=in_memory()) as scratch:
        call(folder, "git", "remote", "add", "origin", f"{address}/shared.git")
        call(folder, "git", "push", "-q", "origin", "HEAD", f"HEAD:{refs.standing(repo.branch())}")
        queue(repo, runs)
        clones = [Path(scratch, str(number)) for number in range(workers)]
        for clone in clones:
            call(root, "git", "clone", "-q", f"{address}/shared.git", str(clone))
            joined.add(Repo.open(clone), "origin")
        before = spent(resource.RUSAGE_CHILDREN)
        said = let_loose(clones)
        here = sum(group["seconds"] for group in said)
        there = spent(resource.RUSAGE_CHILDREN) - before - here
        left = look(repo, "origin", f"{refs.QUEUE}/*", f"{refs.RUNNING}/*")
        ended = Counter(map(refs.name_of, look(repo, "origin", f"{refs.EXPS}/*")))
    told([claim for group in said for claim in group["claims"]], left, ended, runs)
    print(f"processor time of a run: {here / runs:.2f} s at the workers, {there / runs:.2f} s at the remote")


def let_loose(clones: Sequence[Path]) -> list[dict[str, Any]]:
    """Start a worker in each clone, and wait for all. Returns what the processes that hold them say."""
    groups = [clones[start : start + _A_PROCESS] for start in range(0, len(clones), _A_PROCESS)]
    processes = [
        subprocess.Popen([sys.executable, __file__, *map(str, group)], stdout=subprocess.PIPE)
        for group in groups
    ]
    return [json.loads(process.communicate()[0]) for process in processes]


def told(made: Sequence[dict[str, object]], left: dict[str, str], ended: Counter[str], runs: int) -> None:
    """Print the figures of all claims."""
    begun, done = (sorted(float(str(claim[key])) for claim in made) for key in ("begun", "claimed"))
    names = Counter(str(claim["name"]) for claim in made)
    lost = runs - len(ended) - len(left)
    print(f"{len(made) / (done[-1] - begun[0]):.1f} claims a second")
    for what, first, last in (("claim", "begun", "claimed"), ("publication", "claimed", "published")):
        took = sorted(float(str(claim[last])) - float(str(claim[first])) for claim in made)
        low, high = statistics.median(took), took[int(0.99 * (len(took) - 1))]
        print(f"{what}: p50 {low:.2f} s, p99 {high:.2f} s")
    twice = sum(count > 1 for count in names.values())
    print(f"{runs} experiments: claimed twice {twice}, published {len(ended)}, left {len(left)}, lost {lost}")


def queue(repo: Repo, runs: int, remote: str = "origin") -> None:
    """Put so many experiments there, in one push."""
    specs = []
    for number in range(runs):
        x = round((number + 1) / (runs + 1), 6)
        tree = repo.write_tree("HEAD", {"params.yaml": f"x: {x}\nseed: 1\n".encode()})
        message = Message(f"x 0.5 → {x}", "Nothing.", agent="human", candidate=f"{number:016x}", seed=1)
        name = refs.new_name(message.title)
        rev = repo.commit_tree(tree, [repo.head()], str(message), 1_700_000_000 + number)
        specs.append(f"{rev}:{refs.queued(name)}")
    call(repo.top, "git", "push", "-q", remote, *specs)


@contextlib.contextmanager
def daemon(root: Path) -> Iterator[str]:
    """The address at which git's own daemon serves a folder to this machine.

    It is started for each connection, as systemd or inetd would do it: listening itself, it has no more than
    five wait, and others are turned away.
    """
    options = ["--inetd", "--export-all", "--enable=receive-pack", f"--base-path={root}", str(root)]

    class Serve(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            subprocess.run(["git", "daemon", *options], stdin=self.request, stdout=self.request, check=False)

    class Server(socketserver.ThreadingTCPServer):
        request_queue_size = 4096
        daemon_threads = True

    with Server(("127.0.0.1", 0), Serve) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"git://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def in_memory() -> str | None:
    """A folder that is kept in memory, if there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def spent(whose: int) -> float:
    """Processor seconds."""
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def work(clone: str) -> list[dict[str, object]]:
    """Claim and publish until nothing waits: when each was begun and done, in unix time."""
    repo, made = Repo.open(Path(clone)), []
    remote_queue = RemoteQueue(Pipeline(repo), "origin", tell=lambda words: print(words, file=sys.stderr))
    while True:
        begun = time.time()
        try:
            claimed = remote_queue.claim()
        except Unreachable as error:
            print(error, file=sys.stderr)
            time.sleep(1)
            continue
        if claimed is None:
            return made
        at = time.time()
        ended = outcomes.of_cancelled(Project(repo, remote_queue.program(claimed)), claimed)
        if not remote_queue.finish(claimed, *ended):
            print(f"{claimed.name} was lost", file=sys.stderr)
        made.append({"name": claimed.name, "begun": begun, "claimed": at, "published": time.time()})


if __name__ == "__main__":
    with ThreadPoolExecutor(len(sys.argv)) as pool:
        claims = [claim for found in pool.map(work, sys.argv[1:]) for claim in found]
    used = spent(resource.RUSAGE_SELF) + spent(resource.RUSAGE_CHILDREN)
    print(json.dumps({"claims": claims, "seconds": used}))
