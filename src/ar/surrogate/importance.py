"""What each parameter matters by the campaign's model: over its range, and as a part of a joint move.

All is told around the branch as it is: one parameter moves, the others stay. Values are in the metric's unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ar.history.attempts import of_commit
from ar.history.records import Attempt, History, Outcome
from ar.judge.evidence import Candidate
from ar.judge.findings import share
from ar.judge.ledger import candidate, ledger, on_device, where
from ar.judge.noise import noise_of
from ar.project.program import Metric, Program
from ar.project.values import Scalar
from ar.record import Record
from ar.surrogate.points import settings_of
from ar.surrogate.regression import Array
from ar.surrogate.space import Axis
from ar.surrogate.surface import Setting, Surface
from ar.text import one_line, quantity

PLACES = 17  # values of a parameter that are looked at
FINE = 41  # and where they make a curve
CLEAR = 2.0  # standard errors from which an effect is told apart from nothing
MOST_TOLD = 8  # parameters that a line names with their size
FILES = "its files"  # the name of what a joint move changes besides searched parameters


@dataclass(frozen=True)
class Importance(Record):
    """How much one parameter matters.

    Args:
        size: by how much its worst value is worse than its best; of the values that are clearly worse, the
            one whose loss less a standard error is largest.
        interval: of `size`, 95 %.
        is_clear: whether it is told apart from nothing.
    """

    name: str
    size: float
    standard_error: float
    interval: tuple[float, ...]
    best: Scalar
    worst: Scalar
    is_clear: bool


@dataclass(frozen=True)
class Place(Record):
    """A value of one parameter, and what it changes against the branch, in the metric's direction."""

    value: Scalar
    change: float
    standard_error: float = 0.0


@dataclass(frozen=True)
class Curve(Record):
    """Partial dependence on one parameter.

    Args:
        now: the branch's value.
        places: along the range, in its order.
        runs: what was measured, moved to the branch's other values and the mean seed by the model.
    """

    importance: Importance
    now: Scalar
    places: tuple[Place, ...]
    runs: tuple[Place, ...]


@dataclass(frozen=True)
class Share(Record):
    """What a joint move changes by one of its parameters: the whole move against the move without it, in the
    metric's direction.

    Args:
        before, after: the parameter's values; None for `FILES`.
        measured, measured_error: from runs; None where no attempt leaves out exactly this.
    """

    name: str
    before: Scalar
    after: Scalar
    expected: float
    standard_error: float
    measured: float | None = None
    measured_error: float | None = None


# -- over the range ---------------------------------------------------------------------------------------


def importances(surface: Surface) -> tuple[Importance, ...]:
    """Of every searched parameter: those that are told apart from nothing first, then the largest."""
    found = [_importance(surface, axis) for axis in surface.space.axes]
    return tuple(sorted(found, key=lambda one: (not one.is_clear, -one.size)))


def in_words(found: Sequence[Importance]) -> str:
    """On one line; empty for none."""
    clear = [
        f"{one_line(one.name)} {quantity(one.size, one.standard_error)}" for one in found if one.is_clear
    ]
    parts = [", ".join(clear[:MOST_TOLD] + [f"{len(clear) - MOST_TOLD} more"] * (len(clear) > MOST_TOLD))]
    if rest := [one_line(one.name) for one in found if not one.is_clear]:
        parts.append(f"not told apart from nothing: {', '.join(rest)}")
    return "; ".join(filter(None, parts))


def curves(surface: Surface, metric: Metric) -> tuple[Curve, ...]:
    """Partial dependence on every searched parameter, in the order of `importances`."""
    left_over = _left_over(surface)
    return tuple(_curve(surface, one, metric, left_over) for one in importances(surface))


def _importance(surface: Surface, axis: Axis) -> Importance:
    values = _values(surface, axis, PLACES)
    settings = [_moved(surface, axis.name, value) for value in values]
    best = int(np.argmin(surface.difference(settings)[0]))
    loss, error = surface.difference(settings, settings[best])
    clear = loss > CLEAR * error
    worst = int(np.argmax(np.where(clear, loss - error, -np.inf)) if clear.any() else np.argmax(loss))
    size, sd = float(loss[worst]), float(error[worst])
    return Importance(
        name=axis.name,
        size=size,
        standard_error=sd,
        interval=(size - 1.96 * sd, size + 1.96 * sd),
        best=values[best],
        worst=values[worst],
        is_clear=bool(clear.any()),
    )


def _curve(surface: Surface, importance: Importance, metric: Metric, left_over: Array) -> Curve:
    name = importance.name
    axis = next(axis for axis in surface.space.axes if axis.name == name)
    values = _values(surface, axis, FINE)
    change, error = surface.difference([_moved(surface, name, value) for value in values])
    now = surface.incumbent.params[name]
    held = [point.params.get(name, now) for point in surface.measured]
    distinct = list(dict.fromkeys(held))
    at, _ = surface.difference([_moved(surface, name, value) for value in distinct])
    level = dict(zip(distinct, map(float, at), strict=True))
    return Curve(
        importance,
        now,
        tuple(
            Place(value, metric.orient(float(mean)), float(sd))
            for value, mean, sd in zip(values, change, error, strict=True)
        ),
        tuple(
            Place(value, metric.orient(level[value] + float(rest)))
            for value, rest in zip(held, left_over, strict=True)
        ),
    )


def _values(surface: Surface, axis: Axis, count: int) -> list[Scalar]:
    """Values of the range in its order, the branch's among them."""
    now = surface.incumbent.params[axis.name]
    if axis.within.choices:
        return list(axis.within.choices)
    places = {axis.value(float(at)): float(at) for at in np.linspace(0, 1, count)}
    if axis.within.holds(now):
        places[now] = axis.coordinate(now)
    return sorted(places, key=axis.coordinate)


def _moved(surface: Surface, name: str, value: Scalar) -> Setting:
    now = surface.incumbent
    return Setting({**now.params, name: value}, now.codes)


def _left_over(surface: Surface) -> Array:
    """Of each measured run, what neither its setting nor its seed explains."""
    values = surface.posterior.values[: len(surface.rows)]  # those of other scales and of bounds follow
    rest: Array = (values - surface.posterior.mean(surface.rows)) * surface.scale
    seeds, weights = surface.rows.seed, surface.weights
    for seed in np.unique(seeds[seeds >= 0]):
        same = seeds == seed
        # The most probable effect of the seed, given what its runs have in common.
        rest[same] -= rest[same].sum() / (same.sum() + (weights.noise / weights.seed) ** 2)
    return rest


# -- of a joint move --------------------------------------------------------------------------------------


def shares(surface: Surface, program: Program, history: History, attempt: Attempt) -> tuple[Share, ...]:
    """What an attempt gains by each of its parameters, the most valuable first; none of one that moves a
    single parameter."""
    base = of_commit(history, attempt.baseline)
    if base is None or base is attempt:
        return ()
    known = settings_of(program, history, history.attempts)
    settings = {item.candidate: setting for item, setting in zip(history.attempts, known, strict=True)}
    whole, before = settings[attempt.candidate], settings[base.candidate]
    parts = list(_parts(whole, before.params, before.codes))
    if len(parts) < 2:
        return ()
    gain, error = surface.difference([without for _, without in parts], whole)
    found = []
    for (name, without), lost, sd in zip(parts, gain, error, strict=True):
        same = [item for item in history.attempts if settings[item.candidate] == without]
        measured = _measured(program, history, attempt, same)
        found.append(
            Share(
                name=name,
                before=before.params.get(name),
                after=whole.params.get(name),
                expected=program.objective.orient(-float(lost)),
                standard_error=float(sd),
                measured=measured[0] if measured else None,
                measured_error=measured[1] if measured else None,
            )
        )
    return tuple(sorted(found, key=lambda one: program.objective.orient(one.expected)))


def _parts(
    whole: Setting, params: Mapping[str, Scalar], codes: frozenset[str]
) -> Iterator[tuple[str, Setting]]:
    """What a move consists of, each with the move that leaves it out."""
    for name, value in whole.params.items():
        if name in params and params[name] != value:
            yield name, Setting({**whole.params, name: params[name]}, whole.codes)
    if whole.codes != codes:
        yield FILES, Setting(whole.params, codes)


def _measured(
    program: Program, history: History, attempt: Attempt, without: Sequence[Attempt]
) -> tuple[float, float] | None:
    """What the whole changes against the move without a part, with its error, from runs of both."""
    device = where(program, history, attempt)
    for item in without:
        if item.value is None or item.outcome is Outcome.TAMPERED:
            continue
        here = (on_device(program, history, one, device) for one in (attempt, item))
        sides = [candidate(program, one) if one else Candidate() for one in here]
        whole, rest = (side.fair or side.measured for side in sides)
        if whole and rest:
            found = share(whole, rest, noise_of(ledger(program, history, device=device)))
            return program.objective.orient(found.effect), found.error
    return None
