"""The curves that a run left in its commit, as tables of a few rows."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TypeVar

from ar import formats
from ar.agents import holdout
from ar.git.repo import Repo
from ar.history.records import Experiment
from ar.project.pipeline_file import Declared
from ar.project.program import Program
from ar.record import Record

_Row = TypeVar("_Row")
Table = list[list[str]]  # header and rows
_POINTS, _CURVES = 16, 3


@dataclass(frozen=True)
class CurvePair(Record):
    """A curve of two runs, thinned out: header, then rows; empty where a side did not leave it."""

    path: str
    a: tuple[tuple[str, ...], ...]
    b: tuple[tuple[str, ...], ...]


def pairs(repo: Repo, declared: Declared, program: Program, a: Experiment, b: Experiment) -> list[CurvePair]:
    """Curves that either of two runs left, side by side."""
    ours, theirs = (dict(curves(repo, declared, program, run)) for run in (a, b))
    return [
        CurvePair(path, *(tuple(map(tuple, side.get(path, ()))) for side in (ours, theirs)))
        for path in dict.fromkeys((*ours, *theirs))
    ]


def curves(
    repo: Repo, declared: Declared, program: Program, run: Experiment, points: int = _POINTS
) -> list[tuple[str, Table]]:
    """Curves that a run left in its commit, by their paths: header and at most so many rows, nothing of the
    holdout."""
    if not run.status.ended or run.is_imported:  # its tree holds its baseline's
        return []
    inside = tuple(f"{path.rstrip('/')}/" for path in declared.plots)
    paths = [
        path
        for path in repo.files(run.rev)
        if f"{path}/".startswith(inside) and not holdout.names_it(path, program)
    ]
    contents = repo.read_many([(run.rev, path) for path in paths])
    tables = (
        (path, _thinned(path, content or b"", program, points))
        for path, content in zip(paths, contents, strict=True)
    )
    return [(path, table) for path, table in tables if table][:_CURVES]


def _thinned(path: str, content: bytes, program: Program, points: int) -> Table:
    """A table of so many rows, evenly spaced, first and last among them, without columns of the holdout."""
    header: list[str] = []
    lines: Table = []
    with contextlib.suppress(ValueError):
        if path.endswith(".json"):
            data = formats.load_json(content)
            found = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
            header = list(found[0]) if found else []
            lines = [[str(row.get(key, "")) for key in header] for row in _spread(found, points)]
        elif path.endswith((".csv", ".tsv")) and len(content) <= formats.MOST_BYTES:
            header, *read = formats.table(content.decode(), "\t" if path.endswith(".tsv") else ",")
            lines = _spread(read, points)
    shown = [place for place, key in enumerate(header) if key and not holdout.names_it(key, program)]
    if not lines:
        return []
    return [[row[place] if place < len(row) else "" for place in shown] for row in (header, *lines)]


def _spread(lines: list[_Row], points: int) -> list[_Row]:
    """At most so many of the rows, evenly spaced, first and last among them."""
    last = max(0, len(lines) - 1)
    places = {round(index * last / (points - 1)) for index in range(points)}
    return [lines[place] for place in sorted(places)] if lines else []
