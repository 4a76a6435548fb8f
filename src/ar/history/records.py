"""What is known of experiments, attempts and the campaign."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from ar.history.device import Device
from ar.history.messages import BASELINE_AGENT, FOREIGN_AGENT, Message
from ar.history.spend import Spend
from ar.project.values import Scalar
from ar.record import Record
from ar.text import one_line


class Status(StrEnum):
    """Where an experiment is in its life. Everything from `SUCCEEDED` on is an end.

    One that a worker has set up, but that waits for a slot, is still queued.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    CRASHED = "crashed"
    DIVERGED = "diverged"  # it came to its end, with a metric that is no finite number
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"
    IMPORTED = "imported"  # another tool's record tells of it: it never ran here

    @property
    def ended(self) -> bool:
        return self not in _UNDER_WAY

    @property
    def failed(self) -> bool:
        """Whether it ended without a result, and nobody had wanted it to."""
        return self in (Status.CRASHED, Status.DIVERGED, Status.TIMED_OUT)


_UNDER_WAY = Status.QUEUED, Status.RUNNING  # looked up once: `ended` is asked of thousands of runs


class Decision(StrEnum):
    """What the judge says of a candidate."""

    OPEN = "open"
    PROMOTE = "promote"
    DISCARD = "discard"


class Outcome(StrEnum):
    """What became of a change so far: the one word of its row in the history table."""

    BASELINE = "baseline"
    QUEUED = "queued"
    RUNNING = "running"
    OPEN = "open"
    DISCARDED = "discarded"
    PROMOTED = "promoted"
    WINNER = "winner"  # judged good, not merged
    HOLDS = "holds"  # what holds of a branch that was audited, judged good against its first commit
    STACKED = "stacked"  # its change went on in another attempt that won
    LAPSED = "lapsed"  # a winner that does not stack
    SUPERSEDED = "superseded"  # undecided when the branch moved on
    REVERTED = "reverted"  # promoted, and taken out again
    TAMPERED = "tampered"  # its numbers may not count
    CRASHED = "crashed"
    DIVERGED = "diverged"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"
    PULLED = "foreign"  # a remote brought it, and nothing of it was measured here
    IMPORTED = "imported"  # another tool's record tells of it, and nothing of it was measured here
    FOREIGN = "not judged"  # somebody ran it by `dvc exp run`: no attempt of the campaign's


class Label(StrEnum):
    """What kind of win or loss a verdict is, where that is not plain."""

    PLAIN = ""
    SIMPLER = "simpler, not better"
    TAMPERED = "tampered"  # its numbers may not count
    OVERFITTED = "overfitted"  # worse on the holdout
    SUPERSEDED = "superseded"  # the branch left it behind undecided
    CONFLICTS = "conflicts with the branch"  # a winner that cannot be merged onto what was promoted since
    DOES_NOT_STACK = "does not stack"  # a winner whose gain is not there beside what was promoted since
    TRIMMING = "measured to trim a stack"  # a stack without one of its members
    SCALE_BOUND = "scale-bound"  # helps at the base scale and hurts at a larger one
    MOVES = "another value is better at a larger scale"  # the change's own hurts there
    NO_GAIN_HIGHER = "no gain at a larger scale"
    UNKNOWN = "unknown"  # a newer version's

    @classmethod
    def _missing_(cls, value: object) -> Label:
        """Notes of earlier versions name the rung: "no gain at d6"."""
        return cls.NO_GAIN_HIGHER if str(value).startswith("no gain at ") else cls.UNKNOWN


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
        failed_guard: key of the guard that it was refused by; empty in notes of earlier versions.
        device: class of devices that all these runs were measured on; empty where nobody noted it.
        tried: values nearer to the branch's that were measured at the larger scale where this one hurts; the
            last one holds there if `label` is `MOVES`.
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
    label: Label = Label.PLAIN
    failed_guard: str = ""
    device: str = ""
    tried: tuple[float, ...] = ()

    @property
    def hurts_higher(self) -> bool:
        """Whether the change hurts at a larger scale."""
        return self.label in (Label.SCALE_BOUND, Label.MOVES)

    @property
    def called(self) -> str:
        """The label, and which values were tried before it was given."""
        values = ", ".join(f"{value:g}" for value in self.tried)
        return f"{self.label}: tried {values}" if values and self.hurts_higher else str(self.label)


class Claimed(StrEnum):
    """What another tool did with an attempt of its own, by its record."""

    KEPT = "keep"
    DISCARDED = "discard"
    CRASHED = "crash"
    ENDED = "ended"  # the tool decides nothing


@dataclass(frozen=True)
class Claim(Record):
    """What another tool's record says of an attempt, from a single run: nobody measured it here.

    Args:
        metric: what the tool calls its objective; empty where it does not say.
        value: of the objective, in the tool's own direction and unit; None where the record has none.
        before: the value of what the tool had kept last by then; None where it keeps nothing.
        guards: what it says of the project's guards, by their names here.
        commit: id of the commit that it names.
        source: file and place in it.
    """

    status: Claimed
    metric: str = ""
    value: float | None = None
    before: float | None = None
    guards: dict[str, float] = field(default_factory=dict)
    commit: str = ""
    source: str = ""

    @property
    def words(self) -> str:
        """`keep, val_bpb 0.9932`."""
        known = self.value is not None and math.isfinite(self.value)
        value = f", {one_line(self.metric) or 'value'} {self.value:.6g}" if known else ""
        return f"{self.status}{value}"


class Finding(StrEnum):
    """What an audit says of a commit that the branch kept."""

    REAL = "real"
    NOT_CONFIRMED = "not confirmed"
    WORSE = "worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Audited(Record):
    """What an audit found of a commit of the branch, against the branch as it was before it.

    Args:
        commit: its id.
        effect: oriented (below 0 is an improvement); None before both sides have a run.
        standard_error: of `effect`, in the metric's unit.
        z: the judge's score, above 0 for an improvement.
        runs: of it that stand on its side; with seeds, those whose seeds both sides have.
        paired: by seed.
        reason: what keeps a better value from being real; empty for noise alone.
    """

    finding: Finding
    commit: str = ""
    effect: float | None = None
    standard_error: float | None = None
    z: float | None = None
    runs: int = 0
    paired: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Note(Record):
    """What is known of an experiment besides its commit: the JSON under `refs/notes/ar`.

    Args:
        reason: why it did not succeed.
        mend: what to do so that it would, where that is known.
        retried: the fault of the machine's that ended a first try, where this is the second.
        exit_code: of the last stage command, 128 and more for a signal; None where it ended otherwise.
        refused: what the launcher or the run's own checks refused the run for; empty if nothing.
        hopeless: it was ended early, as its curve was behind the incumbent's.
        lacking: what the finished run's metrics lack; empty if nothing.
        log: tail of what the run printed, escapes and control characters removed.
        verdict: the judge's last word on the candidate this run belongs to.
        seconds: wall time of its stage commands; None where none was started.
        cpu_seconds, peak_memory_mb: of the stages' whole process trees, in s and MB (10⁶ bytes).
        gpu_memory_mb, gpu_percent: most memory in use on its GPU, and the share of time that was at work.
        slot: what it had to itself: a GPU, or a share of the cores.
        worker: host and process that ran it.
        python: version and path of the Python that its stages found; empty where there is none.
        device: what it was measured on; None in notes of earlier versions.
        finished: unix time.
        spend: what its proposal cost; on a candidate's first run only.
        claim: what the record says that it was imported from.
        audited: what an audit found of the branch as this run measures it.
    """

    status: Status
    reason: str = ""
    mend: str = ""
    retried: str = ""
    exit_code: int | None = None
    refused: str = ""
    hopeless: bool = False
    lacking: str = ""
    log: str = ""
    verdict: Verdict | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_mb: float | None = None
    gpu_memory_mb: float | None = None
    gpu_percent: float | None = None
    slot: str = ""
    worker: str = ""
    python: str = ""
    device: Device | None = None
    finished: float | None = None
    spend: Spend | None = None
    claim: Claim | None = None
    audited: Audited | None = None


@dataclass(frozen=True)
class Elsewhere(Record):
    """Where an experiment of a remote's queue is, as the remote was last looked at.

    Args:
        worker: the clone that has it, by the name of its notes; empty while it waits.
        host, device: what that says of itself.
        since: unix time, by its clock, at which it took the experiment.
    """

    remote: str
    worker: str = ""
    host: str = ""
    device: str = ""
    since: float = 0.0

    @property
    def words(self) -> str:
        """`on node-7`, or `waits on origin`."""
        return f"on {self.host or self.worker}" if self.worker else f"waits on {self.remote}"


@dataclass(frozen=True, kw_only=True)
class Experiment(Message):
    """One run of one change, whatever became of it: what its commit message says, and what is known besides.

    Args:
        name: unique in the repository; the last part of its ref.
        rev: commit of the experiment; of the queue entry while it waits or runs.
        baseline: commit it was measured against (its parent).
        created: unix time of the commit.
        metrics, params: flat, keyed `file:dotted.key`.
        pulled: a remote brought it, and no trusted key signed it.
        elsewhere: it is in a remote's queue, and nobody in this clone has it.
    """

    name: str
    rev: str
    baseline: str
    status: Status
    elsewhere: Elsewhere | None = None
    pulled: bool = False
    created: float = 0.0
    metrics: dict[str, Scalar] = field(default_factory=dict)
    params: dict[str, Scalar] = field(default_factory=dict)
    note: Note | None = None

    @property
    def where(self) -> str:
        """Where it waits or runs, if that is not in this clone; else empty."""
        return self.elsewhere.words if self.elsewhere else ""

    @property
    def reason(self) -> str:
        """Why it ended as it did; empty where that is plain."""
        return self.note.reason if self.note else ""

    @property
    def device_class(self) -> str:
        """The device class that it was measured on; empty where nobody noted it."""
        return self.note.device.device_class if self.note and self.note.device else ""

    @property
    def measures_baseline(self) -> bool:
        """Whether it is a run of the branch as it was: an incumbent's, and no candidate's."""
        return self.agent == BASELINE_AGENT

    @property
    def is_foreign(self) -> bool:
        """Whether somebody ran it by `dvc exp run`: it is shown, and never judged or counted."""
        return self.agent == FOREIGN_AGENT

    @property
    def is_imported(self) -> bool:
        """Whether another tool's record tells of it: it is shown, and never judged or counted."""
        return bool(self.imported)

    @property
    def is_unprotected(self) -> bool:
        """Whether its stage says, by a metric `walls`, that nothing kept the code under test in."""
        return any(
            key.rpartition(":")[2] == "walls" and value == "unprotected"
            for key, value in self.metrics.items()
        )


def own_class(runs: Iterable[Experiment]) -> str:
    """The campaign's own class of devices: that of its oldest run that says what it was measured on.

    Runs that do not say are of that class, too: they are of a time when nobody noted it.
    """
    told = (run for run in runs if run.device_class)
    oldest = min(told, key=lambda run: (run.created, run.name), default=None)
    return oldest.device_class if oldest else ""


@dataclass(frozen=True)
class Attempt(Record):
    """One change with all its seeds: what the history table shows in one row.

    Args:
        name: of its first experiment.
        experiments: its runs, oldest first.
        value: mean objective over the runs that ended well, in the metric's own direction and unit; of one
            class of devices, that of most of them.
        standard_error: of `value`; None where the noise is not known yet.
        guards: metric name to its mean over the same runs.
        created: unix time of the first run.
        rung: scale that it was measured at; empty for the base scale.
        device: the class that the numbers are of; empty where nobody noted it.
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
    outcome: Outcome
    verdict: Verdict | None = None
    created: float = 0.0
    rung: str = ""
    device: str = ""

    @property
    def is_baseline(self) -> bool:
        return self.outcome is Outcome.BASELINE

    @property
    def own(self) -> tuple[Experiment, ...]:
        """Its runs as a candidate; empty where nobody proposed it."""
        return tuple(run for run in self.experiments if not run.measures_baseline)

    @property
    def base(self) -> tuple[Experiment, ...]:
        """Its runs as the incumbent."""
        return tuple(run for run in self.experiments if run.measures_baseline)

    @property
    def distinct(self) -> tuple[Experiment, ...]:
        """Its runs but for those that repeat a seed, for an A/A check: they say nothing new of the change."""
        seen, found = set[int | None](), list[Experiment]()
        for run in self.experiments:
            if not run.aa or run.seed is None or run.seed not in seen:
                found.append(run)
            seen.add(run.seed)
        return tuple(found)

    @property
    def first(self) -> Experiment:
        """The experiment whose note carries the verdict: the first of its own runs."""
        return (self.own or self.experiments)[0]

    @property
    def is_foreign(self) -> bool:
        """Whether it was never queued by us: nobody judges it."""
        return all(run.is_foreign or run.measures_baseline for run in self.experiments)

    @property
    def is_hearsay(self) -> bool:
        """Whether only others say what it came to: it counts once it was measured here."""
        return self.outcome in (Outcome.PULLED, Outcome.IMPORTED)

    @property
    def claim(self) -> Claim | None:
        """What the record says that it was imported from."""
        return self.first.note.claim if self.first.is_imported and self.first.note else None

    @property
    def audited(self) -> Audited | None:
        """What an audit found of it, where it is a commit that the branch kept."""
        found = (run.note.audited for run in self.experiments if run.note)
        return next((audited for audited in found if audited), None)

    @property
    def claimed(self) -> str:
        """What the record that it was imported from says of it, in words; empty for all others."""
        return self.claim.words if self.claim else ""

    @property
    def stack(self) -> tuple[str, ...]:
        """Names of the attempts whose changes it joins; empty for a change of its own."""
        return next((run.stack for run in self.experiments if run.stack), ())

    @property
    def is_judged_good(self) -> bool:
        return self.verdict is not None and self.verdict.decision is Decision.PROMOTE

    @property
    def is_under_way(self) -> bool:
        """Whether any of its runs waits or runs."""
        return any(not run.status.ended for run in self.experiments)

    @property
    def is_superseded(self) -> bool:
        """Whether the branch moved on before it was decided."""
        verdict = self.verdict
        if verdict is None or verdict.decision is not Decision.DISCARD:
            return False
        return verdict.label in (Label.SUPERSEDED, Label.CONFLICTS)

    @property
    def is_decided(self) -> bool:
        """Whether the judge has said its last word."""
        return self.verdict is not None and self.verdict.decision is not Decision.OPEN


@dataclass(frozen=True)
class History(Record):
    """Everything the repository knows of the campaign, oldest first.

    Args:
        head: commit of the branch; its tree is what the next proposal changes.
        incumbent: identity (`Attempt.candidate`) of the head's tree.
        attempts: baselines and candidates, at the base scale.
        sigma: standard deviation of one run of one configuration, on the campaign's own class of devices;
            None before there are replicates.
        at_rungs: what was measured at larger scales. An attempt has the `candidate` it has at the base.
        rung: the larger scale that this is a view of; empty for the base scale.
        identities: identity of the tree of each commit that anything was measured against.
        pulled: what remotes brought and no trusted key signed, at every scale. Nothing of it counts before it
            was measured here, too.
        imported: what other tools' records tell of, an attempt each. Nothing of it counts either.
    """

    head: str
    incumbent: str
    attempts: tuple[Attempt, ...] = ()
    sigma: float | None = None
    at_rungs: tuple[Attempt, ...] = ()
    rung: str = ""
    identities: dict[str, str] = field(default_factory=dict)
    pulled: tuple[Attempt, ...] = ()
    imported: tuple[Attempt, ...] = ()

    @property
    def now(self) -> Attempt | None:
        """The attempt that measures the head's tree; None before it has a run."""
        return self.of(self.incumbent)

    @property
    def first(self) -> Attempt | None:
        """The campaign's first baseline that was measured; before there is one, the first that was tried.
        What an audit measures of the time before the campaign is none."""
        baselines = (attempt for attempt in self.attempts if attempt.is_baseline)
        tried = [attempt for attempt in baselines if not all(run.earlier for run in attempt.base)]
        return next((attempt for attempt in tried if attempt.value is not None), tried[0] if tried else None)

    @property
    def tried(self) -> list[Attempt]:
        """What was proposed, whatever became of it: no baselines, and nothing that `dvc exp run` made."""
        passed = (Outcome.BASELINE, Outcome.FOREIGN, Outcome.PULLED, Outcome.IMPORTED)
        return [attempt for attempt in self.attempts if attempt.outcome not in passed]

    @property
    def promoted(self) -> list[Attempt]:
        """What the branch took, and still has."""
        return [attempt for attempt in self.attempts if attempt.outcome is Outcome.PROMOTED]

    @property
    def winners(self) -> list[Attempt]:
        """What was judged good and is not merged."""
        return [attempt for attempt in self.attempts if attempt.outcome is Outcome.WINNER]

    @property
    def experiments(self) -> list[Experiment]:
        """Runs at the base scale: what budget, noise and judge count."""
        return [experiment for attempt in self.attempts for experiment in attempt.experiments]

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """The classes of devices that anything was measured on: the campaign's own first."""
        ended = [run for run in self.experiments if run.status.ended]
        own = own_class(ended)
        return tuple(dict.fromkeys([own, *(run.device_class or own for run in ended)]))

    @cached_property
    def machines(self) -> dict[str, dict[str, list[Experiment]]]:
        """Class of devices to host to the runs that ended there, of those whose note says it."""
        found: dict[str, dict[str, list[Experiment]]] = {}
        for run in self.experiments:
            if run.status.ended and run.note and run.note.device and run.note.device.host:
                device = run.note.device
                found.setdefault(device.device_class, {}).setdefault(device.host, []).append(run)
        return found

    @property
    def foreign(self) -> list[Attempt]:
        """What remotes brought that somebody proposed, at the base scale."""
        return [attempt for attempt in self.pulled if attempt.own and not attempt.rung]

    @property
    def shown(self) -> list[Attempt]:
        """What a table lists: what remotes brought and what was imported, too, at the base scale."""
        others = (attempt for attempt in (*self.pulled, *self.imported) if not attempt.rung)
        return sorted([*self.attempts, *others], key=lambda attempt: (attempt.created, attempt.name))

    @property
    def at_every_scale(self) -> tuple[Attempt, ...]:
        return (*self.attempts, *self.at_rungs)

    @property
    def everything(self) -> list[Experiment]:
        """Runs at every scale: what runs, waits, and can be asked for by its name."""
        return [run for attempt in self.at_every_scale for run in attempt.experiments]

    def is_head(self, commit: str) -> bool:
        """Whether a run of this commit is one of the head: it is the head, or its stages read the same."""
        return commit == self.head or self.identities.get(commit) == self.incumbent

    def is_open(self, attempt: Attempt) -> bool:
        """Whether a candidate against the present head still waits for its verdict."""
        here = self.is_head(attempt.baseline) and attempt.outcome is not Outcome.PROMOTED
        return here and not attempt.is_foreign and not attempt.is_decided

    def waits_for_merge(self, attempt: Attempt) -> bool:
        """Whether it won against the present head, which has not taken it yet."""
        return attempt.outcome is Outcome.WINNER and self.is_head(attempt.baseline)

    def of(self, candidate: str) -> Attempt | None:
        """What a candidate did at the base scale."""
        return next((attempt for attempt in self.attempts if attempt.candidate == candidate), None)

    def at_rung(self, candidate: str, rung: str) -> Attempt | None:
        """What a candidate did at a larger scale."""
        return next((it for it in self.at_rungs if it.rung == rung and it.candidate == candidate), None)
