"""What many machines cost and give, on this machine's loopback: a campaign's queue on a bare git remote, and
a Ray cluster of 1, 2 and 4 nodes with one slot each; with `rush`, many workers at one queue; with `scale`,
large histories.

The stages sleep, so that not this machine's cores decide. Prints for each number of nodes how many runs an
hour were made from the first stage's begin to the last one's end, against as many times one node's; the idle
gap between two stages on a slot; and what a claim and a publication take while nobody else is at it. What a
cluster and the workers need to come up is left out.

    python benchmarks/cluster.py --nodes 1 2 4 --seconds 5
    python benchmarks/cluster.py rush --workers 200 --runs 400
    python benchmarks/cluster.py scale --counts 1000 10000 100000
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from rush import rush
from scale import scale
from sleeping import call, project

from ar.campaign.campaign import Campaign
from ar.changes.proposal import prepare
from ar.cluster.connection import Connection
from ar.cluster.head import Head
from ar.git import refs
from ar.git.repo import Repo
from ar.history import exchange
from ar.history.ideas import Proposal
from ar.local import joined
from ar.project.project import Project
from ar.runs import outcomes
from ar.runs.pipeline import Pipeline
from ar.runs.remote_queue import RemoteQueue

CLAIMS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["nodes", "rush", "scale"], default="nodes")
    parser.add_argument("--workers", type=int, default=200, help="of rush")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000], help="of scale")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=5.0, help="for which a stage sleeps")
    parser.add_argument("--runs", type=int, default=6, help="for each node; in all, of rush")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ar-bench-") as scratch:
        if args.what == "rush":
            rush(Path(scratch), args.workers, args.runs)
        elif args.what == "scale":
            for count in args.counts:
                scale(Path(scratch, str(count)), count)
        else:
            on_nodes(Path(scratch), args)


def on_nodes(scratch: Path, args: argparse.Namespace) -> None:
    """A cluster of each size, after what a claim and a publication cost."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["XDG_CACHE_HOME"] = str(scratch / "nodes")
    claim, publication = costs(shared(scratch / "costs", 0))
    print(f"claim {claim:.2f} s, publication {publication:.2f} s (medians of {CLAIMS})", flush=True)
    one = 0.0
    for nodes in args.nodes:
        folder = shared(scratch / str(nodes), args.seconds)
        rate, gaps = throughput(folder, nodes, nodes * args.runs)
        one = one or rate / nodes
        print(
            f"nodes {nodes}: {rate * 3600:.0f} runs an hour, {rate / nodes / one:.2f} of linear; "
            f"idle gap {statistics.median(gaps):.2f} s, at most {max(gaps):.2f} s",
            flush=True,
        )


def shared(root: Path, seconds: float) -> Path:
    """A project with its campaign on `shared.git` beside it."""
    folder, there = project(root / "project", seconds), root / "shared.git"
    call(root, "git", "init", "-q", "--bare", str(there))
    call(folder, "git", "remote", "add", "origin", str(there))
    repo = Repo.open(folder)
    call(folder, "git", "push", "-q", "origin", f"HEAD:{refs.standing(repo.branch())}")
    joined.add(repo, "origin")
    return folder


def put(folder: Path, count: int) -> RemoteQueue:
    """Queue runs that differ in x."""
    campaign = Campaign(Project.open(folder))
    queue = RemoteQueue(Pipeline(campaign.repo), "origin")
    campaign.queue = queue
    for number in range(count):
        x = 0.4 * (number + 1) / count
        proposal = Proposal(f"x 0.5 → {x:.4f}", "Nothing.", "human", {"x": round(x, 4)})
        campaign.submit(prepare(campaign.project, proposal, campaign.history()), 1)
    return queue


def costs(folder: Path) -> tuple[float, float]:
    """Seconds for a claim, and for a publication."""
    queue = put(folder, CLAIMS)
    claims, publications = [], []
    for _ in range(CLAIMS):
        began = time.perf_counter()
        claimed = queue.claim()
        claims.append(time.perf_counter() - began)
        assert claimed is not None
        ended = outcomes.of_cancelled(Project(queue.repo, queue.program(claimed)), claimed)
        began = time.perf_counter()
        queue.finish(claimed, *ended)
        publications.append(time.perf_counter() - began)
    return statistics.median(claims), statistics.median(publications)


def throughput(folder: Path, nodes: int, count: int) -> tuple[float, list[float]]:
    """Runs a second on a cluster, and the idle gaps on its slots in seconds."""
    from ray.cluster_utils import Cluster

    queue = put(folder, count)
    small: dict[str, Any] = {"object_store_memory": 80_000_000}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small}
    )
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1, **small)
        with Head(Repo.open(folder), Connection(cluster.address), "origin", nodes, 0) as head:
            holders = watch(folder, count, queue, head)
    finally:
        cluster.shutdown()
        shutil.rmtree(folder.parent.parent / "nodes", ignore_errors=True)
    stages = defaultdict(list)
    repo = Repo.open(folder)
    exchange.pull(repo, "origin")
    for ref, rev in repo.refs(refs.EXPS).items():
        metrics = json.loads(repo.read(rev, "m.json") or b"{}")
        stages[holders[refs.name_of(ref)]].append((metrics["began"], metrics["ended"]))
    every = [stage for found in stages.values() for stage in found]
    assert len(every) == count
    gaps = [
        later[0] - earlier[1]
        for found in map(sorted, stages.values())
        for earlier, later in itertools.pairwise(found)
    ]
    return count / (max(end for _, end in every) - min(begin for begin, _ in every)), gaps


def watch(folder: Path, count: int, queue: RemoteQueue, head: Head) -> dict[str, str]:
    """Wait for all runs. Returns who had each."""
    there, holders = folder.parent / "shared.git", dict[str, str]()
    while True:
        held = call(there, "git", "for-each-ref", "refs/ar/running", "--format=%(refname) %(subject)")
        for line in held.splitlines():
            ref, _, words = line.partition(" ")
            holders[refs.name_of(ref)] = words
        for words in head.said():
            print(f"  {words}", flush=True)
        queue.look()  # as `ar run` does, for the head to read
        if call(there, "git", "for-each-ref", "refs/exps").count("\n") == count:
            return holders
        time.sleep(0.5)


if __name__ == "__main__":
    main()
