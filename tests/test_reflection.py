"""What was expected against what was measured: a truth table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories import OBJECTIVE, PROGRAM, attempt
from hypothesis import given
from hypothesis import strategies as st

from ar.history.records import Verdict
from ar.judge.reflection import Surprise, expected_effect, reflect, surprise


@pytest.mark.parametrize(
    ("expected", "low", "high", "told"),
    [
        (-0.02, -0.03, -0.01, Surprise.AS_EXPECTED),
        (-0.02, -0.06, -0.04, Surprise.STRONGER),
        (-0.02, -0.015, -0.005, Surprise.WEAKER),
        (-0.02, -0.01, 0.01, Surprise.NO_EFFECT),
        (-0.02, 0.01, 0.03, Surprise.WORSE),
        (-0.02, -0.05, 0.01, Surprise.UNSETTLED),
        (0.0, -0.01, 0.01, Surprise.AS_EXPECTED),  # a simplification
        (0.0, 0.01, 0.03, Surprise.WORSE),
        (0.0, -0.03, -0.01, Surprise.STRONGER),
        (0.02, 0.03, 0.05, Surprise.WORSE),
        (0.02, -0.01, 0.01, Surprise.STRONGER),
    ],
)
def test_a_truth_table(expected: float, low: float, high: float, told: Surprise) -> None:
    assert surprise(expected, low, high) is told


@given(*(st.floats(-1, 1) for _ in range(3)))
def test_every_interval_has_an_answer(expected: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    told = surprise(expected, low, high)
    inside = told in (Surprise.AS_EXPECTED, Surprise.UNSETTLED)
    assert inside == (low <= expected <= high)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("-0.02", -0.02),
        ("\N{MINUS SIGN}0.02 ± 0.01", -0.02),
        ("val_bpb falls by about -1e-3", -1e-3),
        ("+.5", 0.5),
        ("0", 0.0),
        ("-0.03 to -0.01", -0.03),
        ("2 % better", None),
        ("5% better", None),
        ("lower", None),
        ("", None),
        ("v2.1.3", None),
    ],
)
def test_the_number_that_was_named(words: str, value: float | None) -> None:
    assert expected_effect(words) == value


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_effects_are_told_in_the_metrics_own_direction(direction: str) -> None:
    item = attempt(1, 2.2)
    better = 1.0 if direction == "maximize" else -1.0
    run = replace(item.experiments[0], expected=f"{better * 0.05}")
    told = reflect(
        replace(PROGRAM, objective=replace(OBJECTIVE, direction=direction)),
        replace(item, experiments=(run,), verdict=replace(item.verdict or Verdict, effect=-0.02)),  # type: ignore[type-var]
    )
    assert told is not None
    assert (told.expected, told.measured) == (better * 0.05, better * 0.02)
    assert told.surprise is Surprise.WEAKER


def test_nothing_is_told_where_nothing_was_expected_or_measured() -> None:
    item = attempt(1, 2.2)
    run = replace(item.experiments[0], expected="-0.1")
    assert reflect(PROGRAM, item) is None
    assert reflect(PROGRAM, replace(item, experiments=(run,), verdict=None)) is None
