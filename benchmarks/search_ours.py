"""Our search on the worlds of `search_worlds`, in process: the judge and the model that `ar run` uses, in the
same order of steps as `campaign/search.py`, without git and DVC.

All runs count: the baseline's, the confirming ones, and the closing audit, which is kept back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from search_worlds import World

from ar.judge.arithmetic import at_most
from ar.judge.evidence import OPENING, Candidate, Ledger, Run, guard_means
from ar.judge.noise import Noise, noise_of
from ar.judge.rule import GUARD_DRIFT, Kind, look_seed, next_action, next_seeds
from ar.project.values import Scalar
from ar.surrogate.acquisition import Search, opening
from ar.surrogate.regression import Weights
from ar.surrogate.screening import CLEARLY, Waiting, choose, is_last_stretch
from ar.surrogate.space import Space
from ar.surrogate.surface import Point, Setting, Surface

Params = dict[str, Scalar]
FIRST_SEED = 1
EXPLOIT_EVERY = 3  # proposals


@dataclass(frozen=True)
class Result:
    """`seconds` are per proposal."""

    share: float
    promotions: int
    false: int
    seconds: float


@dataclass
class Change:
    """A configuration that is judged; `runs` while it was, `base` as the incumbent."""

    params: Params
    runs: tuple[Run, ...] = ()
    base: tuple[Run, ...] = ()
    chosen: bool = True

    def candidate(self) -> Candidate:
        return Candidate(self.runs, self.base, chosen=self.chosen)


class Campaign:
    """One campaign on one world."""

    def __init__(self, world: World, budget: int) -> None:
        self.world, self.budget = world, budget
        self.space = Space.of(world.space)
        self.first = self.incumbent = Change(dict(world.default))
        self.open: list[Change] = []
        self.closed: list[Change] = []
        self.points: list[Point] = []
        self.spent = self.proposals = self.promotions = self.false = 0
        self.opened = 0  # changes of the opening that have their two runs
        self.seconds = 0.0
        self.weights: Weights | None = None
        self._surface: Surface | None = None
        self._noise_key, self._noise = (-1, 0, 0), Noise()

    def play(self) -> Result:
        while self.step():
            pass
        share = self.world.share(self.incumbent.params)
        return Result(share, self.promotions, self.false, self.seconds / max(1, self.proposals))

    # ---------- one step of `ar run` ----------

    def step(self) -> bool:
        """Whether there is anything left to do but the closing audit."""
        for change in list(self.open):
            if self.judge(change):
                return True
        action = next_action(self.ledger())
        if action.kind is Kind.RUN_INCUMBENT and not self.ledger().auditing:
            self.run_incumbent(action.seed)
            return True
        if action.kind is not Kind.PROPOSE:
            return False
        start = time.perf_counter()
        params = self.chosen_or_proposed()
        self.seconds += time.perf_counter() - start
        if params is not None:
            self.proposals += 1
            chosen = self.opened >= OPENING
            self.open.append(Change(params, chosen=chosen))
            self.run(self.open[-1], look_seed(self.ledger(), self.proposals) if chosen else FIRST_SEED)
        return True

    def judge(self, change: Change) -> bool:
        """Do what the judge wants of an open change. False where it waits."""
        ledger = self.ledger(change)
        action = next_action(ledger, self.noise(ledger, change))
        if action.kind is Kind.PROMOTE:
            self.promote(change)
        elif action.kind is Kind.DISCARD:
            self.open.remove(change)
            self.closed.append(change)
        elif action.kind is Kind.RUN_CANDIDATE:
            self.run(change, action.seed)
        elif action.kind is Kind.RUN_INCUMBENT:
            self.run_incumbent(action.seed)
        else:
            return False
        return True

    def chosen_or_proposed(self) -> Params | None:
        """Parameters of the next change; None where a waiting one was given another run instead."""
        if self.opened < OPENING:
            return self.space.values(
                opening(self.space, self.space.point(self.incumbent.params, {}), self.proposals)
            )
        surface, residual = self.surface(), self.residual()
        assert residual is not None
        spare, base_runs = self.ledger().spare, len(self.ledger().base)
        self.discard_clear(surface)
        waiting = [
            Waiting(str(k), Setting(change.params), len(change.runs)) for k, change in enumerate(self.open)
        ]
        gained = -float(
            surface.difference([Setting(self.incumbent.params)], Setting(self.first.params))[0][0]
        )
        pool = self.noise(self.ledger()).residual.pool
        largest = at_most(residual, pool.df)
        found = choose(surface, waiting, max(0.0, gained), residual, largest, spare, base_runs)
        if found is not None:
            change = self.open[int(found.change.name)]
            for seed in next_seeds(self.ledger(change), found.seeds):
                self.run(change, seed)
            return None
        gains = -surface.difference([one.setting for one in waiting])[0] if waiting else [0.0]
        last = is_last_stretch(max(0.0, *map(float, gains)), residual, spare, base_runs)
        exploit = last or self.proposals % EXPLOIT_EVERY == 0
        return self.space.values(Search(surface, exploit).best())

    def discard_clear(self, surface: Surface) -> None:
        """Close what the model expects to be clearly worse than the incumbent."""
        if not self.open:
            return
        means, errors = surface.difference([Setting(change.params) for change in self.open])
        out = [
            change
            for change, mean, error in zip(self.open, means, errors, strict=True)
            if mean > CLEARLY * error
        ]
        self.open = [change for change in self.open if change not in out]
        self.closed += out

    # ---------- its parts ----------

    def ledger(self, change: Change | None = None) -> Ledger:
        twice = [other for other in self.open if other is not change and len(other.runs) > 1]
        return Ledger(
            budget=self.budget,
            spent=self.spent,
            incumbent=self.incumbent.candidate(),
            candidate=change.candidate() if change else None,
            closed=tuple(other.candidate() for other in [*self.closed, *twice]),
            promotions=self.promotions,
            guards=("cost",) if self.world.has_guard else (),
            first_guards=guard_means(self.first.base) if self.promotions else (),
            first_seed=FIRST_SEED,
            screening=True,
        )

    def run(self, change: Change, seed: int | None) -> None:
        change.runs += (self.measure(change.params, seed),)
        self.opened += change.candidate().opens and len(change.runs) == 2

    def run_incumbent(self, seed: int | None) -> None:
        self.incumbent.base += (self.measure(self.incumbent.params, seed),)

    def measure(self, params: Params, seed: int | None) -> Run:
        assert seed is not None
        self.spent += 1
        found = self.world.run(params, seed)
        value, guard = found or (None, 1.0)
        guards = (guard,) if found and self.world.has_guard else ()
        self.points.append(Point(params, seed=seed, value=value, guards=guards, crashed=found is None))
        return Run(seed, value or 0.0, guards, crashed=found is None, when=float(self.spent))

    def promote(self, change: Change) -> None:
        world = self.world
        now, before = world.true(change.params), world.true(self.incumbent.params)
        assert now is not None and before is not None
        self.promotions += 1
        self.false += now >= before
        self.closed += [self.incumbent, *(other for other in self.open if other is not change)]
        self.incumbent, self.open = change, []

    def noise(self, ledger: Ledger, change: Change | None = None) -> Noise:
        """`noise_of(ledger)`; a change with a single run adds nothing to it."""
        key = (self.spent, len(self.closed), id(change) if change and len(change.runs) > 1 else 0)
        if key != self._noise_key:
            self._noise_key, self._noise = key, noise_of(ledger)
        return self._noise

    def residual(self) -> float | None:
        noise = self.noise(self.ledger())
        return noise.residual_sigma if noise.residual.pool.df else None

    def surface(self) -> Surface:
        incumbent = Setting(self.incumbent.params)
        if (
            self._surface is None
            or len(self._surface.points) != len(self.points)
            or self._surface.incumbent != incumbent
        ):
            limits = (
                tuple((1 + GUARD_DRIFT) * level for level in guard_means(self.first.base))
                if self.world.has_guard
                else ()
            )
            self._surface = Surface(
                self.space, tuple(self.points), incumbent, self.residual(), limits, self.weights
            )
            self.weights = self._surface.weights
        return self._surface


def ours(world: World, budget: int) -> Result:
    """A campaign of ours on a world."""
    return Campaign(world, budget).play()
