"""AIDE's `journal.json`: the nodes of its tree of solutions, each a program with a plan and a metric."""

from __future__ import annotations

from typing import Any

from ar.formats import BadData
from ar.history.records import Claimed
from ar.importing import rows
from ar.importing.rows import Fault, Log, Row, Tool
from ar.project import values


def is_journal(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("nodes"), list)


def read(data: dict[str, Any]) -> Log:
    """The journal; a node that has no program is a fault."""
    found: list[Row] = []
    faults: list[Fault] = []
    for step, node in enumerate(data["nodes"][: rows.MOST_ROWS]):
        place = f"node {step}"
        try:
            found.append(_row(node, place))
        except BadData as error:
            faults.append(Fault(place, str(error)))
    return Log(Tool.AIDE, tuple(found), tuple(faults))


def _row(node: Any, place: str) -> Row:
    if not isinstance(node, dict) or not isinstance(node.get("code"), str) or not node["code"].strip():
        raise BadData("it holds no program")
    metric, plan = node.get("metric"), str(node.get("plan") or "").strip()
    value = values.number(metric.get("value")) if isinstance(metric, dict) else None
    is_buggy = node.get("is_buggy") is not False or node.get("exc_type") is not None
    analysis = str(node.get("analysis") or "").strip()
    return Row(
        place=place,
        key=f"{Tool.AIDE} {node.get('id')} {node['code']}",
        title=plan.partition("\n")[0],
        status=Claimed.CRASHED if is_buggy else Claimed.ENDED,
        value=None if is_buggy else value,
        why="\n\n".join(filter(None, (plan, analysis)))[: rows.MOST_TEXT],
        program=node["code"],
        when=values.number(node.get("ctime")),
    )
