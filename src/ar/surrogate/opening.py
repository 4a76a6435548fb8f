"""The first changes: a low-discrepancy sample around the branch's values, before there is anything to fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

from ar.project.values import Scalar
from ar.surrogate.space import Space

SPREAD = 0.2  # standard deviation of a first change along each parameter, as a share of its range


def opening(space: Space, now: Mapping[str, Scalar], number: int) -> dict[str, Scalar]:
    """Values of the `number`-th of the first changes."""
    base = space.point(now, now)
    drawn = qmc.Sobol(len(space), rng=np.random.default_rng(len(space))).random(
        2 ** (number + 2).bit_length()
    )
    share = drawn[number + 1]
    point = np.abs(base + SPREAD * ndtri(np.clip(share, 0.01, 0.99)))
    for k, axis in enumerate(space.axes):
        if axis.categorical:
            point[k] = base[k] if share[k] < 0.5 else (base[k] + 1 + int(share[k] * 997)) % axis.levels
        elif point[k] > 1:  # reflected at the end of the range
            point[k] = max(0.0, 2 - point[k])
    return space.values(space.snapped(point[None])[0])
