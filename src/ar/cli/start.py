"""Commands that begin a campaign: init, doctor."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ar.cli.common import say
from ar.views.console import echo

if TYPE_CHECKING:
    from ar.project.draft import Objective


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Take what was inferred; ask nothing.")
@click.option("--print", "only_print", is_flag=True, help="Print it instead of writing the file.")
@click.option("--force", is_flag=True, help="Replace an existing program.md.")
def init(yes: bool, only_print: bool, force: bool) -> None:
    """Write program.md from what the project declares."""
    from ar.git.repo import Repo
    from ar.project import draft as starting

    repo = Repo.open()
    goal = starting.objective(repo)
    if not (yes or only_print) and sys.stdin.isatty():
        goal = _ask(goal)
    text = starting.draft(repo, goal)
    if not goal.direction:
        words = f"The name of {goal.metric} does not say which way is better: minimize is a guess."
        say(f"{words}\n  if more of it is better, correct direction: in program.md", err=True)
    if only_print:
        say(text.removesuffix("\n"))
        return
    starting.refuse_overwrite(repo, force)
    if not yes:
        say(text)
        click.confirm("Write this to program.md?", default=True, abort=True)
    starting.write(repo, text)
    click.echo("Wrote program.md. Read it, adjust it, then run: ar doctor && ar run")


def _ask(goal: Objective) -> Objective:
    """What the names of the metrics do not tell."""
    from ar.project.draft import chosen

    if goal.rivals:
        names = [goal.metric, *goal.rivals]
        for number, name in enumerate(names, 1):
            say(f"{number}  {name}")
        number = click.prompt("Which is to improve", 1, type=click.IntRange(1, len(names)))
        goal = chosen(goal, names[number - 1])
    if not goal.direction:
        ways = click.Choice(["minimize", "maximize"])
        goal = replace(goal, direction=click.prompt(f"Which way is {goal.metric} better", type=ways))
    return goal


@click.command()
@click.option("--attack", is_flag=True, help="Try the sandbox's walls on this machine; harmless.")
def doctor(attack: bool) -> None:
    """Say what is ready, what is missing, and the command for each."""
    from ar.campaign import doctor as checking
    from ar.views.checks import checks_view

    if attack:
        attempts = checking.attacks(Path.cwd())
        echo(checks_view(attempts))
        if not all(attempt.ok for attempt in attempts if attempt.required):
            sys.exit(2)
        return
    checks = checking.examine(Path.cwd())
    echo(checks_view(checks))
    if not all(check.ok for check in checks if check.required):
        sys.exit(2)
