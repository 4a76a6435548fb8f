"""`ar report`: one file that tells a campaign to colleagues, as HTML or Markdown.

It is gathered once, as a document of plain sections, which is then written in either form.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from ar.agents import account
from ar.campaign.campaign import Campaign
from ar.campaign.ladder import cases
from ar.errors import ArError
from ar.history import attempts
from ar.history import time_to_target as timing
from ar.history.reader import changed
from ar.history.records import Attempt, History, Label, Outcome, Status
from ar.judge.arithmetic import half_width
from ar.judge.findings import Additivity, Case, additivity, total
from ar.judge.noise import noise_of
from ar.project.program import Metric, Program
from ar.redaction import redact
from ar.text import counted, interval, one_line, plain, quantity, signed, span
from ar.views.charts import files, kinds
from ar.views.document import Block, Code, Document, Items, Picture, Prose, Section, Table
from ar.views.facts import short_key
from ar.views.markdown import to_markdown
from ar.views.marks import MARKS
from ar.views.page import to_html
from ar.views.summary import summary
from ar.views.time_to_target import gain
from ar.views.verdict import member_cells, share_cells

_OPEN = (Outcome.OPEN, Outcome.RUNNING, Outcome.QUEUED, Outcome.WINNER)
_WRITERS = {".html": to_html, ".md": to_markdown}
MOST_DIFF = 20_000  # characters of one diff
MOST_LISTED = 60  # changes of one group that did not work
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
    files.write_whole(path, writer(gather(campaign)).encode())


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
            *_promoted(campaign, history),
            *_not_held(program, history),
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
        *summary(history, program, audited, campaign.importances(history)).plain.splitlines()
    ]
    base, now = history.first, history.now
    if base is not None and now is not None and base is not now:
        if audited is None:
            blocks += _unaudited(campaign, history, base, now)
        rows = []
        for name, before in base.guards.items():
            if (after := now.guards.get(name)) is not None:
                change = after / before - 1 if before else 0.0
                rows.append((short_key(name), f"{before:.5g}", f"{after:.5g}", f"{change:+.1%}"))
        if rows:
            blocks.append(Table(("guard", "first baseline", "the branch", "change"), tuple(rows)))
    if program.curve is not None:
        with contextlib.suppress(ArError):  # the first baseline has no curve
            for rung, tracks in timing.scales(campaign.project, history).items():
                level = f"{program.curve.value}{f' at {rung}' if rung else ''}"
                words = gain(timing.reaches(tracks), program)
                blocks.append(f"Time to the first baseline's last {level}. {words}")
    return Section("The result", tuple(blocks))


def _unaudited(campaign: Campaign, history: History, base: Attempt, now: Attempt) -> list[str]:
    """The interval of the gain so far, where the closing audit has not been made; nothing if unknown."""
    df = noise_of(campaign.ledger(history)).df
    if base.value is None or now.value is None or not df:
        return []
    if base.standard_error is None or now.standard_error is None:
        return []
    change, error = now.value - base.value, math.hypot(base.standard_error, now.standard_error)
    half = half_width(error, df)
    return [
        f"95 % interval of the change in {campaign.program.objective.key}: "
        f"{interval((change - half, change + half), error)}, from all runs of either side. No closing audit "
        "was made: runs that decided are among them, so that it is a little too good."
    ]


def _promoted(campaign: Campaign, history: History) -> list[Section]:
    if not history.promoted:
        return [Section("What held", ("No change was promoted.",))]
    program = campaign.program
    rungs = [rung.name for rung in program.ladder[1:] if any(it.rung == rung.name for it in history.at_rungs)]
    header = ("change", "effect", "95 % interval", "score", "runs", *(f"at {rung}" for rung in rungs))
    rows: list[tuple[str, ...]] = []
    details: list[Section] = []
    for item in history.promoted:
        try:
            case, climbs = cases(campaign, history, item)
        except ArError:
            continue
        within = interval(case.interval, case.verdict.standard_error)
        score = "" if case.verdict.z is None else f"{case.verdict.z:.1f}"
        runs = str(len(case.seeds) or case.verdict.runs)
        cells = (_effect(climbs.get(rung)) for rung in rungs)
        rows.append((one_line(item.title), _effect(case), within, score, runs, *cells))
        details.append(_evidence(campaign, history, item, case, climbs))
    words = f"Effects on {program.objective.key} against the branch as it was then, from confirming runs."
    return [Section("What held", (words, Table(header, tuple(rows)))), *details]


def _effect(case: Case | None) -> str:
    return "" if case is None or case.effect is None else signed(case.effect, case.verdict.standard_error)


def _evidence(
    campaign: Campaign, history: History, item: Attempt, case: Case, climbs: dict[str, Case]
) -> Section:
    own = item.own or list(item.experiments)
    facts = [f"Verdict: {case.verdict.reason}"]
    facts += [f"At {rung}: {climb.verdict.reason}" for rung, climb in climbs.items()]
    facts += [
        f"{short_key(name)}: {quantity(sides[0])} → {quantity(sides[1])}"
        for name, sides in (*case.guards.items(), *case.holdout.items())
    ]
    label = f", {case.verdict.label}" if case.verdict.label else ""
    facts.append(f"Proposed by {item.agent}{label}; experiment {item.name} ({own[0].rev[:9]}).")
    diff = redact(plain(changed(campaign.project, item.baseline, own[0].rev)))
    if len(diff) > MOST_DIFF:
        diff = f"{diff[:MOST_DIFF]}\n… {len(diff) - MOST_DIFF} more characters: ar diff {item.name}"
    blocks: list[Block] = [Prose(own[0].hypothesis)]
    added = additivity(campaign.program, history, item)
    if added is not None:
        blocks = ["Each of these won alone; this is their sum.", _members(added)]
    if parts := campaign.shares(history, item):
        words = "What it gains by each of its parts: the whole against the whole without it."
        blocks += [words, Table(("part", "by the model", "measured"), tuple(map(share_cells, parts)))]
    return Section(one_line(item.title), (*blocks, Items(tuple(facts)), Code(diff, "diff")), level=3)


def _members(found: Additivity) -> Table:
    """Whether a stack's members add up."""
    within = interval(found.interval, found.interaction_error)
    rows = (
        *map(member_cells, found.members),
        ("sum of the single effects", signed(found.sum, found.sum_error), ""),
        ("measured together", signed(found.joint, found.joint_error), ""),
        (f"interaction, 95 % from {within}", signed(found.interaction, found.interaction_error), ""),
    )
    return Table(("member", "alone", "in the stack"), rows)


def _not_held(program: Program, history: History) -> list[Section]:
    """What did not hold, and what may yet."""
    others = [item for item in history.tried if _heading(item)]
    failed = _grouped(program, [item for item in others if item.outcome not in _OPEN])
    opened = _grouped(program, [item for item in others if item.outcome in _OPEN])
    sections = [Section("What did not", tuple(failed) or ("Nothing else was decided.",))]
    return [*sections, Section("What is open", tuple(opened))] if opened else sections


def _grouped(program: Program, items: Sequence[Attempt]) -> list[Items]:
    """Titles with their effects below their headings, the longest list first."""
    groups: dict[str, list[str]] = {}
    for item in items:
        effect = attempts.effect(item, program)
        title = f"{one_line(item.title)}{f' ({effect})' if effect else ''}"
        groups.setdefault(_heading(item), []).append(title)
    blocks = []
    for heading, titles in sorted(groups.items(), key=lambda pair: -len(pair[1])):
        more = (f"… and {len(titles) - MOST_LISTED} more: ar show",) if len(titles) > MOST_LISTED else ()
        blocks.append(Items((*titles[:MOST_LISTED], *more), folded=f"{heading}: {len(titles)}"))
    return blocks


def _heading(item: Attempt) -> str:
    """Below which heading it is told that an attempt did not hold; empty where it did, or nobody tried it."""
    verdict, heading = item.verdict, MARKS[item.outcome].told
    if not heading or verdict is None or item.outcome in (Outcome.REVERTED, Outcome.SUPERSEDED):
        return heading
    if verdict.label is Label.SCALE_BOUND:
        return "Better at the base, worse at a larger scale"
    if verdict.label is not Label.PLAIN:
        return verdict.label.capitalize()
    if item.outcome is not Outcome.DISCARDED:
        return heading
    # Notes of earlier versions do not name the guard; but nothing else discards what reached the bar.
    reached = verdict.z is not None and verdict.bar is not None and verdict.z >= verdict.bar
    if verdict.failed_guard or reached:
        guard = one_line(verdict.failed_guard)
        return f"Refused by the guard {guard}" if guard else "Refused by a guard"
    return "Clearly worse" if verdict.z is not None and verdict.z < -2 else heading


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
    paid = account.total(campaign.repo)
    words = "The agent cost nothing."
    if paid.tokens:
        usd = f", {paid.usd:.2f} USD" if paid.usd is not None else ""
        cached = f"({paid.cached:,} cached)"
        words = f"The agents read {paid.input:,} tokens {cached} and wrote {paid.output:,}{usd}."
    return Section("What was spent", (Table(header, tuple(rows)), words))
