"""Learned weights: they follow what agents gained for what they cost, and nobody is left out for good."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from ar.agents import bandit, turns
from ar.history.records import (
    Attempt,
    Decision,
    Experiment,
    History,
    Label,
    Note,
    Outcome,
    Status,
    Verdict,
)
from ar.history.spend import Spend
from ar.project.program import AgentSpec

TWO = ("claude/a", "claude/b")
Tried = tuple[str, float]  # who proposed it, and what it gained


def _attempt(
    number: int,
    agent: str,
    gain: float = 0.0,
    outcome: Outcome | None = None,
    *,
    label: Label = Label.PLAIN,
    stack: Sequence[int] = (),
    seconds: float = 10.0,
) -> Attempt:
    run = Experiment(
        "t",
        "h",
        agent,
        name=f"e{number}",
        rev=f"r{number}",
        baseline="b",
        status=Status.SUCCEEDED,
        stack=tuple(f"e{member}" for member in stack),
        note=Note(Status.SUCCEEDED, seconds=seconds),
    )
    decision = Decision.PROMOTE if gain or label is not Label.PLAIN else Decision.DISCARD
    outcome = outcome or (Outcome.PROMOTED if gain else Outcome.DISCARDED)
    verdict = Verdict(decision, "so", effect=-gain, label=label)
    return Attempt(run.name, "t", agent, "b", f"c{number}", (run,), None, None, {}, outcome, verdict)


def _history(tried: Sequence[Tried], seconds: dict[str, float] | None = None) -> History:
    attempts = [
        _attempt(number, agent, gain, seconds=(seconds or {}).get(agent, 10.0))
        for number, (agent, gain) in enumerate(tried)
    ]
    return History("b", "c", tuple(attempts))


def _usd(**amounts: float | None) -> dict[str, Spend]:
    return {f"claude/{name}": Spend(1000, 0, 100, usd) for name, usd in amounts.items()}


GOOD = [("claude/a", 0.1), ("claude/a", 0.0), ("claude/b", 0.0), ("claude/b", 0.0)] * 8
MORE = [("claude/a", 0.1), ("claude/a", 0.1), ("claude/b", 0.0), ("claude/b", 0.1)] * 8
EVEN = [("claude/a", 0.1), ("claude/b", 0.1), ("claude/a", 0.0), ("claude/b", 0.0)] * 8


@pytest.mark.parametrize(
    ("tried", "spent", "seconds", "least", "most"),
    [
        ([], {}, {}, 0.4, 0.6),
        (GOOD, {}, {}, 0.9, 0.95),
        (EVEN, {}, {}, 0.3, 0.7),
        (EVEN, _usd(a=1, b=1), {}, 0.3, 0.7),
        (EVEN, _usd(a=1, b=8), {}, 0.9, 0.95),  # as much, for less
        (EVEN, {}, {"claude/a": 1.0, "claude/b": 90.0}, 0.9, 0.95),  # nobody costs money: by time
        (EVEN, _usd(a=1, b=1), {"claude/a": 1.0, "claude/b": 90.0}, 0.3, 0.7),
        (MORE, _usd(a=80, b=1), {}, 0.05, 0.1),  # more, for much more
        (EVEN, _usd(a=0, b=1), {}, 0.8, 0.95),  # for nothing
        (GOOD, _usd(a=0, b=1), {}, 0.9, 0.95),
        (EVEN, _usd(a=None, b=1), {}, 0.3, 0.7),  # tokens without a price: as the others
    ],
)
def test_shares_follow_what_is_gained_for_what_is_spent(
    tried: list[Tried], spent: dict[str, Spend], seconds: dict[str, float], least: float, most: float
) -> None:
    shares = bandit.shares(TWO, _history(tried, seconds), spent)
    assert least <= shares["claude/a"] <= most + 1e-9
    assert sum(shares.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("attempt", "gain"),
    [
        (_attempt(0, "claude/a", 0.5), 0.5),
        (_attempt(0, "claude/a", 0.5, Outcome.WINNER), 0.5),
        (_attempt(0, "claude/a", 0.5, Outcome.REVERTED), 0.0),
        (_attempt(0, "claude/a", 0.5, Outcome.LAPSED), 0.0),
        (_attempt(0, "claude/a", 0.5, Outcome.TAMPERED), 0.0),
        (_attempt(0, "claude/a", 0.5, label=Label.SIMPLER), 0.0),
        (_attempt(0, "claude/a", -0.5, Outcome.PROMOTED), 0.0),
        (_attempt(0, "claude/a", 0.0, Outcome.CRASHED), 0.0),
        (_attempt(0, "claude/a", 0.0, Outcome.OPEN), None),
        (_attempt(0, "claude/a", 0.0, Outcome.RUNNING), None),
        (_attempt(0, "claude/a", 0.0, Outcome.CANCELLED), None),
        (_attempt(0, "claude/a", 0.5, Outcome.PULLED), None),
        (_attempt(0, "claude/a", 0.0, Outcome.BASELINE), None),
    ],
)
def test_only_what_the_judge_confirmed_and_is_in_use_is_a_gain(attempt: Attempt, gain: float | None) -> None:
    found = bandit.payoffs(History("b", "c", (attempt,)))
    assert [trial.gain for trial in found] == ([] if gain is None else [gain])


def test_what_was_carried_on_counts_for_who_proposed_it_and_once() -> None:
    attempts = (
        _attempt(0, "claude/a", 0.5, Outcome.STACKED),
        _attempt(1, "claude/b", 0.0, Outcome.SUPERSEDED),
        _attempt(2, "claude/b", 0.3, stack=[1]),
        _attempt(3, "stack", 0.8, stack=[0, 1]),
    )
    found = bandit.payoffs(History("b", "c", attempts))
    assert [(trial.agent, trial.gain) for trial in found] == [
        ("claude/a", 0.4),
        ("claude/b", pytest.approx(0.7)),
    ]


def test_one_that_recovers_is_seen() -> None:
    before = [("claude/a", 0.1), ("claude/b", 0.0)] * 20
    since = [*[("claude/a", 0.0)] * 19, ("claude/b", 0.1)] * 3
    assert bandit.shares(TWO, _history(before), {})["claude/b"] == pytest.approx(bandit.FLOOR, abs=0.01)
    assert bandit.shares(TWO, _history([*before, *since]), {})["claude/b"] > 0.5


def test_with_many_agents_the_floor_leaves_room() -> None:
    many = [f"claude/{number}" for number in range(40)]
    shares = bandit.shares(many, _history([(many[0], 0.1)] * 20), {})
    assert min(shares.values()) == pytest.approx(0.5 / 40)
    assert sum(shares.values()) == pytest.approx(1.0)


# -- turns by such weights ---------------------------------------------------------------------------------

LEARNED = tuple(AgentSpec("claude", lane=lane, weight=None) for lane in ("good", "weak", "idle"))
HALF = (*LEARNED, AgentSpec("search", weight=3.0))
GAINS = {"claude/good": 0.3, "claude/weak": 0.05}


def _play(specs: tuple[AgentSpec, ...], turns_: int, before: Sequence[Tried] = ()) -> list[Tried]:
    """A campaign in which agents win as often as `GAINS` says, each proposal the same for all time."""
    played = list(before)
    while len(played) < turns_:
        name = turns.order(specs, _history(played), {})[0].name
        won = random.Random(len(played)).random() < GAINS.get(name, 0.0)
        played.append((name, 0.1 if won else 0.0))
    return played


def test_turns_shift_to_who_gains_and_a_restart_carries_on() -> None:
    played = _play(LEARNED, 60)
    late = [name for name, _ in played[20:]]
    assert late.count("claude/good") > 0.6 * len(late)
    assert all(spec.name in late[start : start + 30] for spec in LEARNED for start in (0, 10))
    assert _play(LEARNED, 60, played[:33]) == played[:60]


def test_weights_that_are_set_stay_as_they_are() -> None:
    names = [name for name, _ in _play(HALF, 30)]
    assert abs(names.count("search") - 15) <= 2
    shares = turns.shares(HALF, _history(GOOD), {})
    assert shares["search"] == 0.5


def test_questions_under_way_count() -> None:
    order = turns.order(LEARNED, _history(_play(LEARNED, 20)), {}, ["claude/good"] * 12)
    assert order[0].name != "claude/good"
