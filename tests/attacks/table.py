"""The table in README.md, read: what each attack is expected to come to."""

from __future__ import annotations

import re
from pathlib import Path

_ROW = re.compile(r"^\| `(?P<name>[^`]+)` \|.*\| (?P<verdict>[a-z ]+) \|$", re.MULTILINE)
_TEXT = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
ROWS = [(match["name"], match["verdict"]) for match in _ROW.finditer(_TEXT)]
VERDICTS = dict(ROWS)


def of(group: str) -> dict[str, str]:
    """Name and verdict of each attack of a group: of `stages.plant_modules`, the part behind the point."""
    pairs = (name.split(".", 1) for name in VERDICTS if "::" not in name)
    return {name: VERDICTS[f"{first}.{name}"] for first, name in pairs if first == group}
