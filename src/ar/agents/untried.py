"""Configurations of the searched parameters that nobody tried, where a sampler offers none any more."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

from ar.project.program import Range
from ar.project.values import Scalar

_FINE_DIGITS = 6  # of a value, once all shorter ones are taken

Values = tuple[Scalar, ...]  # of the searched parameters, in the order of their ranges


def beside(ranges: Sequence[Range], best: Values, known: set[Values], draw: random.Random) -> Values | None:
    """A configuration that is not known, if possible one parameter beside the best; None if there is none."""
    # Of more values than configurations are known, one must be new.
    levels = [_levels(within, len(known) + 1, draw) for within in ranges]
    near = (
        (*best[:place], value, *best[place + 1 :])
        for place in draw.sample(range(len(best)), len(best))
        for value in levels[place]
    )
    anywhere = itertools.product(*levels)
    return next((values for values in itertools.chain(near, anywhere) if values not in known), None)


def _levels(within: Range, count: int, draw: random.Random) -> Sequence[Scalar]:
    """Values of a range in random order: at least `count` of them, or all that there are."""
    if within.low is None or within.high is None:
        return draw.sample(within.choices, len(within.choices))
    low, high, spacing = within.low, within.high, within.spacing
    if spacing is None:
        ends = (math.log(low), math.log(high)) if within.log else (low, high)
        drawn = [draw.uniform(*ends) for _ in range(count)]
        return [float(f"{math.exp(it) if within.log else it:.{_FINE_DIGITS}g}") for it in drawn]
    places = range(math.floor((high - low) / spacing + 1e-8) + 1)
    chosen = [low + place * spacing for place in draw.sample(places, min(len(places), count))]
    return [int(value) if within.integer else float(f"{value:.12g}") for value in chosen]
