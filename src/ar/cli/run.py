"""Commands that run experiments, and end them: run, baseline, audit, retry, worker, stop, climb, observe."""

from __future__ import annotations

import json
import sys
from functools import partial

import click

from ar.cli.cluster import connect, on_this_disk
from ar.cli.common import (
    count_interrupts,
    find_attempt,
    join,
    open_campaign,
    run_options,
    run_policy,
    say,
)
from ar.cli.completion import experiments
from ar.views.console import echo


@click.command()
@click.option(
    "--aa",
    "repeats",
    metavar="N",
    type=click.IntRange(2, 1000),
    help="Run the unchanged branch N times as if it were a change.",
)
@run_options
def baseline(repeats: int | None, jobs: int, plain: bool) -> None:
    """Measure the branch over seeds, and say what effects can be told from its noise.

    With --aa, check that the branch is as good as itself, too: whether the judge would promote it, and
    whether its metrics drift, or differ between machines. Started again, it carries on.
    """
    from ar.campaign import aa
    from ar.campaign.ladder import Ladder
    from ar.campaign.search import Search
    from ar.judge.aa import last
    from ar.judge.findings import noise_report
    from ar.views.verdict import aa_view, noise_view

    campaign = open_campaign(runs=True)
    if repeats:
        history = campaign.history()
        aa.check_room(campaign.program, history, campaign.ledger(history), repeats)
    policy = Search(Ladder(campaign), experiments=0, repeats=repeats)
    code = run_policy(campaign, policy, jobs, plain)
    history = campaign.history()
    echo(noise_view(noise_report(campaign.ledger(history)), campaign.program))
    if repeats and (found := last(campaign.program, history)):
        echo(aa_view(found, campaign.program))
    sys.exit(code)


@click.command()
@click.option(
    "-n", "experiments", type=click.IntRange(0), help="How many new changes to try.  [default: the budget]"
)
@click.option(
    "--hours", type=click.FloatRange(0, min_open=True), help="Wall time after which nothing new starts."
)
@click.option("--no-promote", is_flag=True, help="Judge only; leave merging to ar promote and ar stack.")
@click.option(
    "--notify",
    multiple=True,
    metavar="COMMAND|URL",
    help="Tell it of promotions, crashes in a row and the end; repeatable: docs/notify.md.",
)
@click.option("--remote", help="Queue on this git remote, for `ar worker --remote` on any machine.")
@click.option("--cluster", metavar="auto|ADDRESS", help="Run on this Ray cluster, --jobs at once.")
@click.option(
    "--per-job-gpus",
    "gpus",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="With --cluster: 1, or a share of one.  [default: 0, no GPU]",
    show_default=False,
)
@partial(run_options, least=0)
def run(
    experiments: int | None,
    hours: float | None,
    no_promote: bool,
    notify: tuple[str, ...],
    remote: str | None,
    cluster: str | None,
    gpus: float,
    jobs: int,
    plain: bool,
) -> None:
    """Propose, run, judge and promote until the budget ends.

    Ctrl-C once finishes what runs and ends; twice stops at once. Started again, it carries on.

    With --remote the queue is the remote's, and everything is shared there: docs/cluster.md. This machine
    runs as many of the experiments as --jobs says, which may then be 0.

    With --cluster all of them run on the nodes of a Ray cluster, each on a slot of its own; the queue is the
    remote's, or one on this machine's disk.
    """
    from ar.campaign.ladder import Ladder
    from ar.campaign.messenger import receiver
    from ar.campaign.search import Search
    from ar.campaign.telling import telling
    from ar.cluster.head import Head
    from ar.history.records import Outcome
    from ar.judge.findings import total
    from ar.runs.remote_queue import RemoteQueue
    from ar.views.summary import summary

    if not jobs and (remote is None or cluster is not None):
        raise click.UsageError("--jobs 0 leaves nobody to run anything but with --remote alone.")
    if gpus and cluster is None:
        raise click.UsageError("--per-job-gpus is for --cluster.")
    campaign = open_campaign(runs=True)
    receivers = [receiver(text, campaign.repo.root) for text in notify]
    connection = connect(campaign, cluster) if cluster is not None else None
    if connection is not None and remote is None:
        remote = on_this_disk(campaign, connection)
    if remote is not None:
        campaign.queue = RemoteQueue(campaign.pipeline, join(campaign, remote))
    search = Search(Ladder(campaign), experiments, promoting=not no_promote)
    with telling(campaign, search, receivers, partial(say, err=True)) as policy:
        if connection is None:
            code = run_policy(campaign, policy, jobs, plain, hours)
        else:
            with Head(campaign.repo, connection, campaign.queue.remote, jobs, gpus) as hands:
                code = run_policy(campaign, policy, 0, plain, hours, hands)
    history = campaign.history()
    echo(summary(history, campaign.program, total(campaign.program, history)))
    if any(attempt.outcome is Outcome.OPEN for attempt in history.attempts):
        click.echo("What is open waits for what more changes tell: ar run goes on; ar judge NAME says why.")
    click.echo("See: ar show, ar plot, git log --first-parent")
    sys.exit(code)


@click.command()
@click.option("--keeps", is_flag=True, help="Each keep, too.  [default: the branch as a whole]")
@click.option(
    "-n", "--runs", "most", type=click.IntRange(0), help="How many runs to make.  [default: the budget]"
)
@click.option("--json", "as_json", is_flag=True, help="What is known so far, as JSON; nothing runs.")
@run_options
def audit(keeps: bool, most: int | None, as_json: bool, jobs: int, plain: bool) -> None:
    """Measure again, over seeds, what the branch kept, and say which keeps were real.

    Keeps are the commits that an imported record calls kept (ar import); without one, all of the branch. The
    head is measured against the first commit by itself. Each run is made where it tells most. Started again,
    it carries on; -n 0 shows what is known.
    """
    from ar.campaign import audit as auditing
    from ar.history.records import Finding
    from ar.views.audit import audit_view

    measures, code = most != 0 and not as_json, 0
    campaign = open_campaign(runs=measures)
    if measures:
        code = run_policy(campaign, auditing.Auditing(campaign, keeps, most), jobs, plain)
    found = auditing.audit(campaign, campaign.history())
    if measures:
        auditing.record(campaign, found)
    report = found.report()
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
        return
    echo(audit_view(report, campaign.program, keeps))
    if report.count(Finding.REAL):
        click.echo("To build a branch of those that are real: ar promote --audited")
    sys.exit(code)


@click.command()
@click.argument("name", shell_complete=experiments)
def retry(name: str) -> None:
    """Queue what failed of NAME once more: what it failed by is mended.

    Its runs that crashed, timed out or were cancelled run again with the same seeds.
    """
    from ar.campaign import candidates

    campaign = open_campaign()
    history = campaign.history()
    attempt, _ = find_attempt(history, name)
    for queued in candidates.retry(campaign, history, attempt):
        click.echo(f"Queued {queued}.")
    click.echo("Run it: ar run, or ar worker")


@click.command()
@click.option("--remote", help="Work on the queue that this git remote has for all of its clones.")
@click.option("--plain", is_flag=True, help="Log lines, as it prints in any case.")
def worker(remote: str | None, plain: bool) -> None:  # noqa: ARG001 - it has no live view
    """Run what is queued, one experiment after the other.

    Ends when nothing waits any more; while `ar run` is at work, it takes what that queues. On GPUs it waits
    for a free one. Ctrl-C once finishes what runs and ends; twice stops at once.

    With --remote it takes what `ar run --remote` queues on any machine, publishes it there, and stays until
    it is stopped: docs/cluster.md.
    """
    from ar.campaign.drain import work
    from ar.views.lines import PlainView

    campaign = open_campaign(runs=True)
    level = count_interrupts()
    there = join(campaign, remote) if remote is not None else ""
    ended = work(campaign, PlainView(sys.stdout), level, there)
    click.echo(f"{ended} ended. See: ar show" if ended else "Nothing was run. To queue: ar next")
    sys.exit(130 if level() else 0)


@click.command()
@click.argument("name", required=False, shell_complete=experiments)
def stop(name: str | None) -> None:
    """End an experiment for good, or (without NAME) all that runs for now.

    NAME is recorded as cancelled. Without it, `ar run` and `ar worker` end, and what they have goes back to
    the queue.
    """
    from ar.git.repo import Repo
    from ar.runs import stop as stopping

    if name is None:
        ended = stopping.stop_all(Repo.open(), partial(click.echo, err=True))
        click.echo(f"Ended {', '.join(ended)}; nothing is lost." if ended else "Nothing runs.")
        return
    campaign = open_campaign()
    _, run = find_attempt(campaign.history(), name)
    stopping.stop_one(campaign.project, campaign.pipeline, run)
    _, run = find_attempt(campaign.history(), run.name)
    reason = f": {run.note.reason}" if run.note and run.note.reason else ""
    say(f"{run.name} {run.status}{reason}")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=experiments)
@click.option(
    "--to", "rung", metavar="RUNG", help="The rung to climb to.  [default: the next; --all: the last]"
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Of all ideas, what says most of the last rung.",
)
@click.option(
    "--eta",
    type=click.IntRange(2),
    default=3,
    help="With --all: of so many one is confirmed, a rung.",
)
@run_options
def climb(
    names: tuple[str, ...], rung: str | None, everything: bool, eta: int, jobs: int, plain: bool
) -> None:
    """Measure changes again at a larger scale of program.md's ladder, beside their baselines.

    Without NAME: what is promoted, and what waits to be. Started again, it carries on.
    """
    from ar.campaign.climb import climbing
    from ar.history.attempts import base_of
    from ar.views.table import climbed

    if names and everything:
        raise click.UsageError("--all takes no NAME.")
    campaign = open_campaign(runs=True)
    history = campaign.history()
    attempts = [base_of(history, find_attempt(history, name)[0]) for name in names]
    policy = climbing(campaign, history, attempts, rung, eta if everything else None)
    code = run_policy(campaign, policy, jobs, plain)
    echo(climbed(campaign.history(), campaign.program, policy.rungs, policy.named))
    sys.exit(code)


@click.command()
@run_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def observe(command: tuple[str, ...], jobs: int, plain: bool) -> None:
    """Measure and judge what another loop commits, beside it: ar observe -- COMMAND

    COMMAND has the terminal, Ctrl-C included, and goes on by itself; its exit code is ours. Each commit that
    it makes in this checkout is tried against ar/observed, the branch where the campaign stands meanwhile.
    When COMMAND has ended, what waits is measured, and a table says what each commit is worth. Ctrl-C then
    stops; started again, it carries on. Without COMMAND, commits are awaited until Ctrl-C.

    Nothing is promoted by itself; ar promote then moves ar/observed alone, not your branch or checkout. To
    have the campaign follow your checkout again: git branch -D ar/observed
    """
    from ar.campaign import observe as observing
    from ar.campaign.engine import BUSY
    from ar.cli.foreground import Foreground
    from ar.local import locks
    from ar.views.aside import Aside
    from ar.views.lines import PlainView
    from ar.views.live import open_view
    from ar.views.observed import observed_view

    campaign = open_campaign(runs=True)
    path = campaign.repo.own_folder() / "observe.log"
    with locks.hold(campaign.repo, "run", busy=BUSY), path.open("a", encoding="utf-8") as log:
        observing.begin(campaign)
        head = campaign.repo.head()[:9]
        say(f"Commits are judged against ar/observed ({head}); see: ar show, or {path}", err=True)
        loop = Foreground(command)
        view = Aside(PlainView(log), partial(open_view, plain or None), lambda: not loop.runs())
        policy = observing.Observe(campaign, loop.runs if command else lambda: True)
        done, failure = observing.beside(policy, loop, view, jobs)
    history = campaign.history()
    echo(observed_view(policy.seen.values(), history, campaign.program))
    say(done.stopped)
    if not policy.finish(history):
        say("Not all is decided; to carry on: ar observe, or ar observe -- true to end when it is")
    elif policy.seen:
        say("See: ar show, ar judge NAME; ar promote merges the best into ar/observed")
    if failure is not None and loop.wait():
        say(f"error: {failure}", err=True)
    elif failure is not None:
        raise failure
    sys.exit(loop.wait() or (130 if loop.level() else 0))
