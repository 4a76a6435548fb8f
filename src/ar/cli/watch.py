"""Commands that show a campaign and change nothing: show, log, diff, compare, judge, plot, report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ar.cli.common import find_attempt, glance, open_campaign, say, selecting
from ar.cli.completion import experiments
from ar.views.console import echo, wrote

if TYPE_CHECKING:
    from ar.campaign.campaign import Campaign
    from ar.history.records import History
    from ar.history.selection import Selection

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("-n", "limit", type=click.IntRange(1), help="Only the first N.  [default: 100 of a table]")
@selecting
@click.option(
    "--sort",
    default="newest",
    metavar="ORDER",
    help="newest, oldest, best, worst, or a column: -COLUMN has the largest first.",
)
@click.option(
    "--columns",
    metavar="NAME,…",
    help="These instead, such as name,effect,verdict and any metric's or parameter's name.",
)
@click.option("--seeds", is_flag=True, help="Each attempt's runs, one by one, below it.")
@click.option("--time-to", "time_to", is_flag=True, help="When the branch reaches the first baseline's end.")
@click.option("--ladder", is_flag=True, help="Effects at each rung, and what is expected at the target.")
@click.option("--json", "as_json", is_flag=True, help="All of it, as JSON; with --columns, only those.")
@click.option(
    "--csv", "as_csv", is_flag=True, help="As CSV, a line an experiment; with --columns, an attempt."
)
def show(
    selection: Selection,
    limit: int | None,
    sort: str,
    columns: str | None,
    seeds: bool,
    time_to: bool,
    ladder: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show the history: what was tried, what it gave, what the judge said."""
    from ar.judge.findings import total
    from ar.runs import recovery
    from ar.views import export
    from ar.views.glimpse import excerpt
    from ar.views.listing import MOST, listing
    from ar.views.table import drawn, render

    campaign = open_campaign()
    glance(campaign)
    if recovery.abandoned(campaign.repo):
        for line in recovery.recover(campaign.project, campaign.pipeline):
            click.echo(f"recovered: {line}", err=True)
    most = limit or (None if as_json or as_csv else MOST)
    names = [name.strip() for name in columns.split(",")] if columns else ()
    program = campaign.program
    if not (time_to or ladder or as_json or as_csv or names):
        echo(drawn(excerpt(campaign, selection, sort, most), program, seeds=seeds))
        return
    history = campaign.history()
    if time_to:
        _time_to(campaign, history, as_json)
        return
    if ladder:
        _ladder(campaign, history, limit, as_json)
        return
    listed = listing(history, program, selection, sort, most, names)
    if as_csv:
        click.echo(export.rows_to_csv(listed) if names else export.to_csv(history, program, listed), nl=False)
    elif as_json and names:
        click.echo(export.rows_to_json(listed))
    else:
        whole, matters, paid = (
            total(program, history),
            campaign.model.importances(history),
            campaign.books.read(),
        )
        if as_json:
            click.echo(export.to_json(history, program, listed, whole, matters, paid))
        else:
            echo(render(history, program, listed, seeds=seeds, total=whole, matters=matters, paid=paid))


def _time_to(campaign: Campaign, history: History, as_json: bool) -> None:
    from ar.history.tracks import scales
    from ar.judge.time_to_target import reaches
    from ar.views.time_to_target import time_view

    tracks = scales(campaign.project, history).values()
    reached = [reach for scale in tracks for reach in reaches(scale)]
    if as_json:
        click.echo(json.dumps([reach.to_json() for reach in reached], indent=2))
    else:
        echo(time_view(reached, campaign.program))


def _ladder(campaign: Campaign, history: History, limit: int | None, as_json: bool) -> None:
    from ar.history.optima import fitted_rules
    from ar.views.ladder import climbs_to_target, ladder_json, ladder_view

    climbs, program = climbs_to_target(campaign.program, history), campaign.program
    rules = fitted_rules(program, history)
    if as_json:
        click.echo(json.dumps(ladder_json(climbs, program, rules, limit), indent=2))
    else:
        echo(ladder_view(climbs, program, rules, limit))


@click.command()
@click.argument("name", shell_complete=experiments)
@click.option("--stat", is_flag=True, help="Files and line counts only.")
def diff(name: str, stat: bool) -> None:
    """Show what an experiment changed against its baseline."""
    from ar.history.reader import changed
    from ar.views.experiment import diff_view

    campaign = open_campaign()
    _, experiment = find_attempt(campaign.history(), name)
    text = changed(campaign.project, experiment.baseline, experiment.rev, stat)
    echo(diff_view(text or "no change besides outputs\n"))


@click.command()
@click.argument("a", shell_complete=experiments)
@click.argument("b", shell_complete=experiments)
@click.option("--json", "as_json", is_flag=True, help="All of it, as JSON.")
def compare(a: str, b: str, as_json: bool) -> None:
    """Put two experiments side by side: metrics, parameters, curves, and the change from A to B."""
    from ar.agents.curve_tables import pairs
    from ar.history.reader import changed
    from ar.project.pipeline_file import Declared
    from ar.views.comparison import compared, comparison_view

    campaign = open_campaign()
    history = campaign.history()
    (one, first), (two, second) = (find_attempt(history, name) for name in (a, b))
    declared = Declared.read(campaign.repo, history.head)
    curves = pairs(campaign.repo, declared, campaign.program, first, second)
    diff = changed(campaign.project, first.rev, second.rev)
    found = compared(campaign.program, one, two, curves, diff)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        echo(comparison_view(found))


@click.command()
@click.argument("name", shell_complete=experiments)
def log(name: str) -> None:
    """Show an experiment's hypothesis, end and output."""
    from ar.views.experiment import log_view

    campaign = open_campaign()
    found = find_attempt(campaign.history(), name)
    echo(log_view(campaign.program, *found, campaign.running_log(name)))


@click.command()
@click.argument("name", required=False, shell_complete=experiments)
@click.option("--json", "as_json", is_flag=True, help="The numbers, as JSON.")
@click.option("--stdio", is_flag=True, help="Judge for another program: a JSON line out for a line in.")
def judge(name: str | None, as_json: bool, stdio: bool) -> None:
    """Say what the judge thinks of an experiment, and why."""
    if stdio:
        from ar.judge.protocol import answers

        for line in answers(sys.stdin):
            click.echo(line)
        return
    if name is None:
        raise click.UsageError("Missing argument 'NAME' (or --stdio).")
    from ar.campaign.ladder import additivities, cases
    from ar.judge.findings import additivity
    from ar.views.ladder import climbs_to_target, idea_json, worth_view
    from ar.views.verdict import additivity_view, case_view, shares_view

    campaign = open_campaign()
    history = campaign.history()
    attempt = find_attempt(history, name)[0]
    case, climbs = cases(campaign, history, attempt)
    stacked = additivity(campaign.program, history, attempt)
    above = additivities(campaign, history, attempt) if stacked else {}
    parts = campaign.model.shares(history, attempt)
    scaled = climbs_to_target(campaign.program, history) if campaign.program.target else None
    if as_json:
        found = case.to_json()
        if climbs:
            found["rungs"] = {rung: climb.to_json() for rung, climb in climbs.items()}
        if stacked:
            found["stack"] = stacked.to_json()
        if above:
            found["stack_at"] = {rung: added.to_json() for rung, added in above.items()}
        if parts:
            found["shares"] = [part.to_json() for part in parts]
        if scaled and attempt.candidate in scaled.places:
            found["ladder"] = idea_json(scaled, campaign.program, attempt.candidate)
        click.echo(json.dumps(found, indent=2))
    else:
        echo(case_view(case, campaign.program, climbs))
        if stacked:
            echo(additivity_view(stacked, campaign.program))
        for rung, added in above.items():
            say(f"at {rung}")
            echo(additivity_view(added, campaign.program))
        if parts:
            echo(shares_view(parts))
        if scaled:
            echo(worth_view(scaled, campaign.program, attempt.candidate))


@click.command()
@click.option(
    "-o", "--output", "path", type=_FILE, help="PNG, SVG or HTML by its ending.  [default: KIND.png]"
)
@click.option(
    "--kind",
    type=click.Choice(["progress", "pareto", "ladder", "stack", "surface", "time-to-target"]),
    default="progress",
    help="Which chart: every attempt in order; loss against time; effects at each rung; a waterfall of "
    "what is promoted; what the model expects along each parameter; curves until the first baseline's level.",
)
@selecting
def plot(selection: Selection, path: Path | None, kind: str) -> None:
    """Draw a chart of the campaign."""
    from ar.views.charts import kinds

    campaign = open_campaign()
    path = path or Path(f"{kind}.png")
    kinds.draw(kind, campaign, campaign.history(), path, selection)
    wrote(path)


@click.command()
@click.option(
    "-o", "--output", "path", type=_FILE, default="report.html", help="HTML or Markdown (.md) by its ending."
)
def report(path: Path) -> None:
    """Write a report of the campaign: one file to send to colleagues."""
    from ar.views import report as reporting

    reporting.write(open_campaign(), path)
    wrote(path)
