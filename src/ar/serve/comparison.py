"""Two attempts side by side, as programs are told."""

from __future__ import annotations

from dataclasses import dataclass

from ar.history.comparison import Measured, Setting, measured, settings
from ar.history.records import Attempt
from ar.project.program import Program
from ar.project.values import Scalar
from ar.record import Record
from ar.serve.overview import Row, rows
from ar.serve.words import Words, finite, patch, shown


@dataclass(frozen=True)
class Comparison(Record):
    """Two attempts side by side. It decides nothing: what is promoted, the judge says.

    Args:
        diff: from a to b as a patch, without outputs; shortened in the middle.
    """

    a: Row
    b: Row
    metrics: tuple[Measured, ...]
    params: tuple[Setting, ...]
    diff: str


def comparison(program: Program, a: Attempt, b: Attempt, diff: str) -> Comparison:
    words = Words(program, [a, b])
    return Comparison(
        a=rows(program, [a])[0],
        b=rows(program, [b])[0],
        metrics=tuple(measured(str(metric), a, b) for metric in shown(program)),
        params=tuple(
            Setting(words(one.key), _setting(words, one.a), _setting(words, one.b))
            for one in settings(program, a, b)
        ),
        diff=patch(diff),
    )


def _setting(words: Words, value: Scalar) -> Scalar:
    if isinstance(value, str):
        return words(value)
    return finite(value) if isinstance(value, float) else value
