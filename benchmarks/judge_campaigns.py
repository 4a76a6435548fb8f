"""Simulated campaigns: what each decision rule finds, and how much of what it keeps is false.

A proposal is good, neutral, harmful or crashes; its runs are the truth plus noise; effects add up. Every
rule meets the same proposals with the same luck (common random numbers). Our rule is asked through
`ar.judge.protocol.answer`, as an outside program would ask it. Unit of all values: 1e-3 val_bpb.

    python benchmarks/judge_campaigns.py --campaigns 300 --runs 700
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import Pool
from typing import Any

from ar.judge.evidence import audit_runs
from ar.judge.protocol import Memory, answer

Correlation = float | tuple[float, ...]  # between runs of one seed; of several, each change has one


@dataclass(frozen=True)
class World:
    """Where proposals and noise come from; sigma in 1e-3 val_bpb, as in the public autoresearch run."""

    sigma: float = 0.40
    good: float = 0.03
    neutral: float = 0.42
    crash: float = 0.01  # the rest is harmful
    heavy_tails: bool = False  # Student's t on 4 degrees of freedom, scaled to the same sigma

    def effect(self, rng: random.Random) -> float | None:
        """Of one proposal: below 0 is an improvement; None where it crashes."""
        kind = rng.random()
        good = min(12.0, 0.6 * math.exp(rng.gauss(0, 1.0)))
        harm = 0.8 * math.exp(rng.gauss(0, 1.1))
        if kind < self.good:
            return -good
        if kind < self.good + self.neutral:
            return 0.0
        return None if kind < self.good + self.neutral + self.crash else harm

    def draw(self, rng: random.Random) -> float:
        """Noise of unit variance."""
        if not self.heavy_tails:
            return rng.gauss(0, 1)
        chi2 = rng.gammavariate(2, 2)
        return rng.gauss(0, 1) / math.sqrt(chi2 / 4) / math.sqrt(2)


VARIANTS = {
    "default": World(),
    "σ halved": World(sigma=0.20),
    "σ doubled": World(sigma=0.80),
    "1 % good": World(good=0.01),
    "10 % good": World(good=0.10),
    "t(4) noise": World(heavy_tails=True),
    "all null": World(good=0.0, neutral=0.99),
}


class Campaign:
    """One campaign's truth and luck, its budget, and the score of what was promoted."""

    def __init__(
        self, world: World, number: int, runs: int, correlation: float | tuple[float, ...] = 0.0
    ) -> None:
        self.world, self.number, self.left, self.correlation = world, number, runs, correlation
        self.level = 0.0  # true value of the incumbent
        self.true_gain = self.reported = 0.0
        self.promoted = self.false = 0
        proposals = random.Random(f"{number} proposals")
        self.effects = [world.effect(proposals) for _ in range(runs)]

    @cache  # noqa: B019 - a campaign lives for one simulation
    def luck(self, *key: object) -> float:
        return self.world.draw(random.Random(f"{self.number} {key}"))

    def run(self, code: int, level: float, seed: int) -> float:
        """One run of the code of proposal `code` (-1: the baseline); costs one run."""
        self.left -= 1
        rho = self.correlation
        if isinstance(rho, tuple):  # changes differ in how far they decorrelate from the incumbent
            rho = random.Random(f"{self.number} rho {code}").choice(rho)
        noise = math.sqrt(1 - rho) * self.luck(code, seed)
        if rho:
            noise += math.sqrt(rho) * self.luck("seed", seed)
        return level + self.world.sigma * noise

    def proposals(self) -> Iterator[tuple[int, float]]:
        """Proposals that do not crash, while the budget lasts; a crash costs its run."""
        for number, effect in enumerate(self.effects):
            if self.left <= 0:
                return
            if effect is None:
                self.left -= 1
            else:
                yield number, effect

    def promote(self, effect: float) -> None:
        self.level += effect
        self.true_gain -= effect
        self.promoted += 1
        self.false += effect >= 0


def oracle(world: Campaign) -> None:
    """Knows every effect: promotes each good one after a single run."""
    for _, effect in world.proposals():
        world.left -= 1
        if effect < 0:
            world.promote(effect)
    world.reported = world.true_gain


def greedy(world: Campaign) -> None:
    """Keep what beats the best value so far (karpathy/autoresearch)."""
    first = best = world.run(-1, 0.0, 0)
    for number, effect in world.proposals():
        value = world.run(number, world.level + effect, 0)
        if value < best:
            best = value
            world.promote(effect)
    world.reported = first - best


def mad(world: Campaign) -> None:
    """Keep what beats the best value by twice the median absolute deviation of all values so far."""
    first = best = world.run(-1, 0.0, 0)
    values = [first]
    for number, effect in world.proposals():
        value = world.run(number, world.level + effect, 0)
        values.append(value)
        middle = statistics.median(values)
        if best - value >= 2 * statistics.median(abs(v - middle) for v in values) and len(values) >= 3:
            best = value
            world.promote(effect)
    world.reported = first - best


def bootstrap(world: Campaign) -> None:
    """Three seeds; stop when a run is worse than the incumbent's mean; keep when 95 % of all resampled
    means are better. The incumbent's three runs are those that got it kept."""
    base = [world.run(-1, 0.0, seed) for seed in range(3)]
    first = bar = statistics.fmean(base)
    for number, effect in world.proposals():
        runs: list[float] = []
        while len(runs) < 3 and world.left > 0 and (not runs or runs[-1] < bar):
            runs.append(world.run(number, world.level + effect, len(runs)))
        if len(runs) == 3 and runs[-1] < bar and _share_better(runs, base) >= 0.95:
            base, bar = runs, statistics.fmean(runs)
            world.promote(effect)
    world.reported = first - bar


def _share_better(runs: list[float], base: list[float]) -> float:
    """Share of all 27 x 27 pairs of resamples in which the change's mean is the lower."""
    ours = [sum(draw) for draw in itertools.product(runs, repeat=3)]
    theirs = [sum(draw) for draw in itertools.product(base, repeat=3)]
    return sum(a < b for a in ours for b in theirs) / (len(ours) * len(theirs))


OBRIEN_FLEMING = 2.648  # two-sided, alpha = 0.01, 8 looks: Jennison and Turnbull 2000, table 2.3


def obrien_fleming(world: Campaign) -> None:
    """Up to 8 runs against 8 of the incumbent, a look after each; sigma known; stops either way."""

    def baseline(code: int) -> float:
        return statistics.fmean(world.run(code, world.level, 100 + k) for k in range(min(8, world.left)))

    first = bar = baseline(-1)
    for number, effect in world.proposals():
        total = 0.0
        for n in range(1, 9):
            if world.left <= 0:
                break
            total += world.run(number, world.level + effect, n - 1)
            z = (bar - total / n) / (world.world.sigma * math.sqrt(1 / n + 1 / 8))
            if abs(z) >= OBRIEN_FLEMING * math.sqrt(8 / n):
                break
        if z >= OBRIEN_FLEMING * math.sqrt(8 / n):
            world.promote(effect)
            if world.left > 0:
                bar = baseline(number)
    world.reported = first - bar


def ours(world: Campaign, paired: bool) -> None:
    """`ar.judge`, asked line by line; the reported total is first baseline minus closing audit."""
    budget, memory = world.left, Memory()
    answer({"reset": True, "budget": budget}, memory)
    codes = {"own": -1, "base": -1, "cand": -1}
    values: dict[str, list[float]] = {"cand": [], "own": [], "base": []}
    seeds: dict[str, list[int]] = {"cand": [], "own": [], "base": []}
    levels = {"base": 0.0}
    first: float | None = None
    audit: list[float] = []

    def one_run(side: str, seed: int | None) -> float:
        fresh = len(values["own"]) + len(values["base"]) if side == "base" else len(values["cand"])
        seed = fresh if seed is None else seed
        value = world.run(codes[side], levels[side], seed)
        values[side].append(value)
        seeds[side].append(seed)
        return value

    for number, effect in world.proposals():
        codes["cand"], levels["cand"] = number, world.level + effect
        values["cand"], seeds["cand"] = [], []
        while world.left > 0:
            question: dict[str, Any] = {"budget": budget, "spent": budget - world.left, "left": world.left}
            question |= {"change": number, "promotions": world.promoted, **values}
            reply = answer(question | ({"seeds": seeds} if paired else {}), memory)
            if reply["action"] == "base":
                auditing = world.left <= audit_runs(budget) and not values["cand"]
                value = one_run("base", reply["seed"])
                if auditing:
                    audit.append(value)
            elif reply["action"] == "run":
                if first is None:
                    first = statistics.fmean(values["base"])
                one_run("cand", reply["seed"])
            else:
                if reply["action"] == "promote":
                    world.promote(effect)
                    codes["base"], levels["base"] = number, world.level
                    values |= {"own": values["cand"], "base": []}
                    seeds |= {"own": seeds["cand"], "base": []}
                break
    world.reported = (first or 0.0) - statistics.fmean(audit) if audit else 0.0


RULES: dict[str, tuple[Callable[[Campaign], None], Correlation]] = {
    "oracle": (oracle, 0.0),
    "greedy": (greedy, 0.0),
    "MAD ≥ 2": (mad, 0.0),
    "3-seed bootstrap": (bootstrap, 0.0),
    "O'Brien-Fleming": (obrien_fleming, 0.0),
    "ours, unpaired": (partial(ours, paired=False), 0.0),
    "ours, paired, ρ = 0": (partial(ours, paired=True), 0.0),
    "ours, paired, ρ = 0.5": (partial(ours, paired=True), 0.5),
    "ours, paired, ρ = 0.9": (partial(ours, paired=True), 0.9),
    "ours, paired, ρ 0.5 or 0.98": (partial(ours, paired=True), (0.5, 0.98)),
    "ours, paired, ρ 0.98, 1 of 4: 0": (partial(ours, paired=True), (0.98, 0.98, 0.98, 0.0)),
}


@dataclass(frozen=True)
class Outcome:
    """Of one campaign: gains in 1e-3 val_bpb."""

    true_gain: float
    reported: float
    promoted: int
    false: int


def simulate(job: tuple[str, str, int, int]) -> Outcome:
    variant, rule, number, runs = job
    play, correlation = RULES[rule]
    world = Campaign(VARIANTS[variant], number, runs, correlation)
    play(world)
    return Outcome(world.true_gain, world.reported, world.promoted, world.false)


def _with_error(values: list[float], digits: int) -> str:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.fmean(values):.{digits}f} ± {error:.{digits}f}"


def row(rule: str, outcomes: list[Outcome], runs: int, best: float) -> list[str]:
    gains = [outcome.true_gain * 100 / runs for outcome in outcomes]
    promoted = sum(outcome.promoted for outcome in outcomes)
    false = sum(outcome.false for outcome in outcomes)
    return [
        rule,
        _with_error(gains, 3),
        f"{statistics.fmean(gains) * runs / 100 / best:.3f}" if best else "",
        f"{promoted / len(outcomes):.2f}",
        f"{false / len(outcomes):.3f}",
        f"{100 * false / promoted:.1f} %" if promoted else "",
        _with_error([outcome.reported - outcome.true_gain for outcome in outcomes], 2),
    ]


def short(outcomes: list[Outcome], best: float) -> str:
    """Share of the oracle's gain and share of false promotions; false promotions a campaign if all are."""
    gain = statistics.fmean(outcome.true_gain for outcome in outcomes)
    false = sum(outcome.false for outcome in outcomes)
    if not best:
        return f"{false / len(outcomes):.2f} false"
    promoted = sum(outcome.promoted for outcome in outcomes)
    return f"{gain / best:.2f}, {100 * false / promoted:.1f} %" if promoted else f"{gain / best:.2f}"


HEAD = ["rule", "true gain / 100 runs", "of oracle", "promoted", "false", "share false", "bias of total"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--campaigns", type=int, default=300)
    parser.add_argument("--runs", type=int, default=700, help="budget of one campaign")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    start = time.perf_counter()
    cells: dict[str, list[str]] = {rule: [rule] for rule in args.rules}
    with Pool(args.processes) as pool:
        for variant in args.variants:
            print(f"\n**{variant}**, {args.campaigns} campaigns of {args.runs} runs\n")
            print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
            best = 0.0
            for rule in args.rules:
                jobs = [(variant, rule, number, args.runs) for number in range(args.campaigns)]
                outcomes = pool.map(simulate, jobs, chunksize=8)
                if rule == "oracle":
                    best = statistics.fmean(outcome.true_gain for outcome in outcomes)
                print("| " + " | ".join(row(rule, outcomes, args.runs, best)) + " |", flush=True)
                cells[rule].append(short(outcomes, best))
    print("\n**All variants**: share of the oracle's true gain, share of promotions that are false\n")
    print("| rule | " + " | ".join(args.variants) + " |\n|" + "---|" * (1 + len(args.variants)))
    for line in cells.values():
        print("| " + " | ".join(line) + " |")
    print(f"\n{time.perf_counter() - start:.0f} s on {args.processes} process(es)")


if __name__ == "__main__":
    main()
