"""`ar stack`: several winners merged, measured together, and trimmed to those that carry their weight.

A loop with one end. What it does next follows from the history alone, so that a killed `ar stack` started
again carries on: the stack, and the stack without each member, are candidates whose identity is their tree's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ar.campaign import rebase
from ar.campaign.campaign import Campaign, is_open
from ar.campaign.engine import Limits, Loop
from ar.campaign.progress import View
from ar.campaign.promote import strongest_first
from ar.campaign.rebase import Composite
from ar.changes.proposal import Change
from ar.errors import CannotPromote, Conflict, OutOfBudget
from ar.history.attempts import find
from ar.history.records import Attempt, Decision, History, Label, Outcome, Run, Verdict
from ar.judge import rule
from ar.judge.rule import Noise
from ar.record import Record
from ar.text import plain, signed

TRIM_RUNS = 4  # of the stack, and of the stack without a member, before the member may be dropped
WEIGHT = 1.0  # the least score of a member's contribution to stay: each won alone, so the doubt is for it


@dataclass(frozen=True)
class Member(Record):
    """One winner in a stack; effects in the metric's own direction and unit.

    Args:
        effect, standard_error: of the change alone, against its own baseline.
        share, share_error: what the stack gains by it, from the stack with and without it; None where that
            was not measured.
    """

    name: str
    title: str
    effect: float
    standard_error: float
    share: float | None = None
    share_error: float | None = None


@dataclass(frozen=True)
class Additivity(Record):
    """Whether changes add up, in the metric's own direction and unit.

    All numbers are from confirming runs: those of a screening run were selected for being good.

    Args:
        name: of the stack's attempt.
        sum, sum_error: of the single effects.
        joint, joint_error: effect of the stack against its baseline.
        interaction, interaction_error: joint effect minus sum, its error from the runs that they share.
        interval: of the interaction, 95 %.
    """

    name: str
    members: tuple[Member, ...]
    sum: float
    sum_error: float
    joint: float
    joint_error: float
    interaction: float
    interaction_error: float
    interval: tuple[float, ...]


@dataclass(frozen=True)
class Result:
    """What came of stacking.

    Args:
        attempt: the stack as it was judged last; None where no two members could be merged.
        dropped: members that did not carry their weight, in the order in which they went.
        weights: name of a dropped member to what it did to the stack, in words.
        clashes: as in `Composite`.
        trimmed: whether every member was tested; False where the budget did not allow it.
    """

    attempt: Attempt | None
    members: tuple[Attempt, ...]
    dropped: tuple[Attempt, ...]
    composite: Composite
    trimmed: bool
    weights: dict[str, str] = field(default_factory=dict)


class Stacker(Loop):
    """Merges `members` in their order, measures the stack against the branch, and trims it.

    Args:
        trim: leave members out one by one.

    Raises:
        OutOfBudget: too few runs are left to judge anything.
        CannotPromote: no member can be merged onto the branch.
    """

    def __init__(
        self,
        campaign: Campaign,
        members: Sequence[Attempt],
        view: View,
        stop: Callable[[], int] = lambda: 0,
        jobs: int = 1,
        trim: bool = True,
    ) -> None:
        super().__init__(campaign, Limits(experiments=0, jobs=jobs, promote=False), view, stop)
        self.trim = trim
        history = campaign.history()
        self.head = history.head
        self.composite = rebase.compose(campaign, history, members)
        if self.composite.change is None:
            raise CannotPromote(
                clash_words(self.composite),
                "let an agent bring it over: ar promote NAME --resolve agent; or yourself: ar next --diff",
            )
        if self.composite.change.tree == campaign.repo.tree(history.head):
            names = ", ".join(item.name for item in self.composite.members)
            raise CannotPromote(f"the branch has what {names} changed already", "see: ar diff NAME")
        ledger = campaign.ledger(history, None)
        if ledger.left - rule.audit_runs(ledger.budget) < TRIM_RUNS:
            raise OutOfBudget(
                f"{ledger.spent} of {ledger.budget} runs are spent, and the closing audit needs the rest",
                "raise budget.runs in program.md",
            )
        self._composites = {tuple(item.name for item in self.composite.members): self.composite}
        self.weights: dict[str, str] = {}  # of dropped members: what they did to the stack, in words
        self.result = Result(None, self.composite.members, (), self.composite, trimmed=False)

    def _advance(self, history: History, room: int) -> bool:
        """Queue what the next step wants. True if the history changed."""
        if history.head != self.head:
            raise Conflict("the branch moved while its stack was measured", "run the command again")
        self._close_stale(history)
        members, suspects = self.composite.members, None
        dropped: list[Attempt] = []
        while True:
            made = self._made(history, members)
            whole = _attempt(history, made.change)
            self.result = Result(
                whole, members, tuple(dropped), self.composite, trimmed=False, weights=self.weights
            )
            if whole is None:
                return self._queue(made.change, None, room)
            if is_open(whole, history):
                busy = any(not run.status.ended for run in whole.experiments)
                return not busy and self._judge(history, whole, room)
            if len(members) == 1 or not self.trim or not _values(self.campaign, whole):
                self._close(history, whole)
                return False
            parts = {
                member.name: self._made(history, tuple(item for item in members if item is not member))
                for member in members
                if suspects is None or member.name in suspects
            }
            wanted = self._lacking(history, whole, list(parts.values()))
            if wanted:
                return self._spend(history, wanted, room)
            shares = self._shares(history, whole, parts)
            if any(share is None for share in shares.values()):
                return False  # still running, or a run without a member crashed: nothing more to learn
            idle = {name: share for name, share in shares.items() if share is not None and share.z < WEIGHT}
            self.result = Result(
                whole, members, tuple(dropped), self.composite, trimmed=True, weights=self.weights
            )
            if not idle:
                self._close(history, whole)
                return False
            worst = min(idle, key=lambda name: idle[name].z)
            share = signed(self.program.objective.orient(idle[worst].effect), idle[worst].error)
            self.weights[worst] = f"it changes {self.program.objective.key} by {share} in {whole.name}"
            suspects = set(idle) - {worst}
            dropped += [member for member in members if member.name == worst]
            members = tuple(member for member in members if member.name != worst)

    # -- one step -----------------------------------------------------------------------------------------

    def _made(self, history: History, members: tuple[Attempt, ...]) -> Composite:
        names = tuple(member.name for member in members)
        if names not in self._composites:
            self._composites[names] = rebase.compose(self.campaign, history, members)
        return self._composites[names]

    def _lacking(
        self, history: History, whole: Attempt, parts: Sequence[Composite]
    ) -> list[tuple[Change, Attempt | None, int | None]]:
        """Runs still to be queued: the stack's own, then those of the stack without each member, on equal
        seeds."""
        own = whole.own
        seeds: list[int | None] = [run.seed for run in own][:TRIM_RUNS]
        made = self._made(history, self.result.members).change
        assert made is not None
        wanted: list[tuple[Change, Attempt | None, int | None]] = []
        while len(seeds) < TRIM_RUNS:
            seeds.append(self._next_seed(history, seeds))
            wanted.append((made, whole, seeds[-1]))
        for part in parts:
            if part.change is None:
                continue
            attempt = _attempt(history, part.change)
            known = [run.seed for run in attempt.experiments] if attempt else []
            missing = [seed for seed in seeds if seed not in known]
            if self.program.seed is None:
                missing = seeds[len(known) :]
            wanted += [(part.change, attempt, seed) for seed in missing]
        return wanted

    def _next_seed(self, history: History, used: Sequence[int | None]) -> int | None:
        if self.program.seed is None:
            return None
        base = self.campaign.ledger(history, None).incumbent
        known = [run.seed for run in base.fair if run.seed is not None]
        beyond = max([0, *known, *(seed for seed in used if seed is not None)]) + 1
        return next((seed for seed in known if seed not in used), beyond)

    def _spend(
        self, history: History, wanted: list[tuple[Change, Attempt | None, int | None]], room: int
    ) -> bool:
        """Queue runs of the trimming, as far as there is room; none where the budget is too small for all."""
        ledger = self.campaign.ledger(history, None)
        if ledger.left - rule.audit_runs(ledger.budget) < len(wanted):
            if not self._pending(history):
                self.view.event(
                    f"not trimmed: that takes {len(wanted)} more runs than the budget has to spare"
                )
            return False
        begun: set[str] = set()
        for change, attempt, seed in wanted:
            if room <= 0:
                break
            if attempt is not None:
                self._queued(self.campaign.replicate(attempt, seed))
            elif change.candidate not in begun:
                begun.add(change.candidate)
                self._queued(self.campaign.submit(change, seed)[1])
            else:
                continue  # its attempt is known from the next look on
            room -= 1
        return bool(begun) and room > 0

    def _queue(self, change: Change | None, seed: int | None, room: int) -> bool:
        if room <= 0 or change is None:
            return False
        _, name = self.campaign.submit(change, seed)
        self._queued(name)
        self.view.event(f"queued {name}: {change.proposal.title}")
        return True

    def _shares(
        self, history: History, whole: Attempt, parts: dict[str, Composite]
    ) -> dict[str, rule.Comparison | None]:
        """What each member adds to the stack (below 0 it improves it); None where a side has no runs yet."""
        noise = rule.noise_of(self.campaign.ledger(history, None))
        found: dict[str, rule.Comparison | None] = {}
        for name, part in parts.items():
            attempt = _attempt(history, part.change)
            sides = [_values(self.campaign, item) for item in (whole, attempt) if item]
            runs = [run for item in (whole, attempt) if item for run in item.experiments]
            pending = any(not run.status.ended for run in runs)
            found[name] = (
                None if pending or len(sides) < 2 or not all(sides) else _compare(sides[0], sides[1], noise)
            )
        return found

    def _close(self, history: History, whole: Attempt) -> None:
        """The last word on the other stacks that were measured, and on the members that were dropped."""
        for composite in self._composites.values():
            attempt = _attempt(history, composite.change)
            if attempt is None or attempt is whole:
                continue
            if is_open(attempt, history) or (attempt.stack and attempt.outcome is Outcome.WINNER):
                old = attempt.verdict or Verdict(Decision.OPEN, "", runs=len(attempt.experiments))
                words = f"Measured to trim {whole.name}."
                self.campaign.record(
                    attempt, replace(old, decision=Decision.DISCARD, reason=words, label=Label.TRIMMING)
                )
        for member in self.result.dropped:
            words = f"Does not stack: {self.weights[member.name]}."
            rebase.mark(self.campaign, history, member.name, Label.DOES_NOT_STACK, words)


def _attempt(history: History, change: Change | None) -> Attempt | None:
    if change is None:
        return None
    return next((item for item in history.attempts if item.candidate == change.candidate), None)


def _values(campaign: Campaign, attempt: Attempt) -> list[Run]:
    """Runs that count, without those made of the tree as a baseline."""
    return [run for run in campaign.candidate(attempt).runs if rule.measured(run)]


def additivity(campaign: Campaign, history: History, stack: Attempt) -> Additivity | None:
    """How a measured stack compares with the sum of its members; None where a side has no run.

    Raises:
        NotFound: a member is not in this repository.
    """
    noise = rule.noise_of(campaign.ledger(history, None))
    head = _incumbent(campaign, history, stack.baseline)
    joint = [(1.0, _fair(campaign, stack)), (-1.0, head)]
    singles = []
    for name in stack.stack:
        attempt, _ = find(history, name)
        base = _incumbent(campaign, history, attempt.baseline)
        singles.append((attempt, [(1.0, _fair(campaign, attempt)), (-1.0, base)]))
    everything = [*joint, *((-weight, runs) for _, sides in singles for weight, runs in sides)]
    if not all(runs for _, runs in everything):
        return None
    orient = campaign.program.objective.orient
    seeds = best_seeds(everything, noise)  # one form for all, so that the sum is that of the lines above it
    members = []
    for attempt, sides in singles:
        single = contrast(sides, noise, seeds)
        share = _share(campaign, history, stack, attempt.name, noise)
        members.append(
            Member(
                attempt.name,
                attempt.title,
                orient(single.effect),
                single.error,
                None if share is None else orient(share.effect),
                None if share is None else share.error,
            )
        )
    total = contrast([side for _, sides in singles for side in sides], noise, seeds)
    together, gap = contrast(joint, noise, seeds), contrast(everything, noise, seeds)
    half = rule.half_width(gap.error, gap.df) if gap.df else math.inf
    return Additivity(
        stack.name,
        tuple(members),
        orient(total.effect),
        total.error,
        orient(together.effect),
        together.error,
        orient(gap.effect),
        gap.error,
        (orient(gap.effect) - half, orient(gap.effect) + half),
    )


def _share(
    campaign: Campaign, history: History, stack: Attempt, name: str, noise: Noise
) -> rule.Comparison | None:
    """What a stack gains by one member: the stack against itself without it, where that was measured."""
    rest = tuple(member for member in stack.stack if member != name)
    for item in history.attempts:
        alone = len(rest) == 1 and item.name == rest[0]
        if item.baseline == stack.baseline and (item.stack == rest or alone) and rest:
            sides = [_values(campaign, side) for side in (stack, item)]
            return _compare(sides[0], sides[1], noise) if all(sides) else None
    return None


def _compare(runs: Sequence[Run], base: Sequence[Run], noise: Noise) -> rule.Comparison:
    return rule.compare(runs, base, noise, rule.own_residual(runs, base))


def best_seeds(sides: Sequence[tuple[float, Sequence[Run]]], noise: Noise) -> frozenset[int | None]:
    """The seeds that all sides have, if their runs alone tell a contrast more precisely; else none."""
    seeds = frozenset.intersection(*(frozenset(run.seed for run in runs) for _, runs in sides)) - {None}
    if not seeds or (noise.correlation <= 0 and noise.typical is None):
        return frozenset()
    paired, all_runs = contrast(sides, noise, seeds), contrast(sides, noise)
    narrower = rule.half_width(paired.error, paired.df) < rule.half_width(all_runs.error, all_runs.df)
    return seeds if narrower else frozenset()


def contrast(
    sides: Sequence[tuple[float, Sequence[Run]]], noise: Noise, seeds: frozenset[int | None] = frozenset()
) -> rule.Comparison:
    """A weighted sum of means and its standard error, on some seeds only if any are given.

    Runs that several sides share count with the sum of their weights, as do runs of one seed in what the
    seed does to them. Where changes are not alike, the sums of the given seeds say themselves how precise.
    """
    if not seeds:
        return _contrast(sides, noise)
    shared = [(weight, [run for run in runs if run.seed in seeds]) for weight, runs in sides]
    if noise.typical is None:
        return _contrast(shared, noise)
    return _by_seed(shared, len(seeds), noise.typical)


def _contrast(sides: Sequence[tuple[float, Sequence[Run]]], noise: Noise) -> rule.Comparison:
    total, by_run, by_seed = _weights(sides)
    helps = noise.correlation > 0
    own = noise.residual_sigma if helps else noise.sigma
    squares = [math.fsum(weight**2 for weight in item.values()) for item in (by_run, by_seed)]
    error = math.sqrt(own**2 * squares[0] + (noise.sigma**2 - own**2) * squares[1])
    return rule.Comparison(total, error, own, noise.residual.df if helps else noise.plain.df, helps)


def _by_seed(sides: Sequence[tuple[float, Sequence[Run]]], count: int, typical: float) -> rule.Comparison:
    """The contrast from its values on each of `count` seeds; what is typical counts as one more."""
    total, by_run, _ = _weights(sides)
    values: dict[object, float] = {}
    for run, weight in by_run.items():
        values[run.seed] = values.get(run.seed, 0.0) + weight * run.value * count
    pool = rule.Pool()
    pool.add(list(values.values()))
    expected = typical**2 * count * math.fsum(weight**2 for weight in by_run.values())
    error = math.sqrt((expected + pool.squares) / (1 + pool.df) / count)
    return rule.Comparison(total, error, typical, 1 + pool.df, paired=True)


def _weights(
    sides: Sequence[tuple[float, Sequence[Run]]],
) -> tuple[float, dict[Run, float], dict[object, float]]:
    """The weighted sum of means, and the weight in it of every run and of every seed."""
    total = 0.0
    by_run: dict[Run, float] = {}
    by_seed: dict[object, float] = {}
    for place, (weight, runs) in enumerate(sides):
        for run in runs:
            part = weight / len(runs)
            total += part * run.value
            by_run[run] = by_run.get(run, 0.0) + part
            key = (place, len(by_seed)) if run.seed is None else run.seed
            by_seed[key] = by_seed.get(key, 0.0) + part
    return total, by_run, by_seed


def _fair(campaign: Campaign, attempt: Attempt) -> Sequence[Run]:
    """Its runs without the screening run, which was selected for its luck; with it where it is alone."""
    runs = _values(campaign, attempt)
    return runs[1:] or runs


def _incumbent(campaign: Campaign, history: History, baseline: str) -> Sequence[Run]:
    """The runs that measure a commit of the branch."""
    for attempt in history.attempts:
        if any(run.measures_baseline and run.baseline == baseline for run in attempt.experiments):
            return campaign.candidate(attempt).fair
    return ()


# -- for the commands ---------------------------------------------------------------------------------------


def waiting(history: History) -> list[Attempt]:
    """Winners that are not in the branch, strongest first; those that hurt at a larger scale left out."""
    winners = [item for item in history.winners if item.verdict]
    return strongest_first(
        item for item in winners if item.verdict and item.verdict.label is not Label.SCALE_BOUND
    )


def clash_words(composite: Composite) -> str:
    """Both sides of every conflict."""
    parts = [
        "\n".join([f"{name} conflicts with the branch in {clash.path}:", clash.text])
        for name, clashes in composite.clashes.items()
        for clash in clashes
    ]
    return plain("\n".join(parts))


def idea(winner: Attempt, composite: Composite) -> str:
    """What an agent is told that shall bring a conflicting change over."""
    first = winner.first
    return "\n\n".join(
        [
            "Bring this change onto the branch as it is now: keep what both sides meant. It won on an "
            "earlier baseline and conflicts with what was promoted since.",
            f"{first.title}\n{first.hypothesis}",
            clash_words(composite),
        ]
    )
