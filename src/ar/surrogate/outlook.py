"""What the campaign's model says to whoever proposes: what matters, what to expect of the best move, and
where nobody has looked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ar.project.program import Metric
from ar.project.values import Scalar
from ar.surrogate.acquisition import Search
from ar.surrogate.importance import Importance, importances
from ar.surrogate.space import Axis
from ar.surrogate.surface import Setting, Surface

PARTS = 4  # of a range, each of which some run should have


@dataclass(frozen=True)
class Move:
    """Values unlike the branch's, and what they are expected to change, in the metric's direction."""

    params: dict[str, Scalar]
    change: float
    standard_error: float


@dataclass(frozen=True)
class Gap:
    """Values of one parameter that no run has: choices, or all between two ends."""

    name: str
    choices: tuple[Scalar, ...] = ()
    between: tuple[Scalar, Scalar] | None = None


@dataclass(frozen=True)
class Outlook:
    """As things stand.

    Args:
        runs: that the model is fitted to.
        best: the move of the best expected value; None where nothing is expected to beat the branch.
    """

    runs: int
    importances: tuple[Importance, ...]
    best: Move | None
    gaps: tuple[Gap, ...]


def outlook(surface: Surface, metric: Metric) -> Outlook:
    return Outlook(len(surface.measured), importances(surface), _best(surface, metric), _gaps(surface))


def _best(surface: Surface, metric: Metric) -> Move | None:
    now = surface.incumbent
    values = surface.space.values(Search(surface, exploit=True, hope=0.0).best())
    moved = {name: value for name, value in values.items() if value != now.params[name]}
    [change], [error] = surface.difference([Setting({**now.params, **moved}, now.codes)])
    return Move(moved, metric.orient(float(change)), float(error)) if moved and change < 0 else None


def _gaps(surface: Surface) -> tuple[Gap, ...]:
    runs = [point.params for point in surface.points if not point.rung]
    return tuple(
        gap
        for axis in surface.space.axes
        for gap in _gaps_of(axis, [params[axis.name] for params in runs if axis.name in params])
    )


def _gaps_of(axis: Axis, held: list[Scalar]) -> list[Gap]:
    if axis.within.choices:
        left = tuple(choice for choice in axis.within.choices if choice not in held)
        return [Gap(axis.name, choices=left)] if left else []
    places = np.array([axis.coordinate(value) for value in held])
    ends = np.linspace(0, 1, PARTS + 1)
    empty = [not ((places >= low) & (places <= high)).any() for low, high in pairwise(ends)]
    found: list[Gap] = []
    start: float | None = None
    for end, is_empty in zip(ends, [*empty, False], strict=True):
        if is_empty and start is None:
            start = float(end)
        elif not is_empty and start is not None:
            found.append(Gap(axis.name, between=(axis.value(start), axis.value(float(end)))))
            start = None
    return found
