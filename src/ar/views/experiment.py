"""One experiment, proposal, verdict or stack as text, a fact a line.

Titles, hypotheses, logs and diffs come from agents and experiments: they are printed as data, never as
markup, with terminal escapes removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from ar.campaign.doctor import Check
from ar.campaign.stack import Result
from ar.history.ideas import Proposal
from ar.history.records import Attempt, Experiment, Note
from ar.history.spend import Spend
from ar.judge.findings import Additivity, Case, Member, NoiseReport
from ar.project.program import Program
from ar.text import counted, interval, one_line, plain, quantity, signed, span
from ar.views.marks import MARKS

if TYPE_CHECKING:
    from ar.surrogate.importance import Share

_HEADS = ("diff ", "index ", "+++ ", "--- ", "new file", "deleted file", "rename ")
_DIFF_STYLES = {**dict.fromkeys(_HEADS, "bold"), "@@": "cyan", "+": "green", "-": "red"}


def diff_view(diff: str) -> Text:
    """A patch, coloured the way git does it."""
    text = Text()
    for line in plain(diff).splitlines():
        styles = (style for start, style in _DIFF_STYLES.items() if line.startswith(start))
        text.append(f"{line}\n", style=next(styles, ""))
    text.rstrip()
    return text


def log_view(attempt: Attempt, experiment: Experiment, running_log: str = "") -> RenderableType:
    """One experiment: what it is, why it was tried, how it ended, what it printed."""
    note, verdict = experiment.note or Note(experiment.status), attempt.verdict
    mark = MARKS[attempt.outcome]
    head = Text(one_line(experiment.title), style="bold")
    head.append(f"\n{one_line(experiment.name)}", style="not bold")
    head.append(f"  {experiment.rev[:9]}", style="not bold dim")
    facts = [
        ("status", str(experiment.status)),
        ("reason", note.reason or None),
        ("to mend it", note.mend or None),
        ("tried again", f"after a first try in which {note.retried}" if note.retried else None),
        ("agent", experiment.agent),
        ("seed", None if experiment.seed is None else str(experiment.seed)),
        ("took", None if note.seconds is None else span(note.seconds)),
        ("used", _used(note)),
        ("worker", note.worker or None),
        ("python", note.python or None),
        ("proposal", _price(note.spend)),
        ("outcome", f"{mark.sign} {attempt.outcome}"),
        ("verdict", f"{verdict.reason} {f'({verdict.label})' if verdict.label else ''}" if verdict else None),
        *((_key(metric), _scalar(value)) for metric, value in experiment.metrics.items()),
    ]
    parts = [head, Text(), _facts(facts, mark.style), *_prose(experiment.hypothesis)]
    printed = plain(running_log or note.log).strip("\n")
    title = "printed so far" if running_log else "printed"
    parts += [Text(), Text(f"-- {title} --" if printed else "It printed nothing.", style="dim")]
    if printed:
        parts.append(Text(printed))
    return Group(*parts)


def proposal_view(proposal: Proposal, diff: str, name: str | None = None) -> RenderableType:
    """A proposal with its patch; `name` is the queued experiment's, None where nothing was queued."""
    head = Text(f"Queued {name}: " if name else "Would queue: ")
    head.append(one_line(proposal.title), style="bold")
    facts = [
        ("agent", proposal.agent),
        ("expected", proposal.expected or None),
        ("builds on", proposal.parent or None),
        ("cost", _price(proposal.spend)),
        *((key, _scalar(value)) for key, value in proposal.params.items()),
    ]
    return Group(head, _facts(facts), *_prose(proposal.hypothesis), Text(), diff_view(diff), Text())


def noise_view(report: NoiseReport, program: Program) -> Text:
    """What the baseline's runs say of the noise, and what that lets a campaign find."""
    metric = program.objective.key
    if report.sigma is None:
        return _facts([("noise", f"not known yet, from {counted(report.runs, 'run')} of the branch")])
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
    metric = program.objective.key
    width = max(len(one_line(member.title)) for member in found.members)
    cells = [("", "alone", "in the stack"), *map(member_cells, found.members)]
    rows = [f"{title:{width}}  {alone:>18}  {share:>18}".rstrip() for title, alone, share in cells]
    gap = signed(found.interaction, found.interaction_error)
    facts = [
        ("sum", f"{signed(found.sum, found.sum_error)} {metric} of the single effects"),
        ("together", f"{signed(found.joint, found.joint_error)} {metric} measured"),
        ("interaction", f"{gap}, 95 % interval {interval(found.interval, found.interaction_error)}"),
    ]
    return Group(Text("\n".join(rows)), _facts(facts), Text())


def member_cells(member: Member) -> tuple[str, str, str]:
    """A stack's member, its effect alone, and what the stack gains by it; empty where unknown."""
    share = "" if member.share is None else signed(member.share, member.share_error)
    return one_line(member.title), signed(member.effect, member.standard_error), share


def shares_view(found: Sequence[Share]) -> Text:
    """What a joint move gains by each of its parts; empty for none."""
    if not found:
        return Text()
    cells = [("the move against it without", "by the model", "measured"), *map(share_cells, found)]
    width = max(len(name) for name, *_ in cells)
    rows = (f"{name:{width}}  {expected:>18}  {measured:>18}".rstrip() for name, expected, measured in cells)
    return Text("\n" + "\n".join(rows))


def share_cells(share: Share) -> tuple[str, str, str]:
    """A part of a joint move, and what the move gains by it: by the model, and measured, if it was."""
    known = share.before is not None or share.after is not None
    steps = f" {_scalar(share.before)} → {_scalar(share.after)}" if known else ""
    measured = "not measured" if share.measured is None else signed(share.measured, share.measured_error)
    return one_line(f"{share.name}{steps}"), signed(share.expected, share.standard_error), measured


def checks_view(checks: Sequence[Check]) -> RenderableType:
    """What `ar doctor` found, a line each, and below what is missing the command that mends it."""
    text = Text()
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        sign, style = ("✓", "green") if check.ok else ("✗", "red") if check.required else ("!", "yellow")
        text.append(sign, style=style).append(f" {check.name:<{width}}  {one_line(check.detail)}\n")
        if check.mend and not check.ok:
            text.append(f"{'':<{width + 4}}{one_line(check.mend)}\n", style="bold")
    text.rstrip()
    return text


def _used(note: Note) -> str | None:
    """What a run took of the machine."""
    if note.cpu_seconds is None:
        return None
    parts = [f"{note.cpu_seconds:.3g} s of processor time"]
    if note.peak_memory_mb is not None:
        parts.append(f"{note.peak_memory_mb:.0f} MB of memory")
    if note.gpu_memory_mb is not None:
        at_work = f"at work {note.gpu_percent or 0:.0f} % of the time"
        parts.append(f"{note.gpu_memory_mb:.0f} MB of its GPU, {at_work}")
    return ", ".join(parts) + (f" on {note.slot}" if note.slot else "")


def _price(spend: Spend | None) -> str | None:
    if not spend:
        return None
    cost = "" if spend.usd is None else f", {spend.usd:.2g} USD"
    return f"{spend.input:,} tokens in, {spend.cached:,} of them cached, {spend.output:,} out{cost}"


def _case_facts(case: Case, program: Program) -> list[tuple[str, str]]:
    verdict, metric = case.verdict, program.objective.key
    label = f" ({verdict.label})" if verdict.label else ""
    facts = [("verdict", f"{case.outcome}{label}: {one_line(verdict.reason)}")]
    if case.effect is not None:
        effect = f"{signed(case.effect, verdict.standard_error)} {metric}"
        within = f", 95 % interval {interval(case.interval)}" if case.interval else ""
        side = "below" if program.objective.direction == "minimize" else "above"
        facts.append(("effect", f"{effect}{within}; {side} 0 is better"))
    if verdict.z is not None and verdict.bar is not None:
        facts.append(("score", f"z = {verdict.z:.2f}; promotion needs {verdict.bar:.2f}"))
    if verdict.sigma is not None:
        what = "after the seed's effect" if verdict.paired else "between runs of equal code"
        facts.append(("noise", f"σ = {quantity(verdict.sigma)} {what}, {verdict.df} degrees of freedom"))
    own, base = (", ".join(map(str, seeds)) or "none" for seeds in (case.seeds, case.base_seeds))
    facts.append(("seeds", f"{own} against the incumbent's {base}"))
    facts += [
        (kind, f"{_key(name)} {quantity(before)} → {quantity(now)}")
        for kind, means in (("guard", case.guards), ("holdout", case.holdout))
        for name, (before, now) in means.items()
    ]
    if case.wanted:
        facts.append(("wanted", f"{case.wanted} would have been enough"))
    return facts


def _facts(facts: Iterable[tuple[str, str | None]], outcome_style: str = "") -> Text:
    """A fact a line; what is None is left out."""
    known = [(one_line(key), one_line(value)) for key, value in facts if value is not None]
    width = max((len(key) for key, _ in known), default=0)
    text = Text()
    for key, value in known:
        text.append(f"{key:<{width}}  ", style="dim")
        text.append(f"{value}\n", style=outcome_style if key == "outcome" else "")
    text.rstrip()
    return text


def _prose(text: str) -> list[RenderableType]:
    """A paragraph below an empty line; nothing where there is none to tell."""
    return [Text(), Text(plain(text).strip(), no_wrap=False, overflow="fold")] if text.strip() else []


def _key(metric: str) -> str:
    return metric.rpartition(":")[2]


def _scalar(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
