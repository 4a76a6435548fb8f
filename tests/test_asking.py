"""Questions in the background: picked up when they are answered, agents that fail left alone for a while."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from ar.agents import Dropped, Line
from ar.campaign import asking
from ar.campaign.asking import Asking
from ar.changes.proposal import Change
from ar.errors import AgentFailed, BadProposal, BadState, OutOfBudget
from ar.history.ideas import Proposal
from ar.history.records import History
from ar.project.program import AgentSpec, Program, parse

CLAUDE, OPTUNA = AgentSpec("claude"), AgentSpec("optuna")
CHANGE = Change(Proposal("t", "h", "claude"), "b", "tree", "c")
HISTORY = History("b", "c0")
PASSING = AgentFailed("overloaded", passing=True)


@dataclass
class Scripted:
    """Stands in for a campaign: answers a question with what the script has next, once it may."""

    script: list[Any]
    agents: tuple[AgentSpec, ...] = (CLAUDE,)
    may: threading.Event = field(default_factory=threading.Event)

    @property
    def program(self) -> Program:
        program = parse('---\nobjective: "m.json:loss"\n---\n')
        object.__setattr__(program, "agents", self.agents)
        return program

    def ask(self, spec: AgentSpec, line: Line) -> Change:
        line.say("thinking")
        while not self.may.is_set():
            line.wait(0.01)
        answer = self.script.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Change)
        return answer


def begin(*script: Any, agents: tuple[AgentSpec, ...] = (CLAUDE,), at_once: bool = True) -> Asking:
    campaign = Scripted(list(script), agents)
    if at_once:
        campaign.may.set()
    return Asking(campaign, 2)  # type: ignore[arg-type]


def answers(questions: Asking) -> list[tuple[AgentSpec, Change]]:
    deadline = time.monotonic() + 10
    while not questions.ready and time.monotonic() < deadline:
        time.sleep(0.005)
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
    deadline = time.monotonic() + 10
    while not questions.words and time.monotonic() < deadline:
        time.sleep(0.005)
    assert questions.words == "claude: thinking"
    questions.drop()


def test_one_that_is_asked_counts_as_having_proposed() -> None:
    questions = begin(CHANGE, agents=(CLAUDE, OPTUNA), at_once=False)
    assert questions.turn(HISTORY) == CLAUDE
    questions.ask(CLAUDE)
    assert questions.turn(HISTORY) == OPTUNA
    questions.drop()


def test_one_that_fails_for_now_is_left_alone_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_PAUSE", 0.1)
    questions = begin(PASSING, PASSING, CHANGE)
    pauses = []
    for _ in range(2):
        questions.ask(CLAUDE)
        assert answers(questions) == []
        began = time.monotonic()
        assert questions.turn(HISTORY) is None
        assert questions.hope
        while questions.turn(HISTORY) is None:
            time.sleep(0.005)
        pauses.append(time.monotonic() - began)
    assert 0.05 < pauses[0] < pauses[1]
    questions.ask(CLAUDE)
    assert answers(questions) == [(CLAUDE, CHANGE)]
    assert [words.startswith("claude: overloaded; asking again in") for words in questions.events()] == [
        True
    ] * 2


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
    assert not questions.hope
    assert questions.last_words is error


def test_nobody_is_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_PAUSE", 0.0)
    questions = begin(*[PASSING] * asking.MAX_FAILURES)
    for _ in range(asking.MAX_FAILURES):
        assert questions.turn(HISTORY) == CLAUDE
        questions.ask(CLAUDE)
        answers(questions)
    assert questions.turn(HISTORY) is None
    assert questions.last_words is PASSING


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
    assert questions.hope == (error is PASSING)


def test_a_dropped_question_leaves_nothing_behind() -> None:
    questions = begin(CHANGE, at_once=False)
    questions.ask(CLAUDE)
    began = time.monotonic()
    questions.drop()
    assert time.monotonic() - began < 2
    assert questions.count == 0
    assert questions.turn(HISTORY) == CLAUDE
    questions.failed(CLAUDE, Dropped("dropped"))
    assert questions.turn(HISTORY) == CLAUDE


def test_what_is_no_agents_fault_comes_through() -> None:
    questions = begin(BadState("the disk is full"))
    questions.ask(CLAUDE)
    with pytest.raises(BadState, match="disk is full"):
        answers(questions)
