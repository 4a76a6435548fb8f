"""A storage of Optuna's in an SQLite file: trials with their parameters and values, read and never run.

Optuna itself is not asked: it would write to the file, and other columns than these may hold pickles.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from ar.formats import BadData, load_json
from ar.history.records import Claimed
from ar.importing import rows
from ar.importing.rows import Fault, Log, Names, Row, Tool
from ar.project import values
from ar.project.values import Scalar

MAGIC = b"SQLite format 3\0"
MOST_BYTES = 512_000_000
_MOST_PARAMS = 50 * rows.MOST_ROWS
_MOST_STEPS, _STRIDE = 5000, 100_000  # of SQLite's machine: some seconds
_MOST_CELL = 1_000_000  # bytes
_TABLES = ("studies", "study_directions", "trials", "trial_params", "trial_values")
_STATES = {"COMPLETE": Claimed.ENDED, "PRUNED": Claimed.DISCARDED, "FAIL": Claimed.CRASHED}


def read(path: Path, names: Names) -> Log:
    """The trials of every study that has one objective.

    Raises:
        BadData: it is no such storage, or takes too long to read.
    """
    try:
        with closing(_opened(path)) as base:
            return _read(base, names)
    except sqlite3.Error as error:
        raise BadData(f"no storage of Optuna's that can be read: {error}") from None


def _opened(path: Path) -> sqlite3.Connection:
    base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    base.text_factory = lambda content: content.decode(errors="replace")
    base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_CELL)
    base.execute("PRAGMA trusted_schema = OFF")
    base.execute("PRAGMA query_only = ON")
    steps = iter(range(_MOST_STEPS))
    base.set_progress_handler(lambda: next(steps, None) is None, _STRIDE)
    return base


def _read(base: sqlite3.Connection, names: Names) -> Log:
    there = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if lacking := [name for name in _TABLES if name not in there]:  # a view may be anything
        raise BadData(f"no storage of Optuna's: it has no table {lacking[0]}")
    goals: dict[Any, int] = {}
    for (study,) in base.execute("SELECT study_id FROM study_directions LIMIT ?", (rows.MOST_ROWS,)):
        goals[study] = goals.get(study, 0) + 1
    measured = dict(base.execute("SELECT trial_id, value FROM trial_values LIMIT ?", (_MOST_PARAMS,)))
    settings: dict[Any, dict[str, Any]] = {}
    faults: list[Fault] = []
    wanted = "SELECT trial_id, param_name, param_value, distribution_json FROM trial_params LIMIT ?"
    for trial, name, value, text in base.execute(wanted, (_MOST_PARAMS,)):
        settings.setdefault(trial, {})[str(name)] = (value, text)
    found, unfinished = [], 0
    for trial, number, state, ended, study, title in _trials(base):
        place = f"trial {number} of {str(title)[:40]}"
        try:
            if state in ("RUNNING", "WAITING"):
                unfinished += 1
                continue
            if goals.get(study) != 1:
                raise BadData("its study has not one objective")
            if state not in _STATES:
                raise BadData("its state is none that is known")
            params, unknown = _params(settings.get(trial, {}), names)
            found.append(
                Row(
                    place=place,
                    key=f"{Tool.OPTUNA} {title} {number} {ended}",
                    title="",
                    status=_STATES[state],
                    value=values.number(measured.get(trial)),
                    params=params,
                    unknown=unknown,
                    when=rows.moment(str(ended)),
                )
            )
        except BadData as error:
            faults.append(Fault(place, str(error)))
    return Log(Tool.OPTUNA, tuple(found), tuple(faults), unfinished)


def _trials(base: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    yield from base.execute(
        "SELECT trial_id, number, state, datetime_complete, trials.study_id, study_name FROM trials"
        " JOIN studies ON studies.study_id = trials.study_id ORDER BY trials.study_id, number LIMIT ?",
        (rows.MOST_ROWS,),
    )


def _params(found: Mapping[str, Any], names: Names) -> tuple[dict[str, Scalar], tuple[str, ...]]:
    """The project's parameters that a trial set, and those it set that the project has not."""
    told = {name: rows.meant(name, names.params) for name in found}
    params = {ours: _value(name, *found[name]) for name, ours in told.items() if ours}
    return params, tuple(name for name, ours in told.items() if not ours)


def _value(name: str, value: Any, text: Any) -> Scalar:
    """What a stored number stands for: itself, a whole number, or a place among choices."""
    distribution = load_json(str(text), _MOST_CELL)
    kind = distribution.get("name") if isinstance(distribution, dict) else None
    plain = values.number(value)
    if not isinstance(kind, str) or plain is None:
        raise BadData(f"parameter {name[:40]} has no value")
    if kind == "CategoricalDistribution":
        attributes = distribution.get("attributes")
        choices = attributes.get("choices") if isinstance(attributes, dict) else None
        if isinstance(choices, list) and 0 <= int(plain) < len(choices):
            chosen = choices[int(plain)]
            if chosen is None or isinstance(chosen, str | int | float | bool):
                return chosen
        raise BadData(f"parameter {name[:40]} is none of its choices")
    return int(plain) if kind.startswith("Int") else plain
