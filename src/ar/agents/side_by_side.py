"""Two experiments side by side, as an agent is told."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from ar.agents import holdout
from ar.agents.curve_tables import CurvePair
from ar.agents.fence import fence
from ar.agents.rows import line
from ar.history.comparison import Measured, measured, settings
from ar.history.records import Attempt
from ar.project.program import Program
from ar.text import one_line, quantity, shorten_middle, signed

_METRICS, _PARAMS, _VALUE = 40, 60, 80
_DIFF, _CURVES = 12_000, 6_000  # characters


def told(program: Program, a: Attempt, b: Attempt, curves: Iterable[CurvePair], diff: str) -> str:
    """The comparison as text, nothing of the holdout in it.

    Args:
        curves: of a and of b; those that one side lacks are left to `show_experiment`.
        diff: from a to b.
    """
    runs = (*a.experiments, *b.experiments)

    def cell(value: object) -> str:
        hidden = holdout.hidden(one_line(str(value)), program, runs)
        return "none" if value is None else shorten_middle(hidden, _VALUE)

    facts = [holdout.hidden(line(program, item), program, runs) for item in (a, b)]
    names = holdout.may_tell(program, runs)[:_METRICS]
    main = {str(metric) for metric in (program.objective, *program.guards)}
    metrics = [row for name in names for row in _metric(measured(name, a, b), name in main)]
    params = [f"{cell(one.key)}: {cell(one.a)} | {cell(one.b)}" for one in settings(program, a, b)]
    if len(params) > _PARAMS:
        params = [*params[:_PARAMS], f"… {len(params) - _PARAMS} more"]
    parts = [
        fence("\n".join(facts), "a, then b"),
        fence("\n".join(metrics) or "none", "metrics: a | b | b − a ± one standard error, over common seeds"),
        fence("\n".join(params) or "none", "parameters that differ: a | b"),
        *(_curve(curve) for curve in curves if curve.a and curve.b),
        fence(diff or "nothing besides outputs", "from a to b", _DIFF),
    ]
    return "\n".join(parts)


def _metric(found: Measured, each: bool) -> list[str]:
    """A metric on a line, and a line a seed where `each` is to be told."""
    gap = "" if found.difference is None else signed(found.difference, found.standard_error)
    over = f" over {found.seeds}" if found.seeds else ""
    lines = [f"{one_line(found.metric)}: {_size(found.a)} | {_size(found.b)} | {gap}{over}"]
    if each and len(found.runs) > 1:
        lines += [f"  seed {one_line(str(run.seed))}: {_size(run.a)} | {_size(run.b)}" for run in found.runs]
    return lines


def _size(value: float | None) -> str:
    return "none" if value is None else quantity(value)


def _curve(curve: CurvePair) -> str:
    """Row beside row."""
    rows = zip_longest(curve.a, curve.b, fillvalue=())
    text = "\n".join(f"{' '.join(left)} | {' '.join(right)}" for left, right in rows)
    return fence(text, f"curve {curve.path}: a | b", _CURVES)
