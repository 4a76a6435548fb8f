"""What the judge says, as text: a verdict with its numbers, the noise, and what a whole's parts are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from ar.campaign import aa
from ar.campaign.stack import Result
from ar.history.records import Attempt, Verdict
from ar.judge.aa import AACheck
from ar.judge.findings import Additivity, Case, Member, NoiseReport
from ar.judge.rule import promote_bar
from ar.project.program import Program
from ar.text import counted, interval, one_line, quantity, signed
from ar.views.facts import fact_lines, short_key, value_text

if TYPE_CHECKING:
    from ar.surrogate.importance import Share


def noise_view(report: NoiseReport, program: Program) -> Text:
    """What the baseline's runs say of the noise, and what that lets a campaign find."""
    metric = program.objective.key
    if report.sigma is None:
        return fact_lines([("noise", f"not known yet, from {counted(report.runs, 'run')} of the branch")])
    paired = "not known to help yet" if program.seed else f"{program.file} names no seed to pair by"
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
    return fact_lines(facts)


def aa_view(found: AACheck, program: Program) -> Text:
    """What an A/A check found, and what to do about it."""
    told = [
        ("A/A check", aa.line(found)),
        ("seeds", f"{found.seeds}, each run again" if found.seeds else "none: every run stands for itself"),
    ]
    if found.highest is not None:
        told.append(("score", f"z = {found.highest:.2f} at most, where {promote_bar(2):.2f} promotes"))
    for spread in found.metrics:
        parts = [quantity(spread.mean)]
        if spread.sigma is not None:
            parts.append(f"σ = {quantity(spread.sigma)} between {'seeds' if found.seeds else 'runs'}")
        if spread.same_seed is not None:
            exactly = "to the last digit" if spread.is_deterministic else f"σ = {quantity(spread.same_seed)}"
            parts.append(f"{exactly} within one")
        if spread.drift:
            much = signed(spread.drift.size, spread.drift.standard_error)
            parts.append(f"{much} from the first run to the last")
        parts += [
            f"{signed(shift.size, shift.standard_error)} on {host}" for host, shift in spread.machines.items()
        ]
        told.append((short_key(spread.metric), ", ".join(parts)))
    flaws = [aa.mend(flaw, program) for flaw in found.flaws]
    told += [("warning", words) for words in flaws] or [("", "no flaw found")]
    return fact_lines(told)


def case_view(case: Case, program: Program, climbs: Mapping[str, Case] | None = None) -> Text:
    """A verdict in words and the numbers it rests on, then the same at each rung that it climbed to."""
    text = fact_lines([("title", one_line(case.title)), *_case_facts(case, program)])
    for rung, climb in (climbs or {}).items():
        text.append(f"\n\nat {rung}\n", style="bold").append_text(fact_lines(_case_facts(climb, program)))
    return text


def _case_facts(case: Case, program: Program) -> list[tuple[str, str]]:
    verdict, metric = case.verdict, program.objective.key
    label = f" ({verdict.called})" if verdict.label else ""
    facts = [("verdict", f"{case.outcome}{label}: {one_line(verdict.reason)}")]
    if case.effect is not None:
        effect = f"{signed(case.effect, verdict.standard_error)} {metric}"
        within = f", 95 % interval {interval(case.interval, verdict.standard_error)}" if case.interval else ""
        side = "below" if program.objective.direction == "minimize" else "above"
        facts.append(("effect", f"{effect}{within}; {side} 0 is better"))
    if verdict.z is not None and verdict.bar is not None:
        facts.append(("score", f"z = {verdict.z:.2f}; promotion needs {verdict.bar:.2f}"))
    if verdict.sigma is not None:
        what = "after the seed's effect" if verdict.paired else "between runs of equal code"
        facts.append(("noise", f"σ = {quantity(verdict.sigma)} {what}, {verdict.df} degrees of freedom"))
    if words := device_words(verdict, case.devices):
        facts.append(("measured", words))
    own, base = (", ".join(map(str, seeds)) or "none" for seeds in (case.seeds, case.base_seeds))
    facts.append(("seeds", f"{own} against the incumbent's {base}"))
    facts += [
        (kind, f"{short_key(name)} {quantity(before)} → {quantity(now)}")
        for kind, means in (("guard", case.guards), ("holdout", case.holdout))
        for name, (before, now) in means.items()
    ]
    if case.wanted:
        facts.append(("wanted", f"{case.wanted} would have been enough"))
    return facts


def device_words(verdict: Verdict, devices: Sequence[str]) -> str:
    """What a verdict was measured on, where the campaign has several classes of devices; else empty.

    Args:
        devices: those classes, the campaign's own first.
    """
    if len(devices) < 2 or not verdict.device:
        return ""
    own = "" if verdict.device == devices[0] else f", not the campaign's {one_line(devices[0])}"
    return f"on {one_line(verdict.device)}{own}"


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
    return Group(*([additivity_view(found, program)] if found else []), fact_lines(facts))


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
    return Group(Text("\n".join(rows)), fact_lines(facts), Text())


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
    steps = f" {value_text(share.before)} → {value_text(share.after)}" if known else ""
    measured = "not measured" if share.measured is None else signed(share.measured, share.measured_error)
    return one_line(f"{share.name}{steps}"), signed(share.expected, share.standard_error), measured
