"""Commands that exchange a campaign with others: with a git remote, and with other tools' records."""

from __future__ import annotations

import click

from ar.cli.common import open_campaign, say
from ar.text import counted

_MOST_LISTED = 20


@click.command()
@click.argument("remote", required=False)
def push(remote: str | None) -> None:
    """Share experiments, verdicts, accounts and notebook on a git remote (default: the branch's, or origin).

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
    from ar.campaign import headway
    from ar.git import transfer
    from ar.history import exchange
    from ar.project.pipeline_file import Declared

    verb, where, move = ("Push", "to", exchange.push) if pushing else ("Pull", "from", exchange.pull)
    campaign = open_campaign()
    name = transfer.remote_of(campaign.repo, remote)
    say(f"{verb}ing {where} {name} …", err=True)
    moved = move(campaign.repo, name)
    parts = [counted(moved.experiments, "experiment"), counted(moved.notes, "note")]
    parts += [f"{moved.entries} of the notebook's entries"] if moved.entries else []
    words = " and ".join(parts)
    say(f"{verb}ed {words} {where} {name}.")
    for clash in moved.clashes:
        say(f"Left alone: {clash} is another experiment there.", err=True)
    if moved.odd:
        say(f"Left there: {counted(moved.odd, 'ref')} that no experiment can be.", err=True)
    if moved.notebook_left:
        say("Left there: the remote's notebook, which is none, or too large.", err=True)
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
    if not pushing and (words := headway.catch_up(campaign)):
        say(words)
    if pushing:
        say("The branch goes with: git push")
    if cached := sorted(Declared.read(campaign.repo, "HEAD").cached):
        names = ", ".join(cached[:3]) + (" and more" if len(cached) > 3 else "")
        say(f"What DVC caches ({names}) goes with: dvc {verb.lower()}")


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Show what would come; record nothing.")
def import_(file: str, dry_run: bool) -> None:
    """Bring in what another tool tried, from its record: as hearsay, until it is measured here.

    FILE is autoresearch's results.tsv (or a fork's) beside its branch, pi-autoresearch's autoresearch.jsonl,
    AIDE's journal.json, an SQLite file of Optuna's, or runs that W&B or MLflow exported as CSV. Each attempt
    comes with its change and what the tool says of it, from a single run; none of it counts. Whatever cannot
    be read, or whose change cannot be told, is listed. Imported again, nothing comes twice.
    """
    from pathlib import Path

    from ar.history.records import Claimed
    from ar.importing import attempts, files
    from ar.project.project import Project

    project = Project.open()
    path = Path(file)
    log = files.read(path, files.names_of(project))
    brought = attempts.bring(project, log, path.name, dry_run)
    say(f"{path.name}: {counted(len(log.rows), 'attempt')}, as {log.tool} records them.")
    for remark in log.remarks:
        say(f"  {remark}", err=True)
    _list("Cannot be read", [f"{fault.place}: {fault.what}" for fault in log.faults])
    _list("Left out", [f"{fault.place}: {fault.what}" for fault in brought.left_out])
    if log.unfinished:
        say(f"Left out: {counted(log.unfinished, 'attempt')} under way.", err=True)
    verb = "Would import" if dry_run else "Imported"
    for item in brought.added if dry_run else ():
        say(f"{verb}  {item.place}: {item.title} ({item.claim.words})")
    kinds = ", ".join(f"{count} {status}" for status, count in brought.statuses.items())
    if outside := [item for item in brought.added if item.outside]:
        files_out = sum(item.outside for item in outside)
        words = f"{counted(files_out, 'file')} of {counted(len(outside), 'attempt')}"
        say(f"Left out of their changes, as it lies outside the scope: {words}.", err=True)
    known = f"; {brought.known} were here already" if brought.known else ""
    say(f"{verb} {counted(len(brought.added), 'attempt')}{f' ({kinds})' if kinds else ''}{known}.")
    if brought.added and not dry_run:
        say("They are hearsay: none of them counts before it was measured here, by: ar stack NAME")
        if any(item.claim.commit and item.claim.status is Claimed.KEPT for item in brought.added):
            say("To measure again what the branch kept: ar audit --keeps")


def _list(heading: str, lines: list[str]) -> None:
    """The first of some lines on standard error, and how many more there are."""
    if lines:
        say(f"{heading}: {len(lines)}", err=True)
    for line in lines[:_MOST_LISTED]:
        say(f"  {line}", err=True)
    if len(lines) > _MOST_LISTED:
        say(f"  … and {len(lines) - _MOST_LISTED} more", err=True)
