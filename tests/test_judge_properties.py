"""What must hold of the decision rule whatever the numbers are."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ar.judge import rule
from ar.judge.evidence import Candidate, Ledger, Run
from ar.judge.noise import noise_of
from ar.judge.protocol import Memory, answer
from ar.judge.rule import Action, Kind, next_action

FAST = settings(max_examples=60, deadline=None, derandomize=True)
RANK = {Kind.DISCARD: 0, Kind.WAIT: 1, Kind.RUN_CANDIDATE: 1, Kind.PROMOTE: 2}

# Multiples of 1/64: sums, and shifts and scalings by such numbers, are exact in floating point.
exact = st.integers(-6400, 6400).map(lambda k: k / 64)
anything = st.floats() | st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324])


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Campaigns in mid-course: seeds or none, closed changes on the same seeds, guards, a simplification."""
    seeded = draw(st.booleans())
    luck = draw(st.lists(exact.map(lambda k: 16 * k), min_size=13, max_size=13)) if seeded else [0.0] * 13

    def change(least: int, most: int, later: int = 0, level: float = 0.0, slow: float = 0.0) -> Candidate:
        made = tuple(
            Run(k if seeded else None, luck[k] + level + draw(exact), (10 + slow + draw(exact) / 100,))
            for k in range(draw(st.integers(least, most)) + later)
        )
        return Candidate(made[: len(made) - later], made[len(made) - later :], draw(st.booleans()))

    promotions, opening = draw(st.integers(0, 2)), draw(st.integers(0, 4))
    incumbent = change(2, 5, 8) if promotions else Candidate(base=change(8, 8).runs)
    closed = tuple(
        replace(change(1, 6), chosen=not seeded or place >= opening)
        for place in range(draw(st.integers(0, 4)))
    )
    level, slow = draw(st.sampled_from([0.0, -100.0, -400.0])), draw(st.sampled_from([-1.0, 0.0, 1.0]))
    opened = change(1, 8, level=level, slow=slow)
    return Ledger(
        700,
        draw(st.integers(0, 692)),
        incumbent,
        opened,
        closed,
        promotions,
        guards=("seconds",),
        first_seed=0 if seeded else None,
        screening=seeded and draw(st.booleans()),
    )


def mapped(case: Ledger, run: Callable[[Run], Run]) -> Ledger:
    """The ledger with every run changed."""

    def each(change: Candidate) -> Candidate:
        return replace(change, runs=tuple(map(run, change.runs)), base=tuple(map(run, change.base)))

    assert case.candidate is not None
    return replace(
        case,
        incumbent=each(case.incumbent),
        candidate=each(case.candidate),
        closed=tuple(map(each, case.closed)),
    )


def clear_cut(action: Action, case: Ledger) -> bool:
    """Not within rounding of a bar, where the order of additions may decide."""
    z, n = action.verdict.z, action.verdict.runs
    bars = (rule.promote_bar(n), rule.discard_bar(n), rule.SIMPLER_BAR) if n else ()
    return z is None or (all(abs(z - bar) > 1e-6 for bar in bars) and not _has_no_residual(case))


def _has_no_residual(case: Ledger) -> bool:
    """Whether all that is left of the noise after the seeds' effects is rounding."""
    noise = noise_of(case)
    return noise.residual.pool.df > 0 and noise.residual_sigma <= 1e-3 * noise.sigma


def repeats(case: Ledger) -> bool:
    """Whether two codes gave the same value with one seed."""
    made = [(run.seed, run.value) for item in (case.incumbent, *case.closed) for run in item.fair]
    return len(set(made)) < len(made)


def same(one: Action, two: Action, scale: float = 1.0) -> None:
    assert (one.kind, one.seed, one.verdict.paired) == (two.kind, two.seed, two.verdict.paired)
    for a, b, unit in (
        (one.verdict.z, two.verdict.z, 1.0),
        (one.verdict.effect, two.verdict.effect, scale),
        (one.verdict.standard_error, two.verdict.standard_error, scale),
    ):
        assert (a is None) == (b is None)
        assert a is None or b is None or math.isclose(a * unit, b, rel_tol=1e-6, abs_tol=1e-9 * scale)


@FAST
@given(ledgers(), exact)
def test_a_shift_of_all_values_changes_nothing(case: Ledger, shift: float) -> None:
    action = next_action(case)
    assume(clear_cut(action, case))
    same(action, next_action(mapped(case, lambda run: replace(run, value=run.value + shift))))


@FAST
@given(ledgers(), st.sampled_from([2.0**-40, 0.125, 3.0, 2.0**60]))
def test_a_change_of_unit_scales_effects_only(case: Ledger, unit: float) -> None:
    action = next_action(case)
    assume(clear_cut(action, case))
    same(action, next_action(mapped(case, lambda run: replace(run, value=run.value * unit))), unit)


@FAST
@given(ledgers(), st.permutations(range(16)))
def test_names_of_seeds_do_not_matter(case: Ledger, names: list[int]) -> None:
    action = next_action(case)
    renamed = next_action(
        mapped(case, lambda run: run if run.seed is None else replace(run, seed=100 + names[run.seed]))
    )
    assert (action.kind, action.verdict) == (renamed.kind, renamed.verdict)


@FAST
@given(ledgers(), st.randoms(use_true_random=False))
def test_the_order_of_closed_changes_does_not_matter(case: Ledger, rng: object) -> None:
    action = next_action(case)
    assume(clear_cut(action, case) and not repeats(case))
    same(action, next_action(replace(case, closed=case.closed[::-1])))


@FAST
@given(ledgers(), st.data())
def test_the_order_of_unpaired_runs_does_not_matter(case: Ledger, data: st.DataObject) -> None:
    case = mapped(case, lambda run: replace(run, seed=None))
    assert case.candidate is not None
    shuffled = data.draw(st.permutations(case.candidate.runs))
    base = data.draw(st.permutations(case.incumbent.base))
    again = replace(
        case,
        candidate=replace(case.candidate, runs=tuple(shuffled)),
        incumbent=replace(case.incumbent, base=tuple(base)),
    )
    one, two = next_action(case), next_action(again)
    assume(clear_cut(one, case))
    assert one.kind is two.kind
    assert one.verdict.z is None or math.isclose(one.verdict.z, two.verdict.z or 0.0, abs_tol=1e-9)


@settings(FAST, max_examples=150)
@given(ledgers(), st.integers(0, 7), st.integers(1, 3200).map(lambda k: k / 64), st.booleans())
def test_a_worse_run_never_helps(case: Ledger, which: int, worse: float, guard: bool) -> None:
    assert case.candidate is not None
    made = list(case.candidate.runs)
    run = made[which % len(made)]
    slower = replace(run, guards=tuple(value + worse for value in run.guards))
    made[which % len(made)] = slower if guard else replace(run, value=run.value + worse)
    spoiled = replace(case, candidate=replace(case.candidate, runs=tuple(made)))
    assert RANK[next_action(spoiled).kind] <= RANK[next_action(case).kind]


@FAST
@given(ledgers(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_run_that_is_not_finite_never_helps(case: Ledger, value: float) -> None:
    assert case.candidate is not None
    spoiled = (*case.candidate.runs, Run(None, value))
    assert next_action(replace(case, candidate=replace(case.candidate, runs=spoiled))).kind is Kind.DISCARD


@FAST
@given(ledgers())
def test_identical_values_promote_nothing(case: Ledger) -> None:
    flat = mapped(case, lambda run: replace(run, value=0.1))
    assert flat.candidate is not None
    flat = replace(flat, candidate=replace(flat.candidate, simplification=False))
    action = next_action(flat)
    assert action.kind in (Kind.DISCARD, Kind.WAIT) and action.verdict.z == 0


any_run = st.builds(
    Run,
    seed=st.none() | st.integers(-2, 12),
    value=anything,
    guards=st.lists(anything, max_size=2).map(tuple),
    crashed=st.booleans(),
)
any_runs = st.lists(any_run, max_size=12).map(tuple)
any_change = st.builds(Candidate, any_runs, any_runs, st.booleans(), st.booleans())
any_ledger = st.builds(
    Ledger,
    budget=st.integers(-10, 10**9),
    spent=st.integers(-10, 10**9),
    incumbent=any_change,
    candidate=st.none() | any_change,
    closed=st.lists(any_change, max_size=4).map(tuple),
    promotions=st.integers(0, 10**6),
    guards=st.lists(st.text(max_size=3), max_size=3).map(tuple),
    first_guards=st.lists(anything, max_size=3).map(tuple),
    first_seed=st.none() | st.integers(),
    screening=st.booleans(),
)


@settings(FAST, max_examples=100)
@given(any_ledger)
def test_no_ledger_crashes_it(case: Ledger) -> None:
    action = next_action(case)
    assert action.kind in Kind and action.verdict.reason
    json.dumps(action.verdict.to_json(), allow_nan=False)
    rule.overfitted(case)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
numbers = st.lists(anything | st.integers(), max_size=9)


@settings(FAST, max_examples=100)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                name: st.integers(0, 900) | any_json
                for name in ("budget", "spent", "left", "change", "promotions")
            }
            | dict.fromkeys(("cand", "own", "base"), numbers | any_json),
            optional={"seeds": any_json, "reset": any_json},
        )
        | st.dictionaries(st.text(max_size=6), any_json, max_size=3),
        max_size=5,
    )
)
def test_every_line_is_answered_or_named_as_malformed(lines: list[dict[str, object]]) -> None:
    memory = Memory()
    for line in lines:
        try:
            reply = answer(line, memory)
        except ValueError as error:
            assert ": " in str(error)
        else:
            assert reply == {} or reply["action"] in {"base", "run", "discard", "promote"}
            json.dumps(reply, allow_nan=False)


@pytest.mark.slow
def test_a_million_runs_are_judged() -> None:
    many = tuple(Run(k, float(k % 7)) for k in range(1_000_000))
    start = time.process_time()
    case = Ledger(
        10**7, 10**6, Candidate(base=many), Candidate(many[:4]), (Candidate(many),), 1, first_seed=0
    )
    assert next_action(case).verdict.df == 999_999  # as many seeds, less one
    assert time.process_time() - start < 15
