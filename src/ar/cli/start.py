"""Commands that begin a campaign: init, doctor."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ar.cli.common import count_interrupts, open_campaign, say
from ar.views.console import echo

if TYPE_CHECKING:
    from ar.campaign.beginning import Plan, Wish


@click.command()
@click.option(
    "--run", "run", metavar="COMMAND", default="", show_default=False, help="How the script is run."
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME[=REGEX]",
    help="What it prints or writes, the objective first.",
)
@click.option(
    "--seed-flag",
    metavar="FLAG",
    default="",
    show_default=False,
    help="How it takes a seed: '--seed {seed}', 'SEED={seed}'.",
)
@click.option("--dry-run", is_flag=True, help="Print every file and command; write nothing.")
@click.option("-y", "--yes", is_flag=True, help="Take what was inferred; ask nothing.")
@click.option("--force", is_flag=True, help="Replace an existing programme.")
def init(run: str, metrics: tuple[str, ...], seed_flag: str, dry_run: bool, yes: bool, force: bool) -> None:
    """Make a campaign of a folder with a script, or of a DVC project.

    What is missing is written and committed, by itself: git and DVC, a stage that runs the script and reads
    its metrics from what it prints, a seed, program.md. Nothing that is there is overwritten, nor is anything
    else of yours committed. A stage that was made is run once, in the sandbox.
    """
    from ar.campaign import beginning
    from ar.project.first_stage import Unnamed
    from ar.stage.printed import Wanted

    try:
        for text in metrics:
            Wanted.parse(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    wish = beginning.Wish(run, metrics, seed_flag)
    asks = not (yes or dry_run) and sys.stdin.isatty()
    try:
        plan = beginning.plan(Path.cwd(), wish, force or dry_run)
    except Unnamed as error:
        if not asks:
            raise
        say(f"{error.message}.")
        wish = replace(wish, metrics=(click.prompt("The name of the metric that is to improve"),))
        plan = beginning.plan(Path.cwd(), wish, force)
    if asks:
        plan = _ask(plan, wish, force)
    if not plan.goal.direction:
        words = f"The name of {plan.goal.metric} does not say which way is better: minimize is a guess."
        say(f"{words}\n  if more of it is better, correct direction: in {plan.programme}", err=True)
    if not yes:
        _show(plan)
    if dry_run:
        return
    if not yes:
        click.confirm("Write and commit this?", default=True, abort=True)
    beginning.begin(plan)
    say(f"Wrote and committed {', '.join([*plan.files, *(f'{path}.dvc' for path in plan.big)])}.")
    if plan.kept:
        say(f"Committed with them: {', '.join(plan.kept)}.")
    if plan.left:
        say(f"Left out of git: {', '.join(plan.left)}. If runs need one of them: git add it, and commit.")
    if plan.stage:
        _measure()
    else:
        say(f"Read {plan.programme}, adjust it, then run: ar doctor && ar run")


def _ask(plan: Plan, wish: Wish, force: bool) -> Plan:
    """What the names of the metrics do not tell."""
    from ar.campaign import beginning

    names = beginning.candidates(plan)
    if len(names) > 1:
        for number, name in enumerate(names, 1):
            say(f"{number}  {name}")
        number = click.prompt("Which is to improve", 1, type=click.IntRange(1, len(names)))
        wish = beginning.with_objective(plan, wish, names[number - 1])
        plan = beginning.plan(Path.cwd(), wish, force)
    if not plan.goal.direction:
        ways = click.Choice(["minimize", "maximize"])
        way = click.prompt(f"Which way is {plan.goal.metric} better", type=ways)
        plan = beginning.plan(Path.cwd(), replace(wish, goal=replace(plan.goal, direction=way)), force)
    return plan


def _show(plan: Plan) -> None:
    """Every file with its text, and every command."""
    for path, text in plan.files.items():
        there = " (there is one already: --force replaces it)" if (plan.root / path).exists() else ""
        say(f"# {path}{there}:\n{text}")
    if plan.kept:
        say(f"# into git as they are: {', '.join(plan.kept)}")
    if plan.left:
        say(f"# left out of git: {', '.join(plan.left)}")
    for command in plan.commands:
        say(f"$ {command}")


def _measure() -> None:
    """One run of the stage that was made, and what to type next."""
    from ar.campaign import beginning
    from ar.campaign.progress import result_line
    from ar.errors import NotAllowed
    from ar.history.records import Status
    from ar.views.lines import PlainView

    try:
        campaign = open_campaign(runs=True)
    except NotAllowed as error:
        say(f"Not measured yet: {error.message}\nNext: ar allow && ar doctor && ar run -n 10")
        return
    if campaign.program.seed is None:
        say("No seed was found: runs are repeated as they are, and it takes more of them to tell effects.")
    say("Measuring the branch once; to leave it to ar run, press Ctrl-C twice.")
    run = beginning.measure(campaign, PlainView(sys.stdout), count_interrupts())
    if not run.status.ended:
        say("Not measured yet. Next: ar run -n 10")
        sys.exit(130)
    if run.status is not Status.SUCCEEDED:
        say(f"The script did not run to its end: {result_line(run, campaign.program)}", err=True)
        say(f"See: ar log {run.name}. Mend it, commit, then: ar doctor && ar run -n 10", err=True)
        sys.exit(2)
    say("The baseline is measured once. Next: ar run -n 10")


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
