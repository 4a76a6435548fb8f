"""Write what the documents show of the code: `make docs`. With --check, say what is out of date.

docs/commands.md is written whole; in docs/architecture.md, the table between the two markers.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import click
from imports import GROUND, PACKAGE, package_graph

from ar.cli.main import CONTEXT, cli

DOCS = Path(__file__).parents[1] / "docs"
WIDTH = 100
HEAD = """\
# Commands

What `ar COMMAND --help` prints. Written by `make docs` from the commands; do not edit.
"""
BEGIN, END = "<!-- packages: written by `make docs` -->\n", "<!-- end of packages -->\n"


def commands(_old: str) -> str:
    """The whole page: the group first, then every command in the order of its name."""
    top = click.Context(cli, info_name="ar", terminal_width=WIDTH, max_content_width=WIDTH, **_settings())
    parts = [HEAD, _section(top, cli)]
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        assert command is not None
        context = click.Context(command, top, info_name=name, terminal_width=WIDTH, **_settings())
        parts.append(_section(context, command))
    return "\n".join(parts)


def _settings() -> dict[str, Any]:
    return {name: CONTEXT[name] for name in ("help_option_names", "show_default")}


def _section(context: click.Context, command: click.Command) -> str:
    text = command.get_help(context).rstrip()
    return f"## {context.command_path}\n\n```\n{text}\n```\n"


def architecture(old: str) -> str:
    """The page with its table of packages as they are."""
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [
        *("| package | what it is | imports |", "|---|---|---|"),
        f"| (ground) | {', '.join(f'`{name}`' for name in GROUND)} | |",
        *(f"| `{name}` | {_purpose(name)} | {', '.join(used)} |" for name, used in package_graph().items()),
    ]
    return "\n".join([f"{before}{BEGIN}", *rows, "", f"{END}{after}"])


def _purpose(package: str) -> str:
    """The first sentence of a package's docstring."""
    tree = ast.parse((PACKAGE / package / "__init__.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").splitlines()[0].rstrip(".")


def main() -> int:
    stale = []
    for name, write in (("commands.md", commands), ("architecture.md", architecture)):
        page = DOCS / name
        old = page.read_text(encoding="utf-8")
        if (new := write(old)) != old:
            stale.append(f"docs/{name}")
            if "--check" not in sys.argv[1:]:
                page.write_text(new, encoding="utf-8")
    if stale and "--check" in sys.argv[1:]:
        print(f"{' and '.join(stale)}: out of date; run: python scripts/docs.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
