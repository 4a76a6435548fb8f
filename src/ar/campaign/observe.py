"""The policy of `ar observe`: what another loop commits is measured and judged beside it.

The loop goes on by itself and is never touched: not its branch, not the checkout. A commit counts once the
checkout has stood at it, though a reset may have left it behind since. What is tried is its own change, on
the branch where the campaign stands; where it does not go or run there, all that it builds on comes along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from ar.campaign import candidates
from ar.campaign.campaign import Campaign
from ar.campaign.engine import Done, Engine, Policy
from ar.campaign.ladder import Ladder
from ar.campaign.progress import View
from ar.campaign.search import Search
from ar.changes import merging, own
from ar.errors import ArError, BadProposal, BadState
from ar.git import refs
from ar.history.attempts import find
from ar.history.ideas import Proposal
from ar.history.messages import headed
from ar.history.records import Attempt, History, Outcome
from ar.judge.rule import Kind, next_action
from ar.local import observed
from ar.project.identity import identity
from ar.redaction import redact
from ar.text import counted, one_line, plain

AGENT = "observed"  # who proposes what somebody else committed


@dataclass(frozen=True)
class Seen:
    """A commit that the other loop made.

    Args:
        name: of the experiment that tries its change; empty where none does.
        left_out: files of it outside the scope.
        refusal: why it cannot be tried; empty where it is, or still waits.
        is_whole: it is to be tried with all that it builds on.
    """

    rev: str
    title: str
    name: str = ""
    left_out: tuple[str, ...] = ()
    refusal: str = ""
    is_whole: bool = False

    @property
    def waits(self) -> bool:
        return not self.name and not self.refusal


def begin(campaign: Campaign) -> None:
    """Take note of what there is before the loop begins, or carry on with what was cut off.

    Raises:
        BadState: the campaign's own branch is checked out.
    """
    repo = campaign.repo
    if repo.branch() == refs.OBSERVED:
        name = refs.OBSERVED.removeprefix("refs/heads/")
        raise BadState(f"{name} is the campaign's own branch", "check out the one that is to be observed")
    observed.begin(repo)


@dataclass
class Observe(Policy):
    """Tries each commit, in the order in which they were made, and promotes nothing.

    Args:
        goes_on: whether the other loop may make more of them.
    """

    campaign: Campaign
    goes_on: Callable[[], bool]
    seen: dict[str, Seen] = field(default_factory=dict)
    _search: Search = field(init=False)
    _went_on: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self._search = Search(Ladder(self.campaign), experiments=0, promoting=False)

    def begin(self, engine: Engine, history: History) -> None:
        self._search.begin(engine, history)

    def step(self, engine: Engine, history: History, room: int) -> bool:
        self._went_on = self.goes_on()  # asked before the look: what is committed last is seen then
        self.look()
        self._take_up(history)
        waiting = sum(item.waits for item in self.seen.values())
        self.phase = f"observing, {counted(waiting, 'commit')} to try" if waiting else ""
        most = room + len(engine.pending(history))
        if self._search.step(engine, history, room):
            return True
        self._fill(engine, most)
        return False

    def awaits(self, engine: Engine, history: History) -> bool:
        return (self._went_on and not engine.over) or self._search.awaits(engine, history)

    def is_due(self) -> bool:
        return self._went_on and not self.goes_on()

    def look(self) -> None:
        """Take note of what was committed since the last look."""
        for rev in observed.fresh(self.campaign.repo):
            if rev not in self.seen:
                self.seen[rev] = Seen(rev, self._title(rev))

    def finish(self, history: History) -> bool:
        """Whether all is decided; the next observation begins anew then."""
        tried = [attempt_of(history, item) for item in self.seen.values() if not item.refusal]
        done = all(attempt is not None and not history.is_open(attempt) for attempt in tried)
        if done:
            observed.end(self.campaign.repo)
        return done

    def _title(self, rev: str) -> str:
        return one_line(redact(self.campaign.repo.commit(rev).message.strip().partition("\n")[0])) or rev[:9]

    def _take_up(self, history: History) -> None:
        """Have those that crashed by themselves wait again: they may need what they build on."""
        repo, tried = self.campaign.repo, _observed(history)
        for item in self.seen.values():
            attempt = tried.get(item.rev) if item.name and not item.is_whole else None
            if attempt is not None and attempt.outcome is Outcome.CRASHED and not history.is_open(attempt):
                builds = not repo.is_ancestor(repo.commit(item.rev).parents[0], history.head)
                self.seen[item.rev] = replace(item, name="" if builds else item.name, is_whole=True)

    def _fill(self, engine: Engine, most: int) -> None:
        """Queue commits, the oldest first, until so many runs are under way, or the rule wants other runs."""
        for item in [item for item in self.seen.values() if item.waits]:
            history = self.campaign.history()
            if not item.is_whole and (
                known := _observed(history).get(item.rev)
            ):  # queued before this process began
                self.seen[item.rev] = replace(item, name=known.name)
                continue
            ledger = self.campaign.ledger(history)
            wanted = next_action(candidates.as_if_ended(engine, history, ledger)).kind
            if len(engine.pending(history)) >= most or not ledger.base or wanted is not Kind.PROPOSE:
                return
            self.seen[item.rev] = self._try(engine, history, item)

    def _try(self, engine: Engine, history: History, item: Seen) -> Seen:
        """Queue one commit's change. Whatever is wrong with it, the next one gets its turn."""
        try:
            proposal, left_out = _proposal(self.campaign, history, item)
            item = replace(item, left_out=left_out)
            twin = history.of(identity(self.campaign.project, proposal.tree))
            if twin and twin.own and not twin.is_superseded:
                engine.event(f"{item.rev[:9]} {item.title}: {twin.name} is exactly this")
                return replace(item, name=twin.name)
            change, name = self.campaign.submit(self.campaign.check(proposal))
        except Exception as error:  # the commit's fault, never the campaign's
            words = redact(one_line(error.message if isinstance(error, ArError) else repr(error)))
            engine.event(f"{item.rev[:9]} {item.title}: not tried: {words}")
            return replace(item, refusal=words)
        engine.done.proposed += 1
        engine.queued(name)
        engine.event(f"queued {name}: {change.proposal.title} ({item.rev[:9]})")
        return replace(item, name=name)


class Loop(Protocol):
    """The other loop's command; one that has ended already where there is none."""

    def runs(self) -> bool: ...

    def level(self) -> int:
        """How far we are asked to end, as `Engine`'s `stop`."""
        ...

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        ...


def beside(policy: Observe, loop: Loop, view: View, jobs: int) -> tuple[Done, ArError | None]:
    """Observe until the loop has ended and all is judged, or the user ends it. Whatever befalls us, the loop
    is waited for. Returns what was done, and what it failed by."""
    failure = None
    with view:
        engine = Engine(policy.campaign, policy, view, loop.level, jobs=jobs)
        try:
            engine.run_locked()
        except ArError as error:
            failure = error
            view.event(redact(str(error)))
        finally:
            loop.wait()
    policy.look()
    return engine.done, failure


def attempt_of(history: History, item: Seen) -> Attempt | None:
    """The attempt that tells of a commit; None where there is none."""
    if found := _observed(history).get(item.rev):
        return found
    return find(history, item.name)[0] if item.name else None


def _observed(history: History) -> dict[str, Attempt]:
    """Commit to what tries it; where it was tried again on a later branch, that."""
    return {item.first.observed: item for item in history.attempts if item.first.observed}


def _proposal(campaign: Campaign, history: History, item: Seen) -> tuple[Proposal, tuple[str, ...]]:
    """A commit's change on the head, and its files that are left out of it.

    Raises:
        BadProposal: nothing of it is in the scope, or it does not go there.
    """
    repo, commit = campaign.repo, campaign.repo.commit(item.rev)
    if not commit.parents:
        raise BadProposal("it has no parent that it could differ from")
    parent, why = commit.parents[0], plain(commit.message).strip().partition("\n")[2].strip()
    tree, left_out = own.from_commit(campaign.project, item.rev, parent)
    if tree == repo.tree(parent):
        outside = f": {', '.join(map(one_line, left_out[:5]))}" if left_out else ""
        raise BadProposal(f"it changes nothing inside the scope{outside}")
    merged = merging.merge(campaign.project, parent, history.head, tree, item.rev[:9], yielding=True)
    if (item.is_whole or merged.clashes) and (start := repo.merge_base(history.head, item.rev)):
        tree, left_out = own.from_commit(campaign.project, item.rev, start)
        merged = merging.merge(campaign.project, start, history.head, tree, item.rev[:9], yielding=True)
        why = f"{why}\n\nMeasured with all that it builds on since {start[:9]}.".strip()
    if merged.clashes:
        where = ", ".join(one_line(clash.path) for clash in merged.clashes)
        raise BadProposal(f"it conflicts with the branch in {where}")
    before = _observed(history).get(parent)
    title, why = headed(item.title, why)
    proposal = Proposal(
        title, why, AGENT, tree=merged.tree, parent=before.name if before else "", observed=item.rev
    )
    return proposal, tuple(left_out)
