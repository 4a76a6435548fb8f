"""Stacks at larger scales: when one climbs, and whether its members add up there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from histories import OBJECTIVE, PROGRAM, attempt

from ar.campaign import ladder, promote
from ar.campaign.climb import Climbing
from ar.campaign.ladder import additivities
from ar.campaign.promote import Promoter
from ar.history.records import Attempt, History
from ar.project.params import ParamKey
from ar.project.program import Program, Rung

DEPTH = ParamKey("params.yaml", "depth")
LADDER = replace(PROGRAM, ladder=(Rung("d2"), Rung("d4", {DEPTH: 4}), Rung("d8", {DEPTH: 8})))
NOISE = (0.010, -0.012, 0.004, -0.006, 0.008, -0.003, 0.002, -0.003)
BASELINE, A, B, STACK = range(4)


def at(number: int, rung: str, effect: float, members: tuple[str, ...] = ()) -> Attempt:
    """An attempt of eight runs that differ from the baseline's, seed by seed, by an effect and a little."""
    found = attempt(number, 2.2, "baseline" if number == BASELINE else "discarded", f"idea {number}", runs=8)
    name, runs = f"{rung or 'base'}-{number}", []
    for run in found.experiments:
        luck = NOISE[run.seed or 0] + 0.1 * NOISE[((run.seed or 0) + number) % len(NOISE)]
        by = "baseline" if number == BASELINE else "search"
        metrics = run.metrics | {str(OBJECTIVE): 2.2 + effect + luck}
        called = f"{name}-s{run.seed}" if run.seed else name
        runs.append(replace(run, name=called, rung=rung, agent=by, stack=members, metrics=metrics))
    return replace(found, name=name, rung=rung, experiments=tuple(runs))


def history_of(at_rungs: Mapping[str, Mapping[int, float]]) -> tuple[History, Attempt]:
    """A stack of two, and what was measured of it and its members at each larger scale."""
    stack = at(STACK, "", -0.5, ("base-1", "base-2"))
    base = (at(BASELINE, "", 0.0), at(A, "", -0.3), at(B, "", -0.2), stack)
    above = tuple(
        at(number, rung, effect) for rung, row in at_rungs.items() for number, effect in row.items()
    )
    return History("b" * 40, base[0].candidate, base, at_rungs=above), stack


ALL = {BASELINE: 0.0, A: -0.3, B: -0.2, STACK: -0.5}
ADDS_UP, TOO_LITTLE = ALL, ALL | {STACK: -0.3}


@pytest.mark.parametrize(
    ("rows", "interactions"),
    [
        ({}, {}),
        ({"d8": ADDS_UP}, {"d8": 0.0}),
        ({"d8": TOO_LITTLE}, {"d8": 0.2}),
        ({"d4": ADDS_UP, "d8": TOO_LITTLE}, {"d4": 0.0, "d8": 0.2}),
        ({"d8": {BASELINE: 0.0, A: -0.3, STACK: -0.5}}, {}),  # a member was not measured there
        ({"d8": {BASELINE: 0.0, A: -0.3, B: -0.2}}, {}),  # nor was the stack
        ({"d8": {A: -0.3, B: -0.2, STACK: -0.5}}, {}),  # nor what they are compared with
    ],
)
def test_a_stack_is_compared_with_its_members_at_every_rung_that_has_all(
    monkeypatch: pytest.MonkeyPatch,
    rows: Mapping[str, Mapping[int, float]],
    interactions: Mapping[str, float],
) -> None:
    history, stack = history_of(rows)
    monkeypatch.setattr(ladder, "identity", lambda project, tree: history.incumbent)
    campaign: Any = SimpleNamespace(project=None, repo=None, program=LADDER)
    found = additivities(campaign, history, stack)
    assert found.keys() == interactions.keys()
    for rung, truth in interactions.items():
        assert found[rung].sum == pytest.approx(-0.5, abs=0.02)
        assert found[rung].interaction == pytest.approx(truth, abs=3 * found[rung].interaction_error)
        assert found[rung].interval[0] < truth < found[rung].interval[1]
        assert (found[rung].interval[0] > 0) is (truth > 0)
        assert [member.name for member in found[rung].members] == [f"{rung}-1", f"{rung}-2"]


def test_what_is_no_stack_of_two_is_compared_with_nothing() -> None:
    history, _ = history_of({"d8": ALL})
    campaign: Any = SimpleNamespace(project=None, repo=None, program=LADDER)
    for members in ((), ("base-1",)):
        assert additivities(campaign, history, at(STACK, "", -0.5, members)) == {}


@dataclass(frozen=True)
class Recording(Promoter):
    """Runs nothing, and remembers what it was to run."""

    ran: list[Any] = field(default_factory=list)

    def _run(self, policy: Any) -> None:
        self.ran.append(policy)


@pytest.mark.parametrize(
    ("rung", "outcome", "climbs"),
    [
        ("d8", "winner", True),
        ("", "winner", False),
        ("d8", "discarded", False),
        ("d8", "promoted", False),
        ("d8", None, False),  # it could not be measured
    ],
)
def test_a_stack_that_wins_climbs_to_the_rung_at_which_changes_must_hold(
    monkeypatch: pytest.MonkeyPatch, rung: str, outcome: str | None, climbs: bool
) -> None:
    program: Program = replace(LADDER, promote_rung=rung)
    whole = attempt(STACK, 2.0, outcome) if outcome else None
    history = History("b" * 40, "", (whole,) if whole else ())
    policy = SimpleNamespace(result=SimpleNamespace(attempt=whole))
    monkeypatch.setattr(promote, "Stacking", lambda campaign, members, trim: policy)
    campaign: Any = SimpleNamespace(program=program, history=lambda: history)
    promoter = Recording(campaign, view=nullcontext, stop=lambda: 0)
    promoter.stack([])
    assert promoter.ran[0] is policy
    found = [(one.rungs, one.named) for one in promoter.ran[1:] if isinstance(one, Climbing)]
    assert found == ([([rung], [whole.candidate])] if climbs and whole else [])
