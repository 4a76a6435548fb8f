"""pi-autoresearch's log, `autoresearch.jsonl`: a JSON line for each session, and one for each experiment.

A session's line has `type: config`, `metricName` and `bestDirection`; an experiment's `commit`, `metric`,
`metrics`, `status`, `description`, `timestamp` (ms) and `asi`, in which the agent says why. The commit is the
change's where it was kept; what was discarded is in no commit, and its line names the one it was tried on.
"""

from __future__ import annotations

import io
from typing import Any

from ar.formats import BadData, load_json
from ar.history.records import Claimed
from ar.importing import rows
from ar.importing.rows import Fault, Log, Names, Row, Tool
from ar.project import values
from ar.text import one_line

_MOST_LINE = 1_000_000


def read(text: str, names: Names) -> Log:
    """The log; what is no line of one is a fault."""
    found: list[Row] = []
    session: list[Row] = []
    faults: list[Fault] = []
    metric = ""
    for number, line in enumerate(io.StringIO(text, newline="\n"), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            data = load_json(line, _MOST_LINE)
            if not isinstance(data, dict):
                raise BadData("no object")
            if data.get("type") == "config":
                found += rows.compared(session)
                session, metric = [], one_line(str(data.get("metricName") or data.get("metric_name") or ""))
            elif "commit" in data or "metric" in data:
                session.append(_row(data, place, metric, names))
        except BadData as error:
            faults.append(Fault(place, str(error)))
        if len(found) + len(session) == rows.MOST_ROWS:
            faults.append(Fault(place, f"more than {rows.MOST_ROWS} attempts; the rest is not read"))
            break
    return Log(Tool.PI_AUTORESEARCH, (*found, *rows.compared(session)), tuple(faults))


def _row(data: dict[str, Any], place: str, metric: str, names: Names) -> Row:
    said = str(data.get("status", ""))
    status = rows.status_of(said)
    if status is None:
        raise BadData(f"status '{said[:40]}' is none that is known")
    value = values.number(data.get("metric"))
    if value is None and status is not Claimed.CRASHED:
        raise BadData("its metric is no number")
    is_kept, commit = status is Claimed.KEPT, str(data.get("commit", ""))
    title, asi, others = str(data.get("description", "")), data.get("asi"), data.get("metrics")
    guards = {
        guard: amount
        for name, one in (others.items() if isinstance(others, dict) else ())
        if (guard := rows.meant(str(name), names.guards)) and (amount := values.number(one)) is not None
    }
    when = values.number(data.get("timestamp"))
    return Row(
        place=place,
        key=f"{Tool.PI_AUTORESEARCH} {commit} {data.get('run')} {data.get('timestamp')} {title}",
        title=title,
        status=status,
        value=None if status is Claimed.CRASHED else value,
        why=str(asi.get("hypothesis", ""))[: rows.MOST_TEXT] if isinstance(asi, dict) else "",
        metric=metric,
        guards=guards,
        commit=commit if is_kept and rows.is_commit(commit) else "",
        when=None if when is None else rows.moment(str(when)),
    )
