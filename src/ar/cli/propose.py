"""The command that queues a change: next."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import IO, TYPE_CHECKING

import click

from ar.cli.common import echo_change, open_campaign, say
from ar.errors import ArError
from ar.redaction import redact
from ar.text import one_line

if TYPE_CHECKING:
    from ar.campaign.campaign import Campaign
    from ar.history.ideas import Proposal


@click.command("next")
@click.option("-n", "count", type=click.IntRange(1), default=1, help="How many to ask for.")
@click.option("--agent", metavar="NAME", help="Agent to ask instead of the one whose turn it is.")
@click.option("--idea", default="", show_default=False, help="What the agent is to try, in a sentence.")
@click.option("--set", "values", metavar="KEY=VALUE", multiple=True, help="Your own change: set a parameter.")
@click.option("--diff", "patch", metavar="FILE|-", type=click.File("rb"), help="Your own change: a patch.")
@click.option("--from-worktree", is_flag=True, help="Your own change: what you have not committed.")
@click.option("--series", metavar="DIR|RANGE", help="Your own changes: patches or commits, one each.")
@click.option("-m", "--message", default="", show_default=False, help="Why your own change should help.")
@click.option("--dry-run", is_flag=True, help="Show it; queue nothing.")
def next_(
    count: int,
    agent: str | None,
    idea: str,
    values: tuple[str, ...],
    patch: IO[bytes] | None,
    from_worktree: bool,
    series: str | None,
    message: str,
    dry_run: bool,
) -> None:
    """Queue the next experiment: an agent's, or your own.

    --set may come on top of --diff or --from-worktree. Lines of the message may say `Expected: -0.01`,
    `Source: CARD` or `Simplification: yes`. With --series, each patch is a change of its own against the
    branch; the exit code is 3 if some were refused.
    """
    mine = _given({"--diff": patch, "--from-worktree": from_worktree, "--series": series, "--set": values})
    asking = _given({"-n": count > 1, "--agent": agent, "--idea": idea})
    if len(mine) - bool(values) > 1 or (series and len(mine) > 1):
        raise click.UsageError(f"{' and '.join(mine)} do not go together: queue one after the other.")
    if mine and asking:
        raise click.UsageError(f"{asking[0]} asks an agent; {mine[0]} is a change of your own.")
    if message and (series or not mine):
        raise click.UsageError("-m goes with a change of your own: --set, --diff or --from-worktree.")
    from ar.agents import Channel

    campaign, channel = open_campaign(runs=not mine), Channel(say=_say, event=_say)
    if series:
        sys.exit(_queue_series(campaign, series, dry_run))
    if mine:
        change = campaign.check(_own(campaign, values, patch, from_worktree, message))
        echo_change(campaign, change, None if dry_run else campaign.submit(change)[1])
    elif dry_run:
        echo_change(campaign, campaign.propose(agent, idea, channel), None)
    else:
        for _ in range(count):
            echo_change(campaign, *campaign.queue_next(agent, idea, channel))


def _given(options: dict[str, object]) -> list[str]:
    return [name for name, value in options.items() if value]


def _say(words: str) -> None:
    """What an agent that takes its time does, on standard error."""
    click.echo(click.style(f"… {redact(one_line(words))}", dim=True), err=True)


def _own(
    campaign: Campaign, values: tuple[str, ...], patch: IO[bytes] | None, from_worktree: bool, message: str
) -> Proposal:
    """The change that the user made, with what lines of the message say of it: `Source:`, `Expected:`."""
    from ar.changes import own, patches
    from ar.history import message_lines

    settings, said = own.parse_values(values), message_lines.read(message)
    if patch:
        given = patches.parse(campaign.repo, patch.read(patches.MAX_BYTES + 1))
        proposal = own.from_patch(campaign.project, given, settings, said.text)
    elif not from_worktree:
        proposal = own.from_values(campaign.project, settings, said.text)
    else:
        proposal, left_out = own.from_checkout(campaign.project, settings, said.text)
        if left_out:
            say(f"Left out, since it lies outside the scope: {', '.join(left_out)}", err=True)
    return replace(
        proposal,
        title=said.title or proposal.title,
        expected=said.expected,
        simplification=said.simplification,
        sources=said.sources,
    )


def _queue_series(campaign: Campaign, source: str, dry_run: bool) -> int:
    """Queue each patch of a series; a line each. Returns the exit code."""
    from ar.changes import patches

    series = patches.series(campaign.repo, source)
    done = "would be queued" if dry_run else "queued"
    refused = 0
    for label, outcome in campaign.queue_series(series, dry_run):
        if isinstance(outcome, ArError):
            refused += 1
            click.echo(f"refused  {one_line(label)}: {one_line(outcome.message)}")
        else:
            click.echo(f"{done}  {one_line(label)}: {outcome}")
    click.echo(f"{len(series) - refused} of {len(series)} {done}, {refused} refused")
    return 3 if refused else 0
