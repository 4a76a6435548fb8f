"""The searched parameters as a unit cube."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ar.project.program import Range
from ar.project.values import Scalar, number
from ar.surrogate.regression import Array


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

    def place(self, value: Scalar | None) -> float:
        """Coordinate of a value; not far outside the range, and its middle for what it does not know."""
        place = math.nan if value is None else self.coordinate(value)
        if self.categorical:
            return 0.0 if math.isnan(place) else place
        return 0.5 if math.isnan(place) else min(1.5, max(-0.5, place))

    def value(self, coordinate: float) -> Scalar:
        """At a coordinate, rounded to what can be told apart."""
        choices, within = self.within.choices, self.within
        if choices:
            place = coordinate * (len(choices) - 1 if self.ordered else 1)
            return choices[min(len(choices) - 1, max(0, round(place)))]
        found = float(f"{self._nearest(np.array([coordinate]))[0]:.12g}")
        if within.integer and not within.step:
            return round(found)
        assert within.low is not None and within.high is not None
        return min(max(found, float(within.low)), float(within.high))

    def snapped(self, coordinates: Array) -> Array:
        """Coordinates of the nearest values that it can have."""
        if self.categorical:
            return np.clip(np.round(coordinates), 0, self.levels - 1)
        if self.within.choices:
            return np.round(np.clip(coordinates, 0, 1) * (self.levels - 1)) / (self.levels - 1)
        low, high = self._ends
        values = self._nearest(coordinates)
        scaled = np.log(values) if self.within.log else values
        return (scaled - low) / (high - low) if high > low else np.zeros_like(scaled)

    def _nearest(self, coordinates: Array) -> Array:
        """The values nearest to coordinates: of no more digits than a campaign can tell apart."""
        low, high = self._ends
        raw = low + np.clip(coordinates, 0, 1) * (high - low)
        found: Array = np.exp(raw) if self.within.log else raw
        assert self.within.low is not None and self.within.high is not None
        least, most = float(self.within.low), float(self.within.high)
        step = self.within.spacing
        if step is not None:
            steps = math.floor((most - least) / step * (1 + 1e-9))
            return least + np.clip(np.round((found - least) / step), 0, steps) * step
        if self.within.log:  # two digits, three where the first is 1
            power = np.floor(np.log10(found))
            unit: Array | np.float64 = 10 ** (power - np.where(found < 2 * 10**power, 2, 1))
        elif most > least:
            unit = np.float64(10 ** math.floor(math.log10((most - least) / 100)))
        else:
            return np.full_like(found, least)
        rounded: Array = np.clip(np.round(found / unit) * unit, least, most)
        return rounded

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
        return np.array([axis.place(values.get(axis.name, default.get(axis.name))) for axis in self.axes])

    def values(self, point: Sequence[float] | Array) -> dict[str, Scalar]:
        return {axis.name: axis.value(float(at)) for axis, at in zip(self.axes, point, strict=True)}

    def snapped(self, points: Array) -> Array:
        """The nearest points that the ranges hold, rounded as proposed."""
        return np.column_stack([axis.snapped(points[:, k]) for k, axis in enumerate(self.axes)])

    @property
    def categorical(self) -> np.typing.NDArray[np.bool_]:
        return np.array([axis.categorical for axis in self.axes], dtype=bool)
