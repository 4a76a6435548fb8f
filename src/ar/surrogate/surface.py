"""The campaign's model: one surface fitted to every run, whatever it was measured against."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from ar.project.values import Scalar
from ar.surrogate.regression import Array, Kernel, Posterior, Rows, Weights, fit
from ar.surrogate.space import Space

MOST_ROWS = 900  # the best and the latest of more: an exact fit costs their number cubed
FITTED_ROWS = 320  # and of these, to find the hyperparameters
SOFT = 3.0  # values worse than the first baseline by more than so many times the gain so far are drawn in
SMOOTH_LENGTH = 0.35  # along each parameter, of crashes and guards


@dataclass(frozen=True)
class Point:
    """One run as evidence.

    Args:
        params: values of the searched parameters.
        codes: the changes of files that its tree holds, over the campaign's first baseline.
        value: oriented (lower is better); None while it is under way, or where it crashed.
        guards: oriented, too; empty where there is no value.
        is_bound: the run was ended early: its value would have been `value` at least.
        rung: scale that it was measured at; empty for the base scale.
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
        default: values that stand in where a run's parameters lack one.
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
        measured = [point for point in self.points if point.value is not None and not point.rung]
        self.measured = _kept(measured)
        self._codes = {code: k for k, code in enumerate(sorted({c for p in self.points for c in p.codes}))}
        self.rows = self.rows_of(
            [Setting(p.params, p.codes) for p in self.measured], [p.seed for p in self.measured]
        )
        raw = np.array([point.value for point in self.measured], dtype=float)
        self.centre, self.scale, values = _standardised(raw, self._reference(raw))
        noise = None if self.residual is None else self.residual / self.scale
        few = _spread(values, FITTED_ROWS)
        self.weights = fit(self.kernel, self.rows.of(few), values[few], self.start, noise)
        self.posterior = Posterior(self.kernel, self.weights, self.rows, values)
        self.values = values

    def _reference(self, raw: Array) -> float:
        """The campaign's first value: what far worse values are measured from."""
        return float(raw[0])

    def rows_of(self, settings: Sequence[Setting], seeds: Sequence[int | None] | None = None) -> Rows:
        x = np.array([self.space.point(s.params, self.incumbent.params) for s in settings]).reshape(
            len(settings), len(self.space)
        )
        code = np.zeros((len(settings), len(self._codes)))
        for row, setting in enumerate(settings):
            for name in setting.codes & self._codes.keys():
                code[row, self._codes[name]] = 1.0
        of = [-1 if seed is None else seed for seed in seeds] if seeds else [-1] * len(settings)
        return Rows(x, code, np.array(of, dtype=np.int64))

    def here(self, x: Array) -> Rows:
        """Points of the cube on the branch's code."""
        code = np.repeat(self.base.code, len(x), 0)
        return Rows(x, code, np.full(len(x), -1, dtype=np.int64))

    @cached_property
    def base(self) -> Rows:
        """The incumbent's row."""
        return self.rows_of([self.incumbent])

    @cached_property
    def pending(self) -> Rows:
        waiting = [point for point in self.points if point.is_pending and not point.rung]
        return self.rows_of([Setting(p.params, p.codes) for p in waiting], [p.seed for p in waiting])

    def difference(self, settings: Sequence[Setting], to: Setting | None = None) -> tuple[Array, Array]:
        """Expected value of each setting less that of another (the incumbent), and its standard deviation, in
        the metric's unit."""
        reference = self.base if to is None else self.rows_of([to])
        mean, sd = self.posterior.difference(self.rows_of(settings), reference)
        return mean * self.scale, sd * self.scale

    @cached_property
    def feasible(self) -> Feasible:
        return Feasible.of(self)

    def rng(self, salt: int = 0) -> np.random.Generator:
        """The same for the same evidence."""
        return np.random.default_rng(zlib.crc32(f"{len(self.points)} {salt}".encode()))


def _kept(points: Sequence[Point]) -> list[Point]:
    """All of them, or the best and the latest of too many."""
    if len(points) <= MOST_ROWS:
        return list(points)
    best = sorted(range(len(points)), key=lambda k: points[k].value or 0.0)[: MOST_ROWS // 2]
    chosen = {0, *best, *range(len(points) - MOST_ROWS // 2 + 1, len(points))}
    return [points[k] for k in sorted(chosen)]


def _standardised(raw: Array, reference: float) -> tuple[float, float, Array]:
    """Centre, scale, and the values in those terms; what is far worse than the reference is drawn in, so that
    the fit is about the good part."""
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


@dataclass
class Feasible:
    """How likely a setting runs to its end and keeps within its guards."""

    kernel: Kernel
    rows: Rows
    crash: tuple[Weights, Posterior] | None
    guards: list[tuple[Posterior, float, float, float]]

    @classmethod
    def of(cls, surface: Surface) -> Feasible:
        size = len(surface.space)
        ended = [p for p in surface.points if not p.is_pending and not p.rung]
        plain = Weights(
            np.full(size, SMOOTH_LENGTH),
            np.full(size, SMOOTH_LENGTH * math.sqrt(size)),
            np.full(size, 0.1),
            0.7,
            0.05,
            0.3,
            0.0,
            0.15,
        )
        crash = None
        if any(p.crashed for p in ended) and size:
            rows = surface.rows_of([Setting(p.params, p.codes) for p in ended])
            said = np.array([1.0 if p.crashed else 0.0 for p in ended]) - 0.1
            crash = (plain, Posterior(surface.kernel, plain, rows, said))
        guards = []
        for k, limit in enumerate(surface.limits):
            values = np.array([p.guards[k] if k < len(p.guards) else math.nan for p in surface.measured])
            known = ~np.isnan(values)
            if known.sum() < 4 or values[known].std() == 0:
                continue
            rows, values = surface.rows.of(known), values[known]
            centre, scale = float(np.median(values)), float(values.std())
            std = np.clip((values - centre) / scale, -4, 4)
            few = np.unique(np.linspace(0, len(std) - 1, min(len(std), 150)).astype(int))
            weights = fit(surface.kernel, rows.of(few), std[few], None, None)
            guards.append((Posterior(surface.kernel, weights, rows, std), centre, scale, limit))
        return cls(surface.kernel, surface.rows, crash, guards)

    def log_probability(self, at: Rows, base: Rows) -> Array:
        out = np.zeros(len(at))
        if self.crash is not None:
            risk = self.crash[1].mean(at) + 0.1
            out += np.log(np.clip(1 - risk, 0.01, 1.0))
        for posterior, centre, scale, limit in self.guards:
            mean, sd = posterior.difference(at, base)
            now = centre + scale * float(posterior.mean(base)[0])
            z = (limit - (now + scale * mean)) / (scale * np.maximum(sd, 0.02))
            out += np.maximum(log_ndtr(z), -20.0)
        return out
