"""Synthetic landscapes with known truth, on which policies of search are compared.

A landscape is a sum of bowls over the searched parameters, each warped to 0..1, squashed so that a point
far from the optimum is worse than the default by several times the possible gain, and not by a hundred.
Its optimum is known exactly. A run's value is the truth plus noise, of which a part belongs to the seed and
is the same for every configuration.

Worlds 0 to 999 are there to tune on. Worlds 1000 and up are HELD OUT: figures are reported on them, and
nobody tunes to them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ar.project.program import Range
from ar.project.values import Scalar

KINDS = ("separable", "coupled", "ridge", "plateaus", "sparse", "crashes", "guarded")
FLAT = "flat"  # the kind in which nothing helps, nor harms
GUARD_LIMIT = 1.02  # the judge lets a guard rise by 2 %
GUARD_SIGMA = 0.004
CURVATURE = 0.5  # of the squash: how soon a bowl flattens
WAVES, WAVE_LENGTH = 64, 0.5  # of the luck that similar configurations have in common with one seed

Params = Mapping[str, Scalar]


@dataclass(frozen=True)
class Axis:
    """One searched parameter. A point's coordinate on it is in 0..1; None for a choice.

    Args:
        steps: number of flat steps that its coordinate falls into; 0 for a smooth one.
        penalties: what each choice adds to the loss.
    """

    name: str
    range: Range
    steps: int = 0
    penalties: Mapping[Scalar, float] = field(default_factory=dict)

    def to_unit(self, value: float) -> float:
        low, high = self.range.low, self.range.high
        assert low is not None and high is not None
        if self.range.log:
            unit = math.log(value / low) / math.log(high / low)
        else:
            unit = (value - low) / (high - low)
        if self.steps:
            return (min(math.floor(unit * self.steps), self.steps - 1) + 0.5) / self.steps
        return unit

    def from_unit(self, unit: float) -> Scalar:
        """The value there: the nearest one that the range has."""
        low, high = self.range.low, self.range.high
        assert low is not None and high is not None
        value = low * (high / low) ** unit if self.range.log else low + unit * (high - low)
        return round(value) if self.range.integer else value


@dataclass(frozen=True)
class Bowl:
    """weight × |Σ direction × (point - optimum)| ^ exponent, over a few coordinates."""

    coordinates: tuple[int, ...]
    direction: tuple[float, ...]
    weight: float
    exponent: float


@dataclass(frozen=True)
class Landscape:
    """What a world is without its noise.

    Args:
        optimum: the least loss of all, by coordinate; what a choice has there is 0.
        best: the allowed configuration with the least loss.
        corner: runs crash where every one of these coordinates is above its limit; empty where none do.
        guard: how fast the guard rises, by coordinate.
        scale, level: of the true value: level + scale × log1p(CURVATURE × loss / loss of the default).
    """

    axes: tuple[Axis, ...]
    bowls: tuple[Bowl, ...]
    optimum: tuple[float, ...]
    default: dict[str, Scalar]
    best: dict[str, Scalar]
    corner: Mapping[int, float]
    guard: Mapping[int, float]
    default_loss: float
    scale: float
    level: float

    def coordinates(self, params: Params) -> list[float]:
        return [0.0 if axis.penalties else axis.to_unit(params[axis.name]) for axis in self.axes]  # type: ignore[arg-type]

    def loss(self, params: Params) -> float:
        point = self.coordinates(params)
        penalty = sum(axis.penalties[params[axis.name]] for axis in self.axes if axis.penalties)
        return bowls_at(self.bowls, point, self.optimum) + penalty


@dataclass(frozen=True)
class World:
    """One landscape with its noise; lower values are better.

    Args:
        default: the baseline's values.
        best: the best allowed configuration.
        possible: what the true value can fall below the default's, on what is allowed.
        sigma: standard deviation of one run's value.
        correlation: between runs of one seed.
        smooth: share of the other variance that similar configurations have in common with one seed, as
            networks do that are trained alike from one start on one order of the data.
    """

    kind: str
    number: int
    space: dict[str, Range]
    default: dict[str, Scalar]
    best: dict[str, Scalar]
    possible: float
    sigma: float
    correlation: float
    smooth: float
    landscape: Landscape = field(repr=False)

    @property
    def has_guard(self) -> bool:
        """The guard says something: it is not 1.0 everywhere."""
        return bool(self.landscape.guard)

    def true(self, params: Params) -> float | None:
        """The expected value; None where the run crashes."""
        land = self.landscape
        if land.corner:
            point = land.coordinates(params)
            if all(point[i] > limit for i, limit in land.corner.items()):
                return None
        return land.level + land.scale * math.log1p(CURVATURE * land.loss(params) / land.default_loss)

    def guard(self, params: Params) -> float:
        """The expected guard, 1.0 at the default."""
        land = self.landscape
        if not self.has_guard:
            return 1.0
        here, there = land.coordinates(params), land.coordinates(self.default)
        return 1.0 + sum(slope * (here[i] - there[i]) for i, slope in land.guard.items())

    def is_allowed(self, params: Params) -> bool:
        return self.guard(params) <= GUARD_LIMIT + 1e-12

    def share(self, params: Params) -> float:
        """Of the possible gain: below 0 if worse than the default, 0 where it crashes or is not allowed."""
        value, start = self.true(params), self.true(self.default)
        assert start is not None
        return 0.0 if value is None or not self.is_allowed(params) else (start - value) / self.possible

    def run(self, params: Params, seed: int) -> tuple[float, float] | None:
        """Value and guard of one run; None where it crashes. The same run always gives the same."""
        value = self.true(params)
        if value is None:
            return None
        shared = _generator(self.kind, self.number, "seed", seed).gauss(0, 1)
        own = _generator(self.kind, self.number, "run", seed, sorted(params.items()))
        rest = math.sqrt(1 - self.smooth) * own.gauss(0, 1)
        if self.smooth:
            rest += math.sqrt(self.smooth) * self._luck(params, seed)
        noise = math.sqrt(self.correlation) * shared + math.sqrt(1 - self.correlation) * rest
        guard = self.guard(params) + own.gauss(0, GUARD_SIGMA) if self.has_guard else 1.0
        return value + self.sigma * noise, guard

    def _luck(self, params: Params, seed: int) -> float:
        """What a seed adds to a configuration and to those near it; of standard deviation 1."""
        axes = self.landscape.axes
        choices = [list(axis.penalties).index(params[axis.name]) for axis in axes if axis.penalties]
        point = [*self.landscape.coordinates(params), *choices]
        waves = _waves(self.kind, self.number, seed, len(point))
        angles = (sum(a * b for a, b in zip(wave, point, strict=True)) + phase for wave, phase in waves)
        return sum(map(math.cos, angles)) * math.sqrt(2 / WAVES)


def world(
    kind: str, number: int, sigma: float = 0.012, correlation: float = 0.9, smooth: float = 0.0
) -> World:
    """World `number` of a kind.

    Raises:
        KeyError: there is no such kind.
    """
    land, possible = _landscape(kind, number)
    space = {axis.name: axis.range for axis in land.axes}
    return World(kind, number, space, land.default, land.best, possible, sigma, correlation, smooth, land)


def bowls_at(bowls: Sequence[Bowl], point: Sequence[float], optimum: Sequence[float]) -> float:
    total = 0.0
    for bowl in bowls:
        along = 0.0
        for i, part in zip(bowl.coordinates, bowl.direction, strict=True):
            along += part * (point[i] - optimum[i])
        total += bowl.weight * abs(along) ** bowl.exponent
    return total


def _generator(*key: object) -> random.Random:
    return random.Random(" ".join(str(part) for part in key))  # text, so the same in every process


@lru_cache(maxsize=4096)
def _waves(kind: str, number: int, seed: int, size: int) -> list[tuple[list[float], float]]:
    """Of a random function whose values at points `WAVE_LENGTH` apart are alike (Rahimi and Recht 2007)."""
    rng = _generator(kind, number, "luck", seed)
    return [
        ([rng.gauss(0, 1 / WAVE_LENGTH) for _ in range(size)], rng.uniform(0, 2 * math.pi))
        for _ in range(WAVES)
    ]


@lru_cache(maxsize=4096)
def _landscape(kind: str, number: int) -> tuple[Landscape, float]:
    rng = _generator(kind, number, "landscape")
    land = _BUILDERS[kind](rng)
    possible = rng.uniform(0.03, 0.11)
    start, least = land.loss(land.default), land.loss(land.best)
    scale = possible / (math.log1p(CURVATURE) - math.log1p(CURVATURE * least / start))
    if kind == FLAT:
        scale = 0.0
    level = rng.uniform(1, 3) - scale * math.log1p(CURVATURE)
    parts = {name: getattr(land, name) for name in Landscape.__dataclass_fields__}
    return Landscape(**parts | {"default_loss": start, "scale": scale, "level": level}), possible


# ---------- parameters ----------


def _log(rng: random.Random, name: str) -> Axis:
    low = 10 ** rng.uniform(-4, -1.5)
    return Axis(name, Range(low, low * 10 ** rng.uniform(1.3, 2.5), log=True))


def _linear(rng: random.Random, name: str) -> Axis:
    return Axis(name, Range(0.0, rng.choice([0.5, 1.0, 2.0])))


def _mixed(rng: random.Random, logs: int, linears: int) -> tuple[Axis, ...]:
    axes = [_log(rng, f"rate{i}") for i in range(logs)] + [_linear(rng, f"part{i}") for i in range(linears)]
    rng.shuffle(axes)
    return tuple(axes)


def _away(rng: random.Random, optimum: float, least: float = 0.15, most: float = 0.5) -> float:
    """A default's coordinate: so far from the optimum, and inside the range."""
    while True:
        point = optimum + rng.choice((-1, 1)) * rng.uniform(least, most)
        if 0.04 <= point <= 0.96:
            return point


def _points(rng: random.Random, count: int) -> tuple[list[float], list[float]]:
    """Coordinates of the optimum and of the default."""
    optimum = [rng.uniform(0.1, 0.9) for _ in range(count)]
    return optimum, [_away(rng, at) for at in optimum]


def _weight(rng: random.Random) -> float:
    return math.exp(rng.gauss(0, 0.7))


def _bowl(rng: random.Random, coordinate: int) -> Bowl:
    return Bowl((coordinate,), (1.0,), _weight(rng), rng.uniform(1.5, 2.5))


def _rotated(rng: random.Random, group: Sequence[int]) -> list[Bowl]:
    """Bowls along the axes of a random rotation that mixes the coordinates of a group strongly."""
    while True:
        rows: list[list[float]] = []
        for _ in group:  # Gram and Schmidt
            row = [rng.gauss(0, 1) for _ in group]
            for other in rows:
                along = sum(a * b for a, b in zip(row, other, strict=True))
                row = [a - along * b for a, b in zip(row, other, strict=True)]
            length = math.sqrt(sum(a * a for a in row))
            rows.append([a / length for a in row])
        if max(abs(part) for row in rows for part in row) < 0.88:
            break
    # Weights far apart: a round bowl would have no axes.
    weights = [rng.uniform(0.7, 1.4) * 3**i for i in range(len(group))]
    return [
        Bowl(tuple(group), tuple(row), weight * _weight(rng) / 3, rng.uniform(1.5, 2.5))
        for row, weight in zip(rows, weights, strict=True)
    ]


def _land(
    axes: tuple[Axis, ...],
    bowls: Sequence[Bowl],
    optimum: Sequence[float],
    default: Sequence[float],
    *,
    choices: Mapping[str, Scalar] | None = None,
    corner: Mapping[int, float] | None = None,
    guard: Mapping[int, float] | None = None,
    best: Sequence[float] | None = None,
) -> Landscape:
    """Without scale and level. `choices` are the default's; the best ones have no penalty."""
    free = {axis.name: min(axis.penalties, key=axis.penalties.__getitem__) for axis in axes if axis.penalties}

    def params(point: Sequence[float], chosen: Mapping[str, Scalar]) -> dict[str, Scalar]:
        return {
            axis.name: chosen[axis.name] if axis.penalties else axis.from_unit(at)
            for axis, at in zip(axes, point, strict=True)
        }

    start, end = params(default, choices or {}), params(best or optimum, free)
    return Landscape(axes, tuple(bowls), tuple(optimum), start, end, corner or {}, guard or {}, 1.0, 1.0, 0.0)


# ---------- kinds ----------


def _separable(rng: random.Random) -> Landscape:
    axes = _mixed(rng, 5, 3)
    optimum, default = _points(rng, 8)
    return _land(axes, [_bowl(rng, i) for i in range(8)], optimum, default)


def _coupled(rng: random.Random) -> Landscape:
    axes = _mixed(rng, 5, 3)
    optimum, default = _points(rng, 8)
    order = rng.sample(range(8), 8)
    groups = (order[:3], order[3:6], order[6:])
    return _land(axes, [bowl for group in groups for bowl in _rotated(rng, group)], optimum, default)


def _ridge(rng: random.Random) -> Landscape:
    """Half of the loss lies along a narrow diagonal of two parameters: either alone leaves it and hurts."""
    axes = _mixed(rng, 5, 3)
    optimum, default = _points(rng, 8)
    first, second = rng.sample(range(8), 2)
    slant = rng.choice((-1, 1))
    while True:  # both ends of the valley inside the range
        step = rng.choice((-1, 1)) * rng.uniform(0.25, 0.5)
        optimum[first], optimum[second] = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9)
        default[first], default[second] = optimum[first] + step, optimum[second] + slant * step
        if all(0.04 <= default[i] <= 0.96 for i in (first, second)):
            break
    rest = [_bowl(rng, i) for i in range(8) if i not in (first, second)]
    half = bowls_at(rest, default, optimum)
    root, exponent, length = math.sqrt(0.5), rng.uniform(1.3, 1.8), abs(step) * math.sqrt(2)
    along = Bowl((first, second), (root, slant * root), half / length**exponent, exponent)
    # Three times as steep as the valley floor at the default, and pointed, so that no single step is small
    # enough to gain.
    across = Bowl((first, second), (root, -slant * root), 3 * exponent * half / length, 1.1)
    return _land(axes, [*rest, along, across], optimum, default)


def _plateaus(rng: random.Random) -> Landscape:
    """Two choices, two whole numbers, and two of the four others in flat steps."""
    kinds = [
        *_mixed(rng, 2, 2),
        Axis("width", Range(8, 256, log=True)),
        Axis("depth", Range(1, rng.randint(8, 16))),
    ]
    optimum, default = _points(rng, 6)
    for i in rng.sample(range(4), 2):
        steps = rng.randint(4, 7)
        kinds[i] = Axis(kinds[i].name, kinds[i].range, steps)
        best = rng.randrange(steps)
        optimum[i] = (best + 0.5) / steps
        default[i] = (rng.choice([s for s in range(steps) if 1 <= abs(s - best) <= steps // 2]) + 0.5) / steps
    for i in (4, 5):  # the value nearest to the optimum is the optimum
        optimum[i] = kinds[i].to_unit(kinds[i].from_unit(optimum[i]))  # type: ignore[arg-type]
    bowls = [_bowl(rng, i) for i in range(6)]
    loss = bowls_at(bowls, default, optimum)
    choices: dict[str, Scalar] = {}
    for name in ("activation", "norm"):
        options = ["relu", "gelu", "silu", "tanh"] if name == "activation" else ["layer", "rms", "none"]
        rng.shuffle(options)
        costs = [0.0, *sorted(loss * rng.uniform(0.08, 0.6) for _ in options[1:])]
        choices[name] = options[rng.choice([0, 1, 1, 1])]  # mostly the second best
        shown = tuple(sorted(options))
        kinds.append(Axis(name, Range(choices=shown), penalties=dict(zip(options, costs, strict=True))))
        optimum.append(0.0)
        default.append(0.0)
    return _land(tuple(kinds), bowls, optimum, default, choices=choices)


def _sparse(rng: random.Random) -> Landscape:
    axes = _mixed(rng, 10, 6)
    optimum, default = _points(rng, 16)
    four = rng.sample(range(16), 4)
    return _land(axes, [*_rotated(rng, four[:2]), *_rotated(rng, four[2:])], optimum, default)


def _crashes(rng: random.Random) -> Landscape:
    """Two parameters that crash where both are large; the optimum lies close by."""
    axes = _mixed(rng, 5, 3)
    optimum, default = _points(rng, 8)
    near, deep = rng.sample(range(8), 2)
    optimum[near], optimum[deep] = rng.uniform(0.5, 0.85), rng.uniform(0.55, 0.85)
    for i in (near, deep):
        default[i] = optimum[i] - rng.uniform(0.2, 0.45)
    corner = {near: optimum[near] + rng.uniform(0.02, 0.06), deep: optimum[deep] - rng.uniform(0.1, 0.2)}
    return _land(axes, [_bowl(rng, i) for i in range(8)], optimum, default, corner=corner)


def _guarded(rng: random.Random) -> Landscape:
    """What the one or two weightiest parameters gain, the guard pays for, up to its limit."""
    axes = _mixed(rng, 5, 3)
    optimum, default = _points(rng, 8)
    bowls = [_bowl(rng, i) for i in range(8)]
    weighty = sorted(range(8), key=lambda i: -bowls_at(bowls[i : i + 1], default, optimum))
    paid = weighty[: rng.choice((1, 2))]
    excess, split = rng.uniform(0.04, 0.1), rng.uniform(0.35, 0.65)
    shares = (1.0,) if len(paid) == 1 else (split, 1 - split)
    guard = {i: excess * part / (optimum[i] - default[i]) for i, part in zip(paid, shares, strict=True)}
    best = list(optimum)
    room = GUARD_LIMIT - 1
    if len(paid) == 1:
        best[paid[0]] = default[paid[0]] + room / guard[paid[0]]
    else:
        first, second = paid

        def on_border(at: float) -> float:
            """Where the second parameter then may be, at most."""
            return default[second] + (room - guard[first] * (at - default[first])) / guard[second]

        def loss(at: float) -> float:
            point = list(optimum)
            point[first], point[second] = at, on_border(at)
            return bowls_at(bowls, point, optimum)

        # The second parameter stays between 0 or 1, whichever is behind its default, and its optimum.
        back = 0.0 if optimum[second] > default[second] else 1.0
        ends = [
            default[first] + (room - guard[second] * (at - default[second])) / guard[first]
            for at in (back, optimum[second])
        ]
        low, high = max(min(ends), 0.0), min(max(ends), 1.0)
        best[first] = _least(loss, low, high)
        best[second] = on_border(best[first])
    return _land(axes, bowls, optimum, default, guard=guard, best=best)


def _least(loss: Callable[[float], float], low: float, high: float) -> float:
    """Where a convex function is least, to 1e-12."""
    while high - low > 1e-12:
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return (low + high) / 2


_BUILDERS: dict[str, Callable[[random.Random], Landscape]] = {
    "separable": _separable,
    "coupled": _coupled,
    "ridge": _ridge,
    "plateaus": _plateaus,
    "sparse": _sparse,
    "crashes": _crashes,
    "guarded": _guarded,
    FLAT: _separable,
}
