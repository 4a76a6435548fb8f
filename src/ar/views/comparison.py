"""Two experiments side by side, for people: metrics, parameters, curves, the change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ar.agents.curve_tables import CurvePair
from ar.history.attempts import effect, level
from ar.history.comparison import Measured, Setting, measured, settings
from ar.history.records import Attempt
from ar.project.program import Program
from ar.text import one_line, quantity, signed
from ar.views import columns
from ar.views.columns import Column
from ar.views.experiment import diff_view
from ar.views.export import finite
from ar.views.facts import short_key, value_text
from ar.views.marks import MARKS

_MOST_PARAMS = 40


@dataclass(frozen=True)
class Comparison:
    """What there is to compare of two attempts. It decides nothing: what is promoted, the judge says.

    Args:
        metrics: objective and guards first.
        curves: of their first runs.
        diff: from a to b as a patch, without outputs.
    """

    program: Program
    a: Attempt
    b: Attempt
    metrics: Sequence[Measured]
    params: Sequence[Setting]
    curves: Sequence[CurvePair]
    diff: str

    def to_json(self) -> dict[str, Any]:
        """Both sides in the columns of `Column`, and the rest as in the records that it is made of."""
        sides = {
            side: {str(column): columns.cell(self.program, attempt, column) for column in Column}
            for side, attempt in (("a", self.a), ("b", self.b))
        }
        parts = {"metrics": self.metrics, "params": self.params, "curves": self.curves}
        told = {name: [one.to_json() for one in part] for name, part in parts.items()}
        whole: dict[str, Any] = finite({**sides, **told, "diff": self.diff})
        return whole


def compared(program: Program, a: Attempt, b: Attempt, curves: Sequence[CurvePair], diff: str) -> Comparison:
    first = [str(metric) for metric in (program.objective, *program.guards)]
    names = dict.fromkeys(
        (*first, *(name for run in (*a.experiments, *b.experiments) for name in run.metrics))
    )
    found = [measured(name, a, b) for name in names]
    told = [one for one in found if one.a is not None or one.b is not None]
    return Comparison(program, a, b, told, settings(program, a, b), curves, diff)


def comparison_view(found: Comparison) -> RenderableType:
    """The comparison as text."""
    parts: list[RenderableType] = [_sides(found), Text(), _metrics(found)]
    if found.params:
        parts += [Text(), _params(found.params)]
    for curve in found.curves:
        parts += [Text(), _curve(curve)]
    heading = Text("from a to b", style="bold")
    return Group(*parts, Text(), heading, diff_view(found.diff or "no change besides outputs\n"))


def _table(*header: str, right: bool = True) -> Table:
    """A table of a name and of what follows."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, name in enumerate(header):
        table.add_column(one_line(name), justify="right" if right and place else "left", overflow="fold")
    return table


def _sides(found: Comparison) -> Table:
    table = _table("", "a", "b", right=False)
    sides = (found.a, found.b)
    rows: dict[str, Iterable[str]] = {
        "name": (item.name for item in sides),
        "title": (item.title for item in sides),
        "agent": (item.agent for item in sides),
        "outcome": (f"{MARKS[item.outcome].sign} {item.outcome}" for item in sides),
        "against": (item.baseline[:9] for item in sides),
        f"{one_line(found.program.objective.key)}": (level(item) for item in sides),
        "effect": (effect(item, found.program) for item in sides),
        "verdict": (item.verdict.reason if item.verdict else "" for item in sides),
    }
    for name, cells in rows.items():
        table.add_row(Text(name, style="dim"), *(Text(one_line(cell)) for cell in cells))
    return table


def _metrics(found: Comparison) -> Table:
    """Means, and the difference over the seeds that both have, with its standard error from those alone."""
    table = _table("metric", "a", "b", "b − a", "common seeds")
    for one in found.metrics:
        gap = "" if one.difference is None else signed(one.difference, one.standard_error)
        sides = ("" if value is None else quantity(value) for value in (one.a, one.b))
        table.add_row(Text(one_line(short_key(one.metric))), *map(Text, (*sides, gap, str(one.seeds or ""))))
    return table


def _params(params: Sequence[Setting]) -> RenderableType:
    table = _table("parameter", "a", "b")
    for one in params[:_MOST_PARAMS]:
        sides = ("" if value is None else one_line(value_text(value)) for value in (one.a, one.b))
        table.add_row(Text(one_line(short_key(one.key))), *map(Text, sides))
    left = len(params) - _MOST_PARAMS
    return Group(table, Text(f"… {left} more: --json has all", style="dim")) if left > 0 else table


def _curve(curve: CurvePair) -> Table:
    """A row of either beside the other's: each is at the same share of its run."""
    a, b = ([list(row) for row in side] or [[]] for side in (curve.a, curve.b))
    header = [*(f"{name} a" for name in a[0]), *(f"{name} b" for name in b[0])]
    table = _table(f"curve {curve.path}", *header)
    none: list[str] = []
    for left, right in zip_longest(a[1:], b[1:], fillvalue=none):
        cells = [*left, *[""] * (len(a[0]) - len(left)), *right, *[""] * (len(b[0]) - len(right))]
        table.add_row(Text(), *(Text(one_line(cell)) for cell in cells))
    return table
