"""`ar report`: one file that tells a campaign to colleagues, as HTML or Markdown.

It is gathered once, as a document of plain sections, which is then written in either form.
"""

from __future__ import annotations

import contextlib
import math
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from ar.agents import account
from ar.campaign.campaign import Campaign
from ar.errors import ArError
from ar.history import notebook
from ar.history.records import History, Status
from ar.history.spend import Spend
from ar.history.tracks import scales
from ar.judge.arithmetic import half_width
from ar.judge.findings import total
from ar.judge.noise import noise_of
from ar.judge.time_to_target import reaches
from ar.project.program import Metric
from ar.stage.files import write_whole
from ar.text import counted, interval, one_line, span
from ar.views import papers
from ar.views.audit import audit_section
from ar.views.charts import files, kinds
from ar.views.document import Block, Code, Document, Items, Picture, Prose, Section, Table
from ar.views.facts import short_key
from ar.views.held import foreign, held, imported, not_held
from ar.views.markdown import to_markdown
from ar.views.notebook import section
from ar.views.page import to_html
from ar.views.summary import summary
from ar.views.time_to_target import gain, leaderboard

_WRITERS = {".html": to_html, ".md": to_markdown}
_CHARTS = {
    "progress": "Every attempt, in order",
    "stack": "What each promoted change gave",
    "surface": "What the model expects along each parameter",
    "pareto": "Loss against time",
    "ladder": "At larger scales",
    "time-to-target": "Time to the first baseline's level",
}


def write(campaign: Campaign, path: Path) -> None:
    """Write the report into a file, whole or not at all.

    Raises:
        ArError: the file's ending is unknown, or nothing is measured yet.
    """
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise ArError(f"{path}: no report ends in '{path.suffix}'", f"use one of: {', '.join(_WRITERS)}")
    write_whole(path, writer(gather(campaign)).encode())


# -- gathering --------------------------------------------------------------------------------------------


def gather(campaign: Campaign) -> Document:
    """Everything the report says.

    Raises:
        ArError: nothing is measured yet.
    """
    history, program = campaign.history(), campaign.program
    if not any(item.value is not None for item in history.attempts):
        raise ArError("there is nothing to report: no experiment has been measured yet", "run: ar run")
    key = one_line(program.objective.key)
    when = max(run.created for run in history.everything)
    day = datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d")
    branch = (campaign.repo.branch() or "a detached head").removeprefix("refs/heads/")
    return Document(
        title=f"{key}: {counted(len(history.tried), 'attempt')}, {len(history.promoted)} promoted",
        subtitle=f"{campaign.repo.root.name}, {branch} at {history.head[:9]}, last run on {day}",
        sections=(
            _question(campaign),
            _result(campaign, history),
            *_time(campaign, history),
            *held(campaign, history),
            *not_held(program, history),
            *foreign(program, history),
            *imported(history),
            *audit_section(campaign, history),
            *section(notebook.read(campaign.repo).lessons()),
            *papers.section(campaign.repo, history),
            *_pictures(campaign, history),
            _reproduce(history),
            _spent(campaign, history),
        ),
    )


def _question(campaign: Campaign) -> Section:
    program = campaign.program
    facts = [f"Objective: {_metric(program.objective)}."]
    facts += [f"Guard, which a change must not make worse: {_metric(guard)}." for guard in program.guards]
    if program.holdout:
        facts.append(f"Holdout, looked at only when promoting: {_metric(program.holdout)}.")
    scope = [*program.scope.files, *(str(key) for key in program.scope.params)]
    facts.append(f"What a change might touch: {', '.join(scope) or 'nothing'}.")
    facts.append(f"Proposed by: {', '.join(spec.name for spec in program.agents)}.")
    return Section("The question", (Prose(program.prose), Items(tuple(facts))))


def _metric(metric: Metric) -> str:
    return f"{metric} ({metric.better} is better)"


def _result(campaign: Campaign, history: History) -> Section:
    program, audited = campaign.program, total(campaign.program, history)
    blocks: list[Block] = [
        *summary(history, program, audited, campaign.model.importances(history)).plain.splitlines()
    ]
    base, now = history.first, history.now
    if base is not None and now is not None and base is not now:
        if audited is None:
            blocks += _unaudited(campaign, history)
        rows = []
        for name, before in base.guards.items():
            if (after := now.guards.get(name)) is not None:
                change = after / before - 1 if before else 0.0
                rows.append((short_key(name), f"{before:.5g}", f"{after:.5g}", f"{change:+.1%}"))
        if rows:
            blocks.append(Table(("guard", "first baseline", "the branch", "change"), tuple(rows)))
    return Section("The result", tuple(blocks))


def _time(campaign: Campaign, history: History) -> list[Section]:
    """The branch's states by the time that they take to the first baseline's level; none without curves."""
    program, blocks = campaign.program, list[Block]()
    if program.curve is None:
        return []
    with contextlib.suppress(ArError):  # the first baseline has no curve
        for rung, tracks in scales(campaign.project, history).items():
            level = f"{program.curve.value}{f' at {rung}' if rung else ''}"
            here = reaches(tracks)
            words = f"Time to the first baseline's last {level}. {gain(here, program)}"
            blocks += [words, leaderboard(here, program)]
    return [Section("Leaderboard: time to target", tuple(blocks))] if blocks else []


def gain_so_far(campaign: Campaign, history: History) -> tuple[float, float, float] | None:
    """The change from the first baseline to the branch by all runs of either side, its standard error, and
    half of its 95 % interval; None if unknown."""
    base, now, df = history.first, history.now, noise_of(campaign.ledger(history)).df
    if not df or base is None or now is None or base.value is None or now.value is None:
        return None
    if base.standard_error is None or now.standard_error is None:
        return None
    error = math.hypot(base.standard_error, now.standard_error)
    return now.value - base.value, error, half_width(error, df)


def _unaudited(campaign: Campaign, history: History) -> list[str]:
    """The interval of the gain so far, where the closing audit has not been made; nothing if unknown."""
    found = gain_so_far(campaign, history)
    if found is None:
        return []
    change, error, half = found
    return [
        f"95 % interval of the change in {campaign.program.objective.key}: "
        f"{interval((change - half, change + half), error)}, from all runs of either side. No closing audit "
        "was made: runs that decided are among them, so that it is a little too good."
    ]


def _pictures(campaign: Campaign, history: History) -> list[Section]:
    blocks: list[Block] = []
    for kind, caption in _CHARTS.items():
        try:
            spec = kinds.specification(kind, campaign, history)
        except ArError:
            continue  # there is nothing of that kind to draw
        blocks.append(Picture(files.svg(spec), caption))
    return [Section("Pictures", tuple(blocks))] if blocks else []


def _reproduce(history: History) -> Section:
    commands = [
        f"git checkout {history.head}",
        "dvc repro              # idle: dvc.lock and metrics are from a run of exactly this tree",
        "git log --first-parent # the changes, one merge each",
        "ar show                # every attempt; needs refs/exps and refs/notes/ar: ar pull",
    ]
    if history.first is not None:
        commands.append(f"git diff {history.first.baseline[:12]} {history.head[:12]} # all changes together")
    blocks: list[Block] = [Code("\n".join(commands), "console")]
    refs = [f"{one_line(item.title)}: {item.name}, {item.experiments[0].rev}" for item in history.promoted]
    if refs:
        blocks.append(Items(tuple(refs), folded="Experiments and their commits"))
    used = f"Made with ar {version('dvc-ar')} and DVC {version('dvc')}."
    return Section("How to reproduce", (*blocks, used))


def _spent(campaign: Campaign, history: History) -> Section:
    rows = []
    for rung in ("", *dict.fromkeys(item.rung for item in history.at_rungs)):
        ended = (run for run in history.everything if run.rung == rung and run.status.ended)
        runs = [run for run in ended if not run.is_foreign]
        seconds = sum(run.note.seconds or 0.0 for run in runs if run.note)
        cpu = sum(run.note.cpu_seconds or 0.0 for run in runs if run.note)
        base = sum(run.measures_baseline for run in runs)
        failed = sum(run.status is not Status.SUCCEEDED for run in runs)
        name = rung or (campaign.program.ladder[0].name if campaign.program.ladder else "all")
        rows.append((name, str(len(runs)), str(base), str(failed), span(seconds), span(cpu)))
    header = ("scale", "runs", "of baselines", "failed", "run time", "processor time")
    paid = account.read(campaign.repo)
    words = [_paid(paid.total, "The agents") if paid.total.tokens else "The agent cost nothing."]
    if spent := paid.words(len(history.promoted)):
        words.append(f"In all: {spent}.")
    if paid.told.tokens:
        words.append(f"Not counted: {_paid(paid.told, 'remotes say that agents elsewhere')}")
    return Section("What was spent", (Table(header, tuple(rows)), *words))


def _paid(paid: Spend, who: str) -> str:
    usd = f", {paid.usd:.2f} USD" if paid.usd is not None else ""
    return f"{who} read {paid.input:,} tokens ({paid.cached:,} cached) and wrote {paid.output:,}{usd}."
