"""What a history costs by its size: synthetic campaigns of many experiments, their remote a bare repository
that is once a folder, and once behind git's own daemon on loopback.

Prints seconds on the clock, and of processor time where it is on this side; beside each figure git's own for
what comes nearest, from the same run.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from histories import history, remote
from rush import daemon, queue
from sleeping import call

from ar.git.repo import Repo
from ar.history import exchange
from ar.local import joined
from ar.local.claims import Claim
from ar.project.project import Project
from ar.runs import outcomes
from ar.runs.pipeline import Pipeline
from ar.runs.remote_queue import RemoteQueue

_TIMES = 4  # of what is told by the best


class Cost(NamedTuple):
    """Seconds, of which the first count where two are compared."""

    clock: float
    processor: float

    def __str__(self) -> str:
        return f"{self.clock:.2f} s ({self.processor:.2f})"


def scale(root: Path, count: int) -> None:
    """Make a history of so many experiments, and print what is done with it."""
    root.mkdir(parents=True)
    folder = history(root / "project", count)
    remote(folder, root / "shared.git")
    print(f"{count:,} experiments", flush=True)
    show = [sys.executable, "-m", "ar", "show"]
    told("first ar show", cost(lambda: call(folder, *show)))
    listed = best(lambda: call(folder, "git", "for-each-ref"))
    told("warm ar show", best(lambda: call(folder, *show)), listed, "git for-each-ref")
    told("(ar show --help)", best(lambda: call(folder, *show, "--help")))
    with daemon(root) as address:
        for where, url in (("folder", str(root / "shared.git")), ("daemon", f"{address}/shared.git")):
            print(f"  {where}:", flush=True)
            exchanged(root, folder, where, url)


def exchanged(root: Path, folder: Path, where: str, url: str) -> None:
    """A worker's clone and the whole campaign's, against one address of the remote."""
    call(folder, "git", "remote", "add", where, url)
    repo, clone = Repo.open(folder), root / f"worker-{where}"
    joined.add(repo, where)
    told("first look of a clone that has all", cost(lambda: exchange.follow(repo, where)))
    told("another look", best(lambda: exchange.follow(repo, where)))
    call(root, "git", "clone", "-q", "-o", where, url, str(clone))
    for who, its in (("a new worker", Repo.open(clone)), ("a clone that has all", repo)):
        queue(repo, _TIMES + 1, where)
        joined.add(its, where)
        claimed(its, where, who)
    listed = best(lambda: call(folder, "git", "ls-remote", where))
    told(f"ar pull, {_TIMES + 1} new", cost(lambda: exchange.pull(repo, where)), listed, "git ls-remote")


def claimed(repo: Repo, where: str, who: str) -> None:
    """Claim and publish a few; a plain push of a ref beside it."""
    queue, had = RemoteQueue(Pipeline(repo), where), list[Claim]()
    claims, publications = [], []

    def claim() -> None:
        found = queue.claim()
        assert found is not None
        had.append(found)

    def publish() -> None:
        queue.finish(had[-1], *outcomes.of_cancelled(Project(repo, queue.program(had[-1])), had[-1]))

    for _ in range(_TIMES + 1):
        claims.append(cost(claim))
        publications.append(cost(publish))
    plain = best(lambda: push(repo, where))
    told(f"first claim by {who}", claims[0])
    told(f"claim by {who}", min(claims[1:]), plain, "git push")
    told(f"publication by {who}", min(publications[1:]), plain, "git push")


def push(repo: Repo, where: str) -> None:
    """A new commit, on a ref of its own."""
    name = str(time.time_ns())
    new = repo.commit_tree(repo.empty_tree(), [repo.head()], name)
    call(repo.top, "git", "push", "-q", where, f"{new}:refs/bench/{name}")


def cost(step: Callable[[], object]) -> Cost:
    """What a step takes; the processor time of this process and of what it started and saw the end of."""
    began, used = time.perf_counter(), _used()
    step()
    return Cost(time.perf_counter() - began, _used() - used)


def best(step: Callable[[], object]) -> Cost:
    return min(cost(step) for _ in range(_TIMES))


def _used() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def told(what: str, took: Cost, beside: Cost | None = None, peer: str = "") -> None:
    more = f"; {peer} {beside}, ratio {took.clock / beside.clock:.1f}" if beside else ""
    print(f"    {what}: {took}{more}", flush=True)
