"""Questions to agents that take their time, asked in the background while experiments run.

The loop starts a question, does other things, and picks up what came of it. An agent that fails is left alone
for a while, longer each time, or for good where somebody must mend something; until then its fallback
proposes, if it has one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from ar.agents import Dropped, Line, is_instant, turns
from ar.campaign.campaign import Campaign
from ar.changes.proposal import Change
from ar.errors import AgentFailed, ArError, BadParams, BadProgram, BadProposal, OutOfBudget
from ar.history.records import History
from ar.project.program import AgentSpec
from ar.text import span

# What an agent may fail with; anything else is no agent's fault and ends the run.
FAILURES = (AgentFailed, BadParams, BadProgram, BadProposal, Dropped, OutOfBudget)
MAX_FAILURES = 20  # of one agent in a row, after which it is not asked again
_PAUSE, _LONGEST_PAUSE = 30.0, 600.0  # seconds after a failure; doubled each time
_DROP_WAIT = 3.0  # seconds that dropped questions get to close their accounts


@dataclass
class _Question:
    spec: AgentSpec
    line: Line
    thread: threading.Thread | None = None
    words: str = ""
    answer: Change | BaseException | None = None


@dataclass
class _Standing:
    """How an agent has been doing."""

    failures: int = 0
    until: float = 0.0  # monotonic time before which it is left alone
    gone: ArError | None = None  # why it is not asked any more


@dataclass
class Asking:
    """The agents of one `ar run`.

    Args:
        most: questions under way at once.
    """

    campaign: Campaign
    most: int
    _questions: list[_Question] = field(default_factory=list)
    _standings: dict[str, _Standing] = field(default_factory=dict)
    _events: deque[str] = field(default_factory=deque)

    @property
    def count(self) -> int:
        """Questions under way."""
        return len(self._questions)

    @property
    def words(self) -> str:
        """What goes on, for the view."""
        said = [f"{item.spec.name}: {item.words}" for item in self._questions if item.words]
        pausing = [
            f"{name} is left alone for {span(standing.until - time.monotonic())}"
            for name, standing in self._standings.items()
            if standing.gone is None and standing.until > time.monotonic()
        ]
        return "; ".join(said + pausing)

    def events(self) -> list[str]:
        """What happened since the last call and is worth a line for ever."""
        found = []
        while self._events:
            found.append(self._events.popleft())
        return found

    def turn(self, history: History) -> AgentSpec | None:
        """Whose turn it is; None where nobody can be asked just now.

        Those being asked count as if they had proposed. An agent's fallback stands in for it.
        """
        asked = [item.spec.name for item in self._questions]
        for spec in turns.order(self.campaign.program.agents, history, asked):
            for candidate in _with_fallback(spec):
                if self._can(candidate):
                    return candidate
        return None

    def _can(self, spec: AgentSpec) -> bool:
        standing = self._standings.get(spec.name, _Standing())
        return standing.gone is None and standing.until <= time.monotonic()

    @property
    def hope(self) -> bool:
        """Whether anybody is being asked, or may be asked later."""
        specs = [item for spec in self.campaign.program.agents for item in _with_fallback(spec)]
        return bool(self._questions) or any(
            self._standings.get(spec.name, _Standing()).gone is None for spec in specs
        )

    @property
    def last_words(self) -> ArError | None:
        """Why there is no hope: the first agent's reason."""
        return next((item.gone for item in self._standings.values() if item.gone), None)

    # -- asking -------------------------------------------------------------------------------------------

    def ask(self, spec: AgentSpec) -> None:
        """Begin to ask."""
        question = _Question(spec, Line())

        def say(words: str) -> None:
            question.words = words

        question.line = Line(say=say, tell=lambda words: self._events.append(f"{spec.name}: {words}"))

        def work() -> None:
            try:
                question.answer = self.campaign.ask(spec, question.line)
            except BaseException as error:
                question.answer = error

        question.thread = threading.Thread(target=work, name=f"ask {spec.name}", daemon=True)
        self._questions.append(question)
        question.thread.start()

    @property
    def ready(self) -> bool:
        """Whether an answer waits."""
        return any(item.answer is not None for item in self._questions)

    def answers(self) -> list[tuple[AgentSpec, Change]]:
        """Changes that came back since the last call. Failures are told as events.

        Raises:
            Exception: something failed that is no agent's fault.
        """
        done = [item for item in self._questions if item.answer is not None]
        self._questions = [item for item in self._questions if item.answer is None]
        changes = []
        for item in done:
            if isinstance(item.answer, Change):
                changes.append((item.spec, item.answer))
            elif isinstance(item.answer, FAILURES):
                self.failed(item.spec, item.answer)
            elif item.answer is not None:
                raise item.answer
        return changes

    def succeeded(self, spec: AgentSpec) -> None:
        """A proposal of this agent was queued."""
        self._standings.pop(spec.name, None)

    def failed(self, spec: AgentSpec, error: ArError) -> None:
        """Leave an agent alone: for a while, or for good."""
        if isinstance(error, Dropped):
            return
        standing = self._standings.setdefault(spec.name, _Standing())
        standing.failures += 1
        refused = isinstance(error, BadProposal | BadParams) and not is_instant(spec)
        passing = refused or (isinstance(error, AgentFailed) and error.passing)
        if not passing or standing.failures >= MAX_FAILURES:
            standing.gone = error
            self._events.append(f"{spec.name} is not asked any more: {error.message}")
            return
        # A refusal says nothing about the next question; only refusals in a row slow things down.
        pause = min(_PAUSE * 2 ** (standing.failures - 1), _LONGEST_PAUSE)
        if refused and standing.failures == 1:
            pause = 0.0
        standing.until = time.monotonic() + pause
        later = f"; asking again in {span(pause)}" if pause else ""
        self._events.append(f"{spec.name}: {error.message}{later}")

    def drop(self) -> None:
        """End all questions; what they cost so far is on the account."""
        for item in self._questions:
            item.line.dropped.set()
        deadline = time.monotonic() + _DROP_WAIT
        for item in self._questions:
            if item.thread is not None:
                item.thread.join(max(0.0, deadline - time.monotonic()))
        self._questions = []


def _with_fallback(spec: AgentSpec) -> list[AgentSpec]:
    """An agent and whoever stands in for it."""
    return [spec, AgentSpec(kind=spec.fallback, lane=spec.lane)] if spec.fallback else [spec]
