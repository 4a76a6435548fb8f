"""What the pages of one experiment, and of two side by side, show: the records that programs are told, and
what a picture or a sentence makes plainer."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ar.agents import holdout
from ar.campaign.campaign import Campaign
from ar.errors import ArError
from ar.history import notebook
from ar.history.attempts import find, of_commit
from ar.history.comparison import measured
from ar.history.curves import MOST_BYTES, Curve, curves_of, read_rows
from ar.history.notebook import MOST_TEXT
from ar.history.reader import read_output
from ar.history.records import Attempt, Experiment, History, Status
from ar.page import charts, live
from ar.page.live import Live
from ar.project.program import CurveFile, Program
from ar.runs import queue
from ar.serve.comparison import Comparison
from ar.serve.details import Details, Judgement
from ar.serve.look import comparison_of, details_of, judgement_of
from ar.serve.words import Words
from ar.text import counted, interval, one_line, quantity, signed
from ar.views.charts.base import Spec
from ar.views.experiment import run_facts
from ar.views.facts import short_key, value_text

_MOST_CURVES = 8  # runs whose curves are drawn
_MOST_RELATED = 12


@dataclass(frozen=True)
class Related:
    """Another experiment that this one is tied to, and how."""

    how: str
    name: str
    title: str
    outcome: str


@dataclass(frozen=True)
class Closeup:
    """An experiment's page.

    Args:
        run: the run that was named.
        figures: what the verdict rests on: a word, and a number with its error.
        columns: the metrics that each run tells.
        facts: what is known of the named run besides.
        lessons: of the notebook, that rest on it.
        live: where it runs on this machine.
    """

    details: Details
    run: str
    is_running: bool
    created: float
    judgement: Judgement | None
    figures: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]
    lessons: tuple[tuple[str, str], ...]
    related: tuple[Related, ...]
    pairs: Spec | None
    curves: Spec | None
    live: Live | None


@dataclass(frozen=True)
class SideBySide:
    """The page of two experiments."""

    comparison: Comparison
    pairs: Spec | None
    curves: Spec | None


def closeup(campaign: Campaign, history: History, name: str) -> Closeup:
    """An experiment's page.

    Raises:
        NotFound: there is no such experiment, or several.
    """
    program = campaign.program
    attempt, run = find(history, name)
    words = Words(program, [attempt])
    judgement = None
    with contextlib.suppress(ArError):  # a baseline, or nothing has ended yet
        judgement = judgement_of(campaign, history, attempt)
    metrics = holdout.may_tell(program, [run])
    here = live.read(campaign, run.name) if run.status is Status.RUNNING else None
    facts = [(key, words(one_line(value))) for key, value in run_facts(run) if value is not None]
    facts += [
        (short_key(words(key)), words(value_text(run.metrics[key]))) for key in metrics if key in run.metrics
    ]
    return Closeup(
        details=details_of(campaign, history, attempt, run),
        run=run.name,
        is_running=run.status is Status.RUNNING,
        created=run.created,
        judgement=judgement,
        figures=tuple(_figures(program, judgement)) if judgement else (),
        columns=tuple(str(metric) for metric in (program.objective, *program.guards)),
        facts=tuple(facts),
        sources=tuple(words(one_line(source)) for source in run.sources),
        lessons=_lessons(campaign, history, attempt),
        related=_related(program, history, attempt),
        pairs=_pairs(program, history, attempt),
        curves=curves(campaign, history, attempt, here),
        live=here,
    )


def stands(campaign: Campaign, name: str) -> tuple[object, ...]:
    """What differs once an experiment's page would be another one.

    Raises:
        NotFound: there is no such experiment, or several.
    """
    attempt, run = find(campaign.history(), name)
    return attempt.outcome, run.status, attempt.verdict, sum(one.status.ended for one in attempt.experiments)


def side_by_side(campaign: Campaign, a: str, b: str) -> SideBySide:
    """The page of two experiments.

    Raises:
        NotFound: one of them does not exist, or could be several.
    """
    history, program = campaign.history(), campaign.program
    comparison = comparison_of(campaign, history, a, b)
    one, two = find(history, a)[0], find(history, b)[0]
    objective = comparison.metrics[0]
    spec, drawn = live.shown_curve(program), None
    if spec is not None:
        drawn = charts.two_curves(
            spec, {side: curves_of(campaign.repo, spec, it) for side, it in (("a", one), ("b", two))}
        )
    return SideBySide(comparison, charts.pairs(objective.metric, objective.runs, "a", "b"), drawn)


def _figures(program: Program, judged: Judgement) -> Sequence[tuple[str, str]]:
    """The numbers of a verdict, in the objective's own direction."""
    verdict, found = judged.verdict, []
    if verdict.effect is not None:
        found.append(("effect", signed(program.objective.orient(verdict.effect), verdict.standard_error)))
    if len(judged.interval) == 2:
        found.append(("95 % interval", interval(judged.interval, verdict.standard_error)))
    if verdict.z is not None and verdict.bar is not None:
        found.append(("score, and the bar", f"{verdict.z:.2f} of {verdict.bar:.2f}"))
    found.append(("runs, and the branch's", f"{verdict.runs} against {verdict.base_runs}"))
    if verdict.sigma is not None:
        form = "between runs, the seed's effect taken out" if verdict.paired else "between runs"
        found.append((f"noise {form}", f"σ = {quantity(verdict.sigma)}"))
    for guard, sides in judged.guards.items():
        if len(sides) == 2:
            found.append(
                (f"{short_key(one_line(guard))}, branch and change", " and ".join(map(quantity, sides)))
            )
    if judged.wanted:
        found.append(("would have taken", judged.wanted))
    return found


def _pairs(program: Program, history: History, attempt: Attempt) -> Spec | None:
    """Its runs seed by seed beside those of what it was measured against."""
    incumbent = of_commit(history, attempt.baseline)
    if incumbent is None or attempt.is_baseline or incumbent.name == attempt.name or attempt.rung:
        return None
    metric = str(program.objective)
    found = measured(metric, incumbent, attempt)
    runs = [run for run in found.runs if run.b is not None] or list(found.runs)
    return charts.pairs(metric, runs, "the branch", "this change")


def curves(campaign: Campaign, history: History, attempt: Attempt, here: Live | None) -> Spec | None:
    """Its curves over the band of the incumbent's."""
    spec = live.shown_curve(campaign.program)
    if spec is None:
        return None
    incumbent = of_commit(history, attempt.baseline)
    band: Mapping[int, Curve] = {}
    if incumbent is not None and not attempt.rung:
        band = curves_of(campaign.repo, spec, incumbent)
    own = {
        words: rows
        for run in attempt.experiments[-_MOST_CURVES:]
        if run.status is Status.SUCCEEDED and (rows := _rows(campaign, spec, run))
        for words in [f"{run.name}" if run.seed is None else f"seed {run.seed}"]
    }
    if here and here.rows:
        own["running"] = list(map(list, here.rows))
    return charts.curves(spec, band, own)


def _rows(campaign: Campaign, spec: CurveFile, run: Experiment) -> list[list[float]]:
    content = read_output(campaign.repo, run.rev, spec.file) or b""
    columns = (spec.value, *spec.against)
    return read_rows(content.decode(errors="replace"), columns) if len(content) <= MOST_BYTES else []


def sparks(campaign: Campaign) -> dict[str, tuple[tuple[float, float], ...]]:
    """Name of each run under way here to its curve so far: place and value, each from 0 to 1."""
    found = {}
    for name, stage in queue.training(campaign.repo).items():
        rows = live.curve_rows(campaign.repo, campaign.program, name, stage)[::-1]
        rows = rows[:: max(1, len(rows) // 60)][::-1]
        if len(rows) > 2:
            found[name] = tuple(
                zip(_unit([row[1] for row in rows]), _unit([row[0] for row in rows]), strict=True)
            )
    return found


def _unit(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [round((value - low) / ((high - low) or 1.0), 4) for value in values]


def _lessons(campaign: Campaign, history: History, attempt: Attempt) -> tuple[tuple[str, str], ...]:
    """Standing and words of the lessons that rest on an attempt."""
    mine = {run.name for run in attempt.experiments}
    found = [one for one in notebook.read(campaign.repo).lessons() if mine & set(one.cites)]
    cited = {name for one in found for name in one.cites}
    words = Words(campaign.program, [item for item in history.attempts if item.name in cited])
    return tuple((str(one.standing), words(one.text, MOST_TEXT)) for one in found[-_MOST_RELATED:])


def _related(program: Program, history: History, attempt: Attempt) -> tuple[Related, ...]:
    """What it builds on or joins, what builds on it, and what it was measured against."""
    names = {attempt.name: "", **{run.name: "" for run in attempt.experiments}}
    pairs: list[tuple[str, Attempt]] = []
    incumbent = of_commit(history, attempt.baseline)
    if incumbent is not None and incumbent.name != attempt.name:
        pairs.append(("measured against", incumbent))
    for item in history.shown:
        if item.name in (attempt.first.parent, *attempt.stack):
            pairs.append(("joins" if item.name in attempt.stack else "builds on", item))
        elif item.first.parent in names or attempt.name in item.stack:
            pairs.append(("led to", item))
    found = []
    for how, item in pairs[:_MOST_RELATED]:
        title = Words(program, [item])(one_line(item.title))
        found.append(Related(how, item.name, title, str(item.outcome)))
    if len(pairs) > _MOST_RELATED:
        found.append(Related("and", "", counted(len(pairs) - _MOST_RELATED, "more experiment"), ""))
    return tuple(found)
