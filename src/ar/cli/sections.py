"""A group of commands whose help lists them by what one does with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


class Sections(click.Group):
    """A group in sections.

    Args:
        sections: heading to its commands, both in the order in which the help has them.
    """

    def __init__(self, *, sections: Mapping[str, Sequence[click.Command]], **given: Any) -> None:
        super().__init__(commands=[command for part in sections.values() for command in part], **given)
        self.sections = sections

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        names = {command: command.name or "" for part in self.sections.values() for command in part}
        width = max(map(len, names.values()))
        for heading, part in self.sections.items():
            with formatter.section(heading):
                room = formatter.width - 6 - width
                formatter.write_dl(
                    [(names[command].ljust(width), command.get_short_help_str(room)) for command in part]
                )
