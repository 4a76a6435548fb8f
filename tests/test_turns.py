"""Several agents take turns by their weights, and a restart does not shuffle them."""

from __future__ import annotations

from ar.agents import turns
from ar.history.records import Attempt, History, Outcome
from ar.project.program import AgentSpec

THREE = (
    AgentSpec("optuna"),
    AgentSpec("claude", lane="optimizer", weight=2.0),
    AgentSpec("claude", lane="data order"),
)


def _history(names: list[str]) -> History:
    attempts = [
        Attempt(f"e{at}", "t", name, "b", f"c{at}", (), None, None, {}, Outcome.OPEN)
        for at, name in enumerate(names)
    ]
    return History("b", "c", tuple(attempts))


def _play(specs: tuple[AgentSpec, ...], rounds: int, before: list[str] | None = None) -> list[str]:
    names = list(before or [])
    for _ in range(rounds):
        names.append(turns.order(specs, _history(names), {})[0].name)
    return names[len(before or []) :]


def test_shares_follow_the_weights_at_any_time() -> None:
    names = _play(THREE, 42)
    for rounds in (10, 22, 42):
        assert abs(names[:rounds].count("claude/optimizer") - rounds / 2) <= 1.5
    assert names.count("optuna") in (10, 11)


def test_a_restart_goes_on_where_it_was() -> None:
    whole = _play(THREE, 20)
    assert _play(THREE, 13, whole[:7]) == whole[7:]


def test_a_newcomer_gets_its_share_and_no_more() -> None:
    before = ["optuna"] * 100
    names = _play((AgentSpec("optuna"), AgentSpec("claude")), 10, before)
    assert names[0] == "claude"
    assert names.count("claude") in (5, 6)


def test_one_that_never_has_an_answer_leaves_the_others_their_shares() -> None:
    names: list[str] = []
    for _ in range(24):
        first, *others = turns.order((AgentSpec("command"), *THREE), _history(names), {})
        assert first.kind == "command"
        names.append(others[0].name)
    assert names.count("claude/optimizer") in (11, 12, 13)
    assert names.count("optuna") in (5, 6, 7)


def test_runs_of_others_do_not_count() -> None:
    two = (AgentSpec("optuna"), AgentSpec("claude"))
    assert _play(two, 4, ["human", "baseline", "human"]) == ["optuna", "claude", "optuna", "claude"]


def test_an_agent_is_found_by_name_or_kind() -> None:
    assert turns.named(THREE, "claude/data order") is THREE[2]
    assert turns.named(THREE, "claude") is THREE[1]
    assert turns.named(THREE, "command").kind == "command"
