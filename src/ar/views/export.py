"""The history for programs (JSON) and for spreadsheets (CSV)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ar.history.records import Attempt, History
from ar.judge import aa
from ar.judge.findings import Total
from ar.project.program import Program
from ar.project.values import Scalar
from ar.text import one_line
from ar.views.listing import Listing, listing

if TYPE_CHECKING:
    from ar.agents.account import Account
    from ar.surrogate.importance import Importance

_KEYS = ("name", "title", "agent", "baseline", "candidate", "outcome", "value", "standard_error", "guards")
_RUN_KEYS = (
    *("name", "rev", "status", "where", "reason", "seed", "created", "device_class", "metrics", "params"),
)
_CSV_COLUMNS = (
    *("name", "title", "agent", "outcome", "attempt", "candidate", "status", "seed", "rev", "baseline"),
    *("created", "rung"),
)


def to_json(
    history: History,
    program: Program,
    listed: Listing | None = None,
    total: Total | None = None,
    matters: Sequence[Importance] = (),
    paid: Account | None = None,
) -> str:
    """The history as one JSON object; its shape is stable, keys may be added.

    - `objective`: `metric`, `direction`; `guards`: metric names; `head`, `incumbent`, `sigma` as in `History`
    - `total`, null before the closing audit: `change` from the first baseline to the audit in the metric's
      own direction, `standard_error`, `interval` (95 %), `before`, `after`, `runs_before`, `runs_after`
    - `aa`, what the latest A/A check came to, null where none was made: as in `AACheck`
    - `matters`, of each searched parameter once there is a model, what matters most first: `name`, `size`
      (how much worse its worst value is than its best), `standard_error`, `interval` (95 %), `best`,
      `worst`, `is_clear` (whether it is told apart from nothing)
    - `spent`, null where it was not asked for: `total` and, by the agent's name, `agents`, each with `input`,
      `cached` (of the input), `output` (tokens) and `usd` (null without prices)
    - `attempts`, those that are listed, newest first where nobody sorts them: `name`, `title`, `agent`,
      `baseline`, `candidate`, `outcome`, `value`, `standard_error`, `guards` (metric name to mean), `verdict`
      (as in `Verdict`, or null), `claim` (as in `Claim`: what an imported one is said to be; else null),
      `audited` (as in `Audited`, or null), `created`, `rungs`: the same of what was measured at larger
      scales, by the rung's name
    - each with `experiments`, oldest first: `name`, `rev`, `status`, `where` (it waits or runs; empty where
      that is in this clone, or over), `seed`, `created`, `device_class` (what it was measured on; empty where
      unknown), `metrics` and `params` (keyed `file:dotted.key`)

    Numbers that are not finite become null: JSON has no word for them.
    """
    shown = (listed or listing(history, program)).shown
    data = {
        "objective": {"metric": str(program.objective), "direction": program.objective.direction},
        "guards": [str(guard) for guard in program.guards],
        "head": history.head,
        "incumbent": history.incumbent,
        "sigma": history.sigma,
        "total": total.to_json() if total else None,
        "aa": checked.to_json() if (checked := aa.last(program, history)) else None,
        "matters": [one.to_json() for one in matters],
        "spent": _spent_json(paid) if paid else None,
        "attempts": [
            {
                **_attempt_json(attempt),
                "rungs": {
                    climb.rung: _attempt_json(climb)
                    for climb in history.at_rungs
                    if climb.candidate == attempt.candidate
                },
            }
            for attempt in shown
        ],
    }
    return json.dumps(finite(data), indent=2, allow_nan=False)


def _spent_json(paid: Account) -> dict[str, Any]:
    return {"total": asdict(paid.total), "agents": {name: asdict(one) for name, one in paid.agents.items()}}


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    return {
        **{key: getattr(attempt, key) for key in _KEYS},
        "verdict": attempt.verdict.to_json() if attempt.verdict else None,
        "claim": attempt.claim.to_json() if attempt.claim else None,
        "audited": attempt.audited.to_json() if attempt.audited else None,
        "created": attempt.created,
        "experiments": [{key: getattr(run, key) for key in _RUN_KEYS} for run in attempt.experiments],
    }


def finite(value: Any) -> Any:
    """Plain data with null for numbers that JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_csv(history: History, program: Program, listed: Listing | None = None) -> str:
    """A line an experiment, newest attempt first; metrics and parameters a column each.

    The objective's column is the first of the metrics, the guards' follow. Runs at larger scales come last.
    """
    shown = list((listed or listing(history, program)).shown)
    inside = {attempt.candidate for attempt in shown}
    shown += [climb for climb in reversed(history.at_rungs) if climb.candidate in inside]
    runs = [run for attempt in shown for run in attempt.experiments]
    known = dict.fromkeys(key for run in runs for key in run.metrics)
    first = [str(metric) for metric in (program.objective, *program.guards)]
    metrics = [*first, *(key for key in known if key not in first)]
    params = list(dict.fromkeys(key for run in runs for key in run.params))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(name) for name in (*_CSV_COLUMNS, *metrics, *params)])
    for attempt in shown:
        for run in attempt.experiments:
            writer.writerow(
                [
                    *map(_cell, (run.name, run.title, run.agent, str(attempt.outcome), attempt.name)),
                    *(_cell(run.candidate), str(run.status), "" if run.seed is None else run.seed, run.rev),
                    *(run.baseline, f"{run.created:.0f}", _cell(run.rung)),
                    *(_cell(run.metrics.get(key)) for key in metrics),
                    *(_cell(run.params.get(key)) for key in params),
                ]
            )
    return out.getvalue()


def rows_to_json(listed: Listing) -> str:
    """The chosen columns of each attempt, an object each, as a JSON list."""
    rows = [{column.name: column.of(attempt) for column in listed.columns} for attempt in listed.shown]
    return json.dumps(finite(rows), indent=2, allow_nan=False)


def rows_to_csv(listed: Listing) -> str:
    """The chosen columns of each attempt, a line each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(column.name) for column in listed.columns])
    writer.writerows([_cell(column.of(attempt)) for column in listed.columns] for attempt in listed.shown)
    return out.getvalue()


def _cell(value: Scalar) -> Scalar:
    """Text on one line, and such that no spreadsheet takes it for a formula."""
    if not isinstance(value, str):
        return value
    line = one_line(value)
    return f"'{line}" if line.startswith(tuple("=+-@＝＋－＠")) else line
