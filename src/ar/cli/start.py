"""Commands that begin a campaign: init, doctor."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ar.views.console import echo


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Take what was inferred; ask nothing.")
@click.option("--print", "only_print", is_flag=True, help="Print it instead of writing the file.")
@click.option("--force", is_flag=True, help="Replace an existing program.md.")
def init(yes: bool, only_print: bool, force: bool) -> None:
    """Write program.md from what the project declares."""
    from ar.git.repo import Repo
    from ar.project import draft as starting

    repo = Repo.open()
    text = starting.draft(repo)
    if only_print:
        click.echo(text, nl=False)
        return
    starting.refuse_overwrite(repo, force)
    if not yes:
        click.echo(text)
        click.confirm("Write this to program.md?", default=True, abort=True)
    starting.write(repo, text)
    click.echo("Wrote program.md. Read it, adjust it, then run: ar doctor && ar run")


@click.command()
def doctor() -> None:
    """Say what is ready, what is missing, and the command for each."""
    from ar.campaign import doctor as checking
    from ar.views.checks import checks_view

    checks = checking.examine(Path.cwd())
    echo(checks_view(checks))
    if not all(check.ok for check in checks if check.required):
        sys.exit(2)
