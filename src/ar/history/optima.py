"""Where a parameter's best value lies at each scale, and the rule that it seems to follow."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

from ar.history.records import Attempt, History
from ar.project.params import ParamKey
from ar.project.program import Program, Rung
from ar.project.rules import Rule
from ar.project.values import number

LEAST = 3  # values of a parameter that were measured at a scale before one of them is called the best


def fitted_rules(program: Program, history: History) -> dict[ParamKey, Rule]:
    """The rule through the best measured values at the base and at the largest scale that tells one, for each
    searched parameter whose best value moves; such as have a rule already are left out."""
    found = {}
    for key in program.search:
        if key in program.transfer or len(program.ladder) < 2:
            continue
        base = _best(program, key, history.attempts)
        for rung in reversed(program.ladder[1:]):
            best = _best(program, key, [it for it in history.at_rungs if it.rung == rung.name])
            if (
                base
                and best
                and base != best
                and min(base, best) > 0
                and (scale := _scale(program, history, rung))
            ):
                name, low, high = scale
                found[key] = Rule.fitted(name, (low, base), (high, best))
                break
    return found


def _best(program: Program, key: ParamKey, attempts: Iterable[Attempt]) -> float | None:
    """The value with the best mean; None where too few were measured, or the best of them lies at an end."""
    values: dict[float, list[float]] = {}
    for item in attempts:
        size = number(item.first.params.get(key.flat))
        if size is not None and item.value is not None:
            values.setdefault(size, []).append(program.objective.orient(item.value))
    best = min(values, key=lambda size: fmean(values[size]), default=None)
    inside = best is not None and min(values) < best < max(values)
    return best if inside and len(values) >= LEAST else None


def _scale(program: Program, history: History, rung: Rung) -> tuple[str, float, float] | None:
    """A name of the scale, and what it is at the base and at a rung: a declared variable, else a
    parameter."""
    base = program.ladder[0].scale
    for name, size in rung.scale.items():
        if name in base and base[name] != size:
            return name, base[name], size
    first = history.first.first.params if history.first else {}
    for key, value in rung.params.items():
        low, high = number(first.get(key.flat)), number(value)
        if low and high and low > 0 and high > 0 and low != high:
            return str(key), low, high
    return None
