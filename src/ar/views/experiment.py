"""An experiment or a proposal as text: what it is, why, how it ended, and its patch."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from ar.history.ideas import Proposal
from ar.history.records import Attempt, Experiment, Note
from ar.history.spend import Spend
from ar.judge.reflection import reflect
from ar.project.program import Program
from ar.text import counted, one_line, plain, signed, span
from ar.views.facts import fact_lines, prose, short_key, value_text
from ar.views.marks import MARKS

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


def log_view(
    program: Program, attempt: Attempt, experiment: Experiment, running_log: str = ""
) -> RenderableType:
    """One experiment: what it is, why it was tried, how it ended, what it printed."""
    note, verdict = experiment.note or Note(experiment.status), attempt.verdict
    mark = MARKS[attempt.outcome]
    head = Text(one_line(experiment.title), style="bold")
    head.append(f"\n{one_line(experiment.name)}", style="not bold")
    head.append(f"  {experiment.rev[:9]}", style="not bold dim")
    facts = [
        *run_facts(experiment),
        ("outcome", f"{mark.sign} {attempt.outcome}"),
        ("said to be", attempt.claimed or None),
        ("its record", note.claim.source if note.claim else None),
        (
            "verdict",
            f"{verdict.reason} {f'({verdict.called})' if verdict.label else ''}" if verdict else None,
        ),
        ("expected", _expected(program, attempt)),
    ]
    facts += [(short_key(metric), value_text(value)) for metric, value in experiment.metrics.items()]
    parts = [head, Text(), fact_lines(facts, mark.style), *prose(experiment.hypothesis)]
    printed = plain(running_log or note.log).strip("\n")
    title = "printed so far" if running_log else "printed"
    parts += [Text(), Text(f"-- {title} --" if printed else "It printed nothing.", style="dim")]
    if printed:
        parts.append(Text(printed))
    return Group(*parts)


def run_facts(experiment: Experiment) -> list[tuple[str, str | None]]:
    """What is known of one run, but for its metrics; None where there is nothing to say."""
    note = experiment.note or Note(experiment.status)
    return [
        ("status", " ".join(filter(None, (str(experiment.status), one_line(experiment.where))))),
        ("reason", note.reason or None),
        ("to mend it", note.mend or None),
        ("tried again", f"after a first try in which {note.retried}" if note.retried else None),
        ("agent", experiment.agent),
        ("seed", None if experiment.seed is None else str(experiment.seed)),
        ("took", None if note.seconds is None else span(note.seconds)),
        ("used", _used(note)),
        ("worker", note.worker or None),
        ("device", _device(note)),
        ("python", note.python or None),
        ("proposal", _price(note.spend)),
        ("cites", ", ".join(experiment.sources) or None),
        ("unprotected", "no walls kept the code under test in" if experiment.is_unprotected else None),
    ]


def proposal_view(proposal: Proposal, diff: str, name: str | None = None) -> RenderableType:
    """A proposal with its patch; `name` is the queued experiment's, None where nothing was queued."""
    head = Text(f"Queued {name}: " if name else "Would queue: ")
    head.append(one_line(proposal.title), style="bold")
    facts = [
        ("agent", proposal.agent),
        ("expected", proposal.expected or None),
        ("builds on", proposal.parent or None),
        ("cites", ", ".join(map(one_line, proposal.sources)) or None),
        ("cost", _price(proposal.spend)),
        *((key, value_text(value)) for key, value in proposal.params.items()),
    ]
    return Group(head, fact_lines(facts), *prose(proposal.hypothesis), Text(), diff_view(diff), Text())


def _expected(program: Program, attempt: Attempt) -> str | None:
    """The effect that its proposer expected, against the measured one where there is one."""
    said, told = one_line(attempt.first.expected), reflect(program, attempt)
    if told is None:
        return said or None
    return f"{signed(told.expected)}, measured {told.against}: {told.surprise}"


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


def _device(note: Note) -> str | None:
    """What it was measured on, and what of that does not tell its class."""
    if note.device is None:
        return None
    device = note.device
    parts = [
        device.device_class,
        counted(device.cores, "core"),
        f"driver {device.driver}",
        f"torch {device.torch}",
    ]
    known = [True, bool(device.cores), bool(device.driver), bool(device.torch)]
    return ", ".join(part for part, has in zip(parts, known, strict=True) if has)


def _price(spend: Spend | None) -> str | None:
    if not spend:
        return None
    cost = "" if spend.usd is None else f", {spend.usd:.2g} USD"
    return f"{spend.input:,} tokens in, {spend.cached:,} of them cached, {spend.output:,} out{cost}"
