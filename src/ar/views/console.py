"""Text on standard output: coloured and fitted on a terminal, flat and whole elsewhere."""

from __future__ import annotations

import codecs
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ar.text import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

_PIPE_WIDTH = 10_000  # nothing is cut where no terminal sets a width

# What we say in signs that an encoding may lack; of other text, what it lacks becomes a question mark.
_SUBSTITUTES = {
    "−": "-",
    "±": "+-",
    "→": "->",
    "…": "...",
    "×": "x",
    "σ": "sigma",
    "↓": "v",
    "↑": "^",
    "✓": "+",
    "✗": "x",
    "◆": "*",
    "·": ".",
    "▸": ">",
    "○": "o",
}


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_SUBSTITUTES.get(letter, "?") for letter in lacking), error.end


SUBSTITUTE = "ar.substitute"  # how text is encoded that the encoding may lack letters of
codecs.register_error(SUBSTITUTE, _substitute)


def adapt() -> None:
    """Let standard output and error take whatever is said, in the letters that they have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=SUBSTITUTE)


def echo(renderable: RenderableType) -> None:
    """Print to standard output: coloured and fitted on a terminal, flat and whole elsewhere."""
    from rich.console import Console

    adapt()
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH, color_system=None)
    # Lines longer than the terminal are the terminal's to wrap: so they are copied whole.
    console.print(renderable, soft_wrap=True, markup=False, emoji=False, highlight=False)


def wrote(path: Path) -> None:
    """Say which file was written; a terminal that knows links (OSC 8) opens it by a click."""
    from rich.style import Style
    from rich.text import Text

    echo(Text.assemble("Wrote ", (plain(str(path)), Style(link=path.resolve().as_uri()))))
