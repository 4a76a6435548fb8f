"""Means, spreads, scores and quantiles: the arithmetic of the judge, on plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

NORMAL_95 = 1.96  # normal deviate that leaves 2.5 % on either side
LOWEST_5 = NormalDist().inv_cdf(0.05)  # normal deviate that leaves 5 % below it
CERTAIN = 99.0  # the score of any difference where there is no noise; finite, so that JSON can hold it


def mean(values: Sequence[float]) -> float:
    """Exact for equal values and independent of their order, so that equality stays equality."""
    low = min(values)
    return low + math.fsum(value - low for value in values) / len(values)


def spread(values: Sequence[float]) -> float:
    """Sum of squared deviations from the mean."""
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values)


def score(t: float, df: int) -> float:
    """Student's t on df degrees of freedom as the normal deviate of equal tail (Wallace 1959), clipped."""
    z = math.sqrt(df * math.log1p(t * t / df)) * (8 * df + 1) / (8 * df + 3)
    return math.copysign(min(z, CERTAIN), t)


def unscore(z: float, df: int) -> float:
    """The t whose `score` is z, for z of at least 0."""
    root = z * (8 * df + 3) / (8 * df + 1)
    return math.sqrt(df * math.expm1(min(700.0, root * root / df)))


def half_width(error: float, df: int) -> float:
    """Half of the 95 % interval of an effect with this standard error; df of 0 stands for a known sigma."""
    return (unscore(NORMAL_95, df) if df else NORMAL_95) * error


def at_most(sigma: float, df: int) -> float:
    """What a standard deviation on so many degrees of freedom is at most: the bound of its one-sided 95 %
    interval."""
    return sigma * math.sqrt(df / chi_square(df))


def chi_square(df: int) -> float:
    """What a chi-square variable falls short of in 5 % of cases (Wilson and Hilferty 1931)."""
    return df * max(0.01, 1 - 2 / (9 * df) + LOWEST_5 * math.sqrt(2 / (9 * df))) ** 3
