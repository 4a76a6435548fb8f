"""Commands that exchange a campaign with a git remote: push, pull."""

from __future__ import annotations

import click

from ar.cli.common import open_campaign, say
from ar.text import counted


@click.command()
@click.argument("remote", required=False)
def push(remote: str | None) -> None:
    """Share experiments, verdicts and accounts on a git remote (default: the branch's, or origin).

    What was measured here is signed with your ssh key where git is set to sign with one: see ar trust.
    The branch itself goes with git push, what DVC caches with dvc push.
    """
    _exchange(remote, pushing=True)


@click.command()
@click.argument("remote", required=False)
def pull(remote: str | None) -> None:
    """Bring in what others pushed there; nothing of yours is overwritten.

    What comes is foreign: it is shown, and counts for nothing. What is good of it can be measured on your
    branch: ar stack NAME. Only what the owner of a key that you trust signed counts as it is: ar trust KEY.
    """
    _exchange(remote, pushing=False)


def _exchange(remote: str | None, pushing: bool) -> None:
    """Tell what travels, and after it what does not and how that goes."""
    from ar.git import transfer
    from ar.history import exchange
    from ar.project.pipeline_file import Declared

    verb, where, move = ("Push", "to", exchange.push) if pushing else ("Pull", "from", exchange.pull)
    campaign = open_campaign()
    name = transfer.remote_of(campaign.repo, remote)
    say(f"{verb}ing {where} {name} …", err=True)
    moved = move(campaign.repo, name)
    parts = ((moved.experiments, "experiment"), (moved.notes, "note"))
    words = " and ".join(counted(number, word) for number, word in parts)
    say(f"{verb}ed {words} {where} {name}.")
    for clash in moved.clashes:
        say(f"Left alone: {clash} is another experiment there.", err=True)
    if moved.odd:
        say(f"Left there: {counted(moved.odd, 'ref')} that no experiment can be.", err=True)
    if moved.vouched:
        words = f"Of what was pulled, {counted(moved.vouched, 'experiment')} more count here"
        say(f"{words}: a key that you trust signed them.")
    if moved.experiments > moved.vouched and not pushing:
        others = "They" if not moved.vouched else "The others"
        say(f"{others} are foreign: none of them counts before it was measured here, by: ar stack NAME")
    if moved.signed:
        say(f"Signed {counted(moved.signed, 'experiment')} with your ssh key.")
    if moved.unsigned:
        say(f"Not signed: {moved.unsigned}", err=True)
    if pushing:
        say("The branch goes with: git push")
    if cached := sorted(Declared.read(campaign.repo, "HEAD").cached):
        names = ", ".join(cached[:3]) + (" and more" if len(cached) > 3 else "")
        say(f"What DVC caches ({names}) goes with: dvc {verb.lower()}")
