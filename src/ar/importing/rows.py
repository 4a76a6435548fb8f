"""What a record of another tool says of each attempt, whatever the tool's format is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from ar.history.records import Claimed
from ar.project.values import Scalar

MOST_ROWS = 20_000
MOST_TEXT = 4000  # characters of what a record says of one attempt's reasons

_WORDS = {
    Claimed.KEPT: "keep kept accept accepted improved promote promoted",
    Claimed.DISCARDED: "discard discarded reject rejected revert reverted drop dropped pruned",
    Claimed.CRASHED: "crash crashed fail failed failure error oom timeout timed_out killed checks_failed",
    Claimed.ENDED: "ended finished complete completed done success succeeded ok baseline",
}
_STATUSES = {word: status for status, words in _WORDS.items() for word in words.split()}
_UNDER_WAY = frozenset(("running", "waiting", "queued", "pending", "scheduled", "preempting"))
_PREFIX = re.compile(r"^(metrics?|params?|config|summary|hparams|user_attrs)[./]", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-fA-F]{7,40}")


class Tool(StrEnum):
    """Whose record it is."""

    AUTORESEARCH = "autoresearch"
    PI_AUTORESEARCH = "pi-autoresearch"
    AIDE = "aide"
    WANDB = "wandb"
    MLFLOW = "mlflow"
    OPTUNA = "optuna"
    TABLE = "table"  # anybody's


@dataclass(frozen=True)
class Row:
    """One attempt as its record has it.

    Args:
        place: in the record, in words: `line 12`.
        key: equal whenever the same attempt is read again.
        title: what was tried; empty where the record does not say.
        why: the longer text.
        value, before, metric, guards: as in `Claim`.
        commit: beginning of the id of the commit that made the change; empty where none is named.
        params: the project's parameters, by their names here, and what they were set to.
        program: the whole text of the one file that the tool writes.
        when: unix time.
        is_start: it measures what the tool began at, and tries nothing.
        unknown: names of parameters that it set and the project has not.
    """

    place: str
    key: str
    title: str
    status: Claimed
    value: float | None = None
    why: str = ""
    metric: str = ""
    before: float | None = None
    guards: Mapping[str, float] = field(default_factory=dict)
    commit: str = ""
    params: Mapping[str, Scalar] = field(default_factory=dict)
    program: str = ""
    when: float | None = None
    is_start: bool = False
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """A place of a record that cannot be read, and why."""

    place: str
    what: str


@dataclass(frozen=True)
class Log:
    """A record that was read.

    Args:
        unfinished: how many attempts were under way in it.
        remarks: how it was understood, where that is not plain.
    """

    tool: Tool
    rows: tuple[Row, ...]
    faults: tuple[Fault, ...] = ()
    unfinished: int = 0
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Names:
    """The project's own names, by which a record's are told.

    Args:
        objective, guards: metrics, as `file:key`.
        holdout: the metric that no agent may see; empty where there is none.
        params: parameters that a change may set, as `ParamKey` writes them, and their values now.
    """

    objective: str
    guards: tuple[str, ...] = ()
    holdout: str = ""
    params: Mapping[str, Scalar] = field(default_factory=dict)

    def is_holdout(self, name: str) -> bool:
        return bool(self.holdout) and meant(name, [self.holdout]) != ""


def status_of(text: str) -> Claimed | None:
    """What a record's word for an end means; None where it is none that is known."""
    word = re.split(r"[^\w-]", text.strip().lower(), maxsplit=1)[0].replace("-", "_")
    return _STATUSES.get(word)


def is_under_way(text: str) -> bool:
    return text.strip().lower() in _UNDER_WAY


def is_commit(text: str) -> bool:
    """Whether it may be (the beginning of) a commit's id."""
    return _HEX.fullmatch(text.strip()) is not None


def is_setting(name: str) -> bool:
    """Whether a column says by its name that it holds a parameter, and no result."""
    return re.match(r"(params?|config)[./]", name.strip(), re.IGNORECASE) is not None


def spelled(name: str) -> str:
    """A name as the tools spell it alike: without what they put before it, signs and case."""
    return re.sub(r"[^a-z0-9]+", "_", _PREFIX.sub("", name.strip()).lower()).strip("_")


def meant(name: str, known: Iterable[str]) -> str:
    """Which of the project's names a record's name means: the whole key, or the last part of just one of
    them; empty where none or several may be meant."""
    wanted, keys = spelled(name), {full: full.rpartition(":")[2] for full in known}
    whole = [full for full, key in keys.items() if spelled(key) == wanted]
    last = [full for full, key in keys.items() if spelled(key.rpartition(".")[2]) == wanted]
    found = whole or last
    return found[0] if wanted and len(found) == 1 else ""


def number(text: str) -> float | None:
    """A finite number as a person or a program writes it, or None."""
    text = text.strip()
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+", text):
        text = text.replace(",", "")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def moment(text: str) -> float | None:
    """Unix time from seconds, milliseconds or an ISO date; None where it is none of them."""
    value = number(text)
    if value is not None:  # below, it is some other time: what a run took
        return None if value < 1e9 else value / 1000 if value > 1e11 else value
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def compared(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with what each was compared to: the value of what was kept last before it.

    What was not kept may name the commit that it was tried on, a kept one's: its change is not there.
    """
    last: float | None = None
    commits: set[str] = set()
    for place, row in enumerate(rows):
        kept = row.status is Claimed.KEPT or (last is None and row.status is Claimed.ENDED)
        # A tool that is started again measures what it has anew.
        begins = kept and (place == 0 or row.commit[:7] in commits)
        starts = begins and "baseline" in re.findall(r"\w+", row.title.lower())[:3]
        own = row.commit if row.status is Claimed.KEPT or row.commit[:7] not in commits else ""
        yield replace(row, before=last, is_start=starts, commit=own)
        commits |= {row.commit[:7]} if kept else set()
        if kept and row.value is not None:
            last = row.value
