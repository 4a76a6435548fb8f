"""The history and its experiments as text: for people (Rich), for programs (JSON), for spreadsheets (CSV).

Titles, hypotheses, logs and diffs come from agents and experiments: they are printed as data, never as
markup, with terminal escapes removed.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ar.campaign.ladder import hurts
from ar.history.attempts import effect
from ar.history.ideas import Proposal
from ar.history.records import (
    Attempt,
    Case,
    Experiment,
    History,
    Label,
    NoiseReport,
    Note,
    Status,
    Total,
)
from ar.history.spend import Spend
from ar.project.values import Scalar
from ar.text import one_line, plain, quantity, shorten_middle, signed, span
from ar.views.marks import MARKS

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

    from ar.campaign.doctor import Check
    from ar.campaign.stack import Additivity, Result
    from ar.project.program import Program

EMPTY = "No experiment yet. Run: ar run"

_GAP = 2  # columns between two columns
_NAME_WIDTH = 20  # what a tight table leaves of names: both ends, since replicates and retries begin alike
_TITLE_WIDTH = 36  # of titles beside the numbers; below that they move to a line of their own
_ROOMY = 140  # from this width on, guards have their whole names above them
_PIPE_WIDTH = 10_000  # nothing is cut where no terminal sets a width

_CSV_COLUMNS = (
    *("name", "title", "agent", "outcome", "attempt", "candidate", "status", "seed", "rev", "baseline"),
    *("created", "rung"),
)


def echo(renderable: RenderableType) -> None:
    """Print to standard output: coloured and fitted on a terminal, flat and whole elsewhere."""
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH, color_system=None)
    # Lines longer than the terminal are the terminal's to wrap: so they are copied whole.
    console.print(renderable, soft_wrap=True, markup=False, emoji=False, highlight=False)


# -- the table --------------------------------------------------------------------------------------------


def render(
    history: History,
    program: Program,
    limit: int | None = None,
    now: float | None = None,
    seeds: bool = False,
    total: Total | None = None,
) -> RenderableType:
    """The history table, newest first, and the summary line below it.

    Args:
        limit: only that many of the newest attempts; None for all.
        now: unix time that ages count from.
        seeds: below each attempt, its runs one by one.
        total: what the closing audit says of the whole campaign.
    """
    from rich.console import Group
    from rich.text import Text

    if not history.attempts:
        return Text(EMPTY)
    shown = list(reversed(history.attempts))[:limit]
    rows = [row for attempt in shown for row in ((attempt, None), *_unfolded(attempt, seeds))]
    table = _Table(tuple(rows), program, time.time() if now is None else now, history)
    left = len(history.attempts) - len(shown)
    older = [Text(f"… {left} older", style="dim")] if left else []
    return Group(table, *older, Text(), summary(history, program, total))


def climbed(
    history: History, program: Program, rungs: Sequence[str], candidates: Sequence[str] | None = None
) -> RenderableType:
    """The rows of what has climbed to any of the rungs; `candidates` None for all of it."""
    from rich.console import Group
    from rich.text import Text

    shown = [
        attempt
        for attempt in reversed(history.attempts)
        if (candidates is None or attempt.candidate in candidates)
        and any(_climb(history, attempt, rung) for rung in rungs)
    ]
    if not shown:
        return Text("Nothing has climbed.")
    table = _Table(tuple((attempt, None) for attempt in shown), program, time.time(), history)
    return Group(table, Text(), Text("\n".join(levels(history, program))))


def _climb(history: History, attempt: Attempt, rung: str) -> Attempt | None:
    """What a change did at a rung, as a change; None where it was at most measured as an incumbent."""
    found = history.climb(attempt.candidate, rung)
    return found if found and bool(found.own) else None


def levels(history: History, program: Program) -> list[str]:
    """How far the branch has come at each rung above the base, as far as it was measured there."""
    first = history.first
    lines = []
    for rung in program.ladder[1:]:
        before = history.climb(first.candidate, rung.name) if first else None
        now = history.climb(history.incumbent, rung.name)
        if before and now and before.value is not None and now.value is not None:
            gain = quantity(now.value, now.standard_error) if now is before else _moved(before, now)
            lines.append(f"At {rung.name}, {one_line(program.objective.key)} {gain}.")
    return lines


def _unfolded(attempt: Attempt, seeds: bool) -> Iterable[_Row]:
    return ((attempt, run) for run in attempt.experiments) if seeds else ()


def summary(history: History, program: Program, total: Total | None = None) -> Text:
    """What was tried, what became of it, and how far the branch has come."""
    from rich.text import Text

    if not history.attempts:
        return Text(EMPTY)
    tried = [MARKS[item.outcome].counted for item in history.attempts if not item.is_baseline]
    counts = {word: tried.count(word) for mark in MARKS.values() if (word := mark.counted)}
    always = ("promoted", "discarded", "crashed", "open")
    parts = [f"{count} {word}" for word, count in counts.items() if count or word in always]
    attempts = "1 attempt" if len(tried) == 1 else f"{len(tried)} attempts"
    text = Text(f"{attempts}: {', '.join(parts)}. ", no_wrap=False, overflow="fold")
    text.append(_total(total, program) if total else _gain(history, program), style="bold")
    return text.append("".join(f"\n{line}" for line in levels(history, program)))


def _total(total: Total, program: Program) -> str:
    """The audited gain: unlike the values that decided, it is not selected for being good."""
    low, high, before, after = (
        quantity(value, total.standard_error).partition(" ")[0].replace("-", "−")
        for value in (*total.interval, total.before, total.after)
    )
    return (
        f"Total {one_line(program.objective.key)} {signed(total.change, total.standard_error)}, "
        f"95 % interval {low} to {high}: {before} in {total.runs_before} runs of the first baseline, "
        f"{after} in {total.runs_after} of the closing audit."
    )


def _gain(history: History, program: Program) -> str:
    key = one_line(program.objective.key)
    first = history.first
    now = history.now
    if now is None or now.value is None:
        return f"{key}: the branch is not measured yet."
    if first is None or first.value is None or first is now:
        return f"{key} {quantity(now.value, now.standard_error)}."
    return f"{key} {_moved(first, now)}."


def _moved(first: Attempt, now: Attempt) -> str:
    assert first.value is not None and now.value is not None
    errors = [attempt.standard_error for attempt in (first, now) if attempt.standard_error is not None]
    error = math.hypot(*errors) if len(errors) == 2 else None
    before, after = quantity(first.value, first.standard_error), quantity(now.value, now.standard_error)
    return f"{before} → {after} ({signed(now.value - first.value, error)})"


@dataclass(frozen=True)
class _Column:
    header: str
    cells: list[Text]
    justify: Literal["left", "right"] = "left"

    @property
    def width(self) -> int:
        return max(len(self.header), *(cell.cell_len for cell in self.cells))


_Row = tuple[Attempt, Experiment | None]  # an attempt as a whole, or one of its runs


@dataclass(frozen=True)
class _Table:
    """Attempts and runs a row each. Rich asks it to draw itself once the width is known."""

    rows: tuple[_Row, ...]
    program: Program
    now: float
    history: History

    @property
    def rungs(self) -> list[str]:
        """Rungs above the base that have a column: those where anything was measured."""
        measured = {attempt.rung for attempt in self.history.climbs}
        return [rung.name for rung in self.program.ladder[1:] if rung.name in measured]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        columns = self._columns(roomy=options.max_width >= _ROOMY)
        names, room = self._fit(columns, options.max_width)
        widths = {name: columns[name].width for name in names}
        if "title" in names:
            widths["name"] = min(widths["name"], max(_NAME_WIDTH, room - widths["title"]))
            widths["title"] = min(widths["title"], room - widths["name"])
        else:
            widths["name"] = min(widths["name"], room)

        def line(cells: Iterable[Text]) -> Text:
            placed = []
            for name, cell in zip(names, cells, strict=True):
                cell = cell.copy()
                if name == "name":
                    cell.plain = shorten_middle(cell.plain, widths[name])
                cell.truncate(widths[name], overflow="ellipsis")
                cell.align(columns[name].justify, widths[name])
                placed.append(cell)
            joined = Text(" " * _GAP).join(placed)
            joined.rstrip()
            return joined

        yield line(Text(columns[name].header, style="bold") for name in names)
        for index, (attempt, run) in enumerate(self.rows):
            row = line(columns[name].cells[index] for name in names)
            styles = {"baseline": "cyan", "promoted": "bold green"}
            row.style = styles.get(attempt.outcome, "") if run is None else "dim"
            yield row
            if "title" not in names and run is None:
                title = Text("  ", style="dim").append_text(columns["title"].cells[index])
                title.append(f" · {columns['agent'].cells[index]}" if "agent" not in names else "")
                title.truncate(options.max_width, overflow="ellipsis")
                yield title

    def _columns(self, roomy: bool) -> dict[str, _Column]:
        from rich.text import Text

        objective = self.program.objective
        arrow = "↓" if objective.direction == "minimize" else "↑"
        guards = [str(guard) for guard in self.program.guards]
        headers = {name: name for name in ("name", "title", "agent", "seeds")}
        base = self.program.ladder[0].name if self.rungs else "effect"
        headers |= {"objective": f"{one_line(objective.key)} {arrow}", "effect": base}
        headers |= {_at(rung): rung for rung in self.rungs}
        for guard in guards:
            header = one_line(guard.rpartition(":")[2])
            headers[guard] = header if roomy else shorten_middle(header, 10)
        headers |= {"verdict": "verdict", "age": "age"}
        rows = [self._cells(attempt, run) for attempt, run in self.rows]
        right = {"seeds", "objective", "effect", "age", *guards, *map(_at, self.rungs)}
        return {
            name: _Column(
                header, [row.get(name, Text()) for row in rows], "right" if name in right else "left"
            )
            for name, header in headers.items()
        }

    def _cells(self, attempt: Attempt, run: Experiment | None) -> dict[str, Text]:
        """Column to cell; what a row has nothing to say in is left out."""
        from rich.text import Text

        age = Text(span(self.now - (run or attempt).created))
        if run is None:
            return {
                "name": Text(one_line(attempt.name)),
                "title": Text(one_line(attempt.title)),
                "agent": Text(one_line(attempt.agent)),
                "seeds": Text(_seeds(attempt)),
                "objective": Text(_objective(attempt)),
                "effect": Text(effect(attempt, self.program)),
                **{_at(rung): self._climbed(attempt, rung) for rung in self.rungs},
                **{name: Text(f"{value:.4g}") for name, value in attempt.guards.items()},
                "verdict": _verdict(attempt),
                "age": age,
            }
        ended_well = run.status is Status.SUCCEEDED
        guards = {str(guard): run.metrics.get(str(guard)) for guard in self.program.guards}
        value = run.metrics.get(str(self.program.objective))
        return {
            "name": Text(f"  {one_line(run.name)}"),
            "seeds": Text("" if run.seed is None else f"seed {run.seed}"),
            "objective": Text(_measured(value, ".6g") if ended_well else ""),
            **{name: Text(_measured(found, ".4g")) for name, found in guards.items() if ended_well},
            "verdict": Text(str(run.status)),
            "age": age,
        }

    def _climbed(self, attempt: Attempt, rung: str) -> Text:
        """The effect at a rung, with the mark of its verdict."""
        from rich.text import Text

        climb = _climb(self.history, attempt, rung)
        if climb is None:
            return Text()
        mark = MARKS[climb.outcome]
        sign, style = mark.sign, mark.style
        if climb.verdict and hurts(climb.verdict):
            sign, style = "✗", "red"
        return Text(f"{effect(climb, self.program)} {sign}".strip(), style=style)

    def _fit(self, columns: dict[str, _Column], width: int) -> tuple[list[str], int]:
        """Which columns are shown, and how many places name and title share.

        On a tight terminal the effect goes, then the agent; then titles move to a line of their own below
        the numbers, and as little as still fits leaves from there. The objective never does.
        """
        guards = [str(guard) for guard in self.program.guards]
        rungs = [_at(rung) for rung in self.rungs]
        below = [name for name in columns if name not in ("title", "agent")]
        beside = (list(columns), ("effect", "agent"))
        for names, leaving in (beside, (below, ("effect", "age", "seeds", *guards, *rungs))):
            for name in (None, *leaving):
                if name is not None:
                    names.remove(name)
                wanted = min(columns["name"].width, _NAME_WIDTH)
                if "title" in names:
                    wanted += min(columns["title"].width, _TITLE_WIDTH)
                fixed = sum(columns[name].width for name in names if name not in ("name", "title"))
                room = width - fixed - _GAP * (len(names) - 1)
                if room >= wanted:
                    return names, room
        return names, max(room, 4)


def _measured(value: Scalar, form: str) -> str:
    """One run's number; empty for what is no number."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:{form}}" if known else ""


def _seeds(attempt: Attempt) -> str:
    """Runs that count, and how many more are under way."""
    done = sum(run.status is Status.SUCCEEDED for run in attempt.experiments)
    coming = sum(not run.status.ended for run in attempt.experiments)
    return f"{done}+{coming}" if coming else str(done)


def _objective(attempt: Attempt) -> str:
    return "" if attempt.value is None else quantity(attempt.value, attempt.standard_error)


def _verdict(attempt: Attempt) -> Text:
    from rich.text import Text

    mark = MARKS[attempt.outcome]
    scale_bound = attempt.verdict is not None and attempt.verdict.label is Label.SCALE_BOUND
    label = f", {Label.SCALE_BOUND}" if scale_bound else ""
    return Text(f"{mark.sign} {attempt.outcome}{label}", style=mark.style)


def _at(rung: str) -> str:
    """The key of a rung's column."""
    return f"at {rung}"


# -- one experiment ---------------------------------------------------------------------------------------


def diff_view(diff: str) -> Text:
    """A patch, coloured the way git does it."""
    from rich.text import Text

    text = Text()
    for line in plain(diff).splitlines():
        style = ""
        if line.startswith(("diff ", "index ", "+++ ", "--- ", "new file", "deleted file", "rename ")):
            style = "bold"
        elif line.startswith("@@"):
            style = "cyan"
        elif line.startswith("+"):
            style = "green"
        elif line.startswith("-"):
            style = "red"
        text.append(f"{line}\n", style=style)
    text.rstrip()
    return text


def _used(note: Note) -> str:
    """What a run took of the machine."""
    parts = [f"{note.cpu_seconds or 0:.3g} s of processor time"]
    if note.peak_memory_mb is not None:
        parts.append(f"{note.peak_memory_mb:.0f} MB of memory")
    if note.gpu_memory_mb is not None:
        parts.append(
            f"{note.gpu_memory_mb:.0f} MB of its GPU, at work {note.gpu_percent or 0:.0f} % of the time"
        )
    return ", ".join(parts) + (f" on {note.slot}" if note.slot else "")


def log_view(attempt: Attempt, experiment: Experiment, running_log: str = "") -> RenderableType:
    """One experiment: what it is, why it was tried, how it ended, what it printed."""
    from rich.console import Group
    from rich.text import Text

    note, verdict = experiment.note, attempt.verdict
    mark = MARKS[attempt.outcome]
    head = Text(one_line(experiment.title), style="bold")
    head.append(f"\n{one_line(experiment.name)}", style="not bold")
    head.append(f"  {experiment.rev[:9]}", style="not bold dim")
    facts = [("status", str(experiment.status))]
    if note and note.reason:
        facts.append(("reason", note.reason))
    if note and note.retried:
        facts.append(("tried again", f"after a first try in which {note.retried}"))
    facts.append(("agent", experiment.agent))
    if experiment.seed is not None:
        facts.append(("seed", str(experiment.seed)))
    if note and note.seconds is not None:
        facts.append(("took", span(note.seconds)))
    if note and note.cpu_seconds is not None:
        facts.append(("used", _used(note)))
    if note and note.worker:
        facts.append(("worker", note.worker))
    if note and note.spend:
        facts.append(("proposal", _price(note.spend)))
    facts.append(("outcome", f"{mark.sign} {attempt.outcome}"))
    if verdict:
        facts.append(("verdict", f"{verdict.reason} {f'({verdict.label})' if verdict.label else ''}"))
    facts += [(key.rpartition(":")[2], _scalar(value)) for key, value in experiment.metrics.items()]
    parts: list[RenderableType] = [head, Text(), _facts(facts, mark.style)]
    if experiment.hypothesis.strip():
        parts += [Text(), _prose(experiment.hypothesis)]
    printed = plain(running_log or (note.log if note else "")).strip("\n")
    title = "printed so far" if running_log else "printed"
    parts += [Text(), Text(f"-- {title} --" if printed else "It printed nothing.", style="dim")]
    if printed:
        parts.append(Text(printed))
    return Group(*parts)


def _price(spend: Spend) -> str:
    cost = "" if spend.usd is None else f", {spend.usd:.2g} USD"
    return f"{spend.input:,} tokens in, {spend.cached:,} of them cached, {spend.output:,} out{cost}"


def proposal_view(proposal: Proposal, diff: str, name: str | None = None) -> RenderableType:
    """A proposal with its patch; `name` is the queued experiment's, None where nothing was queued."""
    from rich.console import Group
    from rich.text import Text

    head = Text(f"Queued {name}: " if name else "Would queue: ")
    head.append(one_line(proposal.title), style="bold")
    facts = [("agent", proposal.agent)]
    if proposal.expected:
        facts.append(("expected", proposal.expected))
    if proposal.parent:
        facts.append(("builds on", proposal.parent))
    if proposal.spend:
        facts.append(("cost", _price(proposal.spend)))
    facts += [(key, _scalar(value)) for key, value in proposal.params.items()]
    parts: list[RenderableType] = [head, _facts(facts)]
    if proposal.hypothesis.strip():
        parts += [Text(), _prose(proposal.hypothesis)]
    return Group(*parts, Text(), diff_view(diff), Text())


def noise_view(report: NoiseReport, program: Program) -> Text:
    """What the baseline's runs say of the noise, and what that lets a campaign find."""
    metric = program.objective.key
    if report.sigma is None:
        return _facts([("noise", f"not known yet: {report.runs} runs of the branch were measured")])
    paired = "not known to help yet" if program.seed else "program.md names no seed to pair by"
    if report.paired_sigma is not None:
        paired = f"σ = {quantity(report.paired_sigma)} after the seed's effect"
    facts = [
        ("runs", f"{report.runs} of the branch as it is"),
        ("noise", f"σ = {quantity(report.sigma)} {metric} between runs of equal code"),
        ("by seed", paired),
    ]
    facts += [
        (f"{count} runs", f"of a change show an improvement of {quantity(size)} or more")
        for count, size in report.smallest.items()
    ]
    return _facts(facts)


def case_view(case: Case, program: Program, climbs: Mapping[str, Case] | None = None) -> Text:
    """A verdict in words and the numbers it rests on, then the same at each rung that it climbed to."""
    text = _facts([("title", one_line(case.title)), *_case_facts(case, program)])
    for rung, climb in (climbs or {}).items():
        text.append(f"\n\nat {rung}\n", style="bold").append_text(_facts(_case_facts(climb, program)))
    return text


def _case_facts(case: Case, program: Program) -> list[tuple[str, str]]:
    verdict, metric = case.verdict, program.objective.key
    label = f" ({verdict.label})" if verdict.label else ""
    facts = [("verdict", f"{case.outcome}{label}: {one_line(verdict.reason)}")]
    if case.effect is not None:
        within = (
            f", 95 % interval {signed(case.interval[0])} to {signed(case.interval[1])}"
            if case.interval
            else ""
        )
        better = "below" if program.objective.direction == "minimize" else "above"
        facts.append(
            (
                "effect",
                f"{signed(case.effect, verdict.standard_error)} {metric}{within}; {better} 0 is better",
            )
        )
    if verdict.z is not None and verdict.bar is not None:
        facts.append(("score", f"z = {verdict.z:.2f}; promotion needs {verdict.bar:.2f}"))
    if verdict.sigma is not None:
        what = "after the seed's effect" if verdict.paired else "between runs of equal code"
        facts.append(("noise", f"σ = {quantity(verdict.sigma)} {what}, {verdict.df} degrees of freedom"))
    facts.append(("seeds", f"{_listed(case.seeds)} against the incumbent's {_listed(case.base_seeds)}"))
    for kind, means in (("guard", case.guards), ("holdout", case.holdout)):
        facts += [
            (kind, f"{name.rpartition(':')[2]} {quantity(base)} → {quantity(own)}")
            for name, (base, own) in means.items()
        ]
    if case.wanted:
        facts.append(("wanted", f"{case.wanted} would have been enough"))
    return facts


def stack_view(
    result: Result, attempt: Attempt, found: Additivity | None, program: Program
) -> RenderableType:
    """What came of stacking: the verdict, how the effects add up, and who is not in it."""
    from rich.console import Group

    verdict = attempt.verdict
    facts = [("stack", attempt.name), ("verdict", verdict.reason if verdict else "not judged yet")]
    facts += [("dropped", f"{item.title}: {result.weights[item.name]}") for item in result.dropped]
    for name, clashes in result.composite.clashes.items():
        paths = ", ".join(clash.path for clash in clashes)
        facts.append(("left out", f"{name} conflicts in {paths}; see: ar promote {name}"))
    if len(result.members) > 1 and not result.trimmed:
        facts.append(("not trimmed", "whether each member carries its weight was not measured"))
    return Group(*([additivity_view(found, program)] if found else []), _facts(facts))


def additivity_view(found: Additivity, program: Program) -> RenderableType:
    """How a stack's effect compares with the sum of its members'."""
    from rich.console import Group
    from rich.text import Text

    metric = program.objective.key
    width = max(len(one_line(member.title)) for member in found.members)
    rows = [f"{'':{width}}  {'alone':>18}  {'in the stack':>18}"]
    for member in found.members:
        alone = signed(member.effect, member.standard_error)
        share = "" if member.share is None else signed(member.share, member.share_error)
        rows.append(f"{one_line(member.title):{width}}  {alone:>18}  {share:>18}".rstrip())
    low, high = (signed(end, found.interaction_error).partition(" ")[0] for end in found.interval)
    gap = signed(found.interaction, found.interaction_error)
    facts = [
        ("sum", f"{signed(found.sum, found.sum_error)} {metric} of the single effects"),
        ("together", f"{signed(found.joint, found.joint_error)} {metric} measured"),
        ("interaction", f"{gap}, 95 % interval {low} to {high}"),
    ]
    return Group(Text("\n".join(rows)), _facts(facts), Text())


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds)) or "none"


def checks_view(checks: Sequence[Check]) -> RenderableType:
    """What `ar doctor` found, a line each, and below what is missing the command that mends it."""
    from rich.text import Text

    text = Text()
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        sign, style = ("✓", "green") if check.ok else ("✗", "red") if check.required else ("!", "yellow")
        text.append(sign, style=style).append(f" {check.name:<{width}}  {one_line(check.detail)}\n")
        if check.mend and not check.ok:
            text.append(f"{'':<{width + 4}}{one_line(check.mend)}\n", style="bold")
    text.rstrip()
    return text


def _facts(facts: Sequence[tuple[str, str]], outcome_style: str = "") -> Text:
    from rich.text import Text

    width = max((len(one_line(key)) for key, _ in facts), default=0)
    text = Text()
    for key, value in facts:
        text.append(f"{one_line(key):<{width}}  ", style="dim")
        text.append(f"{one_line(value)}\n", style=outcome_style if key == "outcome" else "")
    text.rstrip()
    return text


def _prose(text: str) -> Text:
    from rich.text import Text

    return Text(plain(text).strip(), no_wrap=False, overflow="fold")


def _scalar(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# -- for programs -----------------------------------------------------------------------------------------


def to_json(history: History, program: Program, limit: int | None = None, total: Total | None = None) -> str:
    """The history as one JSON object; its shape is stable, keys may be added.

    - `objective`: `metric`, `direction`; `guards`: metric names; `head`, `incumbent`, `sigma` as in `History`
    - `total`, null before the closing audit: `change` from the first baseline to the audit in the metric's
      own direction, `standard_error`, `interval` (95 %), `before`, `after`, `runs_before`, `runs_after`
    - `attempts`, newest first: `name`, `title`, `agent`, `baseline`, `candidate`, `outcome`, `value`,
      `standard_error`, `guards` (metric name to mean), `verdict` (as in `Verdict`, or null), `created`,
      `rungs`: the same of what was measured at larger scales, by the rung's name
    - each with `experiments`, oldest first: `name`, `rev`, `status`, `seed`, `created`, `metrics` and
      `params` (keyed `file:dotted.key`)

    Numbers that are not finite become null: JSON has no word for them.
    """
    shown = list(reversed(history.attempts))[:limit]
    data = {
        "objective": {"metric": str(program.objective), "direction": program.objective.direction},
        "guards": [str(guard) for guard in program.guards],
        "head": history.head,
        "incumbent": history.incumbent,
        "sigma": history.sigma,
        "total": total.to_json() if total else None,
        "attempts": [
            {
                **_attempt_json(attempt),
                "rungs": {
                    climb.rung: _attempt_json(climb)
                    for climb in history.climbs
                    if climb.candidate == attempt.candidate
                },
            }
            for attempt in shown
        ],
    }
    return json.dumps(_finite(data), indent=2, allow_nan=False)


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    keys = ("name", "title", "agent", "baseline", "candidate", "outcome", "value", "standard_error", "guards")
    return {
        **{key: getattr(attempt, key) for key in keys},
        "verdict": attempt.verdict.to_json() if attempt.verdict else None,
        "created": attempt.created,
        "experiments": [
            {
                "name": run.name,
                "rev": run.rev,
                "status": str(run.status),
                "reason": run.note.reason if run.note else "",
                "seed": run.seed,
                "created": run.created,
                "metrics": run.metrics,
                "params": run.params,
            }
            for run in attempt.experiments
        ],
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_csv(history: History, program: Program, limit: int | None = None) -> str:
    """A line an experiment, newest attempt first; metrics and parameters a column each.

    The objective's column is the first of the metrics, the guards' follow. Runs at larger scales come last.
    """
    shown = list(reversed(history.attempts))[:limit]
    inside = {attempt.candidate for attempt in shown}
    shown += [climb for climb in reversed(history.climbs) if climb.candidate in inside]
    runs = [run for attempt in shown for run in attempt.experiments]
    known = dict.fromkeys(key for run in runs for key in run.metrics)
    first = [str(metric) for metric in (program.objective, *program.guards)]
    metrics = [*first, *(key for key in known if key not in first)]
    params = list(dict.fromkeys(key for run in runs for key in run.params))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_CSV_COLUMNS, *metrics, *params])
    for attempt in shown:
        for run in attempt.experiments:
            writer.writerow(
                [
                    *(run.name, one_line(run.title), one_line(run.agent), attempt.outcome, attempt.name),
                    *(run.candidate, str(run.status), "" if run.seed is None else run.seed, run.rev),
                    *(run.baseline, f"{run.created:.0f}", run.rung),
                    *(_cell(run.metrics.get(key)) for key in metrics),
                    *(_cell(run.params.get(key)) for key in params),
                ]
            )
    return out.getvalue()


def _cell(value: Scalar) -> Scalar:
    return plain(value) if isinstance(value, str) else value
