"""What another loop committed, and what the judge says of it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ar.campaign.observe import Seen, attempt_of
from ar.history.attempts import effect
from ar.history.records import History
from ar.project.program import Program
from ar.text import listed, one_line
from ar.views.marks import MARKS

NOTHING = "No commit was made."


def observed_view(seen: Iterable[Seen], history: History, program: Program) -> RenderableType:
    """A row a commit, in the order in which they were made, and below them what was left out or not tried."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("commit", "title"):
        table.add_column(header, no_wrap=header == "commit", overflow="ellipsis")
    table.add_column(one_line(program.objective.key), justify="right", no_wrap=True)
    table.add_column("verdict")
    remarks = []
    for item in seen:
        short, attempt = item.rev[:9], attempt_of(history, item)
        shown, verdict = "", Text("not tried" if item.refusal else "waits", style="dim")
        if attempt is not None:
            mark = MARKS[attempt.outcome]
            shown, verdict = (
                effect(attempt, program),
                Text(f"{mark.sign} {attempt.outcome}", style=mark.style),
            )
        table.add_row(Text(short), Text(one_line(item.title)), Text(shown), verdict)
        if item.refusal:
            remarks.append(f"{short} was not tried: {one_line(item.refusal)}")
        elif item.left_out:
            paths = listed([one_line(path) for path in item.left_out], 200)
            remarks.append(f"{short} was tried without what lies outside the scope: {paths}")
    if not table.rows:
        return Text(NOTHING)
    return Group(table, *map(Text, remarks))
