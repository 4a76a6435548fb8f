"""Commands that exchange a campaign with a git remote: push, pull."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ar.cli.common import open_campaign

if TYPE_CHECKING:
    from ar.campaign.campaign import Campaign
    from ar.history.exchange import Exchanged


_remote = click.argument("remote", required=False)


@click.command()
@_remote
def push(remote: str | None) -> None:
    """Share experiments, verdicts and accounts on a git remote (default: the branch's, or origin).

    The branch itself goes with git push, what DVC caches with dvc push.
    """
    from ar.git import transfer
    from ar.history import exchange

    campaign = open_campaign()
    name = transfer.remote_of(campaign.repo, remote)
    click.echo(f"Pushing to {name} …", err=True)
    moved = exchange.push(campaign.repo, name)
    click.echo(f"Pushed {_counted(moved)} to {name}.")
    _tell_left(campaign, moved, "git push", "dvc push")


@click.command()
@_remote
def pull(remote: str | None) -> None:
    """Bring in what others pushed there; nothing of yours is overwritten.

    Winners of others can then be tried on your branch: ar stack.
    """
    from ar.git import transfer
    from ar.history import exchange

    campaign = open_campaign()
    name = transfer.remote_of(campaign.repo, remote)
    click.echo(f"Pulling from {name} …", err=True)
    moved = exchange.pull(campaign.repo, name)
    click.echo(f"Pulled {_counted(moved)} from {name}.")
    _tell_left(campaign, moved, "", "dvc pull")


def _counted(moved: Exchanged) -> str:
    parts = ((moved.experiments, "experiment"), (moved.notes, "note"))
    return " and ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in parts)


def _tell_left(campaign: Campaign, moved: Exchanged, branch: str, cache: str) -> None:
    """What does not travel with a push or a pull, and what goes for it."""
    from ar.project.pipeline_file import Declared

    for clash in moved.clashes:
        click.echo(f"Left alone: {clash} is another experiment there.", err=True)
    cached = sorted(Declared.read(campaign.repo, "HEAD").cached)
    if branch:
        click.echo(f"The branch goes with: {branch}")
    if cached:
        names = ", ".join(cached[:3]) + (" and more" if len(cached) > 3 else "")
        click.echo(f"What DVC caches ({names}) goes with: {cache}")
