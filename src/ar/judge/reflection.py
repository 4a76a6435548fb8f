"""What was expected of a change against what was measured: by rule, from numbers alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from ar.history.records import Attempt
from ar.judge.arithmetic import half_width
from ar.project.program import Program
from ar.record import Record
from ar.text import one_line, signed

_NUMBER = re.compile(r"(?<![\w.])[-+\N{MINUS SIGN}]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]*[\w%]| %)")


class Surprise(StrEnum):
    """How a measured effect compares with the expected one."""

    AS_EXPECTED = "as expected"
    STRONGER = "better than expected"
    WEAKER = "better, but less than expected"
    NO_EFFECT = "no effect, where one was expected"
    WORSE = "worse than expected"
    UNSETTLED = "too noisy to tell"  # the interval holds what was expected, and no effect, too


@dataclass(frozen=True)
class Reflection(Record):
    """One change, looked back on. Effects are in the objective's own direction.

    Args:
        expected: the effect that its proposer named.
        measured, standard_error: the verdict's.
        runs: that the verdict rests on.
    """

    name: str
    expected: float
    measured: float
    standard_error: float
    runs: int
    surprise: Surprise

    @property
    def words(self) -> str:
        """`warm-up-3f2a1c: expected −0.02, measured −0.003 ±0.001 (n=3): better, but less than expected`."""
        told = f"expected {signed(self.expected)}, measured {self.against}"
        return f"{one_line(self.name)}: {told}: {self.surprise}"

    @property
    def against(self) -> str:
        """What was measured: `−0.003 ±0.001 (n=3)`."""
        return f"{signed(self.measured, self.standard_error)} (n={self.runs})"


def reflect(program: Program, attempt: Attempt) -> Reflection | None:
    """None where no effect was expected by a number, or none was measured."""
    verdict, expected = attempt.verdict, expected_effect(attempt.first.expected)
    if expected is None or verdict is None or verdict.effect is None or verdict.standard_error is None:
        return None
    orient = program.objective.orient
    half = half_width(verdict.standard_error, verdict.df)
    told = surprise(orient(expected), verdict.effect - half, verdict.effect + half)
    measured = orient(verdict.effect)
    return Reflection(attempt.name, expected, measured, verdict.standard_error, verdict.runs, told)


def surprise(expected: float, low: float, high: float) -> Surprise:
    """An expected effect against the interval of the measured one; below 0 is an improvement."""
    if low <= expected <= high:
        return Surprise.UNSETTLED if low <= 0 <= high and expected != 0 else Surprise.AS_EXPECTED
    if high < expected:
        return Surprise.STRONGER
    if expected >= 0 or low > 0:
        return Surprise.WORSE
    return Surprise.WEAKER if high < 0 else Surprise.NO_EFFECT


def expected_effect(words: str) -> float | None:
    """The effect that somebody named, in the objective's own direction and unit: the first plain number, that
    is no percentage. Of a range (`-0.01 to -0.03`) that is its first end."""
    match = _NUMBER.search(one_line(words))
    return float(match[0].replace("\N{MINUS SIGN}", "-")) if match else None
