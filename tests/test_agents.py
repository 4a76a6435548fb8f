"""The embedded agent: one readable move at a time, learned from the history, aware of what is under way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers import swap

from ar.agents import Briefing
from ar.agents.optuna import OptunaAgent
from ar.errors import BadProgram
from ar.history.ideas import Proposal
from ar.history.records import Attempt, Decision, Experiment, History, Label, Outcome, Status, Verdict
from ar.project.program import Program
from ar.project.program_file import parse
from ar.project.values import Scalar

TEXT = """---
objective: {metric: "m.json:loss", direction: %s}
scope: {params: [x, y, kind, n]}
search:
  x: {low: 0.0, high: 10.0}
---
"""
BASE: dict[str, Scalar] = {
    "params.yaml:x": 2.0,
    "params.yaml:y": 1.0,
    "params.yaml:kind": "a",
    "params.yaml:n": 4,
}


def _program(search: str = "", direction: str = "minimize") -> Program:
    text = TEXT % direction
    return parse(swap(text, "  x: {low: 0.0, high: 10.0}\n", search) if search else text)


def _attempt(
    index: int,
    values: dict[str, Scalar],
    value: float | None,
    agent: str = "optuna",
    outcome: Outcome = Outcome.DISCARDED,
) -> Attempt:
    run = Experiment(
        name=f"e{index}",
        rev=f"r{index}",
        baseline="b",
        title="t",
        status=Status.SUCCEEDED,
        agent=agent,
        params=BASE | values,
    )
    return Attempt(f"e{index}", "t", agent, "b", f"c{index}", (run,), value, None, {}, outcome, created=index)


def _history(*attempts: Attempt, start: float = (8.0 - 2.0) ** 2) -> History:
    base = _attempt(0, {}, start, agent="baseline", outcome=Outcome.BASELINE)
    return History("b", "c0", (base, *attempts))


def _propose(program: Program, history: History) -> Proposal:
    return OptunaAgent().propose(Briefing(program, history, BASE))


def test_a_proposal_is_one_readable_move() -> None:
    proposal = _propose(_program(), _history())
    ((key, value),) = proposal.params.items()
    assert key == "x"
    assert proposal.title == f"x 2.0 → {value}"
    assert "Refuted if" in proposal.hypothesis
    assert len(f"{value:g}".replace(".", "").lstrip("0")) <= 2


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
def test_it_finds_the_best_value_in_few_trials(direction: str, sign: float) -> None:
    """The best lies at 8; a walk that ignored what it saw would be within 1.0 of it one time in five."""
    program, attempts = _program(direction=direction), []
    for index in range(1, 25):
        value = _propose(program, _history(*attempts, start=sign * 36.0)).params["x"]
        attempts.append(_attempt(index, {"params.yaml:x": value}, sign * (8.0 - value) ** 2))
    later = [float(attempt.experiments[0].params["params.yaml:x"] or 0) for attempt in attempts[8:]]
    assert sum(abs(value - 8.0) <= 1.0 for value in later) > 0.4 * len(later)


def test_it_never_repeats_itself_nor_what_is_under_way() -> None:
    program = _program("  n: {low: 1, high: 8}\n")
    attempts = [_attempt(i, {"params.yaml:n": i}, None, outcome=Outcome.QUEUED) for i in (1, 2, 3, 5, 6)]
    assert _propose(program, _history(*attempts)).params["n"] in (7, 8)
    attempts += [_attempt(i, {"params.yaml:n": i}, 5.0) for i in (7, 8)]
    with pytest.raises(BadProgram, match="has been tried"):
        _propose(program, _history(*attempts))


def test_listed_numbers_are_taken_as_they_are() -> None:
    assert _propose(_program("  x: [0.125, 2.0]\n"), _history()).params == {"x": 0.125}


def test_the_least_tried_parameter_comes_next() -> None:
    program = _program(
        "  x: {low: 0.0, high: 10.0}\n  y: {low: 0.1, high: 10.0, log: true}\n  kind: [a, b, c]\n"
    )
    keys, attempts = [], []
    for index in range(1, 7):
        ((key, value),) = _propose(program, _history(*attempts)).params.items()
        keys.append(key)
        attempts.append(_attempt(index, {f"params.yaml:{key}": value}, 1.0))
    assert sorted(keys[:3]) == ["kind", "x", "y"]
    assert sorted(keys) == ["kind", "kind", "x", "x", "y", "y"]


def test_gains_are_chained_over_baselines() -> None:
    """A value measured against an earlier baseline counts from what that baseline's own value was worth."""
    from ar.agents.optuna import Move, _potential
    from ar.project.params import ParamKey

    key = ParamKey("params.yaml", "x")
    moves = [
        Move(key, 2.0, 4.0, -3.0, pending=False, name="a"),
        Move(key, 4.0, 6.0, -1.0, pending=False, name="b"),
        Move(key, 4.0, 1.0, +5.0, pending=False, name="c"),
    ]
    assert _potential(moves, 4.0) == {2.0: 0.0, 4.0: -3.0, 6.0: -4.0, 1.0: 2.0}


def test_what_looked_better_when_the_branch_moved_on_is_tried_again() -> None:
    program = _program("  x: {low: 0.0, high: 10.0}\n  y: {low: 0.1, high: 10.0}\n")
    left = Verdict(Decision.DISCARD, "The branch moved on.", label=Label.SUPERSEDED)
    better = replace(_attempt(1, {"params.yaml:y": 3.0}, 20.0), verdict=left)
    worse = replace(_attempt(2, {"params.yaml:x": 9.5}, 50.0), verdict=left)
    assert _propose(program, _history(better, worse)).params == {"y": 3.0}
    assert _propose(program, _history(worse)).params != {"x": 9.5}
    again = _attempt(3, {"params.yaml:y": 3.0}, 21.0)
    assert _propose(program, _history(better, again)).params != {"y": 3.0}


def test_without_ranges_it_says_what_to_add() -> None:
    with pytest.raises(BadProgram, match="search"):
        _propose(replace(_program(), search={}), _history())
