"""Which tool's record a file is, told by its content, and its reading within bounds."""

from __future__ import annotations

import stat
from pathlib import Path

from ar.errors import ArError, BadState
from ar.formats import BadData, load_json
from ar.history import reader
from ar.importing import aide, optuna_storage, pi_autoresearch, tables
from ar.importing.rows import Log, Names
from ar.project.params import ParamKey
from ar.project.project import Project

MOST_BYTES = 32_000_000


class BadRecord(ArError):
    """A file is no other tool's record that can be read."""


def read(path: Path, names: Names) -> Log:
    """The attempts of a record.

    Raises:
        BadRecord: it is none, or too large.
        BadState: the file cannot be read.
    """
    known = "what is known: results.tsv, a CSV export, autoresearch.jsonl, journal.json, Optuna's SQLite file"
    try:
        return _read(path, names)
    except BadData as error:
        raise BadRecord(f"{path}: {error}", known) from None
    except OSError as error:
        raise BadState(f"cannot read {path}: {error.strerror}") from None


def _read(path: Path, names: Names) -> Log:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise BadData("no regular file")
    with path.open("rb") as stream:
        content = stream.read(len(optuna_storage.MAGIC))
        if content == optuna_storage.MAGIC:
            if facts.st_size > optuna_storage.MOST_BYTES:
                raise BadData(f"larger than {optuna_storage.MOST_BYTES // 1_000_000} MB")
            return optuna_storage.read(path, names)
        content += stream.read(MOST_BYTES)
    if len(content) > MOST_BYTES:
        raise BadData(f"larger than {MOST_BYTES // 1_000_000} MB")
    text = content.decode("utf-8-sig", errors="replace")
    if not text.lstrip().startswith("{"):
        return tables.read(text, names)
    try:
        whole = load_json(text, MOST_BYTES)
    except BadData:
        return pi_autoresearch.read(text, names)
    return aide.read(whole) if aide.is_journal(whole) else pi_autoresearch.read(text, names)


def names_of(project: Project) -> Names:
    """The project's own names: its metrics, and the parameters that a change may set."""
    program = project.program
    values = {}
    for flat, value in reader.baseline_params(project).items():
        key = ParamKey.parse(flat)
        if program.scope.allows_param(key) and key != program.seed:
            values[str(key)] = value
    return Names(
        objective=str(program.objective),
        guards=tuple(str(guard) for guard in program.guards),
        holdout=str(program.holdout) if program.holdout else "",
        params=values,
    )
