"""Facts as text, one a line, and the words for what they hold.

What comes from agents and experiments is printed as data, never as markup, with terminal escapes removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from ar.text import one_line, plain


def fact_lines(facts: Iterable[tuple[str, str | None]], outcome_style: str = "") -> Text:
    """A fact a line; what is None is left out."""
    known = [(one_line(key), one_line(value)) for key, value in facts if value is not None]
    width = max((len(key) for key, _ in known), default=0)
    text = Text()
    for key, value in known:
        text.append(f"{key:<{width}}  ", style="dim")
        text.append(f"{value}\n", style=outcome_style if key == "outcome" else "")
    text.rstrip()
    return text


def prose(text: str) -> list[RenderableType]:
    """A paragraph below an empty line; nothing where there is none to tell."""
    return [Text(), Text(plain(text).strip(), no_wrap=False, overflow="fold")] if text.strip() else []


def short_key(metric: str) -> str:
    """A metric's key without its file."""
    return metric.rpartition(":")[2]


def value_text(value: Any) -> str:
    """A metric's or a parameter's value."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
