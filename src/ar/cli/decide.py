"""Commands that change what the branch holds: promote, stack, revert."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import click

from ar.cli.common import count_interrupts, echo_change, find_attempt, open_campaign, run_options, say
from ar.cli.completion import experiments
from ar.errors import ArError, Conflict, NotFound
from ar.views.console import echo

if TYPE_CHECKING:
    from ar.campaign.campaign import Campaign
    from ar.campaign.promote import Promoter
    from ar.campaign.rebase import Composite
    from ar.history.records import Attempt


@click.command()
@click.argument("name", required=False, shell_complete=experiments)
@click.option("--dry-run", is_flag=True, help="Show what would be merged; change nothing.")
@click.option(
    "--audited", is_flag=True, help="Build a branch of the keeps that ar audit found real; leave yours alone."
)
@click.option("--force", is_flag=True, help="Merge an unjudged or losing experiment all the same.")
@click.option("--branch", metavar="NAME", help="Put the merge on this branch, for review; leave yours alone.")
@click.option("--tag", metavar="NAME", help="Tag the merge.")
@click.option(
    "--resolve", type=click.Choice(["agent"]), help="On a conflict, let the agent bring the change over."
)
@run_options
def promote(
    name: str | None,
    dry_run: bool,
    audited: bool,
    force: bool,
    branch: str | None,
    tag: str | None,
    resolve: str | None,
    jobs: int,
    plain: bool,
) -> None:
    """Merge the best judged experiment (or NAME) into the current branch.

    One that won on an earlier baseline is first merged onto the branch as it is, run and judged there.
    With --audited, the real keeps are merged onto the branch's first commit, run and judged against that.
    """
    from ar.campaign import promotion, rebase
    from ar.history.attempts import base_of, origin
    from ar.history.reader import changed
    from ar.views.experiment import diff_view

    if audited:
        if name or force or tag or resolve:
            raise click.UsageError("--audited takes no NAME, and no --force, --tag or --resolve.")
        _promote_audited(dry_run, branch, jobs, plain)
        return
    campaign = open_campaign(runs=not dry_run)
    history = campaign.history()
    if name is None and history.promoted and not history.winners:
        latest = history.promoted[-1]
        say(f"Nothing waits: {latest.name} ({latest.title}) is in the branch already.")
        return
    attempt = base_of(history, find_attempt(history, name)[0]) if name else promotion.best(history)
    promoter = _promoter(campaign, jobs, plain)
    is_behind = not history.is_head(attempt.baseline) and attempt.outcome in rebase.CARRIED
    if is_behind or attempt.is_hearsay:
        made = rebase.compose(campaign, history, [attempt])
        if made.clashes and resolve and not dry_run:
            _hand_over(campaign, attempt, made)
            return
        if dry_run and made.change:
            say(f"{attempt.name} would be run over seeds and judged on the branch as it is first.")
            echo(diff_view(campaign.diff(made.change)))
            return
        where = origin(attempt) if attempt.is_hearsay else "won on an earlier baseline"
        promoter.tell(f"{attempt.name} {where}; measuring it on the branch as it is …")
        attempt = promoter.carry(attempt)
    if dry_run:
        history, ready = promoter.plan(attempt.name, force)
        if ready.experiment is None:
            say(f"{attempt.name} would first run at the branch's own seed, {ready.seed}.")
        else:
            say(promotion.message(campaign.program, history, ready, campaign.case(history, attempt)))
        say(changed(campaign.project, attempt.baseline, attempt.experiments[0].rev))
        return
    attempt, merge = promoter.promote(attempt.name, force, branch, tag)
    branch = branch or promotion.lands_on(campaign.repo)
    where = f" on {branch}; see: git log -p {branch}" if branch else ""
    say(f"Promoted {attempt.name}: {attempt.title} ({merge[:9]}){where}")


@click.command()
@click.argument("names", nargs=-1, shell_complete=experiments)
@click.option("--dry-run", is_flag=True, help="Show the order and the conflicts; queue nothing.")
@click.option("--no-merge", is_flag=True, help="Measure and report; leave the branch alone.")
@click.option("--no-trim", is_flag=True, help="Do not leave members out to see what they contribute.")
@click.option("--json", "as_json", is_flag=True, help="Whether they add up, as JSON.")
@run_options
def stack(
    names: tuple[str, ...],
    dry_run: bool,
    no_merge: bool,
    no_trim: bool,
    as_json: bool,
    jobs: int,
    plain: bool,
) -> None:
    """Merge several winners (default: all that wait), measure them together, and say whether they add up.

    From the strongest to the weakest; what conflicts is left out, and so is, at the end, what does not carry
    its weight. Killed and started again, it carries on.
    """
    from ar.campaign import promotion, rebase
    from ar.campaign import stack as stacking
    from ar.campaign.ladder import additivities
    from ar.history.records import Outcome
    from ar.judge.findings import additivity
    from ar.views.verdict import additivity_view, stack_view

    campaign = open_campaign(runs=not dry_run)
    history = campaign.history()
    named = promotion.strongest_first(find_attempt(history, name)[0] for name in names)
    members = named or stacking.waiting(campaign, history)
    if not members:
        raise NotFound("no winner waits to be merged", "find some: ar run --no-promote")
    if dry_run:
        made = rebase.compose(campaign, history, members)
        for place, member in enumerate(made.members, 1):
            say(f"{place}. {member.name}: {member.title}")
        if made.clashes:
            say(stacking.clash_words(made))
        return
    promoter = _promoter(campaign, jobs, plain)
    result = promoter.stack(members, trim=not no_trim)
    history = campaign.history()
    if result.attempt is None:
        raise ArError("stopped before the stack was measured", "carry on: ar stack")
    attempt = find_attempt(history, result.attempt.name)[0]
    found = additivity(campaign.program, history, attempt)
    if as_json:
        click.echo(json.dumps(found.to_json() if found else None, indent=2))
    else:
        echo(stack_view(result, attempt, found, campaign.program))
        for rung, above in additivities(campaign, history, attempt).items():
            say(f"at {rung}")
            echo(additivity_view(above, campaign.program))
    if attempt.outcome is Outcome.WINNER and not no_merge:
        _, merge = promoter.promote(attempt.name)
        say(f"Promoted {attempt.name}: {attempt.title} ({merge[:9]})", err=as_json)


@click.command()
@click.argument("name", shell_complete=experiments)
@click.option("--dry-run", is_flag=True, help="Show what would be tried; queue nothing.")
def revert(name: str, dry_run: bool) -> None:
    """Propose to take a promoted change out again.

    If the branch is as good or better without it, ar run promotes that as a simplification.
    """
    from ar.campaign import rebase

    campaign = open_campaign()
    history = campaign.history()
    attempt, _ = find_attempt(history, name)
    change, clashes = rebase.revert(campaign, history, attempt)
    if clashes:
        text = "\n".join(map(str, clashes))
        raise Conflict(f"{attempt.name} is grown over by later changes:\n{text}", "take those out first")
    queued = None if dry_run else campaign.submit(change)[1]
    echo_change(campaign, change, queued)
    if queued:
        click.echo("To run and judge it: ar run -n 0")


def _promote_audited(dry_run: bool, branch: str | None, jobs: int, plain: bool) -> None:
    from ar.campaign.audit import audit
    from ar.campaign.rebuild import BRANCH, rebuild
    from ar.views.experiment import diff_view

    campaign, branch = open_campaign(runs=not dry_run), branch or BRANCH
    if dry_run:
        history = campaign.history()
        rebuilt = rebuild(campaign, history, audit(campaign, history))
    else:
        rebuilt, attempt, merge = _promoter(campaign, jobs, plain).promote_audited(branch)
    for place, keep in enumerate(rebuilt.keeps, 1):
        say(f"{place}. {keep.after.commit[:9]} {keep.title}")
    for title, clashes in rebuilt.clashes.items():
        say(f"left out: {title}: it needs what was not real, in {', '.join(clash.path for clash in clashes)}")
    if dry_run:
        say(f"They would be run together, and judged against {rebuilt.first.commit[:9]}, first.")
        echo(diff_view(campaign.diff(rebuilt.change)))
        return
    say(f"Promoted {attempt.name}: {attempt.title} ({merge[:9]}) on {branch}; see: git log -p {branch}")


def _promoter(campaign: Campaign, jobs: int, plain: bool) -> Promoter:
    from ar.campaign.promote import Promoter
    from ar.views.live import open_view

    tell = partial(click.echo, err=True)
    return Promoter(campaign, lambda: open_view(plain or None), count_interrupts(), jobs, tell)


def _hand_over(campaign: Campaign, winner: Attempt, made: Composite) -> None:
    """Let an agent bring a conflicting change onto the branch, as a proposal of its own."""
    from ar.campaign.stack import idea

    able = [spec.name for spec in campaign.program.agents if not spec.is_embedded]
    if not able:
        mend = f"name one that edits files: agent: in {campaign.program.file}"
        raise ArError("the embedded agents move parameters only", mend)
    echo_change(campaign, *campaign.queue_next(able[0], idea(winner, made)))
