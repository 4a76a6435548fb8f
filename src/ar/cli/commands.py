"""The command line: each command parses, makes one call, prints.

Errors become text and exit codes here and nowhere else. Imports that cost time are inside the commands that
need them, so that `ar --help` is instant.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from ar.errors import ArError, NotFound
from ar.redaction import redact

if TYPE_CHECKING:
    from ar.agents import Line
    from ar.campaign.campaign import Campaign
    from ar.campaign.climb import Players
    from ar.campaign.engine import Limits
    from ar.campaign.promote import Plan
    from ar.campaign.rebase import Composite
    from ar.campaign.stack import Additivity, Result
    from ar.changes.proposal import Change
    from ar.history.ideas import Proposal
    from ar.history.records import Attempt, Experiment, History
    from ar.history.share import Moved

SOME_REFUSED = 3  # exit code of `ar next --series` where not all of it was queued
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=CONTEXT)
@click.option("-C", "folder", type=click.Path(exists=True, file_okay=False), help="Work in this folder.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="dvc-ar", prog_name="ar")
def cli(folder: str | None, debug: bool) -> None:  # noqa: ARG001 - `main` looks for --debug itself
    """Autonomous research on git and DVC.

    Every experiment is a commit on its own ref, every verdict is measured over seeds, and the branch moves
    only by merging a commit that was itself measured. Start with: ar init, ar doctor, ar run.
    """
    if folder:
        os.chdir(folder)


@cli.command()
@click.option("-y", "--yes", is_flag=True, help="Take what was inferred; ask nothing.")
@click.option("--print", "only_print", is_flag=True, help="Print it instead of writing the file.")
@click.option("--force", is_flag=True, help="Replace an existing program.md.")
def init(yes: bool, only_print: bool, force: bool) -> None:
    """Write program.md from what the project declares."""
    from ar.git.repo import Repo
    from ar.project import draft as starting

    repo = Repo.open()
    text = starting.draft(repo)
    if only_print:
        click.echo(text, nl=False)
        return
    starting.refuse_overwrite(repo, force)
    if not yes:
        click.echo(text)
        if not click.confirm("Write this to program.md?", default=True):
            raise click.Abort
    starting.write(repo, text)
    click.echo("Wrote program.md. Read it, adjust it, then run: ar doctor && ar run")


@cli.command()
def doctor() -> None:
    """Say what is ready, what is missing, and the command for each."""
    from ar.campaign import doctor as checking
    from ar.views.table import checks_view, echo

    checks = checking.examine(Path.cwd())
    echo(checks_view(checks))
    if not all(check.ok for check in checks if check.required):
        sys.exit(2)


@cli.command("next")
@click.option(
    "-n", "count", type=click.IntRange(1), default=1, show_default=True, help="How many to ask for."
)
@click.option("--agent", metavar="NAME", help="Agent to ask instead of the one whose turn it is.")
@click.option("--idea", metavar="TEXT", default="", help="What the agent is to try, in a sentence.")
@click.option("--set", "values", metavar="KEY=VALUE", multiple=True, help="Your own change: set a parameter.")
@click.option("--diff", "patch", metavar="FILE|-", type=click.File("rb"), help="Your own change: a patch.")
@click.option("--from-worktree", is_flag=True, help="Your own change: what you have not committed.")
@click.option("--series", metavar="DIR|RANGE", help="Your own changes: patches or commits, one each.")
@click.option("-m", "--message", metavar="TEXT", default="", help="Why your own change should help.")
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

    --set may come on top of --diff or --from-worktree. With --series, each patch is a change of its own
    against the branch; the exit code is 3 if some were refused.
    """
    files = [
        name
        for name, given in (("--diff", patch), ("--from-worktree", from_worktree), ("--series", series))
        if given
    ]
    mine = [*files, *(["--set"] if values else [])]
    asking = [name for name, given in (("-n", count > 1), ("--agent", agent), ("--idea", idea)) if given]
    if len(files) > 1 or (series and len(mine) > 1):
        raise click.UsageError(f"{' and '.join(mine)} do not go together: queue one after the other.")
    if mine and asking:
        raise click.UsageError(f"{asking[0]} asks an agent; {mine[0]} is a change of your own.")
    if message and (series or not mine):
        raise click.UsageError("-m goes with a change of your own: --set, --diff or --from-worktree.")
    campaign = _campaign()
    if series:
        sys.exit(_queue_series(campaign, series, dry_run))
    if mine:
        change = campaign.check(_own(campaign, values, patch, from_worktree, message))
        _echo_change(campaign, change, None if dry_run else campaign.submit(change)[1])
        return
    line = _line_to_user()
    for _ in range(1 if dry_run else count):
        if dry_run:
            _echo_change(campaign, campaign.propose(agent, idea, line), None)
        else:
            _echo_change(campaign, *campaign.queue_next(agent, idea, line))


_jobs = click.option(
    "-j", "--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Experiments at once."
)
_plain = click.option("--plain", is_flag=True, help="Log lines instead of the live view.")


@cli.command()
@_jobs
@_plain
def baseline(jobs: int, plain: bool) -> None:
    """Measure the branch over seeds, and say what effects can be told from its noise."""
    from ar.campaign.engine import Limits
    from ar.views.table import echo, noise_view

    campaign = _campaign()
    code = _loop(campaign, Limits(experiments=0, jobs=jobs), plain)
    echo(noise_view(campaign.noise(campaign.history()), campaign.program))
    sys.exit(code)


@cli.command()
@click.option(
    "-n", "experiments", type=click.IntRange(0), help="How many new changes to try.  [default: the budget]"
)
@click.option(
    "--hours", type=click.FloatRange(0, min_open=True), help="Wall time after which nothing new starts."
)
@click.option("--no-promote", is_flag=True, help="Judge only; leave merging to ar promote and ar stack.")
@_jobs
@_plain
def run(experiments: int | None, hours: float | None, no_promote: bool, jobs: int, plain: bool) -> None:
    """Propose, run, judge and promote until the budget ends.

    Ctrl-C once finishes what runs and ends; twice stops at once. Started again, it carries on.
    """
    from ar.campaign.engine import Limits
    from ar.views.table import echo, summary

    campaign = _campaign()
    code = _loop(campaign, Limits(experiments, hours, jobs, promote=not no_promote), plain)
    history = campaign.history()
    echo(summary(history, campaign.program, campaign.total(history)))
    click.echo("See: ar show, ar plot, git log --first-parent")
    sys.exit(code)


@cli.command()
def worker() -> None:
    """Run what is queued, one experiment after the other.

    Ends when nothing waits any more; while `ar run` is at work, it takes what that queues. On GPUs it waits
    for a free one. Ctrl-C once finishes what runs and ends; twice stops at once.
    """
    from ar.campaign.drain import work
    from ar.views.live import PlainView

    campaign = _campaign()
    level = _count_interrupts()
    ended = work(campaign, PlainView(sys.stdout), level)
    click.echo(f"{ended} ended. See: ar show" if ended else "Nothing was run. To queue: ar next")
    sys.exit(130 if level() else 0)


@cli.command()
@click.argument("name", required=False)
def stop(name: str | None) -> None:
    """End an experiment for good, or (without NAME) all that runs for now.

    NAME is recorded as cancelled. Without it, `ar run` and `ar worker` end, and what they have goes back to
    the queue.
    """
    from ar.runs import stop as stopping

    if name is None:
        from ar.git.repo import Repo

        ended = stopping.stop_all(Repo.open(), lambda text: click.echo(text, err=True))
        click.echo(f"Ended {', '.join(ended)}; nothing is lost." if ended else "Nothing runs.")
        return
    campaign = _campaign()
    _, run = _found(campaign.history(), name)
    stopping.stop_one(campaign.project, campaign.pipeline, run)
    _, run = _found(campaign.history(), run.name)
    click.echo(f"{run.name} {run.status}{f': {run.note.reason}' if run.note and run.note.reason else ''}")


@cli.command()
@click.option("-n", "limit", type=click.IntRange(1), help="Only the newest N.")
@click.option("--seeds", is_flag=True, help="Each attempt's runs, one by one, below it.")
@click.option("--time-to", "time_to", is_flag=True, help="When the branch reaches the first baseline's end.")
@click.option("--json", "as_json", is_flag=True, help="All of it, as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="A line an experiment, as CSV.")
def show(limit: int | None, seeds: bool, time_to: bool, as_json: bool, as_csv: bool) -> None:
    """Show the history: what was tried, what it gave, what the judge said."""
    from ar.runs import recovery
    from ar.views import table as showing

    campaign = _campaign()
    if recovery.abandoned(campaign.repo):
        for line in recovery.recover(campaign.project, campaign.pipeline):
            click.echo(f"recovered: {line}", err=True)
    history = campaign.history()
    if time_to:
        _show_time_to(campaign, history, as_json)
    elif as_json:
        click.echo(showing.to_json(history, campaign.program, limit, campaign.total(history)))
    elif as_csv:
        click.echo(showing.to_csv(history, campaign.program, limit), nl=False)
    else:
        total = campaign.total(history)
        showing.echo(showing.render(history, campaign.program, limit, seeds=seeds, total=total))


@cli.command()
@click.argument("name")
@click.option("--stat", is_flag=True, help="Files and line counts only.")
def diff(name: str, stat: bool) -> None:
    """Show what an experiment changed against its baseline."""
    from ar.history.diffs import changed
    from ar.views.table import diff_view, echo

    campaign = _campaign()
    _, experiment = _found(campaign.history(), name)
    text = changed(campaign.project, experiment.baseline, experiment.rev, stat)
    echo(diff_view(text or "no change besides outputs\n"))


@cli.command()
@click.argument("name")
def log(name: str) -> None:
    """Show an experiment's hypothesis, end and output."""
    from ar.views.table import echo, log_view

    campaign = _campaign()
    history = campaign.history()
    echo(log_view(*_found(history, name), campaign.running_log(name)))


@cli.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="The numbers, as JSON.")
@click.option("--stdio", is_flag=True, help="Judge for another program: a JSON line out for a line in.")
def judge(name: str | None, as_json: bool, stdio: bool) -> None:
    """Say what the judge thinks of an experiment, and why."""
    if stdio:
        _judge_lines()
        return
    if name is None:
        raise click.UsageError("Missing argument 'NAME' (or --stdio).")
    from ar.campaign.ladder import cases
    from ar.views import table as showing

    campaign = _campaign()
    history = campaign.history()
    attempt = _found(history, name)[0]
    case, climbs = cases(campaign, history, attempt)
    stacked = _additivity(campaign, history, attempt)
    if as_json:
        found: dict[str, Any] = {"rungs": {rung: climb.to_json() for rung, climb in climbs.items()}}
        found["stack"] = stacked.to_json() if stacked else None
        more = {key: value for key, value in found.items() if value}
        click.echo(json.dumps(case.to_json() | more, indent=2))
    else:
        showing.echo(showing.case_view(case, campaign.program, climbs))
        if stacked:
            showing.echo(showing.additivity_view(stacked, campaign.program))


@cli.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--to", "rung", metavar="RUNG", help="The rung to climb to.  [default: the next; --all: the last]"
)
@click.option("--all", "everything", is_flag=True, help="A tournament of all ideas against the branch.")
@click.option(
    "--eta",
    type=click.IntRange(2),
    default=3,
    show_default=True,
    help="With --all: of so many ideas one climbs on.",
)
@_jobs
@_plain
def climb(
    names: tuple[str, ...], rung: str | None, everything: bool, eta: int, jobs: int, plain: bool
) -> None:
    """Measure changes again at a larger scale of program.md's ladder, beside their baselines.

    Without NAME: what is promoted, and what waits to be. Started again, it carries on.
    """
    from ar.campaign import climb as climbing
    from ar.campaign.engine import Limits
    from ar.history.reader import base_of
    from ar.views.table import climbed, echo

    if names and everything:
        raise click.UsageError("--all takes no NAME.")
    campaign = _campaign()
    history = campaign.history()
    attempts = [base_of(history, _found(history, name)[0]) for name in names]
    plan = climbing.plan(campaign, history, attempts, rung, eta if everything else None)
    code = _loop(campaign, Limits(jobs=jobs), plain, plan.players)
    echo(climbed(campaign.history(), campaign.program, plan.rungs, plan.candidates))
    sys.exit(code)


@cli.command()
@click.argument("name", required=False)
@click.option("--dry-run", is_flag=True, help="Show what would be merged; change nothing.")
@click.option("--force", is_flag=True, help="Merge an unjudged or losing experiment all the same.")
@click.option("--branch", metavar="NAME", help="Put the merge on this branch, for review; leave yours alone.")
@click.option("--tag", metavar="NAME", help="Tag the merge.")
@click.option(
    "--resolve", type=click.Choice(["agent"]), help="On a conflict, let the agent bring the change over."
)
@_jobs
@_plain
def promote(
    name: str | None,
    dry_run: bool,
    force: bool,
    branch: str | None,
    tag: str | None,
    resolve: str | None,
    jobs: int,
    plain: bool,
) -> None:
    """Merge the best judged experiment (or NAME) into the current branch.

    One that won on an earlier baseline is first merged onto the branch as it is, run and judged there.
    """
    from ar.campaign import promote as promoting
    from ar.history.diffs import changed
    from ar.history.reader import base_of
    from ar.history.records import Outcome

    campaign = _campaign()
    history = campaign.history()
    if name is None and not bool(history.winners):
        latest = history.promoted
        if latest:
            click.echo(f"Nothing waits: {latest[-1].name} ({latest[-1].title}) is in the branch already.")
            return
    attempt = base_of(history, _found(history, name)[0]) if name else promoting.best(history)
    moved = attempt.baseline != history.head and attempt.outcome in (
        Outcome.WINNER,
        Outcome.LAPSED,
        Outcome.REVERTED,
    )
    if moved:
        from ar.campaign import rebase
        from ar.views.table import diff_view, echo

        made = rebase.compose(campaign, history, [attempt])
        if made.clashes and resolve and not dry_run:
            _hand_over(campaign, attempt, made)
            return
        if dry_run and made.change:
            click.echo(f"{attempt.name} would be run over seeds and judged on the branch as it is first.")
            echo(diff_view(campaign.diff(made.change)))
            return
        click.echo(
            f"{attempt.name} won on an earlier baseline; measuring it on the branch as it is …", err=True
        )
        attempt = _carried(campaign, attempt, jobs, plain)
    with campaign.repo.lock("run", busy="ar run is at work here (process {pid}) and promotes by itself"):
        history = campaign.history()
        attempt = _found(history, attempt.name)[0]
        ready = promoting.plan(campaign.project, history, attempt, force)
        if dry_run:
            if ready.experiment is None:
                click.echo(f"{attempt.name} would first run at the branch's own seed, {ready.seed}.")
            else:
                case = campaign.case(history, attempt)
                click.echo(promoting.message(campaign.program, history, ready, case))
            click.echo(changed(campaign.project, history.head, attempt.experiments[0].rev))
            return
        merge = _merged(campaign, history, ready, force, branch, tag)
    where = f" on {branch}; see: git log -p {branch}" if branch else ""
    click.echo(f"Promoted {attempt.name}: {attempt.title} ({merge[:9]}){where}")


@cli.command()
@click.argument("names", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Show the order and the conflicts; queue nothing.")
@click.option("--no-merge", is_flag=True, help="Measure and report; leave the branch alone.")
@click.option("--no-trim", is_flag=True, help="Do not leave members out to see what they contribute.")
@click.option("--json", "as_json", is_flag=True, help="Whether they add up, as JSON.")
@_jobs
@_plain
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
    from ar.campaign import promote as promoting
    from ar.campaign import rebase
    from ar.campaign import stack as stacking
    from ar.history.records import Outcome
    from ar.views.table import echo, stack_view

    campaign = _campaign()
    history = campaign.history()
    members = [_found(history, name)[0] for name in names] if names else stacking.waiting(history)
    if not members:
        raise NotFound("no winner waits to be merged", "find some: ar run --no-promote")
    members = promoting.strongest_first(members)
    if dry_run:
        made = rebase.compose(campaign, history, members)
        for place, member in enumerate(made.members, 1):
            click.echo(f"{place}. {member.name}: {member.title}")
        if made.clashes:
            click.echo(stacking.clash_words(made))
        return
    result = _stacked(campaign, members, jobs, plain, trim=not no_trim)
    history = campaign.history()
    if result.attempt is None:
        raise ArError("stopped before the stack was measured", "carry on: ar stack")
    attempt = _found(history, result.attempt.name)[0]
    found = _additivity(campaign, history, attempt)
    if as_json:
        click.echo(json.dumps(found.to_json() if found else None, indent=2))
    else:
        echo(stack_view(result, attempt, found, campaign.program))
    if attempt.outcome is Outcome.WINNER and not no_merge:
        with campaign.repo.lock("run", busy="ar run is at work here (process {pid}) and promotes by itself"):
            history = campaign.history()
            ready = promoting.plan(campaign.project, history, attempt)
            merge = _merged(campaign, history, ready)
        click.echo(f"Promoted {attempt.name}: {attempt.title} ({merge[:9]})", err=as_json)


@cli.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Show what would be tried; queue nothing.")
def revert(name: str, dry_run: bool) -> None:
    """Propose to take a promoted change out again.

    If the branch is as good or better without it, ar run promotes that as a simplification.
    """
    from ar.campaign import rebase
    from ar.errors import Conflict

    campaign = _campaign()
    history = campaign.history()
    attempt, _ = _found(history, name)
    change, clashes = rebase.revert(campaign, history, attempt)
    if clashes:
        text = "\n".join(str(clash) for clash in clashes)
        raise Conflict(f"{attempt.name} is grown over by later changes:\n{text}", "take those out first")
    queued = None if dry_run else campaign.submit(change)[1]
    _echo_change(campaign, change, queued)
    if queued:
        click.echo("To run and judge it: ar run -n 0")


_remote = click.argument("remote", required=False)


@cli.command()
@_remote
def push(remote: str | None) -> None:
    """Share experiments, verdicts and accounts on a git remote (default: the branch's, or origin).

    The branch itself goes with git push, what DVC caches with dvc push.
    """
    from ar.history import share

    campaign = _campaign()
    name = share.remote_of(campaign.repo, remote)
    click.echo(f"Pushing to {name} …", err=True)
    moved = share.push(campaign.repo, name)
    click.echo(f"Pushed {_counted(moved)} to {name}.")
    _tell_left(campaign, moved, "git push", "dvc push")


@cli.command()
@_remote
def pull(remote: str | None) -> None:
    """Bring in what others pushed there; nothing of yours is overwritten.

    Winners of others can then be tried on your branch: ar stack.
    """
    from ar.history import share

    campaign = _campaign()
    name = share.remote_of(campaign.repo, remote)
    click.echo(f"Pulling from {name} …", err=True)
    moved = share.pull(campaign.repo, name)
    click.echo(f"Pulled {_counted(moved)} from {name}.")
    _tell_left(campaign, moved, "", "dvc pull")


def _counted(moved: Moved) -> str:
    parts = ((moved.experiments, "experiment"), (moved.notes, "note"))
    return " and ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in parts)


def _tell_left(campaign: Campaign, moved: Moved, branch: str, cache: str) -> None:
    """What does not travel with a push or a pull, and what goes for it."""
    from ar.project.pipeline_file import read_layout

    for clash in moved.clashes:
        click.echo(f"Left alone: {clash} is another experiment there.", err=True)
    cached = sorted(read_layout(campaign.repo, "HEAD").cached)
    if branch:
        click.echo(f"The branch goes with: {branch}")
    if cached:
        names = ", ".join(cached[:3]) + (" and more" if len(cached) > 3 else "")
        click.echo(f"What DVC caches ({names}) goes with: {cache}")


@cli.command()
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="PNG, SVG or HTML by its ending.  [default: KIND.png]",
)
@click.option(
    "--kind",
    type=click.Choice(["progress", "pareto", "ladder", "stack", "time-to-target"]),
    default="progress",
    show_default=True,
    help="Which chart: every attempt in order; loss against time; effects at each rung; a waterfall of "
    "what is promoted; curves until the first baseline's level.",
)
def plot(path: Path | None, kind: str) -> None:
    """Draw a chart of the campaign."""
    from ar.views.charts import kinds

    campaign = _campaign()
    path = path or Path(f"{kind}.png")
    kinds.draw(kind, campaign.project, campaign.history(), path)
    click.echo(f"Wrote {path}")


@cli.command()
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="HTML or Markdown (.md) by its ending.",
)
def report(path: Path) -> None:
    """Write a report of the campaign: one file to send to colleagues."""
    from ar.views import report as reporting

    reporting.write(_campaign(), path)
    click.echo(f"Wrote {path}")


# -- the edge ---------------------------------------------------------------------------------------------


def _campaign() -> Campaign:
    from ar.campaign.campaign import Campaign
    from ar.git.refs import PROMOTING
    from ar.project.project import Project

    campaign = Campaign(Project.open())
    if campaign.repo.has_ref(PROMOTING):
        _mend(campaign)
    return campaign


def _mend(campaign: Campaign) -> None:
    """Put right a promotion that was killed; one that is alive is left to itself."""
    from ar.campaign import promote as promoting
    from ar.errors import BadState

    with contextlib.suppress(BadState), campaign.repo.lock("run", busy="ar is at work here (process {pid})"):
        words = promoting.mend(campaign.pipeline)
        if words:
            click.echo(f"Recovered: {words}.", err=True)


def _show_time_to(campaign: Campaign, history: History, as_json: bool) -> None:
    from ar.views.curves import all_reaches
    from ar.views.table import echo
    from ar.views.time_to_target import time_view

    found = all_reaches(campaign.project, history)
    if as_json:
        click.echo(json.dumps([reach.to_json() for reach in found], indent=2))
    else:
        echo(time_view(found, campaign.program))


def _found(history: History, name: str) -> tuple[Attempt, Experiment]:
    from ar.history.reader import find

    if not history.attempts:
        raise NotFound("there is no experiment yet", "run: ar run")
    return find(history, name)


def _line_to_user() -> Line:
    """Where an agent that takes its time says what it does: standard error."""
    from ar.agents import Line
    from ar.text import one_line

    def say(words: str) -> None:
        click.echo(click.style(f"… {redact(one_line(words))}", dim=True), err=True)

    return Line(say=say, tell=say)


def _echo_change(campaign: Campaign, change: Change, name: str | None) -> None:
    from ar.views.table import echo, proposal_view

    echo(proposal_view(change.proposal, campaign.diff(change), name))


def _own(
    campaign: Campaign, values: tuple[str, ...], patch: IO[bytes] | None, from_worktree: bool, message: str
) -> Proposal:
    """The change that the user made."""
    from ar.changes import own, patches

    settings = own.parse_values(values)
    if patch:
        given = patches.parse(campaign.repo, patch.read(patches.MAX_BYTES + 1))
        return own.from_patch(campaign.project, given, settings, message)
    if not from_worktree:
        return own.from_values(campaign.project, settings, message)
    proposal, left_out = own.from_checkout(campaign.project, settings, message)
    if left_out:
        click.echo(f"Left out, since it lies outside the scope: {', '.join(left_out)}", err=True)
    return proposal


def _queue_series(campaign: Campaign, source: str, dry_run: bool) -> int:
    """Queue each patch of a series; a line each. Returns the exit code."""
    from ar.changes import patches
    from ar.text import one_line

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
    return SOME_REFUSED if refused else 0


def _loop(campaign: Campaign, limits: Limits, plain: bool, players: Players | None = None) -> int:
    """Run the loop under a view; with `players`, that of `ar climb`. Returns the exit code: 130 where the
    user ended it."""
    from ar.campaign.climb import ClimbLoop
    from ar.campaign.engine import Loop
    from ar.views.live import open_view

    level = _count_interrupts()
    with open_view(plain or None) as view:
        loop = ClimbLoop(campaign, players, limits, view, level) if players else None
        done = (loop or Loop(campaign, limits, view, level)).run()
    if done.stopped:
        click.echo(done.stopped)
    return 130 if level() else 0


def _judge_lines() -> None:
    """The protocol of docs/judge-reference.md on standard input and output."""
    from ar.judge.rule import Memory, answer

    memory = Memory()
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        try:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ValueError("expected an object")
            reply = answer(message, memory)
        except ValueError as error:
            raise ArError(
                f"line {number} is not a question of the protocol: {error}", "see docs/judge-reference.md"
            ) from None
        click.echo(json.dumps(reply))


def _additivity(campaign: Campaign, history: History, attempt: Attempt) -> Additivity | None:
    """Whether a stack's members add up; None for what is no stack of several."""
    if len(attempt.stack) < 2:
        return None
    from ar.campaign.stack import additivity

    return additivity(campaign, history, attempt)


def _stacked(campaign: Campaign, members: Sequence[Attempt], jobs: int, plain: bool, trim: bool) -> Result:
    """Measure a stack under a view."""
    from ar.campaign.stack import Stacker
    from ar.views.live import open_view

    level = _count_interrupts()
    with open_view(plain or None) as view:
        stacker = Stacker(campaign, members, view, level, jobs, trim)
        stopped = stacker.run().stopped
    if level():
        click.echo(stopped)
        sys.exit(130)
    return stacker.result


def _carried(campaign: Campaign, winner: Attempt, jobs: int, plain: bool) -> Attempt:
    """The attempt that stands for a winner on the branch as it is, judged."""
    from ar.campaign.campaign import is_open
    from ar.errors import CannotPromote

    found = _stacked(campaign, [winner], jobs, plain, trim=False).attempt
    if found is None or is_open(_found(campaign.history(), found.name)[0], campaign.history()):
        raise CannotPromote(
            f"{winner.name} is not decided yet on the branch as it is", f"carry on: ar promote {winner.name}"
        )
    return found


def _merged(
    campaign: Campaign,
    history: History,
    ready: Plan,
    force: bool = False,
    branch: str | None = None,
    tag: str | None = None,
) -> str:
    """Merge what may be merged, after its run at the branch's own seed where there is none."""
    from ar.campaign import promote as promoting

    if ready.experiment is None:
        click.echo(f"Running {ready.attempt.name} at the branch's own seed {ready.seed} first …", err=True)
        history, ready = campaign.run_at_head_seed(ready, force)
    case = campaign.case(history, ready.attempt)
    text = promoting.message(campaign.program, history, ready, case)
    return promoting.merge(campaign.pipeline, history, ready, text, branch, tag)


def _hand_over(campaign: Campaign, winner: Attempt, made: Composite) -> None:
    """Let an agent bring a conflicting change onto the branch, as a proposal of its own."""
    from ar.campaign.stack import idea

    able = [spec.name for spec in campaign.program.agents if spec.kind != "optuna"]
    if not able:
        raise ArError(
            "the optuna agent moves parameters only", "name one that edits files: agent: in program.md"
        )
    _echo_change(campaign, *campaign.queue_next(able[0], idea(winner, made)))


def _count_interrupts() -> Callable[[], int]:
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


def main() -> None:
    """Entry point of `ar` and `autoresearch`."""
    from ar.cli.archiver import exec_archiver, is_archiver_call

    argv = sys.argv[1:]
    debug = "--debug" in argv
    try:
        if Path(sys.argv[0]).name == "ar" and is_archiver_call(argv, cli.commands):
            exec_archiver(argv)
        sys.exit(cli.main(argv, standalone_mode=False))
    except ArError as error:
        _fail(str(error), error.exit_code, debug)
    except click.Abort:
        _fail("aborted", 130, debug=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; nothing is lost", 130, debug=False)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader of a pipe went away: no business of ours
        sys.exit(141)
    except OSError as error:
        mend = "\n  free some space, then run the command again" if error.errno == errno.ENOSPC else ""
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}{mend}", 2, debug)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        _fail(f"{type(error).__name__}: {first}\n  this is a bug; for its traceback: ar --debug …", 1, debug)


def _fail(text: str, code: int, debug: bool) -> None:
    if debug:
        click.echo(redact(traceback.format_exc()), err=True)
    click.echo(click.style("error: ", fg="red", bold=True) + redact(text), err=True)
    sys.exit(code)
