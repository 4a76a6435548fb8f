"""What a client may look at. Each method is a tool: its signature is the schema."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ar.agents.curve_tables import curves, pairs
from ar.campaign.campaign import Campaign
from ar.campaign.ladder import cases
from ar.history.attempts import find
from ar.history.reader import changed
from ar.history.records import Attempt, Experiment, History, Outcome
from ar.history.selection import Order, Selection
from ar.judge.findings import total
from ar.project.pipeline_file import Declared
from ar.runs import budget
from ar.serve import comparison, details, overview
from ar.serve.comparison import Comparison
from ar.serve.desk import Desk, advice, is_at_work
from ar.serve.details import Details, Judgement
from ar.serve.overview import MOST_ROWS, USUAL, Overview, Page
from ar.views.columns import Column

Name = Annotated[
    str,
    Field(
        min_length=1, max_length=200, description="Of an experiment; an unambiguous beginning of it will do."
    ),
]


class Look:
    """The tools that only read."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def status(self) -> Overview:
        """How the campaign stands: level of the branch, budget, what is under way, what to do next."""
        with self._desk.campaign() as campaign:
            history, program = campaign.history(), campaign.program
            used = budget.used(campaign.repo, history)
            return Overview(
                objective=str(program.objective),
                direction=program.objective.direction,
                guards=tuple(map(str, program.guards)),
                head=history.head,
                now=overview.level(history.now),
                first=overview.level(history.first),
                total=total(program, history),
                sigma=history.sigma,
                outcomes=overview.outcomes(history),
                runs=used.runs,
                budget=program.budget.runs,
                hours=round(used.hours, 3),
                spent=campaign.books.read().words(len(history.promoted)),
                under_way=overview.under_way(program, history),
                winners=overview.winners(program, history),
                at_work=is_at_work(campaign.repo),
                advice=advice(campaign, history),
            )

    def history(
        self,
        contains: Annotated[
            str,
            Field(
                max_length=200, description="Text that name, title, agent or hypothesis has; empty for any."
            ),
        ] = "",
        outcome: Annotated[Outcome | None, Field(description="What became of it; null for any.")] = None,
        sort: Annotated[Order, Field(description="Which come first; best and worst need an effect.")] = (
            Order.NEWEST
        ),
        fields: Annotated[
            list[Column] | None, Field(max_length=40, description="What each row tells; null for the usual.")
        ] = None,
        skip: Annotated[int, Field(ge=0, description="How many of the first to leave out.")] = 0,
        limit: Annotated[int, Field(ge=1, le=MOST_ROWS, description="How many rows at most.")] = 20,
    ) -> Page:
        """List what was tried, an attempt a row: filtered, sorted, page by page."""
        with self._desk.campaign() as campaign:
            tried = (it for it in campaign.history().attempts if not it.is_baseline)
            found = Selection(contains, outcome or "").of(tried, sort)
            part = found[skip : skip + limit]
            more = skip + limit if skip + limit < len(found) else None
            return Page(overview.rows(campaign.program, part, fields or USUAL), len(found), skip, more)

    def experiment(self, name: Name) -> Details:
        """Open one experiment: hypothesis, change, runs, verdict, curves, and the end of what it printed."""
        with self._desk.campaign() as campaign:
            history = campaign.history()
            return details_of(campaign, history, *find(history, name))

    def compare(self, a: Name, b: Name) -> Comparison:
        """Put two experiments side by side: metrics, parameters, curves, and the change from a to b."""
        with self._desk.campaign() as campaign:
            history = campaign.history()
            return comparison_of(campaign, history, a, b)

    def judge(self, name: Name) -> Judgement:
        """Ask the judge what it thinks of an experiment, as things stand, and what that rests on."""
        with self._desk.campaign() as campaign:
            history = campaign.history()
            return judgement_of(campaign, history, find(history, name)[0])


def details_of(campaign: Campaign, history: History, attempt: Attempt, run: Experiment) -> Details:
    """All there is to know of an experiment, one of whose runs was named."""
    declared = Declared.read(campaign.repo, history.head)
    return details.details(
        campaign.program,
        history,
        attempt,
        run,
        changed(campaign.project, run.baseline, run.rev),
        curves(campaign.repo, declared, campaign.program, run),
        _log(campaign, run),
    )


def comparison_of(campaign: Campaign, history: History, a: str, b: str) -> Comparison:
    """Two experiments side by side, by their names."""
    (one, first), (two, second) = find(history, a), find(history, b)
    declared = Declared.read(campaign.repo, history.head)
    beside = pairs(campaign.repo, declared, campaign.program, first, second)
    diff = changed(campaign.project, first.rev, second.rev)
    return comparison.comparison(campaign.program, one, two, beside, diff)


def judgement_of(campaign: Campaign, history: History, attempt: Attempt) -> Judgement:
    case, climbs = cases(campaign, history, attempt)
    return details.judgement(campaign.program, attempt, case, climbs)


def _log(campaign: Campaign, run: Experiment) -> str:
    """The end of what a run printed. One that still runs may print the holdout's value before anything tells
    that it is this."""
    if run.note and run.note.log:
        return run.note.log
    return "" if campaign.program.holdout else campaign.running_log(run.name)
