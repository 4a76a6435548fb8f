"""Commands that let browsers and other programs take part: ui, mcp, agent-kit."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from ar.cli.common import say

_HERE = ("127.0.0.1", "::1", "localhost")


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8157, help="0 for any that is free.")
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--allow-remote", is_flag=True, help="Let other machines in, too: with --host.")
@click.option("--control", is_flag=True, help="Let whoever has the page open steer the campaign, too.")
@click.option(
    "--export",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the page as files into this folder instead, to be opened without a server.",
)
def ui(port: int, host: str, allow_remote: bool, control: bool, folder: Path | None) -> None:
    """Watch the campaign in a browser: a page that is always up to date.

    It prints a link that is good for one browser, and another one once that was opened. The page shows what
    is there; with --control, it queues, stops, promotes and pauses, too.

    Needs: pip install 'starlette>=1,<2' 'uvicorn>=0.30,<1' 'jinja2>=3.1,<4'
    """
    from ar.page.app import serve
    from ar.page.export import export

    if folder is not None:
        count = export(Path.cwd(), folder, partial(say, err=True))
        click.echo(f"Wrote {folder / 'index.html'}, and a page for each of {count:,} attempts")
        return
    if host not in _HERE:
        if not allow_remote:
            raise click.UsageError(f"--host {host} is not this machine alone: say --allow-remote, too.")
        say("Whoever can reach this port and has the link sees the campaign, over plain HTTP.", err=True)
    serve(Path.cwd(), host, port, allow_remote and host not in _HERE, control, click.echo)


@click.command()
@click.option("--allow-promote", is_flag=True, help="Offer the tool that merges into your branch, too.")
def mcp(allow_promote: bool) -> None:
    """Let a coding agent look at the campaign, propose and wait, over the Model Context Protocol.

    The agent starts it, and speaks to it on its standard input and output; ar agent-kit tells it so. It runs
    no experiment: ar run does, beside it.
    """
    from ar.git.repo import Repo
    from ar.serve.server import serve

    Repo.open()  # better said on the terminal than to a client
    serve(Path.cwd(), allow_promote)


@click.command("agent-kit")
@click.argument("client", type=click.Choice(["claude", "codex"]))
@click.option("--remove", is_flag=True, help="Take it out again.")
def agent_kit(client: str, remove: bool) -> None:
    """Write into the project what a coding agent looks for, so that it finds ar mcp.

    For Claude Code, .mcp.json and a skill; for Codex, .codex/config.toml and a section of AGENTS.md. What is
    there stays. The changes are shown first; on a terminal, you are asked.
    """
    from ar.git.repo import Repo
    from ar.serve import kit

    root = Repo.open().root
    changes = kit.plan(root, client, remove)
    for change in changes:
        say(change.diff)
    if changes and sys.stdin.isatty():
        click.confirm("Write this?", abort=True)
    for change in changes:
        kit.write(root, change)
        click.echo(f"{'Wrote' if change.new is not None else 'Deleted'} {change.path}")
    if not changes:
        click.echo("Nothing to change.")
    elif not remove:
        click.echo(
            f"Commit it, if others are to have it, too. Then start {client} here, and ar run beside it."
        )
