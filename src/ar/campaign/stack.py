"""The policy of `ar stack`: several winners merged, measured together, and trimmed to those that carry their
weight.

What it does next follows from the history alone, so that a killed `ar stack` started
again carries on: the stack, and the stack without each member, are candidates whose identity is their tree's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ar.campaign import candidates, moved, rebase
from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine, Policy
from ar.campaign.promotion import strongest_first
from ar.campaign.rebase import Composite
from ar.changes.proposal import Change
from ar.errors import CannotPromote, Conflict, OutOfBudget
from ar.history.records import Attempt, History, Label, Outcome
from ar.judge.contrast import Comparison
from ar.judge.evidence import Run
from ar.judge.findings import own_runs, share
from ar.judge.ledger import ledger, on_device, where
from ar.judge.noise import noise_of
from ar.text import plain, signed

TRIM_RUNS = 4  # of the stack, and of the stack without a member, before the member may be dropped
WEIGHT = 1.0  # the least score of a member's contribution to stay: each won alone, so the doubt is for it


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


class Stacking(Policy):
    """Merges `members` in their order, measures the stack against the branch, and trims it.

    Args:
        trim: leave members out one by one.

    Raises:
        OutOfBudget: too few runs are left to judge anything.
        CannotPromote: no member can be merged onto the branch.
    """

    def __init__(self, campaign: Campaign, members: Sequence[Attempt], trim: bool = True) -> None:
        self.campaign = campaign
        self.program = campaign.program
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
        known = campaign.ledger(history)
        if known.spare < TRIM_RUNS:
            raise OutOfBudget(
                f"{known.spent} of {known.budget} runs are spent, and the closing audit needs the rest",
                f"raise budget.runs in {campaign.program.file}",
            )
        self._composites = {tuple(item.name for item in self.composite.members): self.composite}
        self.weights: dict[str, str] = {}  # of dropped members: what they did to the stack, in words
        self.result = Result(None, self.composite.members, (), self.composite, trimmed=False)

    def begin(self, engine: Engine, history: History) -> None:
        moved.follow(engine, history, everything=True)

    def step(self, engine: Engine, history: History, room: int) -> bool:
        if not history.is_head(self.head):
            raise Conflict("the branch moved while its stack was measured", "run the command again")
        moved.follow(engine, history)
        members, suspects = self.composite.members, None
        dropped: list[Attempt] = []
        while True:
            made = self._made(history, members)
            whole = history.of(made.change.candidate) if made.change else None
            self.result = Result(
                whole, members, tuple(dropped), self.composite, trimmed=False, weights=self.weights
            )
            if whole is None:
                return self._queue(engine, made.change, room)
            if history.is_open(whole):
                return not whole.is_under_way and candidates.judge(engine, history, whole, room)
            if len(members) == 1 or not self.trim or not own_runs(self.program, whole):
                self._close(history, whole)
                return False
            parts = {
                member.name: self._made(history, tuple(item for item in members if item is not member))
                for member in members
                if suspects is None or member.name in suspects
            }
            wanted = self._lacking(history, whole, list(parts.values()))
            if wanted:
                return self._spend(engine, history, whole, wanted, room)
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
        device = where(self.program, history, whole)
        here = on_device(self.program, history, whole, device)
        seeds: list[int | None] = [run.seed for run in (here.own if here else ())][:TRIM_RUNS]
        made = self._made(history, self.result.members).change
        assert made is not None
        wanted: list[tuple[Change, Attempt | None, int | None]] = []
        while len(seeds) < TRIM_RUNS:
            seeds.append(self._next_seed(history, seeds))
            wanted.append((made, whole, seeds[-1]))
        for part in parts:
            if part.change is None:
                continue
            attempt = history.of(part.change.candidate) if part.change else None
            here = on_device(self.program, history, attempt, device) if attempt else None
            known = [run.seed for run in here.experiments] if here else []
            missing = [seed for seed in seeds if seed not in known]
            if self.program.seed is None:
                missing = seeds[len(known) :]
            wanted += [(part.change, attempt, seed) for seed in missing]
        return wanted

    def _next_seed(self, history: History, used: Sequence[int | None]) -> int | None:
        if self.program.seed is None:
            return None
        base = self.campaign.ledger(history).base
        known = [run.seed for run in base if run.seed is not None]
        beyond = max([0, *known, *(seed for seed in used if seed is not None)]) + 1
        return next((seed for seed in known if seed not in used), beyond)

    def _spend(
        self,
        engine: Engine,
        history: History,
        whole: Attempt,
        wanted: list[tuple[Change, Attempt | None, int | None]],
        room: int,
    ) -> bool:
        """Queue runs of the trimming, as far as there is room; none where the budget is too small for all."""
        if self.campaign.ledger(history).spare < len(wanted):
            if not engine.pending(history):
                engine.event(f"not trimmed: that takes {len(wanted)} more runs than the budget has to spare")
            return False
        begun: set[str] = set()
        only_on = self.campaign.ledger(history, whole).only_on
        for change, attempt, seed in wanted:
            if room <= 0:
                break
            if attempt is not None:
                engine.queued(self.campaign.replicate(attempt, seed, only_on))
            elif change.candidate not in begun:
                begun.add(change.candidate)
                engine.queued(self.campaign.submit(change, seed, only_on)[1])
            else:
                continue  # its attempt is known from the next look on
            room -= 1
        return bool(begun) and room > 0

    def _queue(self, engine: Engine, change: Change | None, room: int) -> bool:
        if room <= 0 or change is None:
            return False
        _, name = self.campaign.submit(change)
        engine.queued(name)
        engine.event(f"queued {name}: {change.proposal.title}")
        return True

    def _shares(
        self, history: History, whole: Attempt, parts: dict[str, Composite]
    ) -> dict[str, Comparison | None]:
        """What each member adds to the stack (below 0 it improves it); None where a side has no runs yet."""
        device = where(self.program, history, whole)
        noise = noise_of(ledger(self.program, history, device=device))
        found: dict[str, Comparison | None] = {}
        for name, part in parts.items():
            attempt = history.of(part.change.candidate) if part.change else None
            found[name] = None
            if attempt and not attempt.is_under_way and not whole.is_under_way:
                with_it, without = (self._runs(history, item, device) for item in (whole, attempt))
                if with_it and without:
                    found[name] = share(with_it, without, noise)
        return found

    def _runs(self, history: History, attempt: Attempt, device: str) -> list[Run]:
        here = on_device(self.program, history, attempt, device)
        return own_runs(self.program, here) if here else []

    def _close(self, history: History, whole: Attempt) -> None:
        """The last word on the other stacks that were measured, and on the members that were dropped."""
        for composite in self._composites.values():
            attempt = history.of(composite.change.candidate) if composite.change else None
            if attempt is None or attempt is whole:
                continue
            if history.is_open(attempt) or (attempt.stack and attempt.outcome is Outcome.WINNER):
                self.campaign.discard(attempt, f"Measured to trim {whole.name}.", Label.TRIMMING)
        for member in self.result.dropped:
            words = f"Does not stack: {self.weights[member.name]}."
            rebase.mark(self.campaign, history, member.name, Label.DOES_NOT_STACK, words)


# -- for the commands ---------------------------------------------------------------------------------------


def waiting(campaign: Campaign, history: History) -> list[Attempt]:
    """Winners that are not in the branch, strongest first; those that hurt at a larger scale left out. With a
    ladder, those that are likely to improve its target, by what is expected there."""
    winners = [item for item in history.winners if item.verdict]
    good = strongest_first(item for item in winners if item.verdict and not item.verdict.hurts_higher)
    if not campaign.program.target or not any(
        history.at_rung(item.candidate, campaign.program.target) for item in history.attempts
    ):
        return good
    from ar.surrogate.choosing import LIKELY  # it takes its time to load
    from ar.surrogate.climbs import climbs_of

    climbs = climbs_of(campaign.program, history, campaign.program.target)
    found = [(climbs.forecast(item.candidate), item) for item in good]
    likely = [(one.effect, item) for one, item in found if one is not None and one.chance >= LIKELY]
    return [item for _, item in sorted(likely, key=lambda pair: pair[0])]


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
