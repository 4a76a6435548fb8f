"""When each state of the branch reaches the first baseline's level: the table of `ar show --time-to`, and the
report's leaderboard."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ar.judge.time_to_target import Reach
from ar.project.program import Program
from ar.text import one_line, quantity
from ar.views import document


def time_view(reaches: Sequence[Reach], program: Program) -> RenderableType:
    """A table a scale, and below it what the branch's head gained."""
    assert program.curve is not None
    scales = list(dict.fromkeys(reach.rung for reach in reaches))
    parts: list[RenderableType] = []
    for scale in scales:
        here = [reach for reach in reaches if reach.rung == scale]
        rung = scale or (program.ladder[0].name if program.ladder else "")
        value = one_line(program.curve.value)
        level = quantity(here[0].target if program.curve.direction == "minimize" else -here[0].target)
        parts.append(Text(f"{f'{rung}: ' if len(scales) > 1 else ''}time to {value} {level}", style="bold"))
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        state, *numbers = _header(program)
        table.add_column(state, overflow="ellipsis", no_wrap=True)
        for name in numbers:
            table.add_column(name, justify="right")
        for reach in here:
            table.add_row(*map(Text, _row(reach, program)))
        parts += [table, Text(gain(here, program)), Text()]
    return Group(*parts[:-1])


def leaderboard(here: Sequence[Reach], program: Program) -> document.Table:
    """The states of the branch at one scale, the fastest first; those that never get there last."""
    assert program.curve is not None
    axis = program.curve.against[0]
    order = sorted(here, key=lambda reach: reach.at.get(axis, math.inf))
    return document.Table(_header(program), tuple(_row(reach, program) for reach in order))


def _header(program: Program) -> tuple[str, ...]:
    assert program.curve is not None
    axes = (cell for axis in program.curve.against for cell in (one_line(axis), "ratio"))
    return ("state of the branch", "reached by", *axes)


def _row(reach: Reach, program: Program) -> tuple[str, ...]:
    assert program.curve is not None
    cells = (cell for axis in program.curve.against for cell in _cells(reach, axis))
    return (one_line(reach.title), f"{reach.reached} of {reach.runs}", *cells)


def _cells(reach: Reach, axis: str) -> tuple[str, str]:
    """When it is reached, with its interval, and the ratio; of what is not reached: it takes more."""
    at, ends = reach.at.get(axis), reach.interval.get(axis, ())
    time = f"> {_size(reach.end[axis])}" if at is None else _size(at)
    if ends:
        time += (
            f" ({_size(ends[0])} to {_size(ends[1])})" if len(ends) > 1 else f" (at least {_size(ends[0])})"
        )
    return time, quantity(reach.ratio[axis], reach.error.get(axis)) if axis in reach.ratio else ""


def _size(at: float) -> str:
    return f"{at:,.0f}" if at >= 1000 else f"{at:.4g}"


def gain(here: Sequence[Reach], program: Program) -> str:
    """What the last state of the branch takes of the first one's time, in a sentence."""
    assert program.curve is not None
    last, axis = here[-1], program.curve.against[0]
    if last is here[0]:
        return "Nothing is promoted yet."
    if axis not in last.ratio:
        return f"The branch does not reach that level; {last.reached} of its {last.runs} runs do."
    share = 100 * (1 - last.ratio[axis])
    error = f" ±{100 * last.error[axis]:.2g}" if axis in last.error else ""
    word = "less" if share >= 0 else "more"
    return f"{one_line(axis)}: {abs(share):.3g}{error} % {word} than the first baseline."
