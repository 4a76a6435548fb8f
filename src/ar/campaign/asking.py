"""Questions to agents that take their time, asked in the background while experiments run.

The engine starts a question, does other things, and picks up the answer. What goes wrong with a question is
its agent's failure and costs no other answer: the agent rests for a while, longer each time, or is given up
where somebody must mend something. Meanwhile its fallback proposes, if it has one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from ar.agents import Channel, Dropped, is_instant, turns
from ar.campaign.campaign import Campaign
from ar.changes.proposal import Change
from ar.errors import AgentFailed, ArError, BadParams, BadProgram, BadProposal, Exhausted, OutOfBudget
from ar.history.records import History
from ar.project.program import AgentSpec
from ar.text import one_line, shorten_middle, span

MAX_FAILURES = 20  # of one agent in a row, after which it is given up
MAX_IN_VAIN = 3  # the same where it was asked, and that led to nothing
_REST, _LONGEST_REST = 30.0, 600.0  # seconds after a failure; doubled each time
_DROP_WAIT = 3.0  # seconds that dropped questions get to close their accounts


class State(Enum):
    """Whether an agent can be asked."""

    READY = auto()
    RESTING = auto()  # it failed, and is asked again later
    GIVEN_UP = auto()


@dataclass
class _Standing:
    """How an agent has been doing.

    Args:
        failures: in a row.
        in_vain: those of them for which nothing but the agent's own answers can be blamed.
        rests_until: monotonic time, in seconds.
        given_up: why it is not asked any more.
    """

    failures: int = 0
    in_vain: int = 0
    rests_until: float = 0.0
    given_up: ArError | None = None

    @property
    def state(self) -> State:
        if self.given_up is not None:
            return State.GIVEN_UP
        return State.RESTING if self.rests_until > time.monotonic() else State.READY


@dataclass
class _Question:
    """A question, and its answer once there is one: a change, or what went wrong."""

    spec: AgentSpec
    channel: Channel = field(default_factory=Channel)
    activity: str = ""
    thread: threading.Thread | None = None
    answer: Change | BaseException | None = None

    @property
    def is_stalled(self) -> bool:
        return self.answer is None and self.channel.is_stalled


@dataclass
class Asking:
    """The agents of one `ar run`."""

    campaign: Campaign
    _questions: list[_Question] = field(default_factory=list)
    _standings: dict[str, _Standing] = field(default_factory=dict)
    _events: deque[str] = field(default_factory=deque)

    # -- whom to ask --------------------------------------------------------------------------------------

    def turn(self, history: History) -> AgentSpec | None:
        """Whose turn it is; None where nobody can be asked just now.

        Those being asked count as if they had proposed. An agent's fallback stands in for it, also while a
        question is tried again.
        """
        asked = [question.spec.name for question in self._questions]
        stalled = {question.spec.name for question in self._questions if question.is_stalled}
        specs, spent = self.campaign.program.agents, self.campaign.books.read().agents
        for spec in turns.order(specs, history, spent, asked):
            for candidate in _with_fallback(spec):
                if self._standing(candidate).state is State.READY and candidate.name not in stalled:
                    return candidate
        return None

    @property
    def anybody_left(self) -> bool:
        """Whether anybody is being asked, or may be asked later."""
        specs = [item for spec in self.campaign.program.agents for item in _with_fallback(spec)]
        return bool(self._questions) or any(
            self._standing(spec).state is not State.GIVEN_UP for spec in specs
        )

    @property
    def given_up_for(self) -> ArError | None:
        """Why agents are not asked any more: the budget where it is spent, else the reason of the first."""
        reasons = [item.given_up for item in self._standings.values() if item.given_up]
        return next((one for one in reasons if isinstance(one, OutOfBudget)), next(iter(reasons), None))

    def _standing(self, spec: AgentSpec) -> _Standing:
        return self._standings.get(spec.name, _Standing())

    # -- what goes on -------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Questions under way, but for those that are tried again: nobody waits for them."""
        return sum(not question.is_stalled for question in self._questions)

    @property
    def most(self) -> int:
        """How many questions may be under way: by default one for each agent that takes its time."""
        program = self.campaign.program
        return program.questions or sum(not is_instant(spec) for spec in program.agents)

    @property
    def takes_time(self) -> bool:
        """Whether any of the programme's agents does not answer at once."""
        return any(not is_instant(spec) for spec in self.campaign.program.agents)

    @property
    def activity(self) -> str:
        """What each agent is doing, for a view."""
        busy = [f"{item.spec.name}: {item.activity}" for item in self._questions if item.activity]
        resting = [
            f"{name} rests for {span(standing.rests_until - time.monotonic())}"
            for name, standing in self._standings.items()
            if standing.state is State.RESTING
        ]
        return "; ".join(busy + resting)

    def events(self) -> list[str]:
        """What happened since the last call and deserves a lasting line."""
        return [self._events.popleft() for _ in range(len(self._events))]

    # -- asking -------------------------------------------------------------------------------------------

    def ask(self, spec: AgentSpec) -> None:
        """Begin to ask."""
        question = _Question(spec)

        def say(words: str) -> None:
            question.activity = words

        def event(words: str) -> None:
            say(words)
            self._events.append(f"{spec.name}: {words}")

        def work() -> None:
            try:
                question.answer = self.campaign.ask(spec, question.channel)
            except BaseException as error:
                question.answer = error

        question.channel = Channel(say=say, event=event)
        question.thread = threading.Thread(target=work, name=f"ask {spec.name}", daemon=True)
        self._questions.append(question)
        question.thread.start()

    @property
    def ready(self) -> bool:
        """Whether an answer waits."""
        return any(question.answer is not None for question in self._questions)

    def answers(self) -> list[tuple[AgentSpec, Change]]:
        """Changes that came back since the last call. Failures become events and raise nothing: a change that
        came back beside them has been paid for."""
        done = [question for question in self._questions if question.answer is not None]
        self._questions = [question for question in self._questions if question.answer is None]
        changes = []
        for question in done:
            if isinstance(question.answer, Change):
                changes.append((question.spec, question.answer))
            elif question.answer is not None:
                self.failed(question.spec, question.answer)
        return changes

    def succeeded(self, spec: AgentSpec) -> None:
        """A proposal of this agent was queued."""
        self._standings.pop(spec.name, None)

    def failed(self, spec: AgentSpec, error: BaseException, overtaken: bool = False) -> None:
        """Let an agent rest, or give it up.

        Args:
            overtaken: its answer was sound, and came too late.
        """
        if isinstance(error, Dropped) or self._standing(spec).state is State.GIVEN_UP:
            return
        instant = is_instant(spec)
        failure = error if isinstance(error, ArError) else _unexpected(error, passing=not instant)
        standing = self._standings.setdefault(spec.name, _Standing())
        if isinstance(failure, OutOfBudget) and self._questions:
            # What those under way may cost counts as spent until they tell that it was less.
            standing.rests_until = time.monotonic() + _REST
            return
        standing.failures += 1
        standing.in_vain += not overtaken and _is_in_vain(failure)
        spent_up = standing.in_vain >= MAX_IN_VAIN or standing.failures >= MAX_FAILURES
        if spent_up or _is_lasting(failure, instant):
            standing.given_up = failure
            many = f" after {standing.failures} failures in a row" if spent_up else ""
            self._events.append(f"{spec.name} is not asked any more{many}: {failure.message}")
            if isinstance(failure, OutOfBudget):  # whether it has anything left for the others shows at once
                for other in self._standings.values():
                    other.rests_until = 0.0
            return
        rest = min(_REST * 2 ** (standing.failures - 1), _LONGEST_REST)
        # A refusal says nothing about the next question; only refusals in a row slow things down.
        if isinstance(failure, BadProposal | BadParams) and standing.failures == 1:
            rest = 0.0
        standing.rests_until = time.monotonic() + rest
        later = f"; asking again in {span(rest)}" if rest else ""
        self._events.append(f"{spec.name}: {failure.message}{later}")

    def drop(self) -> None:
        """End all questions; what they cost so far is on the account."""
        for question in self._questions:
            question.channel.dropped.set()
        deadline = time.monotonic() + _DROP_WAIT
        for question in self._questions:
            if question.thread is not None:
                question.thread.join(max(0.0, deadline - time.monotonic()))
        self._questions = []


def _is_lasting(failure: ArError, instant: bool) -> bool:
    """Whether the agent fails again until somebody mends something. An instant one that was refused would be
    refused again."""
    if isinstance(failure, AgentFailed):
        return not failure.passing
    if isinstance(failure, BadProposal | BadParams):
        return instant
    return isinstance(failure, BadProgram | Exhausted | OutOfBudget)


def _is_in_vain(failure: ArError) -> bool:
    """Whether the agent was asked, and came to nothing. A network or an overload is not its fault."""
    return failure.in_vain if isinstance(failure, AgentFailed) else True


def _unexpected(error: BaseException, passing: bool) -> AgentFailed:
    """An error that nobody foresaw. `passing`: another question may well go better."""
    words = shorten_middle(one_line(f"{type(error).__name__}: {error}"), 200)
    failure = AgentFailed(
        f"it failed by {words}", "ar --debug shows where; please report it", in_vain=passing
    )
    failure.__cause__ = error
    return failure


def _with_fallback(spec: AgentSpec) -> list[AgentSpec]:
    """An agent and whoever stands in for it."""
    return [spec, AgentSpec(kind=spec.fallback, lane=spec.lane)] if spec.fallback else [spec]
