"""What `ar doctor` found, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from ar.campaign.check import Check
from ar.text import one_line

_LEAST = 20  # columns for words, however narrow the terminal is


def checks_view(checks: Sequence[Check]) -> RenderableType:
    """What `ar doctor` found, each with its sign, and below what is missing the command that mends it."""
    return _Checks(checks)


class _Checks:
    """Wrapped between words, below where they begin, at whatever width it is shown."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self.checks = checks

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = max((len(check.name) for check in self.checks), default=0)
        margin = " " * (width + 4)
        room = max(options.max_width - len(margin), _LEAST)
        for check in self.checks:
            sign, style = ("✓", "green") if check.ok else ("✗", "red") if check.required else ("!", "yellow")
            first, *rest = _wrapped(check.detail, room)
            yield Text.assemble((sign, style), f" {check.name:<{width}}  {first}")
            mend = _wrapped(check.mend, room) if check.mend and not check.ok else []
            for line, bold in [*((line, False) for line in rest), *((line, True) for line in mend)]:
                yield Text(f"{margin}{line}", style="bold" if bold else "")


def _wrapped(text: str, room: int) -> list[str]:
    return textwrap.wrap(one_line(text), room, break_long_words=False, break_on_hyphens=False) or [""]
