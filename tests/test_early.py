"""When a run may be ended early: far behind, twice in a row, and never for a curve that may still cross."""

from __future__ import annotations

import math
import random

import pytest

from ar.judge import early
from ar.judge.early import Point, hopeless

END = 100_000.0


def run(
    level: float, points: int = 100, noise: float = 0.02, seed: int = 1, until: float = 1.0
) -> list[Point]:
    """A power law that ends at `level`, with noise from batch to batch."""
    draw = random.Random(seed)
    shares = [(number + 1) / points for number in range(points)]
    return [
        (share * END, level + 0.5 * (share**-0.5 - 1) + draw.gauss(0, noise))
        for share in shares
        if share <= until + 1e-9
    ]


def lifted(curve: list[Point], by: float, since: float = 0.0, until: float = 1.0) -> list[Point]:
    return [(x, y + by * (since * END <= x <= until * END)) for x, y in curve]


INCUMBENT = run(2.2)


def test_a_run_far_behind_is_ended_soon_after_its_half() -> None:
    assert hopeless(run(3.0, seed=2), INCUMBENT) == pytest.approx(0.55)
    assert hopeless(run(3.0, seed=2, until=0.54), INCUMBENT) is None
    assert hopeless(run(3.0, seed=2, until=0.55), INCUMBENT) == pytest.approx(0.55)


@pytest.mark.parametrize("level", [1.9, 2.2, 2.25, 2.3])
def test_a_run_that_is_near_goes_on(level: float) -> None:
    assert all(hopeless(run(level, seed=seed), INCUMBENT) is None for seed in range(20))


def test_a_curve_that_crosses_late_goes_on() -> None:
    # A learning rate that is still high at nine tenths: behind by as much as the lab ever showed, then not.
    warmdown = lifted(run(2.2, seed=2), 0.12, until=0.9)
    assert hopeless(warmdown, INCUMBENT) is None
    # Catching up from far behind is believed until half of the run.
    assert hopeless(lifted(run(2.2, seed=2), 1.0, until=0.5), INCUMBENT) is None


def test_one_bad_look_is_no_verdict() -> None:
    assert hopeless(lifted(run(2.2, seed=2), 1.0, since=0.6, until=0.7), INCUMBENT) is None
    one_good_point = [(x, 2.0 if 0.62 < x / END < 0.63 else y) for x, y in run(3.0, seed=2)]
    assert hopeless(one_good_point, INCUMBENT) == pytest.approx(0.55)
    spikes = [(x, 2.0 if round(x / END * 100) % 5 == 0 else y) for x, y in run(3.0, seed=2)]
    assert hopeless(spikes, INCUMBENT) is None


def test_flat_and_noisy_curves_are_left_alone() -> None:
    draw = random.Random(4)

    def flat() -> list[Point]:
        return [((number + 1) * END / 50, draw.gauss(0, 1)) for number in range(50)]

    assert sum(hopeless(flat(), flat()) is not None for _ in range(500)) == 0
    constant = [(x, 1.0) for x, _ in INCUMBENT]
    assert hopeless(constant, constant) is None


@pytest.mark.parametrize(
    ("curve", "incumbent"),
    [
        ([], INCUMBENT),
        (run(3.0), []),
        ([], []),
        (run(3.0, points=40), INCUMBENT),
        (run(3.0), run(2.2, points=30)),
    ],
)
def test_missing_and_sparse_curves_are_never_judged(curve: list[Point], incumbent: list[Point]) -> None:
    assert hopeless(curve, incumbent) is None


def test_a_scale_changes_nothing() -> None:
    for curve in (run(3.0, seed=2), run(2.3, seed=2)):
        scaled = [[(x * 7, 3 * y - 50) for x, y in points] for points in (curve, INCUMBENT)]
        assert hopeless(*scaled) == hopeless(curve, INCUMBENT)


def test_a_better_curve_is_never_ended_where_a_worse_one_is_not() -> None:
    for level in (2.2, 2.4, 2.6, 2.8, 3.0):
        ended = [hopeless(run(level - better, seed=2), INCUMBENT) or 1.0 for better in (0.0, 0.1, 0.2)]
        assert ended == sorted(ended)


def test_what_is_no_number_hides_nothing() -> None:
    curve = [(x, math.nan if x < 0.3 * END else y) for x, y in run(3.0, seed=2)]
    assert hopeless([point for point in curve if math.isfinite(point[1])], INCUMBENT) == pytest.approx(0.55)
    assert early.LOOKS[0] == 0.5 and early.LOOKS[-1] == 0.9
