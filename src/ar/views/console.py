"""Text on standard output: coloured and fitted on a terminal, flat and whole elsewhere."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

_PIPE_WIDTH = 10_000  # nothing is cut where no terminal sets a width


def echo(renderable: RenderableType) -> None:
    """Print to standard output: coloured and fitted on a terminal, flat and whole elsewhere."""
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH, color_system=None)
    # Lines longer than the terminal are the terminal's to wrap: so they are copied whole.
    console.print(renderable, soft_wrap=True, markup=False, emoji=False, highlight=False)
