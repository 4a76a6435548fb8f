"""How much of the possible gain each policy of search finds, on landscapes with known truth.

Our policy pays for everything out of its budget: baseline, confirmation, audit. What counts is the true
share of what it promoted last; a peer's is that of its best single run. Cells: mean share over the worlds /
mean of the worst tenth of them. With budgets up to 150 and without GP some minutes a kind on two cores; GP
takes most of the rest.

    python benchmarks/search.py --worlds 40 --budgets 50 150 500
    python benchmarks/search.py --worlds 10 --budgets 150 --policies TPE GP --kinds separable coupled:rho=0
    python benchmarks/search.py --worlds 10 --budgets 700 --policies search --kinds flat flat:rho=0

With `--record FILE` each outcome is added to a file as it comes, and what stands there is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from search_worlds import FLAT, KINDS, world

SIGMA, CORRELATION = 0.012, 0.9
OURS = "search"
PLAYED = "ar run"  # the same, as a command on a DVC project
PEERS = ("random", "TPE", "TPE multivariate", "GP", "CMA-ES")
SMOOTH = 0.9  # of the luck of a run, where seeds do not act alike on all configurations
GP_BUDGET = 150  # beyond it, GP is run on a few worlds only


@dataclass(frozen=True)
class Column:
    """Worlds of one kind under one noise."""

    kind: str
    sigma: float = SIGMA
    correlation: float = CORRELATION
    smooth: float = 0.0

    @property
    def name(self) -> str:
        if self.smooth:
            return f"{self.kind}:smooth={self.smooth:g}"
        if self.sigma != SIGMA:
            return f"{self.kind}:sigma={self.sigma:g}"
        return self.kind if self.correlation == CORRELATION else f"{self.kind}:rho={self.correlation:g}"


NOISES = ((SIGMA / 2, CORRELATION), (SIGMA * 2, CORRELATION), (SIGMA, 0.0), (SIGMA, 0.5), (SIGMA, 0.99))
COLUMNS = {
    column.name: column
    for column in [
        *(Column(kind) for kind in KINDS),
        *(Column(kind, *noise) for kind in ("separable", "coupled") for noise in NOISES),
        *(Column(kind, SIGMA, 0.0, SMOOTH) for kind in ("separable", "coupled")),
        *(Column(FLAT, SIGMA, correlation) for correlation in (CORRELATION, 0.0)),
    ]
}


@dataclass(frozen=True)
class Task:
    """One policy on one world. Peers answer every budget from one study; we are told ours beforehand."""

    policy: str
    column: str
    number: int
    budgets: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of one campaign; `seconds` are per proposal."""

    policy: str
    column: str
    number: int
    budget: int
    share: float
    seconds: float
    promotions: int = 0
    false: int = 0


def solve(task: Task) -> list[Outcome]:
    """In a process of its own, where numpy is first imported with one thread."""
    column = COLUMNS[task.column]
    where = world(column.kind, task.number, column.sigma, column.correlation, column.smooth)
    key = (task.policy, task.column, task.number)
    if task.policy in (OURS, PLAYED):
        from search_ours import ours
        from search_projects import played

        play = ours if task.policy == OURS else played
        results = [(budget, play(where, budget)) for budget in task.budgets]
        return [Outcome(*key, budget, r.share, r.seconds, r.promotions, r.false) for budget, r in results]
    from search_peers import peer

    trace = peer(task.policy, where, max(task.budgets))
    return [Outcome(*key, n, trace.shares[n - 1], sum(trace.seconds[:n]) / n) for n in task.budgets]


def tasks(args: argparse.Namespace, known: Iterable[Outcome]) -> list[Task]:
    """Whatever is not known yet; the long ones first, so that no process ends alone with one."""
    found, solved = [], {(o.policy, o.column, o.number, o.budget) for o in known}
    for number in range(args.first, args.first + args.worlds):
        for column in args.kinds:
            for policy in args.policies:
                budgets = tuple(n for n in sorted(args.budgets) if (policy, column, number, n) not in solved)
                if policy == "GP" and number >= args.first + args.gp_worlds:
                    budgets = tuple(n for n in budgets if n <= GP_BUDGET)
                if policy == PLAYED and (number >= args.first + args.projects or column not in KINDS):
                    continue
                if COLUMNS[column].kind == FLAT and policy != OURS:
                    continue  # whatever it ends with is as good
                if policy in (OURS, PLAYED):
                    found += [Task(policy, column, number, (n,)) for n in budgets]
                elif budgets:
                    found.append(Task(policy, column, number, budgets))
    return sorted(found, key=lambda task: (task.policy != "GP", -max(task.budgets)))


def worst_tenth(shares: Iterable[float]) -> float:
    ordered = sorted(shares)
    return statistics.fmean(ordered[: math.ceil(len(ordered) / 10)])


def table(outcomes: Sequence[Outcome], policies: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Markdown, of one budget."""
    lines = [
        "| | " + " | ".join(columns) + " | false promotions | s/proposal |",
        "|---" + "|---:" * (len(columns) + 2) + "|",
    ]
    for policy in policies:
        mine = [o for o in outcomes if o.policy == policy and o.column in columns]
        if not mine:
            continue
        cells = []
        for column in columns:
            shares = [o.share for o in mine if o.column == column]
            cells.append(f"{statistics.fmean(shares):.2f} / {worst_tenth(shares):.2f}" if shares else "")
        false = (
            f"{sum(o.false for o in mine)} of {sum(o.promotions for o in mine)}"
            if policy in (OURS, PLAYED)
            else ""
        )
        worlds = len({o.number for o in mine})
        cells += [false, f"{statistics.fmean(o.seconds for o in mine):.3f}"]
        lines.append(f"| {policy} ({worlds}) | " + " | ".join(cells) + " |")
    return lines


def against_best_peer(outcomes: Sequence[Outcome], columns: Sequence[str]) -> str:
    """The peer with the highest mean over these columns, and ours on the worlds that the peer was given."""
    shares = {(o.policy, o.column, o.number): o.share for o in outcomes if o.column in columns}

    def mean(policy: str, like: str) -> float:
        given = [key for key in shares if key[0] == like and (policy, *key[1:]) in shares]
        return statistics.fmean(shares[policy, *key[1:]] for key in given) if given else math.nan

    ran = {policy for policy, _, _ in shares}
    peers = {policy: mean(policy, policy) for policy in PEERS if policy in ran}
    if not peers:
        return ""
    best = max(peers, key=lambda policy: peers[policy])
    line = f"Best plain peer over these columns: {best}, {peers[best]:.3f}."
    if OURS in ran:
        own = mean(OURS, best)
        line += f" Ours on the same worlds: {own:.3f}, {own / peers[best]:.3f} of it."
    return line


def report(outcomes: Sequence[Outcome], args: argparse.Namespace) -> str:
    plain = [name for name in args.kinds if name in KINDS]
    flat = [name for name in args.kinds if COLUMNS[name].kind == FLAT]
    other = [name for name in args.kinds if name not in (*KINDS, *flat)]
    parts = []
    for budget in sorted(args.budgets):
        of_budget = [o for o in outcomes if o.budget == budget]
        for title, columns in (("kinds", plain), ("other noise", other), ("where nothing helps", flat)):
            if columns:
                lines = table(of_budget, args.policies, columns)
                parts += [
                    f"### {budget} runs, {title}",
                    "\n".join(lines),
                    against_best_peer(of_budget, columns),
                ]
    return "\n\n".join(part for part in parts if part)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=40, help="of each column")
    parser.add_argument("--first", type=int, default=1000, help="number of the first; below 1000 to tune on")
    parser.add_argument("--budgets", type=int, nargs="+", default=[50, 150, 500])
    parser.add_argument("--kinds", nargs="+", default=list(COLUMNS), choices=COLUMNS, metavar="KIND")
    parser.add_argument(
        "--policies", nargs="+", default=[OURS, PLAYED, *PEERS], choices=[OURS, PLAYED, *PEERS]
    )
    parser.add_argument("--projects", type=int, default=0, help="worlds of a kind for `ar run` itself")
    parser.add_argument("--gp-worlds", type=int, default=4, help=f"on which GP goes beyond {GP_BUDGET} runs")
    parser.add_argument("--record", type=Path, help="file that outcomes are added to, a line of JSON each")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    lines = args.record.read_text().splitlines() if args.record and args.record.exists() else []
    outcomes = [Outcome(**json.loads(line)) for line in lines]
    todo = tasks(args, outcomes)
    # Spawned: a forked process would keep whatever threads this one's libraries have started.
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        for done, found in enumerate(pool.imap_unordered(solve, todo), 1):
            outcomes += found
            if args.record:
                with args.record.open("a") as record:
                    record.writelines(f"{json.dumps(dataclasses.asdict(it))}\n" for it in found)
            if done % 20 == 0:
                print(f"{done} of {len(todo)}", file=sys.stderr)
    asked = (o for o in outcomes if o.policy in args.policies and o.column in args.kinds)
    print(report([o for o in asked if o.number in range(args.first, args.first + args.worlds)], args))


if __name__ == "__main__":
    main()
