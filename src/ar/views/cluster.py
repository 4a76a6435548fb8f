"""A Ray cluster: its nodes, and what each slot has."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ar.cluster.state import Node, State
from ar.text import one_line


def nodes_table(nodes: Sequence[Node]) -> RenderableType:
    rows = [
        (it.name, it.host, "up" if it.is_alive else "gone", f"{it.cpus:g}", f"{it.gpus:g}") for it in nodes
    ]
    return _table(("node", "host", "", "CPUs", "GPUs"), rows)


def slots_table(states: Sequence[State]) -> RenderableType:
    """One row for each slot that has a worker."""
    rows = []
    for it in states:
        runs = f"ended: {it.said}" if it.ended else ", ".join(it.runs) or "nothing"
        rows.append((str(it.slot), it.host, it.gpus or "CPU", it.worker, runs))
    return _table(("slot", "host", "device", "worker", "runs"), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*header, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table
