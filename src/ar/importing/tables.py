"""Tables: the `results.tsv` of autoresearch and its forks, and what W&B and MLflow export as CSV.

No two forks have the same columns. What a column holds is told by its name and, where that says nothing, by
its cells. A line that does not fit the header is a fault, with its number, and the others are read.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ar.formats import BadData, load_yaml, numbered
from ar.history.records import Claimed
from ar.importing import rows
from ar.importing.rows import Fault, Log, Names, Row, Tool
from ar.project.values import Scalar
from ar.text import listed, one_line

_NAMES = {
    "commit": "commit sha hash git_commit commit_hash commit_sha rev revision",
    "status": "status state decision verdict outcome result",
    "title": "description desc change idea experiment title summary name run_name tags_mlflow_runname",
    "why": "hypothesis notes note rationale reason why comment",
    "id": "run_id id",
    "when": "timestamp created created_at start_time date time datetime",
}
_ROLES = {name: role for role, names in _NAMES.items() for name in names.split()}
_TESTS: dict[str, Callable[[str], object]] = {
    "commit": rows.is_commit,
    "status": lambda cell: rows.is_under_way(cell) or rows.status_of(cell),
}
_SHOWS = {**_TESTS, "commit": lambda cell: rows.is_commit(cell) and not cell.isdigit()}  # without a name
_COSTS = {"memory", "mem", "vram", "seconds", "minutes", "time", "duration", "runtime", "step", "run", "iter"}
_NONE = frozenset(("", "-", "none", "null", "n/a", "na"))
_MOST_LINES, _MOST_COLUMNS = 10 * rows.MOST_ROWS, 5000
_SEEN = 200  # lines by which an unnamed column is told
_MOST, _LEAST = 0.8, 0.3  # share of its cells that must be of a kind, and where its name says that they are

_Line = tuple[int, list[str]]  # number, counted from 1, and cells


@dataclass(frozen=True)
class _Columns:
    """Which column holds what.

    Args:
        roles: commit, status, title, why, id, when: to its place.
        metric: place and name of the objective; None where no column can be it.
        guards, params: place to the project's name.
    """

    count: int
    roles: Mapping[str, int]
    metric: tuple[int, str] | None = None
    guards: Mapping[int, str] = field(default_factory=dict)
    params: Mapping[int, str] = field(default_factory=dict)

    @property
    def needed(self) -> int:
        """How many cells a line must have: forks add columns at the end, and leave old lines as they are."""
        places = [self.roles[role] for role in ("commit", "status", "title") if role in self.roles]
        return max([*places, self.metric[0] if self.metric else 0]) + 1


def read(text: str, names: Names) -> Log:
    """The table.

    Raises:
        BadData: it has no line, or no column that tells an attempt.
    """
    faults: list[Fault] = []
    by_tabs = "\t" in text.split("\n", 1)[0]
    lines = list(islice(_lines(text, by_tabs, faults), _MOST_LINES))
    if not lines:
        raise BadData("it has no line")
    if max(len(cells) for _, cells in lines) > _MOST_COLUMNS:
        raise BadData(f"a line has more than {_MOST_COLUMNS} cells")
    parts = [(header, _columns(header, cells, names), cells) for header, cells in _parts(lines)]
    header, columns, _ = parts[0]
    if "commit" not in columns.roles and not columns.params:
        what = "no column names commits, or one of the project's parameters that may be set"
        raise BadData(f"{what}: {', '.join(map(one_line, header))[:200]}")
    tool = _tool(header, columns)
    found: list[Row] = []
    unfinished = 0
    for number, cells, columns in ((*line, columns) for _, columns, part in parts for line in part):
        place = f"line {number}"
        if len(found) == rows.MOST_ROWS:
            faults.append(Fault(place, f"more than {rows.MOST_ROWS} attempts; the rest is not read"))
            break
        try:
            cells = _fitted(cells, columns, by_tabs)
            if rows.is_under_way(_cell(cells, columns, "status")):
                unfinished += 1
            else:
                found.append(_row(cells, columns, tool, place, names))
        except BadData as error:
            faults.append(Fault(place, str(error)))
    chained = rows.compared(found) if tool is Tool.AUTORESEARCH else found
    faults.sort(key=lambda fault: int(fault.place.rpartition(" ")[2]))
    return Log(tool, tuple(chained), tuple(faults), unfinished, _remarks(header, parts[0][1], names))


def _lines(text: str, by_tabs: bool, faults: list[Fault]) -> Iterator[_Line]:
    """The lines that are not empty. Where tabs part the cells, quotes are text: agents write prose."""
    if by_tabs:
        for number, line in enumerate(io.StringIO(text, newline="\n"), 1):
            if line.strip():
                yield number, [cell.strip() for cell in line.split("\t")]
        return
    for number, row in numbered(text):
        if isinstance(row, BadData):
            faults.append(Fault(f"line {number}", str(row)))
        elif any(cell.strip() for cell in row):
            yield number, [cell.strip() for cell in row]


def _parts(lines: list[_Line]) -> Iterator[tuple[list[str], list[_Line]]]:
    """Header and lines; again where the record went on with other columns, below a header of its own. The
    names are made up where the first line is an attempt already."""
    first = lines[0][1]
    is_attempt = any(rows.is_commit(cell) for cell in first) and any(map(rows.status_of, first))
    header = [f"column {place}" for place in range(1, len(first) + 1)] if is_attempt else first
    part: list[_Line] = []
    for line in lines if is_attempt else lines[1:]:
        found = [_ROLES.get(rows.spelled(cell)) for cell in line[1]]
        if "commit" in found and "status" in found:
            yield header, part
            header, part = line[1], []
        else:
            part.append(line)
    yield header, part


def _columns(header: Sequence[str], lines: Sequence[_Line], names: Names) -> _Columns:
    """Which column holds what: by its name, with which the cells of ends and commits must agree."""
    spelled = [rows.spelled(name) for name in header]
    whole = [row for _, row in lines if 2 * len(row) > len(header)][:_SEEN]
    cells = [[row[place] for row in whole if place < len(row)] for place in range(len(header))]
    free = {at for at, name in enumerate(header) if not names.is_holdout(name)}
    metric = next(
        ((at, header[at]) for at in sorted(free) if rows.meant(header[at], [names.objective])), None
    )
    free -= {metric[0]} if metric else set()
    guards = {at: found for at in sorted(free) if (found := rows.meant(header[at], names.guards))}
    free -= guards.keys()
    roles: dict[str, int] = {}
    for role, wanted in _NAMES.items():
        test, shows = _TESTS.get(role), _SHOWS.get(role)
        places = (at for name in wanted.split() for at in sorted(free) if spelled[at] == name)
        alike = (at for at in sorted(free) if shows and _share(cells[at], shows, none=0.0) >= _MOST)
        fits = (at for at in places if test is None or _share(cells[at], test, none=1.0) >= _LEAST)
        place = next(fits, None)
        place = next(alike, None) if place is None else place
        if place is not None:
            roles[role] = place
            free.discard(place)
    params = {at: found for at in sorted(free) if (found := rows.meant(header[at], names.params))}
    free -= params.keys()
    if "title" not in roles and (wordy := [at for at in sorted(free) if _words(cells[at]) > 1]):
        roles["title"] = max(wordy, key=lambda at: _words(cells[at]))
    if metric is None and "commit" in roles:
        metric = _likely(header, sorted(free), cells)
    return _Columns(len(header), roles, metric, guards, params)


def _likely(
    header: Sequence[str], free: Sequence[int], cells: Sequence[Sequence[str]]
) -> tuple[int, str] | None:
    """The first column of numbers whose name does not say that it is a cost: the metric comes first in all
    forks."""
    for place in free:
        is_cost = not _COSTS.isdisjoint(rows.spelled(header[place]).split("_"))
        if not is_cost and _share(cells[place], rows.number, none=0.0) >= _MOST:
            return place, header[place]
    return None


def _share(cells: Sequence[str], test: Callable[[str], object], none: float) -> float:
    """Of the cells that are not empty, how many pass; `none` where all are empty."""
    full = [cell for cell in cells if cell.lower() not in _NONE]
    return sum(test(cell) not in (None, False) for cell in full) / len(full) if full else none


def _words(cells: Sequence[str]) -> float:
    return sum(len(cell.split()) for cell in cells) / len(cells) if cells else 0.0


def _tool(header: Sequence[str], columns: _Columns) -> Tool:
    spelled = {rows.spelled(name) for name in header}
    if spelled & {"artifact_uri", "source_name", "source_type"} or {"run_id", "experiment_id"} <= spelled:
        return Tool.MLFLOW
    if "state" in spelled and spelled & {"runtime", "sweep"} and "commit" not in spelled:
        return Tool.WANDB
    return Tool.AUTORESEARCH if "commit" in columns.roles else Tool.TABLE


def _fitted(cells: list[str], columns: _Columns, by_tabs: bool) -> list[str]:
    """The cells, one for each column.

    Raises:
        BadData: they are too few, or too many.
    """
    if len(cells) > columns.count and by_tabs and columns.roles.get("title") == columns.count - 1:
        last = columns.count - 1
        cells = [*cells[:last], " ".join(cells[last:])]  # a tab in the description
    if not columns.needed <= len(cells) <= columns.count:
        raise BadData(f"{len(cells)} cells where {columns.count} belong")
    return cells + [""] * (columns.count - len(cells))


def _cell(cells: Sequence[str], columns: _Columns, role: str) -> str:
    return cells[columns.roles[role]] if role in columns.roles else ""


def _row(cells: Sequence[str], columns: _Columns, tool: Tool, place: str, names: Names) -> Row:
    said = _cell(cells, columns, "status")
    status = rows.status_of(said) if "status" in columns.roles else Claimed.ENDED
    if status is None:
        raise BadData(f"status '{one_line(said)[:40]}' is none that is known")
    value, text = None, cells[columns.metric[0]] if columns.metric else ""
    if status is not Claimed.CRASHED and text.lower() not in _NONE:
        value = rows.number(text)
        if value is None and text.lower() not in ("nan", "inf", "-inf", "infinity"):
            raise BadData(f"its metric '{one_line(text)[:40]}' is no number")
    guards = {name: one for at, name in columns.guards.items() if (one := rows.number(cells[at])) is not None}
    commit, title = _cell(cells, columns, "commit"), _cell(cells, columns, "title")
    run = _cell(cells, columns, "id")
    return Row(
        place=place,
        key=f"{tool} {run}" if run and tool is not Tool.AUTORESEARCH else f"{tool} {' '.join(cells).strip()}",
        title=title,
        status=status,
        value=value,
        why=_cell(cells, columns, "why")[: rows.MOST_TEXT],
        metric=columns.metric[1] if columns.metric else "",
        guards=guards,
        commit=commit if rows.is_commit(commit) and tool is Tool.AUTORESEARCH else "",
        params={
            name: _value(cells[at], names.params[name])
            for at, name in columns.params.items()
            if cells[at].lower() not in _NONE
        },
        when=rows.moment(_cell(cells, columns, "when")),
    )


def _value(text: str, now: Scalar) -> Scalar:
    """A parameter's value; text where it is text in the project."""
    if isinstance(now, str):
        return text
    try:
        value = load_yaml(text)
    except BadData:
        return text
    if isinstance(now, bool) and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return value if isinstance(value, str | int | float | bool) else text


def _remarks(header: Sequence[str], columns: _Columns, names: Names) -> tuple[str, ...]:
    found = [name for at, name in enumerate(header) if rows.is_setting(name) and at not in columns.params]
    others = listed([one_line(name) for name in found], 200)
    strange = (f"not among the parameters that a change may set: {others}",) if found else ()
    key = names.objective.rpartition(":")[2]
    if columns.metric is None:
        return (f"no column is {key}, so that no value is known", *strange)
    if not rows.meant(columns.metric[1], [names.objective]):
        return (f"taken for {key}: the column {one_line(columns.metric[1])}", *strange)
    return strange
