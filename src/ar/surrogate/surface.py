"""The campaign's model: one surface fitted to every run, whatever it was measured against."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ar.project.values import Scalar
from ar.surrogate.feasibility import Feasible
from ar.surrogate.regression import Array, Kernel, Posterior, Rows, Weights, fit
from ar.surrogate.space import Space

MOST_ROWS = 900  # the best and the latest of more: an exact fit costs their number cubed
FITTED_ROWS = 320  # and of these, to find the hyperparameters
EDGE = 2.0  # standard deviations of the values: nobody expects the best at the ends of the ranges they name
SOFT = 3.0  # values worse than the first baseline by more than so many times the gain so far are drawn in


@dataclass(frozen=True)
class Point:
    """One run as evidence.

    Args:
        params: values of the searched parameters.
        codes: the changes of files that its tree holds, over the campaign's first baseline.
        value: oriented (lower is better); None while it is under way, or where it crashed.
        guards: oriented, too; empty where there is no value.
        is_bound: the run was ended early: its value would have been `value` at least.
        rung: scale that it was measured at, or other class of devices; empty for the base scale on the class
            that the surface is about.
    """

    params: Mapping[str, Scalar]
    codes: frozenset[str] = frozenset()
    seed: int | None = None
    value: float | None = None
    guards: tuple[float, ...] = ()
    crashed: bool = False
    is_bound: bool = False
    rung: str = ""

    @property
    def is_pending(self) -> bool:
        return self.value is None and not self.crashed


@dataclass(frozen=True)
class Setting:
    """A configuration: parameters on code."""

    params: Mapping[str, Scalar]
    codes: frozenset[str] = frozenset()


@dataclass
class Surface:
    """Fitted to points.

    Args:
        incumbent: the branch as it is.
        residual: standard deviation of one run after its seed's effect, as the judge knows it; None before.
        limits: what each guard may be at most.
        start: hyperparameters of an earlier fit, to begin from.
    """

    space: Space
    points: Sequence[Point]
    incumbent: Setting
    residual: float | None = None
    limits: tuple[float, ...] = ()
    start: Weights | None = None
    weights: Weights = field(init=False)

    def __post_init__(self) -> None:
        self.kernel = Kernel(self.space.categorical)
        measured = [
            k for k, p in enumerate(self.points) if p.value is not None and not p.rung and not p.is_bound
        ]
        kept = _kept(self.points, measured)
        self.measured = [self.points[k] for k in kept]
        self._codes = {code: k for k, code in enumerate(sorted({c for p in self.points for c in p.codes}))}
        settings = [Setting(point.params, point.codes) for point in self.points]
        self.tried = self.rows_of(settings, [point.seed for point in self.points])
        self.rows = self.tried.of(np.array(kept))
        raw = np.array([point.value for point in self.measured], dtype=float)
        self.centre, self.scale, values = _standardised(raw)
        noise = None if self.residual is None else self.residual / self.scale
        few = _spread(values, FITTED_ROWS)
        told = values - EDGE * self.kernel.outwards(self.rows)
        self.weights = fit(self.kernel, self.rows.of(few), told[few], self.start, noise)
        self.posterior = Posterior(self.kernel, self.weights, self.rows, values, EDGE)
        ended = [point for point in self.points if point.value is not None]
        self._add_rungs([point for point in ended if point.rung and not point.is_bound])
        self._add_bounds([point for point in ended if point.is_bound and not point.rung])

    def _add_rungs(self, points: Sequence[Point]) -> None:
        """Learn from other scales: of a setting's effect there, what is common to both."""
        for rung, name in enumerate(sorted({point.rung for point in points}), 1):
            there = [point for point in points if point.rung == name]
            base = self.posterior.mean(self._rows(there))
            values = np.array([point.value for point in there], dtype=float)
            # Levels differ between scales, effects are alike.
            standard = (values - values.mean()) / self.scale + base.mean()
            self.posterior = self.posterior.joined(self._rows(there, rung), standard)

    def _add_bounds(self, points: Sequence[Point]) -> None:
        """Learn from runs that were ended early: none is better than its bound."""
        if points:
            rows = self._rows(points)
            bounds = (np.array([point.value for point in points], dtype=float) - self.centre) / self.scale
            self.posterior = self.posterior.joined(rows, np.maximum(bounds, self.posterior.mean(rows)))

    def _rows(self, points: Sequence[Point], rung: int = 0) -> Rows:
        settings = [Setting(point.params, point.codes) for point in points]
        return self.rows_of(settings, [point.seed for point in points], rung)

    def rows_of(
        self, settings: Sequence[Setting], seeds: Sequence[int | None] | None = None, rung: int = 0
    ) -> Rows:
        x = np.array([self.space.point(s.params, self.incumbent.params) for s in settings]).reshape(
            len(settings), len(self.space)
        )
        code = np.zeros((len(settings), len(self._codes)))
        for row, setting in enumerate(settings):
            for name in setting.codes & self._codes.keys():
                code[row, self._codes[name]] = 1.0
        of = [-1 if seed is None else seed for seed in seeds] if seeds else [-1] * len(settings)
        return Rows(x, code, np.array(of, dtype=np.int64), np.full(len(settings), rung, dtype=np.int64))

    def here(self, x: Array) -> Rows:
        """Points of the cube on the branch's code."""
        code = np.repeat(self.base.code, len(x), 0)
        none = np.full(len(x), -1, dtype=np.int64)
        return Rows(x, code, none, np.zeros_like(none))

    @cached_property
    def base(self) -> Rows:
        """The incumbent's row."""
        return self.rows_of([self.incumbent])

    @cached_property
    def pending(self) -> Rows:
        waiting = [k for k, p in enumerate(self.points) if p.is_pending and not p.rung]
        return self.tried.of(np.array(waiting, dtype=np.int64))

    def difference(self, settings: Sequence[Setting], to: Setting | None = None) -> tuple[Array, Array]:
        """Expected value of each setting less that of another (the incumbent), and its standard deviation, in
        the metric's unit."""
        reference = self.base if to is None else self.rows_of([to])
        mean, sd = self.posterior.difference(self.rows_of(settings), reference)
        return mean * self.scale, sd * self.scale

    @cached_property
    def feasible(self) -> Feasible:
        index = [k for k, p in enumerate(self.points) if not p.is_pending and not p.rung]
        ended = [self.points[k] for k in index]
        rows = self.tried.of(np.array(index))
        crashed = np.array([float(point.crashed) for point in ended])
        guards = np.full((len(ended), len(self.limits)), math.nan)
        for row, point in enumerate(ended):
            guards[row, : len(point.guards)] = point.guards[: len(self.limits)]
        return Feasible.of(self.kernel, rows, crashed, guards, self.limits, self.base)

    def allowed(self, settings: Sequence[Setting]) -> Array:
        """Probability that each setting runs to its end and passes its guards."""
        chance: Array = np.exp(self.feasible.log_probability(self.rows_of(settings), self.base))
        return chance

    def rng(self, salt: int = 0) -> np.random.Generator:
        """The same for the same evidence."""
        return np.random.default_rng(zlib.crc32(f"{len(self.points)} {salt}".encode()))


def _kept(points: Sequence[Point], measured: Sequence[int]) -> list[int]:
    """Which of the measured ones the model is fitted to: all, or the best and the latest of too many."""
    if len(measured) <= MOST_ROWS:
        return list(measured)
    best = sorted(measured, key=lambda k: points[k].value or 0.0)[: MOST_ROWS // 2]
    return sorted({measured[0], *best, *measured[-(MOST_ROWS // 2 - 1) :]})


def _standardised(raw: Array) -> tuple[float, float, Array]:
    """Centre, scale, and the values in those terms; what is far worse than the campaign's first is drawn
    in, so that the fit is about the good part."""
    reference = float(raw[0])
    gain = max(reference - raw.min(), np.median(np.abs(raw - np.median(raw))), 1e-12)
    bar = reference + SOFT * gain
    over = np.maximum(raw - bar, 0.0) / gain
    soft = np.where(raw > bar, bar + gain * np.log1p(over), raw)
    centre, scale = float(soft.mean()), float(soft.std()) or 1.0
    return centre, scale, (soft - centre) / scale


def _spread(values: Array, most: int) -> NDArray[np.int64]:
    """Indices of at most so many rows: the best half of them, the others evenly over time."""
    if len(values) <= most:
        return np.arange(len(values))
    best = np.argsort(values)[: most // 2]
    rest = np.setdiff1d(np.arange(len(values)), best)
    even = rest[np.linspace(0, len(rest) - 1, most - len(best)).astype(int)]
    return np.sort(np.concatenate([best, even]))
