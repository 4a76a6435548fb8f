"""Neighbours: values between the branch's and one that hurts at a larger scale, to be tried there before the
change is called scale-bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ar.git.repo import Repo
from ar.history.records import Attempt, Decision, Label, Verdict
from ar.project import params
from ar.project.params import ParamKey
from ar.project.program import Range
from ar.project.values import Scalar, flat, number

MOST = 2  # that are tried for one change
HURTS = 2.0  # the score of worsening from which a change counts as one that hurts at a rung


@dataclass(frozen=True)
class Neighbour:
    """One value of the parameter that a change sets.

    Args:
        tree: the change's baseline with that value alone changed, at the base scale.
        candidate: identity of that tree.
    """

    key: ParamKey
    value: float
    tree: str
    candidate: str


def hurts(verdict: Verdict) -> bool:
    """Whether a verdict says that the change is worse, beyond noise."""
    return verdict.z is not None and verdict.z <= -HURTS


def between(within: Range, branch: float, failed: float) -> list[float]:
    """Values half-way from the branch's to the one that failed, then half-way from the branch's to that; by
    ratio where the range is logarithmic. Fewer where the range has no such values."""
    found: list[float] = []
    for _ in range(MOST):
        middle = _half(within, branch, found[-1] if found else failed)
        if middle is None:
            break
        found.append(middle)
    return found


def _half(within: Range, low: float, high: float) -> float | None:
    low, high = sorted((low, high))
    by_ratio = within.log and low > 0
    middle = math.sqrt(low * high) if by_ratio else (low + high) / 2
    if within.choices:
        sizes = [
            size for choice in within.choices if (size := number(choice)) is not None and low < size < high
        ]
        return min(sizes, key=lambda size: abs(size - middle), default=None)
    if within.low is None:
        return None
    if within.spacing:
        middle = within.low + round((middle - within.low) / within.spacing) * within.spacing
    middle = int(middle) if within.integer else float(f"{middle:.4g}")
    return middle if low < middle < high else None


def neighbours(
    repo: Repo, search: Mapping[ParamKey, Range], identity: Callable[[str], str], attempt: Attempt
) -> list[Neighbour]:
    """What to try for a change; none where it does more than to set one searched number."""
    rev = attempt.first.rev

    def held(at: str, key: ParamKey) -> Scalar | None:
        return flat(repo.read(at, key.file) or b"", key.file).get(key.key)

    def with_value(key: ParamKey, value: Scalar) -> str:
        changed = params.update(repo.read(attempt.baseline, key.file) or b"", key.file, {key.key: value})
        return repo.write_tree(attempt.baseline, {key.file: changed})

    sides = {key: (held(attempt.baseline, key), held(rev, key)) for key in search}
    moved = [(key, *side) for key, side in sides.items() if side[0] != side[1]]
    if len(moved) != 1:
        return []
    ((key, old, new),) = moved
    branch, failed = number(old), number(new)
    if new is None or branch is None or failed is None:
        return []
    if identity(with_value(key, new)) != attempt.candidate:
        return []
    trees = [(value, with_value(key, value)) for value in between(search[key], branch, failed)]
    return [Neighbour(key, value, tree, identity(tree)) for value, tree in trees]


def wanted(tried: Sequence[Verdict | None]) -> int | None:
    """Place of the neighbour to be measured next, by the last words on each so far; None when one held, or
    all were tried."""
    for place, verdict in enumerate(tried):
        if verdict is None:
            return place
        if verdict.decision is Decision.PROMOTE:
            return None
    return None


def label(verdict: Verdict, tried: Sequence[Verdict | None], old: Label) -> Label:
    """What a change is called for its verdict at a rung: where it hurts, by the neighbours tried."""
    if not hurts(verdict):
        return old
    held = any(one is not None and one.decision is Decision.PROMOTE for one in tried)
    return Label.MOVES if held else Label.SCALE_BOUND
