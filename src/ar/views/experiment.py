"""One experiment, proposal, verdict or stack as text, a fact a line.

Titles, hypotheses, logs and diffs come from agents and experiments: they are printed as data, never as
markup, with terminal escapes removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ar.campaign.doctor import Check
from ar.campaign.stack import Result
from ar.history.ideas import Proposal
from ar.history.records import Attempt, Experiment, Note
from ar.history.spend import Spend
from ar.judge.findings import Additivity, Case, NoiseReport
from ar.project.program import Program
from ar.text import one_line, plain, quantity, signed, span
from ar.views.marks import MARKS

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text


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


def _price(spend: Spend) -> str:
    cost = "" if spend.usd is None else f", {spend.usd:.2g} USD"
    return f"{spend.input:,} tokens in, {spend.cached:,} of them cached, {spend.output:,} out{cost}"


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


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds)) or "none"


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
