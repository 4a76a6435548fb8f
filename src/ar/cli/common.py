"""What several commands share: the campaign of this folder, an attempt by its name, Ctrl-C, two options."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ar.errors import NotFound
from ar.redaction import redact

if TYPE_CHECKING:
    from ar.agents import Channel
    from ar.campaign.campaign import Campaign
    from ar.campaign.engine import Policy
    from ar.changes.proposal import Change
    from ar.history.records import Attempt, Experiment, History
    from ar.judge.additivity import Additivity

jobs_option = click.option(
    "-j", "--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Experiments at once."
)
plain_option = click.option("--plain", is_flag=True, help="Log lines instead of the live view.")


def open_campaign() -> Campaign:
    from ar.campaign.campaign import Campaign
    from ar.git.refs import PROMOTING
    from ar.project.project import Project

    campaign = Campaign(Project.open())
    if campaign.repo.has_ref(PROMOTING):
        _mend(campaign)
    return campaign


def _mend(campaign: Campaign) -> None:
    """Put right a promotion that was killed; one that is alive is left to itself."""
    from ar.campaign import promotion
    from ar.errors import BadState
    from ar.local import locks

    with (
        contextlib.suppress(BadState),
        locks.hold(campaign.repo, "run", busy="ar is at work here (process {pid})"),
    ):
        words = promotion.mend(campaign.pipeline)
        if words:
            click.echo(f"Recovered: {words}.", err=True)


def run_policy(campaign: Campaign, policy: Policy, jobs: int, plain: bool, hours: float | None = None) -> int:
    """Run a policy under a view. Returns the exit code: 130 where the user ended it."""
    from ar.campaign.engine import Engine
    from ar.views.live import open_view

    level = count_interrupts()
    with open_view(plain or None) as view:
        done = Engine(campaign, policy, view, level, jobs=jobs, hours=hours).run()
    if done.stopped:
        click.echo(done.stopped)
    return 130 if level() else 0


def find_attempt(history: History, name: str) -> tuple[Attempt, Experiment]:
    from ar.history.attempts import find

    if not history.attempts:
        raise NotFound("there is no experiment yet", "run: ar run")
    return find(history, name)


def additivity_of(campaign: Campaign, history: History, attempt: Attempt) -> Additivity | None:
    """Whether a stack's members add up; None for what is no stack of several."""
    if len(attempt.stack) < 2:
        return None
    from ar.judge.additivity import additivity

    return additivity(campaign.program, history, attempt)


def channel_to_user() -> Channel:
    """Where an agent that takes its time says what it does: standard error."""
    from ar.agents import Channel
    from ar.text import one_line

    def say(words: str) -> None:
        click.echo(click.style(f"… {redact(one_line(words))}", dim=True), err=True)

    return Channel(say=say, event=say)


def echo_change(campaign: Campaign, change: Change, name: str | None) -> None:
    from ar.views.console import echo
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
