"""A campaign's history judged in process: no repository, no run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import pytest
from histories import GUARD, OBJECTIVE, PROGRAM

from ar.history.messages import BASELINE_AGENT
from ar.history.records import Attempt, Decision, Experiment, History, Label, Outcome, Status, Verdict
from ar.judge import findings
from ar.judge.evidence import OPENING
from ar.judge.ledger import ledger, step
from ar.judge.rule import Kind, next_action, next_seed
from ar.project.program import Budget, Metric

HOLDOUT = Metric("unseen.json", "loss")
LUCK = (0.0, 0.01, -0.01, 0.02, -0.02, 0.01, -0.01, 0.0)  # of each seed


def attempt(
    name: str, gain: float, seeds: range, *, seconds: float = 20.0, unseen: float = 3.0, agent: str = "optuna"
) -> Attempt:
    """A candidate (or the baseline) that was run with these seeds."""
    outcome = Outcome.BASELINE if agent == BASELINE_AGENT else Outcome.OPEN
    runs = tuple(
        Experiment(
            name=f"{name}-s{seed}",
            rev=name,
            baseline="b",
            title=name,
            status=Status.SUCCEEDED,
            agent=agent,
            candidate=name,
            seed=seed,
            metrics={
                str(OBJECTIVE): 2.3 - gain + LUCK[seed],
                str(GUARD): seconds + LUCK[seed],
                str(HOLDOUT): unseen + LUCK[seed],
            },
        )
        for seed in seeds
    )
    return Attempt(name, name, agent, "b", name, runs, None, None, {}, outcome)


BASELINE = attempt("base", 0.0, range(8), agent=BASELINE_AGENT)


def history(*attempts: Attempt, rung: str = "") -> History:
    return History("b", "base", (BASELINE, *attempts), rung=rung)


def test_a_change_that_is_better_is_promoted() -> None:
    change = attempt("change", 0.5, range(1, 4))
    assert step(PROGRAM, history(change), change).kind is Kind.PROMOTE


def test_a_verdict_names_the_guard_that_refused_it() -> None:
    change = attempt("change", 0.5, range(1, 4), seconds=25.0)
    verdict = step(PROGRAM, history(change), change).verdict
    assert (verdict.decision, verdict.failed_guard) == (Decision.DISCARD, GUARD.key)
    assert verdict.reason.startswith(f"{GUARD.key} is worse by 5.0")
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_a_verdict_written_before_guards_had_a_field_is_read() -> None:
    old = Verdict.from_json(
        {"decision": "discard", "reason": "seconds is worse by 5 ± 0.1: a lot.", "z": 9.0}
    )
    assert (old.decision, old.failed_guard, old.z) == (Decision.DISCARD, "", 9.0)


@pytest.mark.parametrize(("unseen", "label"), [(3.0, Label.PLAIN), (4.5, Label.OVERFITTED)])
def test_the_holdout_may_refuse_a_promotion_and_is_not_told(unseen: float, label: Label) -> None:
    program = replace(PROGRAM, holdout=HOLDOUT)
    change = attempt("change", 0.5, range(1, 4), unseen=unseen)
    action = step(program, history(change), change)
    assert action.verdict.label is label
    assert (action.kind is Kind.DISCARD) == (label is Label.OVERFITTED)
    if label:
        assert not any(sign.isdigit() for sign in action.verdict.reason)
        assert action.verdict.effect == pytest.approx(-0.5, abs=0.02)  # of the objective


def test_a_rung_keeps_no_run_back_for_an_audit() -> None:
    program = replace(PROGRAM, budget=Budget(runs=10))
    base, rung = ledger(program, history()), ledger(program, history(rung="large"))
    assert (base.auditing, next_action(base).kind) == (True, Kind.RUN_INCUMBENT)
    assert (rung.auditing, next_action(rung).kind) == (False, Kind.PROPOSE)
    assert rung.spent == 8


def test_flawed_numbers_count_for_nothing() -> None:
    change = attempt("change", 0.5, range(1, 4))
    verdict = step(PROGRAM, history(change), change, flaw="fit.py differs").verdict
    assert (verdict.decision, verdict.label) == (Decision.DISCARD, Label.TAMPERED)


def test_the_first_changes_are_the_opening() -> None:
    crashed = attempt("crashed", 0.1, range(1))
    others = [attempt(f"change-{k}", 0.1, range(2)) for k in range(7)]
    seen = ledger(PROGRAM, history(crashed, *others), others[0])
    assert not (seen.candidate and seen.candidate.chosen)
    assert [change.chosen for change in seen.closed] == [False] * 5 + [True]  # what waits for its verdict
    assert seen.opened == OPENING
    after = ledger(PROGRAM, history(crashed, *others), others[6]).candidate
    assert after is not None and after.chosen
    again = ledger(PROGRAM, history(crashed, *others), crashed).candidate
    assert again is not None and not again.chosen


def test_a_change_with_one_run_waits_for_the_caller_to_choose_it() -> None:
    others = [attempt(f"change-{k}", 0.1, range(2)) for k in range(OPENING)]
    change = attempt("late", -5.0, range(1))
    told = history(*others, change)
    assert step(PROGRAM, told, change, screening=True).kind is Kind.WAIT
    assert step(PROGRAM, told, change).kind is Kind.DISCARD
    assert next_seed(ledger(PROGRAM, told, change)) == 1


def test_of_one_seed_measured_in_two_clones_the_first_counts() -> None:
    change = attempt("change", 0.5, range(1, 4))
    again = tuple(replace(run, name=f"{run.name}-again", metrics={}) for run in change.experiments)
    twice = replace(change, experiments=(*change.experiments, *again))
    assert (
        ledger(PROGRAM, history(twice), twice).candidate == ledger(PROGRAM, history(change), change).candidate
    )


def test_seeds_begin_where_the_branch_says_until_a_baseline_has_run() -> None:
    assert ledger(PROGRAM, History("b", "base"), head_seed=41).first_seed == 41
    assert ledger(PROGRAM, history(), head_seed=41).first_seed == 0


def test_seeds_begin_at_the_lowest_whichever_run_of_the_baseline_ended_first() -> None:
    late = attempt("base", 0.0, range(2, -1, -1), agent=BASELINE_AGENT)
    assert ledger(PROGRAM, History("b", "base", (late,))).first_seed == 0


def test_a_case_tells_what_would_have_been_enough() -> None:
    change = attempt("change", 0.0, range(1, 4))
    verdict = step(PROGRAM, history(change), change).verdict
    case = findings.case(PROGRAM, history(change), change, verdict)
    assert case.base_seeds == tuple(range(8))
    assert case.interval[0] < 0 < case.interval[1]
    assert case.wanted
    assert case.guards[str(GUARD)] == pytest.approx([20.0, 20.0], abs=0.01)


def measured(label: str, *values: float | None, audit: bool = False) -> tuple[Experiment, ...]:
    """The branch's own runs, with these values; None crashed."""
    return tuple(
        replace(
            BASELINE.experiments[0],
            name=f"{label}-{place}",
            seed=100 * audit + place,
            audit=audit,
            status=Status.CRASHED if value is None else Status.SUCCEEDED,
            metrics={} if value is None else {str(OBJECTIVE): value, str(GUARD): 20.0},
        )
        for place, value in enumerate(values)
    )


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_total_is_the_audit_against_the_baseline(
    direction: Literal["minimize", "maximize"],
) -> None:
    program = replace(PROGRAM, objective=replace(OBJECTIVE, direction=direction))

    def total(*runs: Experiment) -> findings.Total | None:
        return findings.total(program, History("b", "base", (replace(BASELINE, experiments=runs),)))

    first, audit = measured("first", 2.0, 4.0, None), measured("audit", 1.0, 1.0, 4.0, audit=True)
    found = total(*first, *audit)
    assert found is not None
    assert (found.before, found.after, found.change) == (3.0, 2.0, -1.0)
    assert (found.runs_before, found.runs_after) == (2, 3)
    assert found.standard_error == pytest.approx(math.sqrt((2 + 6) / 3 * (1 / 2 + 1 / 3)))
    assert found.interval[0] < -1.0 < found.interval[1]
    assert total(*first) is None
    assert total(*measured("first", 2.0), *measured("audit", 1.0, audit=True)) is None  # no noise can be told
