"""Simulated ladders with known truth: ideas whose effects at five rungs are drawn, and runs that measure
them.

A run costs 4 times one of the rung below. Its value is the truth plus noise, half of whose variance is the
seed's; it falls by 15 % a rung. Lower is better, and the unit is one run's noise at the lowest rung. Effects
add up.

Worlds 0 to 999 are there to tune on. Worlds 1000 and up are HELD OUT: figures are reported on them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from ar.history.records import Verdict
from ar.judge.evidence import Candidate, Ledger, Run
from ar.judge.noise import Noise
from ar.judge.rule import Action, Kind, next_action

RUNGS = 5
COSTS = [4**rung for rung in range(RUNGS)]
NOISE = [0.85**rung for rung in range(RUNGS)]
SHARED = 0.5  # of a run's variance: its seed's
JITTER = 0.1  # what is new at each rung, in every world
KINDS = ("all transfer", "shrinking", "half scale-bound", "moving optimum", "sign flips")
IDEAS = 60
GOOD, NEUTRAL = 0.15, 0.40  # shares of the ideas; the others harm


class OutOfCompute(Exception):
    """The campaign's budget does not allow another run."""


def _first_effect(rng: random.Random) -> float:
    kind = rng.random()
    if kind < GOOD:
        return -1.5 * math.exp(rng.gauss(0, 0.5))
    return rng.gauss(0, 0.1) if kind < GOOD + NEUTRAL else 1.5 * math.exp(rng.gauss(0, 0.8))


def _scaled(kind: str, rng: random.Random) -> list[float]:
    """One idea's effect at each rung."""
    if kind == "moving optimum" and rng.random() > NEUTRAL:
        # A step from 0 in a bowl whose lowest point moves evenly with the rung.
        step, depth, drift = rng.uniform(-1.0, 2.5), 1.2 * math.exp(rng.gauss(0, 0.5)), rng.uniform(0, 1.2)
        where = [1 - drift * rung / (RUNGS - 1) for rung in range(RUNGS)]
        return [depth * (step**2 - 2 * step * at) + rng.gauss(0, JITTER) for at in where]
    effects = [rng.gauss(0, JITTER) if kind == "moving optimum" else _first_effect(rng)]
    turn = rng.randrange(1, RUNGS)
    turns = rng.random() < {"half scale-bound": 0.5, "sign flips": 0.3}.get(kind, 0.0)
    for rung in range(1, RUNGS):
        effect = effects[-1] * (0.75 if kind == "shrinking" else 1.0)
        if turns and rung == turn:
            effect = abs(rng.gauss(0, 0.7)) if kind == "half scale-bound" else -effect
        effects.append(effect + rng.gauss(0, JITTER))
    return effects


@dataclass
class Play:
    """One campaign in one world: its ideas' truth and luck, what was run, and what that cost.

    Args:
        budget: of compute, in runs at the lowest rung.
    """

    kind: str
    number: int
    budget: float
    ideas: int = IDEAS
    spent: float = 0.0
    truth: list[list[float]] = field(init=False)

    def __post_init__(self) -> None:
        rng = random.Random(f"{self.kind} {self.number}")
        self.truth = [_scaled(self.kind, rng) for _ in range(self.ideas)]
        self.rungs = [Rung(self, rung) for rung in range(RUNGS)]

    def run(self, rung: int, members: Sequence[int], seed: int) -> Run:
        """Run several ideas together, none for the baseline.

        Raises:
            OutOfCompute: before it is paid for.
        """
        if self.spent + COSTS[rung] > self.budget:
            raise OutOfCompute
        self.spent += COSTS[rung]
        effect = math.fsum(self.truth[idea][rung] for idea in members)
        own, shared = (
            random.Random(f"{self.kind} {self.number} {key}").gauss(0, 1)
            for key in ((rung, seed, tuple(members)), (rung, seed))
        )
        luck = math.sqrt(1 - SHARED) * own + math.sqrt(SHARED) * shared
        return Run(seed, effect + NOISE[rung] * luck)

    def gain(self, accepted: Sequence[int]) -> float:
        """True improvement at the target of all that was taken."""
        return -math.fsum(self.truth[idea][-1] for idea in accepted)


class Rung:
    """One rung of a campaign, judged by itself: as `ar` does, by the judge's own rule."""

    def __init__(self, play: Play, rung: int) -> None:
        self.play, self.rung = play, rung
        self.base: tuple[Run, ...] = ()
        self.runs: dict[tuple[int, ...], tuple[Run, ...]] = {}
        self.decided: dict[tuple[int, ...], Action] = {}
        self.verdicts: dict[tuple[int, ...], Verdict] = {}
        self._noise: Noise | None = None

    @property
    def noise(self) -> Noise:
        if self._noise is None:
            self._noise = Noise.of((Candidate(base=self.base), *self._closed()))
        return self._noise

    def _closed(self) -> tuple[Candidate, ...]:
        return tuple(Candidate(self.runs[members]) for members in self.decided)

    def open(self, runs: int = 8) -> None:
        """Run the baseline as often as the rule asks for, or so often."""
        while len(self.base) < runs:
            self.base = (*self.base, self.play.run(self.rung, (), len(self.base)))
            self._noise = None

    def action(self, members: tuple[int, ...]) -> Action:
        """The judge's next step."""
        change = Candidate(self.runs.get(members, ()))
        known = Ledger(None, 0, Candidate(base=self.base), change, self._closed(), first_seed=0)
        return next_action(known, self.noise)

    def step(self, members: tuple[int, ...]) -> bool:
        """Run a change once more and ask the judge. False once it has said its last word."""
        if members in self.decided:
            return False
        self.open()
        runs = self.runs.get(members, ())
        self.runs[members] = (*runs, self.play.run(self.rung, members, len(runs)))
        action = self.action(members)
        self.verdicts[members] = action.verdict
        if action.kind in (Kind.PROMOTE, Kind.DISCARD):
            self.decided[members] = action
            self._noise = None
        return members not in self.decided

    def judge(self, members: tuple[int, ...]) -> bool:
        """Run until the judge has said its last word. Whether it was for the change."""
        while self.step(members):
            pass
        return self.decided[members].kind is Kind.PROMOTE

    def score(self, members: tuple[int, ...]) -> float:
        verdict = self.verdicts.get(members)
        return -math.inf if verdict is None or verdict.z is None else verdict.z
