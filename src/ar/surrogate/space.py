"""The searched parameters as a unit cube."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ar.project.program import Range
from ar.project.values import Scalar, number
from ar.surrogate.regression import Array

SIGNIFICANT_DIGITS = 2  # more would pretend to a precision that no campaign can measure


@dataclass(frozen=True)
class Axis:
    """One searched parameter.

    Its coordinate lies in [0, 1] over the range, linear or logarithmic; of choices it is the index.
    """

    name: str
    within: Range

    @property
    def categorical(self) -> bool:
        return bool(self.within.choices) and not self.ordered

    @property
    def ordered(self) -> bool:
        """Whether its choices are numbers, in order."""
        values = [number(choice) for choice in self.within.choices]
        return len(values) > 2 and all(value is not None for value in values) and values == sorted(values)  # type: ignore[type-var]

    def coordinate(self, value: Scalar) -> float:
        """Of a value; of one that the range does not hold, as far outside as it lies. nan for no number."""
        choices = self.within.choices
        if choices:
            if value not in choices:
                return math.nan
            return choices.index(value) / (len(choices) - 1 if self.ordered else 1)
        found = number(value)
        if found is None or (self.within.log and found <= 0):
            return math.nan
        low, high = self._ends
        return (self._scaled(found) - low) / (high - low) if high > low else 0.0

    def value(self, coordinate: float) -> Scalar:
        """At a coordinate, rounded to what can be told apart."""
        choices, within = self.within.choices, self.within
        if choices:
            place = coordinate * (len(choices) - 1 if self.ordered else 1)
            return choices[min(len(choices) - 1, max(0, round(place)))]
        assert within.low is not None and within.high is not None
        low, high = self._ends
        raw = low + min(1.0, max(0.0, coordinate)) * (high - low)
        found = math.exp(raw) if within.log else raw
        step = within.step or (1 if within.integer else None)
        if step is not None:
            found = within.low + round((found - within.low) / step) * step
            while found > within.high + 1e-12 * abs(step):
                found -= step
            found = float(f"{found:.12g}")
            return int(found) if within.integer else found
        return float(min(max(float(f"{found:.{SIGNIFICANT_DIGITS}g}"), within.low), within.high))

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.within.log else value

    @property
    def _ends(self) -> tuple[float, float]:
        assert self.within.low is not None and self.within.high is not None
        return self._scaled(float(self.within.low)), self._scaled(float(self.within.high))

    @property
    def levels(self) -> int:
        """How many values it has; 0 for a continuum."""
        if self.within.choices:
            return len(self.within.choices)
        if self.within.integer and not self.within.step:
            return int(self.within.high - self.within.low) + 1  # type: ignore[operator]
        return 0


@dataclass(frozen=True)
class Space:
    """All searched parameters, in the order of the programme."""

    axes: tuple[Axis, ...]

    @classmethod
    def of(cls, ranges: Mapping[str, Range]) -> Space:
        return cls(tuple(Axis(name, within) for name, within in ranges.items()))

    def __len__(self) -> int:
        return len(self.axes)

    def point(self, values: Mapping[str, Scalar], default: Mapping[str, Scalar]) -> Array:
        """Coordinates of values; what is missing stands at its default."""
        found = [axis.coordinate(values.get(axis.name, default.get(axis.name))) for axis in self.axes]
        return np.array([0.5 if math.isnan(place) else min(1.5, max(-0.5, place)) for place in found])

    def values(self, point: Sequence[float] | Array) -> dict[str, Scalar]:
        return {axis.name: axis.value(float(at)) for axis, at in zip(self.axes, point, strict=True)}

    def snapped(self, points: Array) -> Array:
        """The nearest points that the ranges hold: whole numbers and choices only, rounded as proposed."""
        out = np.clip(points, 0.0, None)
        for k, axis in enumerate(self.axes):
            levels = axis.levels
            if axis.categorical:
                out[:, k] = np.clip(np.round(out[:, k]), 0, levels - 1)
            elif levels > 1 and not axis.within.log:
                out[:, k] = np.round(np.clip(out[:, k], 0, 1) * (levels - 1)) / (levels - 1)
            else:
                out[:, k] = np.clip(out[:, k], 0, 1)
        return out

    @property
    def categorical(self) -> np.typing.NDArray[np.bool_]:
        return np.array([axis.categorical for axis in self.axes], dtype=bool)
