"""The audit of a branch: what it kept is measured again, over seeds, and judged step by step.

`Auditing` is the policy of `ar audit`. What it does next follows from the refs alone, so that a killed audit
started again carries on. A commit is measured as the campaign measures its incumbent, so that the campaign
knows its noise from these runs, too; what a record claims is only ever shown beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from ar.campaign import candidates
from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine, Policy
from ar.campaign.keeps import Branch, Keep, Place, kept
from ar.history.records import Attempt, Audited, Claim, Finding, History
from ar.judge import keeps as judge
from ar.judge.arithmetic import half_width, mean
from ar.judge.evidence import Run
from ar.judge.keeps import Evidence, Step
from ar.judge.ledger import measurements, on_device
from ar.judge.noise import noise_of
from ar.project.program import Program
from ar.record import Record
from ar.text import counted, signed


@dataclass(frozen=True)
class KeepFound(Record):
    """A keep: what was claimed, and what was found. Values are in the metric's own direction and unit.

    Args:
        commit: its id.
        name: of the attempt that measures it; empty before it has a run.
        claimed: the effect by the imported record, from one run of either side; None where it does not say.
        interval: of the effect, 95 %.
        pairs: runs that the verdict rests on, and that the commit before it has as many of.
        runs: of the commit, in all.
        reason: as in `Audited`.
    """

    commit: str
    title: str
    name: str
    finding: Finding
    claimed: float | None = None
    effect: float | None = None
    standard_error: float | None = None
    interval: tuple[float, ...] = ()
    pairs: int = 0
    runs: int = 0
    reason: str = ""


@dataclass(frozen=True)
class WholeFound(Record):
    """The head against the branch's first commit, measured by itself: never a sum of parts.

    Args:
        claimed: from the record's first value to its last.
        interval: of `change`, 95 %.
        pairs: runs that it rests on, of either side.
        before, after: means of all runs of the first commit and of the head.
    """

    claimed: float | None = None
    change: float | None = None
    standard_error: float | None = None
    interval: tuple[float, ...] = ()
    pairs: int = 0
    before: float | None = None
    after: float | None = None


@dataclass(frozen=True)
class AuditReport(Record):
    """What an audit came to so far.

    Args:
        runs: of the branch's commits, that all of it rests on.
        left_out: titles of commits that were kept and cannot be measured, and why.
    """

    keeps: tuple[KeepFound, ...]
    whole: WholeFound
    runs: int = 0
    left_out: dict[str, str] = field(default_factory=dict)

    def count(self, finding: Finding) -> int:
        return sum(keep.finding is finding for keep in self.keeps)


@dataclass(frozen=True)
class Audit:
    """A branch and what was measured of it.

    Args:
        attempts: of the places that have a run, by their identity.
    """

    program: Program
    branch: Branch
    evidence: Evidence
    attempts: Mapping[str, Attempt]

    @property
    def whole(self) -> Step:
        return self.branch.first.candidate, self.branch.last.candidate

    @cached_property
    def places(self) -> dict[str, Place]:
        return _places(self.branch)

    @cached_property
    def found(self) -> list[tuple[Keep, Audited]]:
        """Each keep with what is known of it."""
        return [
            (keep, judge.audited(self.evidence, step(keep), keep.after.commit)) for keep in self.branch.keeps
        ]

    def report(self) -> AuditReport:
        keeps = tuple(self._keep(keep, found) for keep, found in self.found)
        runs = sum(len(self.evidence.runs.get(place, ())) for place in self.places)
        return AuditReport(keeps, self._whole(), runs, dict(self.branch.left_out))

    def _keep(self, keep: Keep, found: Audited) -> KeepFound:
        attempt = self.attempts.get(keep.after.candidate)
        effect, error, interval = self._effect(step(keep))
        return KeepFound(
            commit=keep.after.commit,
            title=keep.title,
            name=attempt.name if attempt else "",
            finding=found.finding,
            claimed=_claimed(keep.claim, keep.claim),
            effect=effect,
            standard_error=error,
            interval=interval,
            pairs=found.runs,
            runs=len(self.evidence.runs.get(keep.after.candidate, ())),
            reason=found.reason,
        )

    def _whole(self) -> WholeFound:
        change, error, interval = self._effect(self.whole)
        levels = [[run.value for run in self.evidence.measured(place)] for place in self.whole]
        before, after = (self.program.objective.orient(mean(side)) if side else None for side in levels)
        first, last = self.branch.keeps[0].claim, self.branch.keeps[-1].claim
        pairs = len(self.evidence.judged_by(self.whole))
        return WholeFound(_claimed(first, last), change, error, interval, pairs, before, after)

    def _effect(self, sides: Step) -> tuple[float | None, float | None, tuple[float, ...]]:
        """Effect, its standard error and its interval; None and empty where they are not known."""
        if not all(map(self.evidence.measured, sides)):
            return None, None, ()
        found = judge.compared(self.evidence, sides)
        effect = self.program.objective.orient(found.effect)
        if not found.df:
            return effect, None, ()
        half = half_width(found.error, found.df)
        return effect, found.error, (effect - half, effect + half)


def step(keep: Keep) -> Step:
    """What leads to a keep."""
    return keep.before.candidate, keep.after.candidate


def audit(campaign: Campaign, history: History, branch: Branch | None = None) -> Audit:
    """What is known of the branch.

    Args:
        branch: its keeps, where they are read already.

    Raises:
        NotFound: it kept nothing.
    """
    program, branch = campaign.program, branch or kept(campaign.project, history)
    ledger = campaign.ledger(history)
    attempts = {place: attempt for place in _places(branch) if (attempt := history.of(place)) is not None}
    chose = [run.seed for attempt in attempts.values() for run in attempt.own if run.seed is not None]
    first_seed = ledger.first_seed
    if first_seed is not None and chose:
        first_seed = max(chose) + 1  # runs that a promotion was decided by look too good

    def counts(seed: int | None) -> bool:
        return first_seed is None or (seed is not None and seed >= first_seed)

    runs: dict[str, tuple[Run, ...]] = {}
    under_way: dict[str, tuple[int | None, ...]] = {}
    for place, attempt in attempts.items():
        here = on_device(program, history, attempt, ledger.device)  # steps compare on one class of devices
        base = here.base if here else ()
        runs[place] = tuple(run for run in measurements(program, base) if counts(run.seed))
        under_way[place] = tuple(run.seed for run in attempt.base if not run.status.ended)
    guards = tuple(guard.key for guard in program.guards)
    first = branch.first.candidate
    evidence = Evidence(runs, under_way, noise_of(ledger), guards, first, first_seed)
    return Audit(program, branch, evidence.with_noise_of(map(step, branch.keeps)), attempts)


def seen_from(history: History, place: Place) -> History:
    """The history as if the branch ended at an earlier commit."""
    if place.candidate == history.incumbent:
        return history
    known = {**history.identities, place.stand_in: place.candidate}
    return replace(history, head=place.stand_in, incumbent=place.candidate, identities=known)


def record(campaign: Campaign, found: Audit, every: bool = True) -> list[tuple[Keep, Audited]]:
    """Write what was found into the notes of the commits' first runs. Returns what is new.

    Args:
        every: also where only numbers differ from what is there.
    """
    new = []
    for keep, one in {keep.after.candidate: (keep, one) for keep, one in reversed(found.found)}.values():
        attempt = found.attempts.get(keep.after.candidate)
        base = attempt.base if attempt else ()
        run = next((run for run in base if run.status.ended), None)
        if attempt is None or run is None or one == attempt.audited:
            continue
        old = attempt.audited
        is_news = old is None or (old.finding, old.runs) != (one.finding, one.runs)
        if not (every or is_news):
            continue
        written = one.to_json()
        campaign.repo.update_note(run.rev, lambda note, written=written: {**note, "audited": written})  # type: ignore[misc]
        if one.finding is not (old.finding if old else Finding.UNDECIDED):
            new.append((keep, one))
    return new[::-1]


class Auditing(Policy):
    """Measures where that tells most.

    Args:
        each: every keep; if not, the branch as a whole only.
        most: so many runs are made at most; None until all is decided or the budget ends.

    Raises:
        NotFound: the branch kept nothing.
    """

    def __init__(self, campaign: Campaign, each: bool, most: int | None = None) -> None:
        self.campaign = campaign
        self.each = each
        self.left = most
        history = campaign.history()
        self._branch = history.head, kept(campaign.project, history)

    def step(self, engine: Engine, history: History, room: int) -> bool:
        if self._branch[0] != history.head:
            self._branch = history.head, kept(self.campaign.project, history)
        found = audit(self.campaign, history, self._branch[1])
        steps = [step(keep) for keep in found.branch.keeps] if self.each else []
        candidates.refuse_hopeless(self.campaign.program, history.now, engine.ended_before)
        for keep, one in record(self.campaign, found, every=False):
            engine.event(_line(self.campaign.program, keep, one))
        done = sum(one.finding is not Finding.UNDECIDED for _, one in found.found)
        self.phase = f"auditing: {done} of {counted(len(found.found), 'keep')} decided"
        evidence = found.evidence
        known = self.campaign.ledger(history)
        room = int(min(room, known.left, room if self.left is None else self.left))
        for _ in range(room):
            wanted = judge.next_run(evidence, steps, found.whole)
            if wanted is None:
                break
            view = seen_from(history, found.places[wanted[0]])
            engine.queued(self.campaign.measure_incumbent(view, wanted[1], only_on=known.only_on))
            evidence = evidence.with_run(wanted)
            self.left = None if self.left is None else self.left - 1
        return False


def _line(program: Program, keep: Keep, found: Audited) -> str:
    """What was found of a keep, in one line."""
    effect = ""
    if found.effect is not None:
        effect = f" {signed(program.objective.orient(found.effect), found.standard_error)}"
    why = f" ({found.reason})" if found.reason else ""
    return f"{found.finding}: {keep.after.commit[:9]} {keep.title}{effect}{why}"


def _places(branch: Branch) -> dict[str, Place]:
    """The commits that are measured, each state of the branch once, oldest first."""
    found: dict[str, Place] = {}
    for keep in branch.keeps:
        found.setdefault(keep.before.candidate, keep.before)
        found.setdefault(keep.after.candidate, keep.after)
    found.setdefault(branch.last.candidate, branch.last)
    return found


def _claimed(first: Claim | None, last: Claim | None) -> float | None:
    """From what one claim compares itself to, to the value of another."""
    if first is None or last is None or first.before is None or last.value is None:
        return None
    return last.value - first.before
