"""The ladder: a change and its baseline, run again at a larger scale and judged there.

A rung is a campaign of its own around one baseline commit: its own noise, its own incumbent, its own
verdicts. Runs of different rungs never meet. What is climbed keeps the `candidate` it has at the base, so
that the two can be told of each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

from ar.campaign import candidates
from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine
from ar.campaign.neighbours import Neighbour, hurts, label, neighbours, wanted
from ar.errors import BadParams, CannotClimb
from ar.git import refs
from ar.git.repo import Repo
from ar.history.attempts import find
from ar.history.messages import BASELINE_AGENT, Message
from ar.history.records import Attempt, Decision, History, Label, Outcome, Status, Verdict
from ar.judge.findings import Additivity, Case, additivity
from ar.judge.rule import Action, Kind, next_action, next_base_seed
from ar.project import params
from ar.project.identity import identity
from ar.project.params import ParamKey
from ar.project.program import Program, Rung
from ar.project.values import flat, number


class Step(StrEnum):
    """What came of looking at one contender: a run was queued, one is under way, the judge said its last word
    (now, or long ago), or the rung's budget is spent."""

    QUEUED = "queued"
    WAITING = "waiting"
    DECIDED = "decided"
    DONE = "done"
    SPENT = "spent"


@dataclass(frozen=True)
class Moved:
    """A step and the name of the run that it queued."""

    step: Step
    name: str = ""


class AtRung:
    """One rung, and the steps that a contender takes on it. All state is in refs and notes."""

    def __init__(self, campaign: Campaign, rung: Rung) -> None:
        self.campaign = campaign
        self.project = campaign.project
        self.repo = campaign.repo
        self.program = campaign.program
        self.rung = rung
        self.checked: set[str] = set()
        self._near: dict[str, list[Neighbour]] = {}
        self.identity: Callable[[str], str] = cache(lambda tree: identity(self.project, tree))

    def view(self, history: History, baseline: str) -> History:
        """The rung as a campaign of its own, whose head is `baseline`."""
        here = [attempt for attempt in history.at_rungs if attempt.rung == self.rung.name]
        first = next((attempt for attempt in here if attempt.is_baseline), None)
        # Whatever was measured as an incumbent was one, but for the first: the rule asks for fewer runs then.
        attempts = tuple(
            replace(item, outcome=Outcome.PROMOTED) if item is not first and item.base else item
            for item in here
        )
        return History(
            head=baseline, incumbent=self.identity(baseline), attempts=attempts, rung=self.rung.name
        )

    def check(self, attempt: Attempt) -> None:
        """Refuse what cannot be measured at this rung.

        Raises:
            CannotClimb: with the reason.
            BadParams: the rung sets a key that the tree does not have.
        """
        name, rung = attempt.name, self.rung.name
        if name in self.checked:
            return
        if not attempt.own:
            raise CannotClimb(
                f"{name} is the baseline: it climbs with every change", "name a change: ar show"
            )
        if not any(run.status is Status.SUCCEEDED for run in attempt.experiments):
            raise CannotClimb(f"{name} never ran to its end ({attempt.outcome})", f"see: ar log {name}")
        trees = [
            tree_at(self.repo, self.program, self.rung, rev) for rev in (attempt.baseline, attempt.first.rev)
        ]
        if self.identity(trees[0]) == self.identity(trees[1]):
            keys = ", ".join(str(key) for key in self.rung.params)
            raise CannotClimb(f"{name} changes nothing at {rung}: the rung itself sets {keys}", "try another")
        self.checked.add(name)

    def step(self, history: History, attempt: Attempt, before: Container[str] = ()) -> Moved:
        """Take the next step of one contender, the base attempt of which is given.

        Args:
            before: names of runs that had ended when this engine began.

        Raises:
            CannotClimb: it cannot be measured here.
            BadState: its baseline does not run here.
        """
        view = self.view(history, attempt.baseline)
        mine = history.at_rung(attempt.candidate, self.rung.name)
        own = mine.own if mine else []
        if mine and own and mine.verdict and mine.is_decided:
            if (near := self.neighbour(history, attempt)) is not None:
                return self.step(history, near, before)
            return Moved(Step.DECIDED if self._follow(history, attempt, mine.verdict) else Step.DONE)
        if any(not run.status.ended for run in own):
            return Moved(Step.WAITING)
        if mine and own:
            action = self._judge(history, attempt, view, mine)
            if action.decides:
                return Moved(Step.DECIDED)
        else:
            self.check(attempt)
            # It may have been measured here as an incumbent: those seeds are not run again.
            action = next_action(self.campaign.ledger(view, mine))
        if action.kind is Kind.RUN_INCUMBENT:
            return self._measure_incumbent(history, view, before, alone=bool(own))
        if self.is_spent(history):
            return Moved(Step.SPENT)
        if mine and own:
            self.campaign.record(mine, action.verdict)
            return Moved(Step.QUEUED, self.campaign.replicate(mine, action.seed, action.only_on))
        return Moved(Step.QUEUED, self._begin(attempt, action.seed, action.only_on))

    def settle(self, history: History, attempt: Attempt) -> bool:
        """Let the judge look at what a contender was run for since it last did; nothing is queued. True if it
        had something to say."""
        mine = history.at_rung(attempt.candidate, self.rung.name)
        if mine is None or not mine.own or any(not run.status.ended for run in mine.own):
            return False
        known = mine.verdict
        if known and mine.is_decided:
            return self._follow(history, attempt, known)
        action = self._judge(history, attempt, self.view(history, attempt.baseline), mine)
        if action.decides:
            return True
        if known and (known.runs, known.base_runs) == (action.verdict.runs, action.verdict.base_runs):
            return False
        self.campaign.record(mine, action.verdict)
        return True

    def _judge(self, history: History, attempt: Attempt, view: History, mine: Attempt) -> Action:
        """What the judge wants next of a contender; its last word is recorded, and followed."""
        action = self.campaign.step(view, mine)
        if action.decides:
            self.campaign.record(mine, action.verdict)
            self._follow(history, attempt, action.verdict)
        return action

    def case(self, history: History, attempt: Attempt) -> Case:
        """What the verdict on an attempt at this rung rests on.

        Raises:
            NotFound: none of its runs has ended.
        """
        return self.campaign.case(self.view(history, attempt.baseline), attempt)

    def _begin(self, attempt: Attempt, seed: int | None, only_on: str) -> str:
        message = Message.again(attempt.first, attempt.candidate, seed)
        message = replace(message, rung=self.rung.name, stack=(), reverts="", only_on=only_on)
        return self._queue(attempt.first.rev, attempt.baseline, message)

    def _measure_incumbent(
        self, history: History, view: History, before: Container[str], alone: bool
    ) -> Moved:
        """Queue the incumbent's next run; with `alone`, only when none is under way."""
        under_way = [run for run in (view.now.base if view.now else ()) if not run.status.ended]
        if under_way and alone:
            return Moved(Step.WAITING)
        ledger = self.campaign.ledger(view)
        # Those under way count as measured: enough of them may be queued already.
        ledger = candidates.with_incumbents(ledger, [run.seed for run in under_way])
        action = next_action(ledger)
        if action.kind is not Kind.RUN_INCUMBENT and not alone:
            return Moved(Step.WAITING)
        if self.is_spent(history):
            return Moved(Step.SPENT)
        candidates.refuse_hopeless(self.program, view.now, before)
        seed = action.seed if action.kind is Kind.RUN_INCUMBENT else next_base_seed(ledger)
        message = Message(
            title=f"baseline at {self.rung.name}{'' if seed is None else f', seed {seed}'}",
            hypothesis="Measures a baseline at a larger scale, so that changes can be judged there.",
            agent=BASELINE_AGENT,
            candidate=view.incumbent,
            seed=seed,
            rung=self.rung.name,
        )
        return Moved(Step.QUEUED, self._queue(view.head, view.head, message))

    def is_spent(self, history: History) -> bool:
        """Whether the rung's budget of runs is."""
        used = sum(len(item.experiments) for item in history.at_rungs if item.rung == self.rung.name)
        return self.rung.runs is not None and used >= self.rung.runs

    def _queue(self, tree: str, baseline: str, message: Message) -> str:
        title = "baseline" if message.agent == BASELINE_AGENT else message.title
        name = refs.new_name(f"{self.rung.name} {title}", message.seed)
        planted = tree_at(self.repo, self.program, self.rung, tree)
        self.campaign.queue.put(self.project, planted, baseline, message, name)
        return name

    def neighbour(self, history: History, attempt: Attempt) -> Attempt | None:
        """The value between the branch's and a winner's that is to be measured here before the winner, which
        hurts here, is called scale-bound; as an attempt without runs here. None where nothing is left to try.
        """
        mine = history.at_rung(attempt.candidate, self.rung.name)
        known = mine.verdict if mine and mine.is_decided else None
        place = self._untried(history, attempt, known) if known else None
        if place is None:
            return None
        near = self._neighbours(attempt)[place]
        title = f"{near.key.key} → {near.value:g}"
        first = replace(attempt.first, rev=near.tree, candidate=near.candidate, title=title)
        # Without a verdict of its own, it has no neighbours, and nothing is told of it.
        return replace(attempt, candidate=near.candidate, experiments=(first,), verdict=None)

    def _untried(self, history: History, attempt: Attempt, verdict: Verdict) -> int | None:
        """Place of the neighbour to be measured next, by the last word on a change here."""
        good = attempt.verdict is not None and attempt.verdict.decision is Decision.PROMOTE
        if not good or not hurts(verdict) or self.is_spent(history):
            return None
        return wanted(self._tried(history, attempt))

    def _neighbours(self, attempt: Attempt) -> list[Neighbour]:
        if attempt.name not in self._near:
            self._near[attempt.name] = neighbours(self.repo, self.program.search, self.identity, attempt)
        return self._near[attempt.name]

    def _tried(self, history: History, attempt: Attempt) -> list[Verdict | None]:
        """The judge's last word here on each neighbour; None before it is said."""
        climbs = [history.at_rung(near.candidate, self.rung.name) for near in self._neighbours(attempt)]
        return [climb.verdict if climb and climb.is_decided else None for climb in climbs]

    def _follow(self, history: History, attempt: Attempt, verdict: Verdict) -> bool:
        """Tell the change's own verdict what its verdict at this rung was, where the two disagree and no
        neighbour is left to try. False if nothing had to be told."""
        old = attempt.verdict
        if old is None or old.decision is not Decision.PROMOTE or verdict.decision is Decision.PROMOTE:
            return False
        if self._untried(history, attempt, verdict) is not None:
            return False
        tried = self._tried(history, attempt) if hurts(verdict) else []
        values = (near.value for near, one in zip(self._neighbours(attempt), tried, strict=False) if one)
        called = label(verdict, tried, old.label)
        new = replace(old, label=called, tried=tuple(values) if tried else old.tried)
        if self.program.promote_rung == self.rung.name and attempt.outcome is not Outcome.PROMOTED:
            words = f"Good at the base, but not at {self.rung.name}. There: {verdict.reason}"
            new = replace(new, decision=Decision.DISCARD, reason=words, label=called or Label.NO_GAIN_HIGHER)
        if new == old:
            return False
        self.campaign.record(attempt, new)
        return True


class Ladder:
    """The rungs of a campaign, as one engine climbs them.

    Args:
        stuck: names of attempts that a rung has no budget left for.
    """

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.stuck: set[str] = set()
        self._rungs: dict[str, AtRung] = {}

    def rung(self, name: str) -> AtRung:
        """A rung, by its name."""
        if name not in self._rungs:
            self._rungs[name] = AtRung(self.campaign, self.campaign.program.rung(name))
        return self._rungs[name]

    def climb(self, engine: Engine, rung: str, history: History, attempt: Attempt, room: int) -> Step:
        """Take an attempt a step further on a rung, if it is not decided there.

        Raises:
            CannotClimb: it changes nothing there.
        """
        if room <= 0:
            return Step.WAITING
        moved = self.rung(rung).step(history, attempt, engine.ended_before)
        if moved.name:
            engine.queued(moved.name)
        if moved.step is Step.SPENT and attempt.name not in self.stuck:
            self.stuck.add(attempt.name)
            engine.event(f"{attempt.name} is not decided at {rung}: the rung's budget of runs is spent")
        return moved.step

    def toward(self, engine: Engine, target: str, history: History, attempt: Attempt, room: int) -> Step:
        """Take a winner a step further towards a rung: at one below it, where a second of a run says more of
        the target, else at the target itself, where the judge decides.

        Raises:
            CannotClimb: it changes nothing there.
        """
        between = [rung.name for rung in upto(self.campaign.program, target)[:-1]]
        mine = history.at_rung(attempt.candidate, target)
        if not between or (mine and mine.own):
            return self.climb(engine, target, history, attempt, room)
        told = [self.rung(rung).settle(history, attempt) for rung in between]
        if any(told):
            return Step.DECIDED
        for rung in between:
            if self.rung(rung).neighbour(history, attempt) is not None:
                return self.climb(engine, rung, history, attempt, room)
        climbs = (history.at_rung(attempt.candidate, rung) for rung in between)
        if any(not run.status.ended for climb in climbs if climb for run in climb.own):
            return Step.WAITING
        from ar.surrogate.choosing import detour  # it takes its time to load
        from ar.surrogate.climbs import climbs_of

        known = climbs_of(self.campaign.program, history, target)
        able = [
            rung
            for rung in between
            if not decided_at(history, attempt, rung) and not self.rung(rung).is_spent(history)
        ]
        rung = detour(known, attempt, able)
        return self.climb(engine, rung or target, history, attempt, room)


def tree_at(repo: Repo, program: Program, rung: Rung, rev: str) -> str:
    """The tree of a commit or tree with the rung's parameters written in place, and those that follow the
    scale by a rule as they are there.

    Raises:
        BadParams: it has no such key, or a rule's parameter is no number above 0.
    """
    files: dict[str, dict[str, object]] = {}
    for key, value in rung.params.items():
        files.setdefault(key.file, {})[key.key] = value
    read = cache(lambda file: repo.read(rev, file) or b"")
    for key, rule in program.transfer.items():
        of = ParamKey.parse(rule.name)
        if rule.name in rung.scale:
            base, here = program.ladder[0].scale[rule.name], rung.scale[rule.name]
        else:
            base = _size(read(of.file), of)
            here = number(rung.params.get(of, base)) or base
        value = _size(read(key.file), key, least=-math.inf)
        if here != base:
            files.setdefault(key.file, {})[key.key] = rule.at(value, base, here)
    changes: dict[str, bytes | None] = {
        file: params.update(read(file), file, values) for file, values in files.items()
    }
    return repo.write_tree(rev, changes)


def _size(content: bytes, key: ParamKey, least: float = 0.0) -> float:
    """A parameter's value, where it is a number above `least`.

    Raises:
        BadParams: it is not there, or not such a number.
    """
    found = number(flat(content, key.file).get(key.key))
    if found is None or found <= least:
        what = "number above 0" if least == 0 else "number"
        raise BadParams(f"{key} is no {what}, as a transfer rule needs", "see: transfer: in program.md")
    return found


def above(program: Program, rung: str | None) -> Rung:
    """The rung of that name; the lowest one above the base for None.

    Raises:
        NotFound: there is none.
    """
    return program.rung(rung or (program.ladder[1].name if len(program.ladder) > 1 else ""))


def upto(program: Program, rung: str | None) -> list[Rung]:
    """The rungs above the base, up to the one of that name; all of them for None.

    Raises:
        NotFound: there is none.
    """
    last = above(program, rung or (program.ladder[-1].name if program.ladder else None))
    return list(program.ladder[1 : program.ladder.index(last) + 1])


def cases(campaign: Campaign, history: History, attempt: Attempt) -> tuple[Case, dict[str, Case]]:
    """What the verdict on an attempt rests on, and the same for every rung that it was measured at.

    Raises:
        NotFound: as `Campaign.case` does.
    """
    if attempt.rung:
        return AtRung(campaign, campaign.program.rung(attempt.rung)).case(history, attempt), {}
    found = {}
    for rung in campaign.program.ladder[1:]:
        climb = history.at_rung(attempt.candidate, rung.name)
        if climb and any(run.status.ended and not run.measures_baseline for run in climb.experiments):
            found[rung.name] = AtRung(campaign, rung).case(history, climb)
    return campaign.case(history, attempt), found


def additivities(campaign: Campaign, history: History, stack: Attempt) -> dict[str, Additivity]:
    """Rung to how a stack compares with the sum of its members there, where all of them were measured.

    Raises:
        NotFound: a member is not in this repository.
    """
    members = [find(history, name)[0] for name in stack.stack]
    found = {}
    for rung in campaign.program.ladder[1:] if len(members) > 1 else ():
        whole, *parts = (history.at_rung(item.candidate, rung.name) for item in (stack, *members))
        known = [item for item in parts if item is not None]
        if whole is None or len(known) < len(parts) or not all(item.own for item in (whole, *known)):
            continue
        view = AtRung(campaign, rung).view(history, stack.baseline)
        if (added := additivity(campaign.program, view, whole, known)) is not None:
            found[rung.name] = added
    return found


def decided_at(history: History, attempt: Attempt, rung: str) -> bool:
    """Whether the judge has said its last word on a change at a rung."""
    found = history.at_rung(attempt.candidate, rung)
    return found is not None and found.is_decided
