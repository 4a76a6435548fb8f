"""What each way up a ladder gains at the target for the same compute, in worlds with known truth.

Every policy has the same ideas with the same luck and the same budget, and pays for its baselines. What
counts is the true effect at the target of all that it takes. All but `bottom only` take only what the judge's
rule lets pass at the target; ours takes its ideas there as one stack, as `ar stack` does.

    python benchmarks/ladder.py --worlds 100 --first 1000
"""

from __future__ import annotations

import argparse
import contextlib
import math
import multiprocessing
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ladder_worlds import KINDS, RUNGS, OutOfCompute, Play

BUDGET = 8192  # runs at the lowest rung: 32 at the target
TOP = RUNGS - 1
Members = tuple[int, ...]
SHOWN = {
    "plain": "plain climb",
    "asha": "ASHA (Optuna)",
    "target": "everything at target",
    "bottom": "bottom only",
}


@dataclass
class Outcome:
    """What came of one campaign.

    Args:
        covered: whether each idea's interval at the target held the truth; of ours alone.
    """

    policy: str
    kind: str
    gain: float
    spent: float
    taken: int
    covered: tuple[bool, ...] = ()


def halve(scored: Sequence[tuple[float, Members]], keep: int) -> list[Members]:
    """The best `keep` of those that score above 0, best first; equals in the order given."""
    ranked = sorted(scored, key=lambda pair: -pair[0])
    return [item for score, item in ranked[:keep] if score > 0]


def plain(play: Play) -> list[int]:
    """A rung at a time by successive halving (Jamieson and Talwalkar 2016): of three ideas one climbs; then,
    with what is left, of two."""
    taken: list[int] = []
    everybody = [(idea,) for idea in range(play.ideas)]
    try:
        for members in everybody:
            play.rungs[0].judge(members)
        for eta in (3, 2):
            players = everybody
            for level in range(1, RUNGS):
                scored = [(play.rungs[level - 1].score(members), members) for members in players]
                players = halve(scored, math.ceil(play.ideas / eta**level))
                for members in players:
                    if play.rungs[level].judge(members) and level == TOP and members[0] not in taken:
                        taken.append(members[0])
    except OutOfCompute:
        pass
    return taken


def asha(play: Play) -> list[int]:
    """Optuna's asynchronous successive halving on one run a rung; what comes through is judged at the
    target."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    )
    taken: list[int] = []

    def measured(rung: int, idea: int) -> float:
        here = play.rungs[rung]
        here.open(1)
        own = play.run(rung, (idea,), 0)
        here.runs.setdefault((idea,), (own,))
        return own.value - here.base[0].value

    def run(trial: optuna.Trial) -> float:
        for rung in range(RUNGS):
            value = measured(rung, trial.number)
            trial.report(value, 3**rung)
            if rung < TOP and trial.should_prune():
                raise optuna.TrialPruned
        if value < 0 and play.rungs[TOP].judge((trial.number,)):
            taken.append(trial.number)
        return value

    with contextlib.suppress(OutOfCompute):
        study.optimize(run, n_trials=play.ideas)
    return taken


def target(play: Play) -> list[int]:
    """Every idea is judged at the target alone, until the budget ends."""
    taken: list[int] = []
    with contextlib.suppress(OutOfCompute):
        for idea in range(play.ideas):
            taken += [idea] if play.rungs[TOP].judge((idea,)) else []
    return taken


def bottom(play: Play) -> list[int]:
    """What the judge lets pass at the lowest rung is taken unseen."""
    return [idea for idea in range(play.ideas) if play.rungs[0].judge((idea,))]


POLICIES: dict[str, Callable[[Play], list[int]]] = {
    "plain": plain,
    "asha": asha,
    "target": target,
    "bottom": bottom,
}


def solve(task: tuple[str, str, int, float]) -> Outcome:
    """One policy in one world; in a process of its own."""
    policy, kind, number, budget = task
    play = Play(kind, number, budget)
    if policy in POLICIES:
        taken = POLICIES[policy](play)
        return Outcome(policy, kind, play.gain(taken), play.spent, len(taken))
    from ladder_ours import ours

    taken, covered = ours(play)
    return Outcome(policy, kind, play.gain(taken), play.spent, len(taken), tuple(covered))


def table(outcomes: Sequence[Outcome], policies: Sequence[str]) -> list[str]:
    """Gain per 1000 units of the budget, a row a policy; ± is a standard error over worlds."""
    lines = ["| | " + " | ".join([*KINDS, "all"]) + " |", "|---" * (len(KINDS) + 2) + "|"]
    for policy in policies:
        cells = []
        for kinds in ([kind] for kind in KINDS):
            gains = [o.gain for o in outcomes if o.policy == policy and o.kind in kinds]
            error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
            cells.append(f"{statistics.fmean(gains):.2f} ± {error:.2f}")
        mine = [o for o in outcomes if o.policy == policy]
        cells.append(f"{statistics.fmean(o.gain for o in mine):.2f}")
        taken, spent = statistics.fmean(o.taken for o in mine), statistics.fmean(o.spent for o in mine)
        cells[-1] += f" ({taken:.1f} taken, {spent:.0f} spent)"
        lines.append(f"| {SHOWN.get(policy, policy)} | " + " | ".join(cells) + " |")
    for kind in KINDS:
        covered = [held for o in outcomes if o.kind == kind for held in o.covered]
        if covered:
            lines.append(f"{kind}: intervals hold {statistics.fmean(covered):.3f} of {len(covered)}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=100, help="of each kind")
    parser.add_argument("--first", type=int, default=1000, help="number of the first; below 1000 to tune on")
    parser.add_argument("--budget", type=float, default=BUDGET, help="runs at the lowest rung")
    parser.add_argument("--policies", nargs="+", default=["ours", *POLICIES], choices=["ours", *POLICIES])
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    numbers = range(args.first, args.first + args.worlds)
    tasks = [
        (policy, kind, number, args.budget)
        for policy in args.policies
        for kind in KINDS
        for number in numbers
    ]
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        outcomes = pool.map(solve, tasks, chunksize=1)
    print("\n".join(table(outcomes, args.policies)))


if __name__ == "__main__":
    main()
