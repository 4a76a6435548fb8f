"""What somebody asked to see of a history: which attempts, in what order, how many, and which columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ar.history.records import Attempt, History
from ar.history.selection import EVERYTHING, Order, Selection
from ar.project.program import Program
from ar.views import columns
from ar.views.columns import Chosen

MOST = 100  # attempts of a table, unless somebody asks for more


@dataclass(frozen=True)
class Listing:
    """A part of the history.

    Args:
        shown: in the order in which it is told.
        total: how many there would be without a limit.
        columns: those that were chosen; none for the usual.
    """

    shown: tuple[Attempt, ...]
    total: int
    columns: tuple[Chosen, ...] = ()


def listing(
    history: History,
    program: Program,
    selection: Selection = EVERYTHING,
    sort: str = Order.NEWEST,
    limit: int | None = None,
    names: Iterable[str] = (),
) -> Listing:
    """The attempts that a selection takes.

    Args:
        sort: a word of `Order`, or a column, smallest first; with a - before it, largest first.
        limit: only the first so many; None for all.
        names: of the columns; none for the usual.

    Raises:
        NotFound: there is no such column.
    """
    every: Sequence[Attempt] = history.shown
    if sort in list(Order):
        found = selection.of(every, Order(sort))
    else:
        (column,) = columns.choose([sort.removeprefix("-")], program, every)
        found = columns.in_order(selection.of(every), column, largest=sort.startswith("-"))
    return Listing(tuple(found[:limit]), len(found), columns.choose(names, program, every))
