"""Write docs/commands.md from the commands: `make docs`. With --check, say whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ar.cli.main import CONTEXT, cli

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
WIDTH = 100
HEAD = """\
# Commands

What `ar COMMAND --help` prints. Written by `make docs` from the commands; do not edit.
"""


def page() -> str:
    """The whole page: the group first, then every command in the order of its name."""
    top = click.Context(cli, info_name="ar", terminal_width=WIDTH, max_content_width=WIDTH, **_settings())
    parts = [HEAD, _section(top, cli)]
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        assert command is not None
        context = click.Context(command, top, info_name=name, terminal_width=WIDTH, **_settings())
        parts.append(_section(context, command))
    return "\n".join(parts)


def _settings() -> dict[str, list[str]]:
    return {"help_option_names": list(CONTEXT["help_option_names"])}


def _section(context: click.Context, command: click.Command) -> str:
    text = command.get_help(context).rstrip()
    return f"## {context.command_path}\n\n```\n{text}\n```\n"


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            print("docs/commands.md is out of date; run: make docs", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
