"""Curves: the CSV files in which runs tell how they went, read as numbers.

They are what the code under test reported: they tell how fast it was, and nothing is promoted for them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ar.formats import table
from ar.git.repo import Repo
from ar.history.reader import read_output
from ar.history.records import Attempt, History, Status
from ar.project.program import CurveFile, Program

POINTS = 100  # of a curve, at equal shares of the run
SHOWN = 10  # points of a curve that is told in words
LEAST = 5  # points of a file that are a curve
MOST_BYTES = 20_000_000


@dataclass(frozen=True)
class Curve:
    """A curve at `POINTS` equal shares of the run: the value, oriented (lower is better), and each axis."""

    values: tuple[float, ...]
    axes: Mapping[str, tuple[float, ...]]


def read_rows(text: str, columns: Sequence[str], growing: bool = False) -> list[list[float]]:
    """The cells of some columns of a CSV or TSV file with a header, from the rows in which all are finite.

    Args:
        growing: whether it is still being written to: its last line is left out until it is whole.
    """
    rows = table(text[: text.rfind("\n") + 1] if growing else text)
    header = {name: place for place, name in enumerate(next(rows, []))}
    if not all(name in header for name in columns):
        return []
    places, found = [header[name] for name in columns], []
    for row in rows:
        with contextlib.suppress(IndexError, ValueError):  # no such cell, or no number
            cells = [float(row[place]) for place in places]
            if all(map(math.isfinite, cells)):
                found.append(cells)
    return found


@lru_cache(maxsize=2048)
def read_curve(content: bytes, spec: CurveFile) -> Curve | None:
    """The curve that a file holds, at `POINTS` equal shares of its rows; None where it holds none."""
    table = read_rows(content.decode(errors="replace"), (spec.value, *spec.against))
    if len(table) < LEAST:
        return None
    sign = 1.0 if spec.direction == "minimize" else -1.0
    values, *axes = (_spread(column) for column in zip(*table, strict=True))
    return Curve(tuple(sign * value for value in values), dict(zip(spec.against, axes, strict=True)))


def _spread(column: Sequence[float]) -> tuple[float, ...]:
    """A column read at `POINTS` equal steps from its first value to its last."""
    out = []
    for place in range(POINTS):
        at = place * (len(column) - 1) / (POINTS - 1)
        low = min(int(at), len(column) - 2)
        out.append(column[low] + (at - low) * (column[low + 1] - column[low]))
    return tuple(out)


def curves_of(repo: Repo, spec: CurveFile, attempt: Attempt) -> dict[int, Curve]:
    """The curves of an attempt's runs that have one; seed (or the run's place) to curve."""
    runs = [run for run in attempt.experiments if run.status is Status.SUCCEEDED]
    runs.sort(key=lambda run: (not run.measures_baseline, run.created))
    contents = repo.read_many([(run.rev, spec.file) for run in runs])
    found: dict[int, Curve] = {}
    for place, (run, content) in enumerate(zip(runs, contents, strict=True)):
        content = read_output(repo, run.rev, spec.file) if content is None else content
        curve = read_curve(content, spec) if content is not None and len(content) <= MOST_BYTES else None
        if curve is not None:
            found.setdefault(place if run.seed is None else run.seed, curve)
    return found


def incumbent_curve(repo: Repo, program: Program, history: History) -> tuple[float, ...]:
    """The branch's curve in its own direction, of its first seed, at `SHOWN` equal shares of the run; empty
    where there is none, or where it is the holdout's."""
    spec, now = program.curve, history.now
    if spec is None or now is None or (program.holdout and spec.value == program.holdout.key):
        return ()
    curve = next(iter(curves_of(repo, spec, now).values()), None)
    if curve is None:
        return ()
    sign = 1.0 if spec.direction == "minimize" else -1.0
    return tuple(sign * curve.values[place * (POINTS - 1) // (SHOWN - 1)] for place in range(SHOWN))
