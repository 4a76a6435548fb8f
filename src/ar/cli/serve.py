"""The command that serves other programs: mcp."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--allow-promote", is_flag=True, help="Offer the tool that merges into your branch, too.")
def mcp(allow_promote: bool) -> None:
    """Let a coding agent look at the campaign, propose and wait, over the Model Context Protocol.

    The agent starts it, and speaks to it on its standard input and output. For Claude Code: claude mcp add ar
    -- ar mcp; for others, see docs/mcp.md. It runs no experiment: ar run does, beside it.
    """
    from ar.git.repo import Repo
    from ar.serve.server import serve

    Repo.open()  # better said on the terminal than to a client
    serve(Path.cwd(), allow_promote)
