"""What several commands share: the folder's campaign, an attempt by its name, Ctrl-C, text, options."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from ar.errors import BadState, NotFound
from ar.redaction import redact
from ar.text import plain
from ar.views.console import echo

if TYPE_CHECKING:
    from ar.campaign.campaign import Campaign
    from ar.campaign.engine import Hands, Policy
    from ar.changes.proposal import Change
    from ar.history.records import Attempt, Experiment, History

# Those of `history.records`, which is slow to import.
OUTCOMES = (
    *("baseline", "queued", "running", "open", "discarded", "promoted", "winner", "holds", "stacked"),
    *("lapsed", "superseded", "reverted", "tampered", "crashed", "diverged", "timed out", "cancelled"),
    *("foreign", "imported", "not judged"),
)


def run_options(command: Callable[..., None], least: int = 1) -> Callable[..., None]:
    """Options of a command that makes runs: `jobs`, from `least` on, and `plain`."""
    jobs = click.option(
        "-j", "--jobs", type=click.IntRange(least, 64), default=1, help="Experiments at once."
    )
    plain = click.option("--plain", is_flag=True, help="Log lines instead of the live view.")
    return jobs(plain(command))


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say which attempts a command is about; it is called with them as a `selection`."""

    @functools.wraps(command)
    def selected(contains: str | None, outcome: str | None, agent: str | None, **given: Any) -> None:
        from ar.history.selection import Selection

        command(selection=Selection(contains or "", outcome or "", agent or ""), **given)

    for option in (
        click.option("--agent", metavar="NAME", help="Only what this agent proposed."),
        click.option("--outcome", type=click.Choice(OUTCOMES), help="Only what came to this."),
        click.option(
            "--contains", metavar="TEXT", help="Only those with this in name, title, agent or hypothesis."
        ),
    ):
        selected = option(selected)
    return selected


def open_campaign(runs: bool = False) -> Campaign:
    """The campaign of this folder. A promotion that was killed is put right first; a live one is let be.

    Args:
        runs: the command asks agents or runs stages, for which this machine's owner must have given leave.

    Raises:
        NotAllowed: nobody has, nor does so now.
    """
    from ar.campaign import promotion
    from ar.campaign.campaign import Campaign
    from ar.git.refs import PROMOTING
    from ar.local import locks
    from ar.project.project import Project

    campaign = Campaign(Project.open())
    if runs:
        _ask_leave(campaign)
    if campaign.repo.has_ref(PROMOTING):
        with contextlib.suppress(BadState), locks.hold(campaign.repo, "run", busy="ar is at work here"):
            if words := promotion.mend(campaign.pipeline):
                say(f"Recovered: {words}.", err=True)
    return campaign


def join(campaign: Campaign, remote: str) -> str:
    """Take part in the campaign that a remote's clones share, and say what that means where it is new.

    Raises:
        NotFound: there is no such remote.
    """
    from ar.git import transfer
    from ar.git.remote import guard
    from ar.local import joined

    name = transfer.remote_of(campaign.repo, remote)
    guard(campaign.repo, name)
    if name not in joined.read(campaign.repo):
        joined.add(campaign.repo, name)
        words = f"This clone takes part in the campaign of {name}: what whoever may write there"
        say(f"{words} measures, judges and promotes counts here from now on.", err=True)
    return name


def glance(campaign: Campaign) -> None:
    """See what other clones of the campaign do, where this one takes part in a remote's; quickly, and without
    it where that cannot be."""
    from ar.campaign import headway
    from ar.errors import ArError
    from ar.history import exchange
    from ar.local import joined

    for remote in joined.read(campaign.repo):
        try:
            exchange.follow(campaign.repo, remote, glance=True)
        except ArError as error:
            say(f"{error.message}; what is shown of it is as it was at the last look.", err=True)
    if words := headway.catch_up(campaign):
        say(words, err=True)


def _ask_leave(campaign: Campaign) -> None:
    """On a terminal, ask for what the repository demands and nobody has allowed yet."""
    from ar.runs import demands

    new = demands.not_allowed(campaign.project)
    if new and sys.stdin.isatty() and sys.stderr.isatty():
        click.echo("This repository would, and nobody has allowed it on this machine:", err=True)
        echo_demands(new, err=True)
        click.confirm("Allow it?", abort=True, err=True)
        demands.allow(campaign.project)
    demands.refuse(campaign.repo, new)


def say(text: str, err: bool = False) -> None:
    """Print text that may hold others' words, without what a terminal would obey."""
    click.echo(plain(redact(text)), err=err)


def echo_demands(lines: Iterable[str], err: bool = False) -> None:
    """What a repository demands, a line each: its words are JSON, which shows whatever is odd in them."""
    for line in lines:
        click.echo(f"  - {redact(line)}", err=err)


def run_policy(
    campaign: Campaign,
    policy: Policy,
    jobs: int,
    plain: bool,
    hours: float | None = None,
    hands: Hands | None = None,
) -> int:
    """Run a policy under a view. Returns the exit code: 130 where the user ended it."""
    from ar.campaign.engine import Engine
    from ar.views.live import open_view

    level = count_interrupts()
    with open_view(plain or None) as view:
        done = Engine(campaign, policy, view, level, jobs=jobs, hours=hours, hands=hands).run()
    if done.stopped:
        say(done.stopped)
    return 130 if level() else 0


def find_attempt(history: History, name: str) -> tuple[Attempt, Experiment]:
    from ar.history.attempts import find

    if not history.shown:
        raise NotFound("there is no experiment yet", "run: ar run")
    return find(history, name)


def echo_change(campaign: Campaign, change: Change, name: str | None) -> None:
    from ar.views.experiment import proposal_view

    echo(proposal_view(change.proposal, campaign.diff(change), name))


def count_interrupts() -> Callable[[], int]:
    """A counter of Ctrl-C presses: the first two are requests, the third is the signal's own effect.

    Being terminated (`ar stop`, a shutdown) counts as two.
    """
    pressed = 0

    def handle(number: int, _frame: Any) -> None:
        nonlocal pressed
        pressed = 2 if number == signal.SIGTERM else pressed + 1
        if pressed >= 2:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return lambda: pressed
