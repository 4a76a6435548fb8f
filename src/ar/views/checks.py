"""What `ar doctor` found, as text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from ar.campaign.doctor import Check
from ar.text import one_line


def checks_view(checks: Sequence[Check]) -> RenderableType:
    """What `ar doctor` found, a line each, and below what is missing the command that mends it."""
    text = Text()
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        sign, style = ("✓", "green") if check.ok else ("✗", "red") if check.required else ("!", "yellow")
        text.append(sign, style=style).append(f" {check.name:<{width}}  {one_line(check.detail)}\n")
        if check.mend and not check.ok:
            text.append(f"{'':<{width + 4}}{one_line(check.mend)}\n", style="bold")
    text.rstrip()
    return text
