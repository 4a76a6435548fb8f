"""Frozen records that modules hand to each other, each with a JSON round trip."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from ar.project.values import Scalar

_SPEND = re.compile(
    r"in (?P<input>\d{1,15}), cached (?P<cached>\d{1,15}), out (?P<output>\d{1,15})"
    r"(?:, usd (?P<usd>\d+(?:\.\d+)?(?:e[+-]?\d{1,2})?))?"
)
TAMPERED = "tampered"  # `Verdict.label` of a candidate whose numbers may not count
SCALE_BOUND = "scale-bound"  # `Verdict.label` of a change that helps at the base scale and hurts at a larger
DOES_NOT_STACK = "does not stack"  # of a winner whose gain is not there beside what was promoted since
CONFLICTS = "conflicts with the branch"  # of a winner that cannot be merged onto what was promoted since
SUPERSEDED = "superseded"  # `Verdict.label` of a candidate that the branch left behind undecided


_KNOWN_HINTS: dict[type[Record], dict[str, Any]] = {}  # working them out takes longer than all the rest


class Record:
    """A dataclass that goes to plain JSON types and back without losing anything."""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and scalars; fields that hold their default are left out."""
        out: dict[str, Any] = {}
        for spec in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, spec.name)
            if spec.default is not dataclasses.MISSING and value == spec.default:
                continue
            if spec.default_factory is not dataclasses.MISSING and value == spec.default_factory():
                continue
            out[spec.name] = _plain(value)
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote. Unknown keys are ignored: a newer `ar` may have written them."""
        return cls(**{name: _typed(hint, data[name]) for name, hint in _hints(cls).items() if name in data})


def _hints(cls: type[Record]) -> dict[str, Any]:
    """Field name to its type."""
    if cls not in _KNOWN_HINTS:
        hints = typing.get_type_hints(cls)
        _KNOWN_HINTS[cls] = {spec.name: hints[spec.name] for spec in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return _KNOWN_HINTS[cls]


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _typed(hint: Any, value: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        chosen = [arg for arg in args if arg is not type(None)]
        return _typed(chosen[0], value) if len(chosen) == 1 else value
    if origin is tuple:
        return tuple(_typed(args[0], item) for item in value)
    if origin in (dict, Mapping) or hint is dict:
        return dict(value)
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_json(value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    return value


class Status(StrEnum):
    """Where an experiment is in its life. Everything from `SUCCEEDED` on is an end.

    One that a worker has set up, but that waits for a slot, is still queued.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    CRASHED = "crashed"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self not in (Status.QUEUED, Status.RUNNING)


class Decision(StrEnum):
    """What the judge says of a candidate."""

    OPEN = "open"
    PROMOTE = "promote"
    DISCARD = "discard"


@dataclass(frozen=True)
class Run(Record):
    """One measured run as the judge sees it: values are oriented, so that lower is better.

    `guards` are in the order of the programme's `guards:`; `when` is the unix time of the run's end.
    """

    seed: int | None
    value: float
    guards: tuple[float, ...] = ()
    crashed: bool = False
    when: float | None = None


@dataclass(frozen=True)
class Verdict(Record):
    """The judge's answer on one candidate, with the numbers it rests on.

    Args:
        decision: promote, discard, or open (more runs are wanted).
        reason: one sentence in words.
        effect: change minus incumbent, oriented (below 0 is an improvement), from the confirming runs
            (all but the screening run) where there are any; None before both sides have a run.
        standard_error: of `effect`, in the metric's unit.
        z, bar: the rule's score, from all runs, and what it had to reach.
        needed: the effect over all runs, the screening run too, that would reach `bar`.
        runs, base_runs: how many runs stand on either side.
        sigma, df: the noise of one run (of one paired difference's residual when `paired`) and its
            degrees of freedom.
        label: what kind of win or loss it is, where that is not plain ("simpler, not better").
    """

    decision: Decision
    reason: str
    effect: float | None = None
    standard_error: float | None = None
    z: float | None = None
    bar: float | None = None
    needed: float | None = None
    runs: int = 0
    base_runs: int = 0
    sigma: float | None = None
    df: int = 0
    paired: bool = False
    label: str = ""


@dataclass(frozen=True)
class Spend(Record):
    """What calls of a model cost.

    Args:
        input: tokens sent, those answered from the prompt cache too.
        cached: those of them that were answered from it.
        output: tokens received.
        usd: in US dollars; None where `program.md` sets no prices.
    """

    input: int = 0
    cached: int = 0
    output: int = 0
    usd: float | None = None

    @property
    def tokens(self) -> int:
        return self.input + self.output

    @property
    def words(self) -> str:
        """`in 5300, cached 4800, out 120, usd 0.041`; `parse` reads it."""
        words = f"in {self.input}, cached {self.cached}, out {self.output}"
        return words if self.usd is None else f"{words}, usd {self.usd:.6g}"

    @classmethod
    def parse(cls, words: str) -> Self | None:
        """None for text that `words` did not write."""
        match = _SPEND.fullmatch(words.strip())
        if match is None:
            return None
        usd = None if match["usd"] is None else float(match["usd"])
        return cls(int(match["input"]), int(match["cached"]), int(match["output"]), usd)

    def __add__(self, other: Spend) -> Spend:
        usd = None if self.usd is None and other.usd is None else (self.usd or 0.0) + (other.usd or 0.0)
        return Spend(self.input + other.input, self.cached + other.cached, self.output + other.output, usd)


@dataclass(frozen=True)
class Edit(Record):
    """Replace the one occurrence of `old` in `path` by `new`; `old` empty creates the file."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Proposal(Record):
    """A change to try: what, and why it should help.

    Args:
        title: what changes, at most 72 characters.
        hypothesis: why it should help, what in the history suggests it, what would refute it.
        agent: who proposes.
        params: dotted key of the parameters file to value.
        edits: text edits of files in scope.
        tree: where the change was made on files, the head's tree with it; `edits` and `params` come on top.
        expected: expected effect in words or a number, as the agent gave it.
        simplification: declared to make things simpler at equal quality.
        parent: name of the experiment this one builds on or repairs.
        spend: what it cost to come by, answers that were refused too; None where nobody asked a price.
        stack: names of the attempts whose changes it joins on a baseline that is not (all of) theirs.
        reverts: name of the promoted attempt that it takes out again.
    """

    title: str
    hypothesis: str
    agent: str
    params: dict[str, Any] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    tree: str = ""
    expected: str = ""
    simplification: bool = False
    parent: str = ""
    spend: Spend | None = None
    stack: tuple[str, ...] = ()
    reverts: str = ""


@dataclass(frozen=True)
class Note(Record):
    """What is known of an experiment besides its commit: the JSON under `refs/notes/ar`.

    Args:
        status: how the run ended.
        reason: why, where it did not succeed.
        retried: the fault of the machine's that ended a first try, where this is the second.
        log: tail of what the run printed, escapes and control characters removed.
        verdict: the judge's last word on the candidate this run belongs to.
        seconds: wall time of its stage commands; None where none was started.
        cpu_seconds, peak_memory_mb: of the stages' whole process trees, in s and MB (10⁶ bytes).
        gpu_memory_mb, gpu_percent: most memory in use on its GPU, and the share of time that was at work.
        slot: what it had to itself: a GPU, or a share of the cores.
        worker: host and process that ran it.
        finished: unix time.
        spend: what its proposal cost; on a candidate's first run only.
    """

    status: Status
    reason: str = ""
    retried: str = ""
    log: str = ""
    verdict: Verdict | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_mb: float | None = None
    gpu_memory_mb: float | None = None
    gpu_percent: float | None = None
    slot: str = ""
    worker: str = ""
    finished: float | None = None
    spend: Spend | None = None


@dataclass(frozen=True)
class Experiment(Record):
    """One attempt, whatever became of it.

    Args:
        name: unique in the repository; the last part of its ref.
        rev: commit of the experiment; of the queue entry while it waits or runs.
        baseline: commit it was measured against (its parent).
        candidate: identity of the change, equal for all seeds of it; the baseline's own runs carry
            the baseline's identity.
        seed: None where the programme has no seed.
        rung: scale it ran at; empty for the base scale.
        audit: one of the closing runs that re-measure the incumbent.
        stack, reverts: as in `Proposal`.
        created: unix time of the commit.
        metrics, params: flat, keyed `file:dotted.key`.
    """

    name: str
    rev: str
    baseline: str
    title: str
    status: Status
    hypothesis: str = ""
    agent: str = ""
    candidate: str = ""
    seed: int | None = None
    parent: str = ""
    rung: str = ""
    expected: str = ""
    simplification: bool = False
    audit: bool = False
    stack: tuple[str, ...] = ()
    reverts: str = ""
    created: float = 0.0
    metrics: dict[str, Scalar] = field(default_factory=dict)
    params: dict[str, Scalar] = field(default_factory=dict)
    note: Note | None = None


@dataclass(frozen=True)
class Attempt(Record):
    """One change with all its seeds: what the history table shows in one row.

    Args:
        name: of its first experiment.
        experiments: its runs, oldest first.
        value: mean objective over the runs that ended well, in the metric's own direction and unit.
        standard_error: of `value`; None where the noise is not known yet.
        guards: metric name to its mean over the same runs.
        outcome: one word for the row: baseline, queued, running, open, discarded, promoted, winner
            (judged good, not merged), stacked (its change went on in another attempt that won), lapsed (a
            winner that does not stack), reverted (promoted, and taken out again), tampered (its numbers may
            not count), crashed, timed out, cancelled.
        created: unix time of the first run.
        rung: scale that it was measured at; empty for the base scale.
    """

    name: str
    title: str
    agent: str
    baseline: str
    candidate: str
    experiments: tuple[Experiment, ...]
    value: float | None
    standard_error: float | None
    guards: dict[str, float]
    outcome: str
    verdict: Verdict | None = None
    created: float = 0.0
    rung: str = ""

    @property
    def is_baseline(self) -> bool:
        return self.outcome == "baseline"

    @property
    def stack(self) -> tuple[str, ...]:
        """Names of the attempts whose changes it joins; empty for a change of its own."""
        return next((run.stack for run in self.experiments if run.stack), ())

    @property
    def is_decided(self) -> bool:
        """Whether the judge has said its last word."""
        return self.verdict is not None and self.verdict.decision is not Decision.OPEN


@dataclass(frozen=True)
class Case(Record):
    """Everything a verdict rests on, for `ar judge`. Values in the metric's own direction and unit.

    Args:
        interval: of the effect, 95 %, from the confirming runs.
        seeds, base_seeds: of the runs on either side.
        guards: metric to its mean for the incumbent and for the change.
        holdout: the same for the holdout. For people only: no agent may see it.
        wanted: what would change the verdict.
    """

    name: str
    title: str
    outcome: str
    verdict: Verdict
    effect: float | None = None
    interval: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    base_seeds: tuple[int, ...] = ()
    guards: dict[str, list[float]] = field(default_factory=dict)
    holdout: dict[str, list[float]] = field(default_factory=dict)
    wanted: str = ""


@dataclass(frozen=True)
class NoiseReport(Record):
    """What the campaign knows of its noise, in the objective's unit.

    Args:
        runs: of the incumbent that measure it.
        sigma: standard deviation of one run of equal code; None before anything was repeated.
        paired_sigma: what is left of it after the seed's effect; None while pairing is not known to help.
        smallest: number of runs of a change to the smallest mean improvement that they can show.
    """

    runs: int
    sigma: float | None = None
    paired_sigma: float | None = None
    smallest: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Total(Record):
    """What the campaign changed, by runs that no decision selected, in the metric's own direction and unit.

    Args:
        change, standard_error: mean of the closing audit minus mean of the first baseline.
        interval: of the change, 95 %.
        before, after: the two means, of so many runs.
    """

    change: float
    standard_error: float
    interval: tuple[float, ...]
    before: float
    after: float
    runs_before: int
    runs_after: int


@dataclass(frozen=True)
class History(Record):
    """Everything the repository knows of the campaign, oldest first.

    Args:
        head: commit of the branch; its tree is what the next proposal changes.
        incumbent: identity (`Attempt.candidate`) of the head's tree.
        attempts: baselines and candidates, at the base scale.
        sigma: standard deviation of one run of one configuration, from the replicates; None before there
            are any.
        climbs: what was measured at larger scales. An attempt has the `candidate` it has at the base.
    """

    head: str
    incumbent: str
    attempts: tuple[Attempt, ...] = ()
    sigma: float | None = None
    climbs: tuple[Attempt, ...] = ()

    @property
    def now(self) -> Attempt | None:
        """The attempt that measures the head's tree; None before it has a run."""
        return next((attempt for attempt in self.attempts if attempt.candidate == self.incumbent), None)

    @property
    def experiments(self) -> list[Experiment]:
        """Runs at the base scale: what budget, noise and judge count."""
        return [experiment for attempt in self.attempts for experiment in attempt.experiments]

    @property
    def everything(self) -> list[Experiment]:
        """Runs at every scale: what runs, waits, and can be asked for by its name."""
        return [run for attempt in (*self.attempts, *self.climbs) for run in attempt.experiments]

    def climb(self, candidate: str, rung: str) -> Attempt | None:
        """What a candidate did at a larger scale."""
        return next((it for it in self.climbs if it.rung == rung and it.candidate == candidate), None)
