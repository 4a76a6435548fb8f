"""The ladder's model as truth tables: what was measured at which rung in, the effect at the target out."""

from __future__ import annotations

import pytest

from ar.surrogate.transfer import BREAKS, RHO, Forecast, Measured, Transfer

RUNGS = 4
Row = tuple[float | None, ...]


def fitted(*rows: Row, error: float = 0.1, base: float = 0.0) -> Transfer:
    """Ideas by their measured effects, padded with what was not measured."""
    return Transfer(
        [
            [None if value is None else Measured(value, error, base) for value in (*row, *(None,) * RUNGS)][
                :RUNGS
            ]
            for row in rows
        ],
        RUNGS,
    )


def last(fit: Transfer) -> Forecast:
    return fit.forecast(len(fit.effects) - 1)


FOLLOWING: tuple[Row, ...] = tuple((k, k, k, k) for k in (-2.0, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 2.5))
SHRINKING: tuple[Row, ...] = tuple(
    (k, k / 2, k / 4, k / 8) for k in (-2.0, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 2.5)
)


def test_without_any_run_it_expects_what_everybody_expects() -> None:
    assert Transfer([], RUNGS).chain.rho == pytest.approx([RHO] * 3)
    found = last(fitted(()))
    assert found.effect == pytest.approx(0.0, abs=1e-9)
    assert found.chance == pytest.approx(0.5, abs=1e-6)
    assert found.interval[0] < 0 < found.interval[1]


@pytest.mark.parametrize(
    ("others", "row", "expected", "within"),
    [
        ((), (-1.0,), -0.7, 0.25),  # one rung, nobody else: as is usual, a little less up there
        (FOLLOWING, (-1.0,), -1.0, 0.2),  # all others kept their effects
        (SHRINKING, (-1.0,), -0.125, 0.1),  # all others lost half a rung
        (SHRINKING, (-1.0, -0.5, -0.25), -0.125, 0.06),
        (FOLLOWING, (-1.0, -1.0, -1.0, -1.0), -1.0, 0.1),  # equal effects everywhere
        (FOLLOWING, (-1.5, -1.5, 1.5), 1.5, 0.2),  # a flip counts from where it was seen
        (FOLLOWING, (0.0, None, None, -1.5), -1.5, 0.15),  # what is measured at the target says most
    ],
)
def test_the_effect_at_the_target(others: tuple[Row, ...], row: Row, expected: float, within: float) -> None:
    found = last(fitted(*others, row))
    assert found.effect == pytest.approx(expected, abs=within)
    assert found.interval[0] < expected < found.interval[1]
    assert found.chance == pytest.approx(1.0 if expected < 0 else 0.0, abs=0.25)


def test_a_flip_is_told_as_a_break_and_changes_little_for_others() -> None:
    without = fitted(*FOLLOWING, (-1.0,))
    flipped = fitted(*FOLLOWING, (-2.0, -2.0, 2.0, 2.0), (-1.0,))
    assert flipped.forecast(len(FOLLOWING)).broken > 0.9
    assert last(flipped).effect == pytest.approx(last(without).effect, abs=0.15)
    assert flipped.chain.breaks > without.chain.breaks
    assert without.chain.breaks < BREAKS


def test_an_outlier_of_one_rung_is_doubted_the_less_the_further_up_it_is() -> None:
    low = last(fitted(*FOLLOWING, (4.0, -1.0, -1.0)))
    assert low.effect == pytest.approx(-1.0, abs=0.15)
    high = last(fitted(*FOLLOWING, (-1.0, -1.0, 4.0)))
    assert high.effect > 2


def test_ideas_measured_at_one_rung_only_say_nothing_of_the_steps() -> None:
    fit = fitted((-1.0,), (2.0,), (0.5,), (-0.2,))
    assert fit.chain.rho == pytest.approx([RHO] * 3)
    assert fit.chain.breaks == pytest.approx(BREAKS)


def test_a_baseline_that_was_lucky_makes_no_idea_look_worse_at_the_target() -> None:
    """All ideas' luck at one rung is the baseline's: those that do nothing show it."""
    idle: tuple[Row, ...] = ((0.5,), (0.45,), (0.55,), (0.5,), (0.52,), (0.48,), (0.5,))
    fit = fitted(*idle, (-1.0,), error=0.4, base=0.38)
    assert fit.luck[0] == pytest.approx(0.4, abs=0.15)
    assert abs(fit.forecast(0).effect) < 0.1
    assert last(fit).effect < last(fitted(*idle, (-1.0,), error=0.4)).effect


def test_a_metric_without_noise_is_taken_at_its_word() -> None:
    found = last(fitted(*FOLLOWING, (-1.0, -1.0, -1.0, -1.0), error=0.0))
    assert found.effect == pytest.approx(-1.0, abs=1e-3)
    assert found.error < 0.01


def test_a_run_is_worth_most_where_the_decision_hangs_on_it() -> None:
    fit = fitted(*FOLLOWING, (-0.05,), (-3.0,), (3.0,))
    noise = [0.1] * RUNGS
    doubtful, good, bad = fit.worth(noise)[-3:]
    assert max(good) < max(doubtful)
    assert max(bad) < max(doubtful)
    assert doubtful == sorted(doubtful)  # nearer to the target a run says more, by the run


def test_worth_falls_with_noise_and_with_every_run() -> None:
    fit = fitted(*FOLLOWING, (-0.1,))
    quiet, loud = (fit.worth([noise] * RUNGS)[-1][2] for noise in (0.1, 1.0))
    assert quiet > loud
    measured = fitted(*FOLLOWING, (-0.1, -0.1, -0.1, -0.1))
    assert measured.worth([0.1] * RUNGS)[-1][3] < fit.worth([0.1] * RUNGS)[-1][3]


def test_the_published_scalars_shrink_as_it_expects() -> None:
    """nanochat's dev/LOG.md, 2026-01-11, learnable scalars at depths 8, 12, 16 and 20: what was measured at
    the two smaller depths holds the two larger ones in its interval."""
    published = (-0.0103, -0.0077, -0.0057, -0.0039)
    fit = fitted(published[:2], error=0.0004)
    for rung in (2, 3):
        found = fit.forecast(0, rung)
        assert found.interval[0] < published[rung] < found.interval[1]
        assert found.chance > 0.8
