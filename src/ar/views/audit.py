"""What an audit says of a branch, as text."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from ar.campaign.audit import AuditReport, KeepFound, WholeFound, audit
from ar.campaign.campaign import Campaign
from ar.errors import NotFound
from ar.history.records import Finding, History
from ar.project.program import Program
from ar.text import counted, interval, one_line, quantity, signed
from ar.views.document import Items, Section, Table
from ar.views.facts import fact_lines

COLUMNS = ("keep", "title", "claimed", "measured", "runs", "verdict")
STYLES = {
    Finding.REAL: "bold green",
    Finding.NOT_CONFIRMED: "dim",
    Finding.WORSE: "red",
    Finding.UNDECIDED: "yellow",
}
_TITLE = 44  # columns of a title at most


def audit_view(report: AuditReport, program: Program, each: bool = True) -> RenderableType:
    """The keeps a row each, oldest first, and the branch as a whole.

    Args:
        each: the keeps, too.
    """
    facts = _facts(report, program)
    facts += [("left out", f"{one_line(title)}: {why}") for title, why in report.left_out.items()]
    table = [*_table(report), Text()] if each else []
    return Group(*table, fact_lines(facts))


def audit_section(campaign: Campaign, history: History) -> list[Section]:
    """For the report: what was audited of the branch; none where nothing was."""
    if not any(item.audited for item in history.attempts):
        return []
    try:
        found = audit(campaign, history).report()
    except NotFound:
        return []  # of another branch
    program = campaign.program
    facts = tuple(f"{name[0].upper()}{name[1:]}: {value}." for name, value in _facts(found, program))
    words = (
        "What the branch had kept, measured again over seeds, each against the branch before it. What was "
        "claimed rests on a single run and counts for nothing."
    )
    rows = tuple((title, commit, *rest) for commit, title, *rest in map(cells, found.keeps))
    header = (COLUMNS[1], COLUMNS[0], *COLUMNS[2:])
    return [Section("The audit of the branch", (words, Table(header, rows), Items(facts)))]


def _facts(report: AuditReport, program: Program) -> list[tuple[str, str]]:
    whole, key = report.whole, one_line(program.objective.key)
    counts = ", ".join(f"{count} {finding}" for finding in Finding if (count := report.count(finding)))
    claimed = f"{key} {signed(whole.claimed)}, from single runs" if whole.claimed is not None else "nothing"
    return [
        ("keeps", f"{len(report.keeps)}: {counts}"),
        ("claimed", claimed),
        ("measured", whole_words(whole, program)),
        ("runs", f"{report.runs} of {counted(len(report.keeps), 'keep')} and what they began at"),
    ]


def whole_words(whole: WholeFound, program: Program) -> str:
    """The head against the first commit, in words."""
    key = one_line(program.objective.key)
    if whole.change is None or whole.before is None or whole.after is None:
        return "the head against the first commit: not yet"
    within = f", 95 % interval {interval(whole.interval, whole.standard_error)}" if whole.interval else ""
    levels = f"{quantity(whole.before)} → {quantity(whole.after)}"
    pairs = f"{counted(whole.pairs, 'run')} of either side"
    return f"{key} {signed(whole.change, whole.standard_error)}{within} ({levels}; {pairs})"


def cells(keep: KeepFound) -> tuple[str, ...]:
    """A keep's row, by `COLUMNS`."""
    return (
        keep.commit[:9],
        one_line(keep.title),
        "" if keep.claimed is None else signed(keep.claimed),
        "" if keep.effect is None else signed(keep.effect, keep.standard_error),
        str(keep.pairs),
        f"{keep.finding}{f': {one_line(keep.reason)}' if keep.reason else ''}",
    )


def _table(report: AuditReport) -> list[Text]:
    rows = [COLUMNS, *map(cells, report.keeps)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    widths[1] = min(widths[1], _TITLE)
    styles = ["bold", *(STYLES[keep.finding] for keep in report.keeps)]
    lines = []
    for row, style in zip(rows, styles, strict=True):
        line = Text()
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            piece = Text(cell, style=style if place == len(COLUMNS) - 1 or style == "bold" else "")
            piece.truncate(width if place < len(COLUMNS) - 1 else len(cell), overflow="ellipsis")
            piece.align("right" if COLUMNS[place] in ("claimed", "measured", "runs") else "left", width)
            line.append_text(piece).append("  ")
        line.rstrip()
        lines.append(line)
    return lines
