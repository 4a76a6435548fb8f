"""Questions in the background: picked up when they are answered, agents that fail left alone for a while."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from helpers import wait_for

from ar.agents import Channel, Dropped
from ar.agents.account import Account
from ar.campaign import asking
from ar.campaign.asking import Asking
from ar.changes.proposal import Change
from ar.errors import AgentFailed, BadProposal, BadState, OutOfBudget
from ar.history.ideas import Proposal
from ar.history.records import History
from ar.history.spend import Spend
from ar.project.program import AgentSpec, Program
from ar.project.program_file import parse

CLAUDE, COMMAND, OPTUNA = AgentSpec("claude"), AgentSpec("command"), AgentSpec("optuna")
CHANGE = Change(Proposal("t", "h", "claude"), "b", "tree", "c")
HISTORY = History("b", "c0")
PASSING = AgentFailed("overloaded", passing=True)


@dataclass
class Scripted:
    """Stands in for a campaign: answers a question with what the script has next, once it may."""

    script: list[Any]
    agents: tuple[AgentSpec, ...] = (CLAUDE,)
    may: threading.Event = field(default_factory=threading.Event)
    books: ClassVar[Any] = SimpleNamespace(read=lambda: Account({}, Spend()))

    @property
    def program(self) -> Program:
        program = parse('---\nobjective: "m.json:loss"\n---\n')
        object.__setattr__(program, "agents", self.agents)
        return program

    def ask(self, spec: AgentSpec, channel: Channel) -> Change:
        channel.say("thinking")
        while not self.may.is_set():
            channel.wait(0.01)
        answer = self.script.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Change)
        return answer


def begin(*script: Any, agents: tuple[AgentSpec, ...] = (CLAUDE,), at_once: bool = True) -> Asking:
    campaign = Scripted(list(script), agents)
    if at_once:
        campaign.may.set()
    return Asking(campaign)  # type: ignore[arg-type]


def answers(questions: Asking) -> list[tuple[AgentSpec, Change]]:
    wait_for(lambda: questions.ready)
    return questions.answers()


def test_an_answer_is_picked_up_once() -> None:
    questions = begin(CHANGE, at_once=False)
    questions.ask(CLAUDE)
    assert questions.count == 1
    assert not questions.ready
    assert questions.answers() == []
    questions.campaign.may.set()  # type: ignore[attr-defined]
    assert answers(questions) == [(CLAUDE, CHANGE)]
    assert questions.count == 0
    assert questions.answers() == []


def test_what_an_agent_does_is_told() -> None:
    questions = begin(CHANGE, at_once=False)
    questions.ask(CLAUDE)
    wait_for(lambda: questions.activity)
    assert questions.activity == "claude: thinking"
    questions.drop()


def test_one_that_is_asked_counts_as_having_proposed() -> None:
    questions = begin(CHANGE, agents=(CLAUDE, OPTUNA), at_once=False)
    assert questions.turn(HISTORY) == CLAUDE
    questions.ask(CLAUDE)
    assert questions.turn(HISTORY) == OPTUNA
    questions.drop()


def test_one_that_fails_for_now_rests_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(asking, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    questions = begin()
    for seconds in (30, 60, 120, 240, 480, 600, 600):
        questions.failed(CLAUDE, PASSING)
        clock[0] += seconds - 1
        assert questions.turn(HISTORY) is None
        assert questions.activity == "claude rests for 1 s"
        assert questions.anybody_left
        clock[0] += 1
        assert questions.turn(HISTORY) == CLAUDE
    questions.succeeded(CLAUDE)
    questions.failed(CLAUDE, PASSING)
    assert questions.activity == "claude rests for 30 s"
    events = questions.events()
    assert len(events) == 8
    assert all(words.startswith("claude: overloaded; asking again in") for words in events)


def test_a_refusal_slows_nothing_down_but_refusals_in_a_row_do() -> None:
    refusal = BadProposal("refused 4 times in a row")
    questions = begin(refusal, refusal)
    questions.ask(CLAUDE)
    answers(questions)
    assert questions.turn(HISTORY) == CLAUDE
    questions.ask(CLAUDE)
    answers(questions)
    assert questions.turn(HISTORY) is None
    assert "refused 4 times" in questions.events()[0]


@pytest.mark.parametrize("error", [AgentFailed("wrong key"), OutOfBudget("spent")])
def test_one_that_somebody_must_mend_is_not_asked_again(error: Exception) -> None:
    questions = begin(error)
    questions.ask(CLAUDE)
    answers(questions)
    assert questions.turn(HISTORY) is None
    assert not questions.anybody_left
    assert questions.given_up_for is error


def test_one_that_what_others_may_cost_leaves_no_room_for_is_asked_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(asking, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    questions = begin(CHANGE, agents=(CLAUDE, COMMAND), at_once=False)
    questions.ask(CLAUDE)
    questions.failed(COMMAND, OutOfBudget("spent"))
    assert questions.turn(HISTORY) == CLAUDE
    clock[0] += 31
    assert questions.turn(HISTORY) == COMMAND
    questions.drop()
    questions.failed(COMMAND, OutOfBudget("spent"))
    clock[0] += 31
    assert questions.turn(HISTORY) == CLAUDE


def test_a_budget_that_is_spent_is_the_reason_whoever_failed_before() -> None:
    questions = begin(agents=(CLAUDE, COMMAND))
    for spec, error in ((CLAUDE, AgentFailed("wrong key")), (COMMAND, OutOfBudget("spent"))):
        questions.failed(spec, error)
    assert not questions.anybody_left
    assert isinstance(questions.given_up_for, OutOfBudget)


def test_nobody_is_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_REST", 0.0)
    questions = begin(*[PASSING] * asking.MAX_FAILURES)
    for _ in range(asking.MAX_FAILURES):
        assert questions.turn(HISTORY) == CLAUDE
        questions.ask(CLAUDE)
        answers(questions)
    assert questions.turn(HISTORY) is None
    assert questions.given_up_for is PASSING


def test_one_that_was_asked_twice_at_once_is_given_up_once() -> None:
    questions = begin()
    for _ in range(2):
        questions.failed(CLAUDE, AgentFailed("wrong key"))
    assert len(questions.events()) == 1


@pytest.mark.parametrize("error", [AgentFailed("wrong key"), PASSING])
def test_the_fallback_stands_in(error: Exception) -> None:
    fallen = AgentSpec("claude", lane="data", fallback="optuna")
    questions = begin(error, agents=(fallen,))
    questions.ask(fallen)
    answers(questions)
    spec = questions.turn(HISTORY)
    assert spec is not None
    assert spec.name == "optuna/data"
    questions.failed(spec, AgentFailed("no ranges"))
    assert questions.turn(HISTORY) is None
    assert questions.anybody_left == (error is PASSING)


def test_three_failures_in_vain_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_REST", 0.0)
    vain = AgentFailed("goes round in circles", in_vain=True)
    questions = begin(vain, PASSING, BadProposal("refused 4 times"), RecursionError("too deep"))
    for _ in range(4):
        assert questions.turn(HISTORY) == CLAUDE
        questions.ask(CLAUDE)
        answers(questions)
    assert not questions.anybody_left
    assert questions.events()[-1].startswith("claude is not asked any more after 4 failures in a row")


def test_answers_that_came_too_late_are_not_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_REST", 0.0)
    questions = begin()
    for _ in range(asking.MAX_IN_VAIN + 1):
        questions.failed(CLAUDE, BadProposal("the branch moved"), overtaken=True)
    assert questions.anybody_left


def test_the_fallback_goes_on_while_a_question_is_tried_again() -> None:
    fallen = AgentSpec("claude", fallback="optuna")
    questions = begin(CHANGE, agents=(fallen, COMMAND), at_once=False)
    questions.ask(fallen)
    (question,) = questions._questions
    assert questions.turn(HISTORY) == COMMAND
    question.channel.expect(0.0)
    wait_for(lambda: question.is_stalled)
    assert questions.count == 0
    questions.ask(COMMAND)
    assert questions.count == 1
    spec = questions.turn(HISTORY)
    assert spec is not None
    assert spec.name == "optuna"
    question.channel.expect(60.0)
    assert questions.count == 2
    questions.drop()


@pytest.mark.parametrize(("set_to", "most"), [(None, 2), (5, 5)])
def test_each_agent_that_takes_its_time_may_be_asked_at_once(set_to: int | None, most: int) -> None:
    questions = begin(agents=(CLAUDE, COMMAND, OPTUNA))
    program = questions.campaign.program
    object.__setattr__(program, "questions", set_to)
    questions.campaign = SimpleNamespace(program=program)  # type: ignore[assignment]
    assert questions.most == most


def test_a_dropped_question_leaves_nothing_behind() -> None:
    questions = begin(CHANGE, at_once=False)
    questions.ask(CLAUDE)
    questions.drop()
    assert questions.count == 0
    assert questions.turn(HISTORY) == CLAUDE
    questions.failed(CLAUDE, Dropped("dropped"))
    assert questions.turn(HISTORY) == CLAUDE


@pytest.mark.parametrize(
    "error", [BadState("git failed"), RecursionError("too deep"), SystemExit(3), AgentFailed("wrong key")]
)
def test_a_failure_costs_no_other_answer_of_the_round(error: BaseException) -> None:
    questions = begin(error, CHANGE, agents=(CLAUDE, COMMAND))
    for spec in (CLAUDE, COMMAND):
        questions.ask(spec)
        (question,) = [item for item in questions._questions if item.spec is spec]
        wait_for(lambda question=question: question.answer is not None)
    assert questions.answers() == [(COMMAND, CHANGE)]
    assert questions.turn(HISTORY) == COMMAND


@pytest.mark.parametrize("error", [BadState("git failed"), RecursionError("too deep"), SystemExit(3)])
def test_an_unexpected_error_is_a_failure_that_may_pass(error: BaseException) -> None:
    questions = begin(error)
    questions.ask(CLAUDE)
    assert answers(questions) == []
    assert questions.turn(HISTORY) is None
    assert questions.anybody_left
    assert str(error) in questions.events()[0]


def test_an_instant_agent_that_breaks_is_not_asked_for_ever() -> None:
    questions = begin(agents=(OPTUNA,))
    questions.failed(OPTUNA, KeyError("x"))
    assert not questions.anybody_left
    assert isinstance(questions.given_up_for, AgentFailed)
