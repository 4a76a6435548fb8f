"""The table of `ar show --time-to`: when each state of the branch reaches the first baseline's level."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ar.history.time_to_target import Reach
from ar.project.program import Program
from ar.text import one_line, quantity


def time_view(reaches: Sequence[Reach], program: Program) -> RenderableType:
    """A table a scale, and below it what the branch's head gained."""
    assert program.curve is not None
    scales = list(dict.fromkeys(reach.rung for reach in reaches))
    parts: list[RenderableType] = []
    for scale in scales:
        here = [reach for reach in reaches if reach.rung == scale]
        name = scale or (program.ladder[0].name if program.ladder else "")
        value = one_line(program.curve.value)
        level = quantity(here[0].target if program.curve.direction == "minimize" else -here[0].target)
        parts.append(Text(f"{f'{name}: ' if len(scales) > 1 else ''}time to {value} {level}", style="bold"))
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("state of the branch", overflow="ellipsis", no_wrap=True)
        table.add_column("runs", justify="right")
        for axis in program.curve.against:
            table.add_column(one_line(axis), justify="right")
            table.add_column("ratio", justify="right")
        for reach in here:
            cells = [cell for axis in program.curve.against for cell in _cells(reach, axis)]
            table.add_row(Text(one_line(reach.title)), str(reach.runs), *cells)
        parts += [table, Text(gain(here, program)), Text()]
    return Group(*parts[:-1])


def _cells(reach: Reach, axis: str) -> tuple[str, str]:
    if axis not in reach.at:
        return "not reached", ""
    ratio = quantity(reach.ratio[axis], reach.error.get(axis)) if axis in reach.ratio else ""
    at = reach.at[axis]
    return f"{at:,.0f}" if at >= 1000 else f"{at:.4g}", ratio


def gain(here: Sequence[Reach], program: Program) -> str:
    """What the last state of the branch takes of the first one's time, in a sentence."""
    assert program.curve is not None
    last, axis = here[-1], program.curve.against[0]
    if last is here[0]:
        return "Nothing is promoted yet."
    if axis not in last.ratio:
        return "The branch does not reach that level."
    share = 100 * (1 - last.ratio[axis])
    error = f" ±{100 * last.error[axis]:.2g}" if axis in last.error else ""
    word = "less" if share >= 0 else "more"
    return f"{one_line(axis)}: {abs(share):.3g}{error} % {word} than the first baseline."
