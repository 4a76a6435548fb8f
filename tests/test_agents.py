"""The agent of Optuna: joint moves, learned from every run of the history, aware of what is under way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from helpers import swap

from ar.agents import Briefing
from ar.agents.optuna import OptunaAgent
from ar.errors import BadProgram, Exhausted
from ar.history.ideas import Proposal
from ar.history.messages import TITLE_LIMIT
from ar.history.records import Attempt, Experiment, History, Outcome, Status
from ar.project.program import Program
from ar.project.program_file import parse
from ar.project.values import Scalar

TEXT = """---
objective: {metric: "m.json:loss", direction: %s}
scope: {params: [x, y, z, kind, n]}
search:
  x: {low: 0.0, high: 10.0}
---
"""
ONE = "  x: {low: 0.0, high: 10.0}\n"
THREE = "  x: {low: 0.0, high: 10.0}\n  y: {low: 0.1, high: 10.0, log: true}\n  kind: [b, c]\n"
BASE: dict[str, Scalar] = {
    "params.yaml:x": 2.0,
    "params.yaml:y": 1.0,
    "params.yaml:kind": "a",
    "params.yaml:n": 4,
}


def _program(search: str = "", direction: str = "minimize") -> Program:
    text = TEXT % direction
    return parse(swap(text, ONE, search) if search else text)


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
        status=Status(outcome) if outcome in list(Status) else Status.SUCCEEDED,
        agent=agent,
        params=BASE | values,
        metrics={} if value is None else {"m.json:loss": value},
    )
    return Attempt(f"e{index}", "t", agent, "b", f"c{index}", (run,), value, None, {}, outcome, created=index)


def _history(*attempts: Attempt, start: float = (8.0 - 2.0) ** 2) -> History:
    base = _attempt(0, {}, start, agent="baseline", outcome=Outcome.BASELINE)
    return History("b", "c0", (base, *attempts))


def _propose(program: Program, history: History, *refused: str) -> Proposal:
    return OptunaAgent().propose(Briefing(program, history, BASE, refused))


def _campaign(program: Program, runs: int, loss: Callable[[dict[str, Scalar]], float]) -> list[Attempt]:
    """What the agent tries, each measured, on a branch that stays as it is."""
    attempts: list[Attempt] = []
    start = loss(BASE)
    for index in range(1, runs + 1):
        values = {
            f"params.yaml:{key}": value
            for key, value in _propose(program, _history(*attempts, start=start)).params.items()
        }
        attempts.append(_attempt(index, values, loss(BASE | values)))
    return attempts


def test_a_proposal_moves_all_parameters_at_once() -> None:
    proposal = _propose(_program(THREE), _history())
    assert proposal.params.keys() == {"x", "y", "kind"}
    assert proposal.title == ", ".join(
        f"{key} {BASE[f'params.yaml:{key}']} → {value}" for key, value in proposal.params.items()
    )
    assert "Refuted if" in proposal.hypothesis
    for key in ("x", "y"):
        assert len(f"{proposal.params[key]:g}".replace(".", "").strip("0")) <= 2


def test_a_title_says_how_many_moves_it_leaves_out() -> None:
    names = [f"optim.a_rather_long_name_{index}" for index in range(6)]
    ranges = "".join(f"  {name}: {{low: 0.1, high: 10.0, log: true}}\n" for name in names)
    program = parse(swap(swap(TEXT % "minimize", "[x, y, z, kind, n]", "[optim]"), ONE, ranges))
    params: dict[str, Scalar] = {f"params.yaml:{name}": 1.0 for name in names}
    proposal = OptunaAgent().propose(Briefing(program, _history(), params))
    assert len(proposal.params) > 2
    assert len(proposal.title) <= TITLE_LIMIT
    assert proposal.title.endswith(f" +{len(proposal.params) - proposal.title.count('→')} more")


@pytest.mark.slow
@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
def test_it_finds_the_best_of_two_parameters_that_help_only_together(direction: str, sign: float) -> None:
    """The best is at 8 and 8, in a valley across both; at random, one try in 25 would lie so near to it."""
    program = _program("  x: {low: 0.0, high: 10.0}\n  n: {low: 0.0, high: 10.0}\n", direction)

    def loss(values: dict[str, Scalar]) -> float:
        x, n = float(values["params.yaml:x"] or 0), float(values["params.yaml:n"] or 0)
        return sign * (10 * (x - n) ** 2 + (x - 8) ** 2)

    tried = [attempt.first.params for attempt in _campaign(program, 80, loss)[40:]]
    near = [
        abs(float(at["params.yaml:x"] or 0) - 8) <= 1 and abs(float(at["params.yaml:n"] or 0) - 8) <= 1
        for at in tried
    ]
    assert sum(near) > 0.15 * len(near)


def test_it_never_repeats_itself_nor_what_is_under_way() -> None:
    program = _program("  n: {low: 1, high: 8}\n")
    attempts = [_attempt(i, {"params.yaml:n": i}, None, outcome=Outcome.QUEUED) for i in (1, 2, 3, 5, 6)]
    assert _propose(program, _history(*attempts)).params["n"] in (7, 8)
    attempts += [_attempt(i, {"params.yaml:n": i}, 5.0) for i in (7, 8)]
    with pytest.raises(Exhausted, match="has been tried"):
        _propose(program, _history(*attempts))


def test_finite_ranges_are_tried_to_the_last_configuration() -> None:
    program = _program("  kind: [a, b]\n  n: {low: 3, high: 5}\n  x: {low: 0.0, high: 2.0, step: 1.0}\n")
    attempts = _campaign(program, 2 * 3 * 3 - 1, lambda values: float(values["params.yaml:n"] or 0))
    assert len({tuple(attempt.first.params.items()) for attempt in attempts}) == 17
    with pytest.raises(Exhausted, match="has been tried"):
        _propose(program, _history(*attempts))


def test_a_continuous_range_is_never_exhausted() -> None:
    """Two digits offer three values between 0.010 and 0.012."""
    program = _program("  x: {low: 0.010, high: 0.012}\n")
    attempts = _campaign(program, 12, lambda values: float(values["params.yaml:x"] or 0))
    found = {attempt.first.params["params.yaml:x"] for attempt in attempts}
    assert len(found) == 12
    assert all(0.010 <= float(value or 0) <= 0.012 for value in found)


def test_listed_numbers_are_taken_as_they_are() -> None:
    assert _propose(_program("  x: [0.125, 2.0]\n"), _history()).params == {"x": 0.125}


def test_a_whole_number_stays_one_whatever_its_range() -> None:
    program = _program("  n: {low: 1.0, high: 9.5}\n")
    moved = [_propose(program, _history(), *["no"] * salt).params["n"] for salt in range(10)]
    assert all(type(value) is int for value in moved)


def test_a_value_that_is_hardly_another_stays_the_branchs() -> None:
    """Within a fiftieth of the range: of 1.98 to 2.02 only the ends could differ."""
    program = _program("  x: {low: 1.0, high: 3.0}\n  y: {low: 0.1, high: 10.0, log: true}\n")
    moved = [_propose(program, _history(), *["no"] * salt).params for salt in range(40)]
    assert all("x" not in params or abs(params["x"] - 2.0) >= 0.04 for params in moved)
    assert all("y" not in params or not 0.92 < params["y"] < 1.09 for params in moved)


def test_runs_of_one_configuration_count_by_their_mean() -> None:
    """A lucky run of a bad value does not make it the best."""
    lucky = _attempt(1, {"params.yaml:x": 9.0}, 1.0)
    again = [replace(lucky.first, name=f"e1-{seed}", metrics={"m.json:loss": 50.0}) for seed in (2, 3, 4)]
    lucky = replace(lucky, experiments=(lucky.first, *again))
    good = _attempt(2, {"params.yaml:x": 5.0}, 10.0)
    assert "best so far 10 at x 5.0" in _propose(_program(), _history(lucky, good)).hypothesis
    assert "6 measured runs" in _propose(_program(), _history(lucky, good)).hypothesis


def test_it_keeps_away_from_where_runs_crash() -> None:
    program = _program("  x: {low: 0.0, high: 10.0}\n")
    crashed = [
        _attempt(i, {"params.yaml:x": 5.0 + i * 0.25}, None, outcome=Outcome.CRASHED) for i in range(1, 20)
    ]
    fine = [_attempt(30 + i, {"params.yaml:x": i * 0.5}, 10.0 + i) for i in range(10)]
    history = _history(*crashed, *fine)
    tried = [_propose(program, history, *["no"] * salt).params["x"] for salt in range(20)]
    assert sum(x > 5.0 for x in tried) <= 4


def test_runs_of_other_baselines_and_outside_of_the_ranges_do_no_harm() -> None:
    outside = _attempt(1, {"params.yaml:x": 99.0, "params.yaml:kind": "z"}, -100.0)
    older = replace(_attempt(2, {"params.yaml:x": 4.0}, 3.0), baseline="older")
    program = _program("  x: {low: 0.0, high: 10.0}\n  kind: [a, b]\n")
    proposal = _propose(program, _history(outside, older))
    assert 0.0 <= proposal.params.get("x", 2.0) <= 10.0
    assert "2 measured runs; best so far 3 at x 4.0, kind a" in proposal.hypothesis


def test_a_parameter_that_the_branch_does_not_have_yet_waits() -> None:
    program = _program("  x: {low: 0.0, high: 10.0}\n  z: {low: 0.0, high: 1.0}\n")
    before = _attempt(1, {"params.yaml:x": 4.0}, 3.0)
    assert _propose(program, _history(before)).params.keys() == {"x"}
    with_z = Briefing(program, _history(before), BASE | {"params.yaml:z": 0.5})
    proposal = OptunaAgent().propose(with_z)
    assert proposal.params.keys() == {"x", "z"}
    assert "at x 4.0, z 0.5" in proposal.hypothesis
    nothing = replace(program, search={key: it for key, it in program.search.items() if key.key == "z"})
    with pytest.raises(BadProgram, match="that the branch has"):
        _propose(nothing, _history(before))


def test_without_ranges_it_says_what_to_add() -> None:
    with pytest.raises(BadProgram, match="search"):
        _propose(replace(_program(), search={}), _history())
