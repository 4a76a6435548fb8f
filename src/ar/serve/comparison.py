"""Two attempts side by side, as programs are told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ar.agents.curve_tables import CurvePair
from ar.history.comparison import Measured, Setting, measured, settings
from ar.history.records import Attempt
from ar.project.program import Program
from ar.project.values import Scalar
from ar.record import Record
from ar.serve.overview import Row, rows
from ar.serve.words import CELL, Words, finite, patch, shown


@dataclass(frozen=True)
class Comparison(Record):
    """Two attempts side by side. It decides nothing: what is promoted, the judge says.

    Args:
        curves: of their first runs, thinned out, nothing of the holdout.
        diff: from a to b as a patch, without outputs; shortened in the middle.
    """

    a: Row
    b: Row
    metrics: tuple[Measured, ...]
    params: tuple[Setting, ...]
    curves: tuple[CurvePair, ...]
    diff: str


def comparison(
    program: Program, a: Attempt, b: Attempt, curves: Iterable[CurvePair], diff: str
) -> Comparison:
    words = Words(program, [a, b])

    def told(rows: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(words(cell, CELL) for cell in row) for row in rows)

    return Comparison(
        a=rows(program, [a])[0],
        b=rows(program, [b])[0],
        metrics=tuple(measured(str(metric), a, b) for metric in shown(program)),
        params=tuple(
            Setting(words(one.key), _setting(words, one.a), _setting(words, one.b))
            for one in settings(program, a, b)
        ),
        curves=tuple(CurvePair(words(one.path), told(one.a), told(one.b)) for one in curves),
        diff=patch(diff),
    )


def _setting(words: Words, value: Scalar) -> Scalar:
    if isinstance(value, str):
        return words(value)
    return finite(value) if isinstance(value, float) else value
