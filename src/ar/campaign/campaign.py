"""One project's campaign: the single steps between history, agent, judge and queue.

Each step reads what it needs from refs and notes and leaves its result there. Policies string them together;
commands such as `ar next` take one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ar.agents import Agent, Briefing, Channel, account, make, turns
from ar.campaign import near
from ar.campaign.model import Model
from ar.changes import integrity, merging, own
from ar.changes.likeness import Likeness
from ar.changes.patches import Patch
from ar.changes.proposal import Change, prepare
from ar.errors import ArError, BadParams, BadProposal, NotFound
from ar.git import refs
from ar.history import notebook, reader
from ar.history.attempts import origin
from ar.history.curves import incumbent_curve
from ar.history.ideas import Proposal
from ar.history.messages import BASELINE_AGENT, Message
from ar.history.near_misses import near_misses
from ar.history.records import Attempt, Decision, History, Label, Verdict
from ar.judge import findings
from ar.judge.evidence import Ledger
from ar.judge.findings import Case
from ar.judge.ledger import first_seed, ledger, step
from ar.judge.rule import Action, Kind, look_seed, next_action
from ar.local import board, claims, locks
from ar.local.board import Place
from ar.project import papers
from ar.project.identity import is_edited
from ar.project.program import AgentSpec
from ar.project.project import Project
from ar.runs import budget
from ar.runs.pipeline import Pipeline
from ar.runs.queues import Home, Queue
from ar.text import one_line

MAX_REFUSALS = 3
_MEASURES = {
    "baseline": "Measures the branch as it is, so that changes can be told from noise.",
    "audit": "Re-measures the branch at the campaign's end, so that its total gain can be told.",
    "A/A": "Runs the branch as it is as if it were a change, which must make no difference.",
    "earlier": "Measures the branch as it was then, so that what it kept can be audited.",
}
MAX_RACES = 10  # how often others may queue the very same change between our proposing and queueing it


class Campaign:
    """The steps, on one project."""

    def __init__(self, project: Project, pipeline: Pipeline | None = None) -> None:
        self.project = project
        self.repo, self.program = project.repo, project.program
        self.pipeline = pipeline or Pipeline(project.repo)
        self.queue: Queue = Home(self.pipeline)
        self.memory = reader.Memory()
        self.model = Model(project)
        self.likeness = Likeness(project)
        self.books = account.Books(project.repo)

    def history(self) -> History:
        return reader.read(self.project, self.memory)

    # -- proposing ----------------------------------------------------------------------------------------

    def propose(self, agent: str | None = None, idea: str = "", channel: Channel | None = None) -> Change:
        """Ask an agent until a proposal passes every check; nothing is queued.

        Args:
            agent: its name or kind; None for the one whose turn it is.
            idea: what the user wants tried, in a sentence.
            channel: how an agent that takes its time says what it does.

        Raises:
            BadProposal: the agent was refused too often in a row.
        """
        return self.ask(self._turn(agent), channel, idea)

    def ask(self, spec: AgentSpec, channel: Channel | None = None, idea: str = "") -> Change:
        """`propose` by one agent. May run beside the other steps, in a thread of its own."""
        with self._seat(spec, channel) as (agent, place):
            return self._ask(spec, agent, idea, place)

    @contextlib.contextmanager
    def _seat(self, spec: AgentSpec, channel: Channel | None) -> Iterator[tuple[Agent, Place]]:
        """An agent that can be asked, and its place on the board."""
        channel = channel or Channel()
        with board.place(self.repo, spec.name) as place:
            channel.claim = place.post
            yield make(spec, self.repo, channel), place

    def queue_next(
        self, agent: str | None = None, idea: str = "", channel: Channel | None = None
    ) -> tuple[Change, str]:
        """Propose and queue: the change and its experiment's name. Arguments are those of `propose`.

        Raises:
            BadProposal: the agent was refused too often in a row, or others were faster every time.
        """
        spec = self._turn(agent)
        with contextlib.ExitStack() as stack:
            asked, place = stack.enter_context(self._seat(spec, channel))
            if asked.instant:
                stack.enter_context(locks.hold(self.repo, "propose"))
            races = 0
            while True:
                change = self._ask(spec, asked, idea, place)
                try:
                    return self.submit(change)
                except BadProposal:
                    races += 1
                    if races == MAX_RACES:
                        raise

    def _turn(self, agent: str | None) -> AgentSpec:
        specs = self.program.agents
        if agent is not None:
            return turns.named(specs, agent)
        return turns.order(specs, self.history(), self.books.read().agents)[0] if specs[1:] else specs[0]

    def _ask(self, spec: AgentSpec, agent: Agent, idea: str, place: Place) -> Change:
        refused: list[str] = []
        while True:
            history = self.history()
            briefing = self.briefing(history, spec, tuple(refused), idea, place)
            try:
                proposal = agent.propose(briefing)
                proposal = replace(proposal, agent=spec.name, stack=(), reverts="", observed="")
                change = prepare(self.project, proposal, history)
                # A user's own idea, and values that a model chose, are meant to be near to what was tried.
                return change if idea or agent.instant else near.checked(self.likeness, change, history)
            except (BadProposal, BadParams) as error:
                if not agent.instant:  # one that only searches for what is new costs nothing
                    account.record_refusal(self.repo, spec.name)
                refused.append(f"{error}\n{error.told}" if isinstance(error, near.TooNear) else str(error))
                if len(refused) > MAX_REFUSALS:
                    raise BadProposal(
                        f"the agent was refused {len(refused)} times in a row, at last: {error.message}",
                        error.mend,
                    ) from None

    def briefing(
        self,
        history: History,
        spec: AgentSpec,
        refused: tuple[str, ...] = (),
        idea: str = "",
        place: Place | None = None,
    ) -> Briefing:
        """What an agent is given. Arguments are those of `Briefing`; `place` is its own on the board."""
        params, surface = reader.baseline_params(self.project), self.model.surface(history)
        briefing = Briefing(self.program, history, params, refused, spec.lane, idea, surface, spec.name)
        if spec.is_embedded:
            return briefing  # it reads no more than that
        return replace(
            briefing,
            role=spec.role,
            notebook=notebook.read(self.repo),
            near=tuple(near_misses(self.project, history)),
            used=budget.used(self.repo, history),
            spent=account.read(self.repo).total,
            curve=incumbent_curve(self.repo, self.program, history),
            cards=tuple(papers.read(self.repo, history.head).cards),
            board=board.read(self.repo, place),
        )

    def check(self, proposal: Proposal) -> Change:
        """The change that a proposal is, if it passes every check.

        Raises:
            BadProposal: it does not.
        """
        return prepare(self.project, proposal, self.history())

    def submit(self, change: Change, seed: int | None = None, only_on: str = "") -> tuple[Change, str]:
        """Queue a change's first run, `only_on` as in `Message`. Returns what was queued, and its name.

        Raises:
            BadProposal: somebody queued the same change since it was checked, or the branch moved and the
                change does not apply any more.
        """
        with locks.hold(self.repo, "submit"):
            history = self.history()
            proposal = change.proposal
            moved = change.baseline != history.head
            # What was paid for is tried on the new head; anybody else is quickly asked again.
            if moved and not proposal.tree and not proposal.edits and proposal.spend is None:
                raise BadProposal("the branch moved while the proposal was made", "propose again")
            if moved and proposal.tree:
                merged = merging.merge(
                    self.project, change.baseline, history.head, proposal.tree, "the proposal", yielding=True
                )
                if merged.clashes:
                    where = ", ".join(clash.path for clash in merged.clashes)
                    raise BadProposal(
                        f"the branch moved, and the proposal conflicts in {where}", "propose again"
                    )
                proposal = replace(proposal, tree=merged.tree)
            change = prepare(self.project, proposal, history)
            return change, self.put(change, history, seed, only_on=only_on)

    def put(
        self,
        change: Change,
        history: History,
        seed: int | None = None,
        earlier: bool = False,
        only_on: str = "",
    ) -> str:
        """Queue the first run of a change of the history's head, as it is. Returns the experiment's name.

        Args:
            earlier, only_on: as in `Message`.

        Raises:
            BadProposal: another clone that shares the queue has put the very same there.
        """
        known = self.ledger(history)
        action = next_action(known)
        first = action.seed if action.kind is Kind.PROPOSE else known.first_seed
        if known.knows_noise and not earlier and self.model.chooses(change.proposal):
            first = look_seed(known, len(history.attempts))
        edits = is_edited(self.project, change.baseline, change.tree)
        message = Message.of(change.proposal, change.candidate, first if seed is None else seed, edits=edits)
        message = replace(message, earlier=earlier, only_on=only_on)
        name = refs.new_name(change.proposal.title)
        if not self.queue.put(self.project, change.tree, change.baseline, message, name):
            raise BadProposal("another clone queued the same change just now", "propose again")
        return name

    def queue_series(
        self, series: Sequence[tuple[str, Callable[[], Patch]]], dry_run: bool
    ) -> Iterator[tuple[str, str | ArError]]:
        """Queue each patch as a change of its own. Yields its label with the experiment's name (on a dry run
        the change's title) or with why it was refused."""
        seen: dict[str, str] = {}
        for label, read in series:
            try:
                change = self.check(own.from_patch(self.project, read(), {}, ""))
                if change.candidate in seen:
                    raise BadProposal(f"{seen[change.candidate]} is exactly this")
                seen[change.candidate] = label
                yield label, change.proposal.title if dry_run else self.submit(change)[1]
            except (BadProposal, BadParams) as error:
                yield label, error

    def replicate(self, attempt: Attempt, seed: int | None, only_on: str = "") -> str:
        """Queue another run of a candidate, with another seed; `only_on` is as in `Message`."""
        first = attempt.first
        message = replace(Message.again(first, attempt.candidate, seed), only_on=only_on)
        name = refs.new_name(f"{first.rung} {first.title}", seed)
        # The first run's tree differs from what is to run in its outputs only, and those the run writes anew.
        self.queue.put(self.project, first.rev, attempt.baseline, message, name)
        return name

    def measure_incumbent(
        self,
        history: History,
        seed: int | None,
        audit: bool = False,
        aa: bool = False,
        only_on: str = "",
        only_at: str = "",
    ) -> str:
        """Queue one run of the head's own tree: to judge changes by, or as part of the closing audit or of an
        A/A check.

        Args:
            history: perhaps as seen from an earlier commit.
            only_on, only_at: as in `Message`.
        """
        earlier = history.head != self.repo.head()
        kind = "earlier" if earlier else "audit" if audit else "A/A" if aa else "baseline"
        message = _measuring(kind, seed)
        if earlier:
            title = one_line(self.repo.commit(history.head).message.partition("\n")[0])
            message = replace(message, title=title, earlier=True)
        message = replace(message, candidate=history.incumbent, audit=audit, aa=aa)
        message = replace(message, only_on=only_on, only_at=only_at)
        name = refs.new_name((message.title if earlier else kind).replace("/", ""), seed)
        self.queue.put(self.project, history.head, history.head, message, name)
        return name

    def diff(self, change: Change) -> str:
        """What a proposal changes, as a patch."""
        return self.repo.diff(change.baseline, change.tree)

    def running_log(self, name: str) -> str:
        """What a running experiment has printed so far; empty if it does not run here."""
        path = claims.folder(self.repo, name) / "log"
        return path.read_text(errors="replace") if path.is_file() else ""

    # -- judging ------------------------------------------------------------------------------------------

    def ledger(self, history: History, attempt: Attempt | None = None) -> Ledger:
        """The campaign as the judge sees it, with one attempt open. Runs under way are as good as spent."""
        return ledger(self.program, history, attempt, self._head_seed(history))

    def _head_seed(self, history: History) -> int | None:
        """The head's seed where no baseline run says where seeds begin."""
        return reader.head_seed(self.project) if first_seed(history) is None else None

    def step(self, history: History, attempt: Attempt, screening: bool = False) -> Action:
        """The judge's next step for one open candidate, none of whose runs is under way.

        Args:
            screening: the model chooses which changes get a second run.
        """
        flaw = integrity.flaw(self.project, history, attempt)
        return step(self.program, history, attempt, self._head_seed(history), flaw, screening)

    def record(self, attempt: Attempt, verdict: Verdict) -> None:
        """Write the verdict into the note of the attempt's first run."""
        first = attempt.first
        self.repo.update_note(
            first.rev, lambda note: {"status": str(first.status), **note, "verdict": verdict.to_json()}
        )

    def discard(self, attempt: Attempt, reason: str, label: Label) -> None:
        """Record that an attempt is given up for a reason that is not its own; its numbers stay."""
        old = attempt.verdict or Verdict(Decision.OPEN, "", runs=len(attempt.experiments))
        self.record(attempt, replace(old, decision=Decision.DISCARD, reason=reason, label=label))

    def case(self, history: History, attempt: Attempt) -> Case:
        """What the verdict on an attempt rests on. One that is not judged yet is judged as things stand.

        Raises:
            NotFound: it is the baseline, or none of its runs has ended.
        """
        if attempt.is_hearsay:
            what = f"{attempt.name} {origin(attempt)}, and nothing of it was measured here"
            raise NotFound(what, f"run: ar stack {attempt.name}")
        verdict = attempt.verdict
        if verdict is None or not attempt.is_decided:
            verdict = self.step(history, attempt).verdict
        return findings.case(self.program, history, attempt, verdict)


def _measuring(kind: str, seed: int | None) -> Message:
    """For a run of the branch as it is."""
    title = kind if seed is None else f"{kind}, seed {seed}"
    return Message(title, _MEASURES[kind], agent=BASELINE_AGENT, seed=seed)
