"""The decision rule as truth tables: what it says at its edges, branch by branch."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from ar.history.records import Decision, Label
from ar.judge import rule
from ar.judge.arithmetic import CERTAIN, chi_square, score, unscore
from ar.judge.contrast import compare
from ar.judge.evidence import OPENING, Candidate, Ledger, Run, audit_runs, guard_means
from ar.judge.findings import resolution
from ar.judge.noise import Noise, Pool, noise_of
from ar.judge.protocol import Memory, answer
from ar.judge.rule import Action, Kind, next_action

# Eight runs with mean 0 and variance 1: sigma is 1 on 7 degrees of freedom.
UNIT = [value / math.sqrt(6 / 7) for value in (-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 0.0, 0.0)]
ZERO = [0.0] * 8


def runs(*values: float, guards: tuple[float, ...] = (), start: int | None = None) -> tuple[Run, ...]:
    return tuple(Run(None if start is None else start + k, value, guards) for k, value in enumerate(values))


def ledger(*values: float, base: tuple[Run, ...] = runs(*UNIT), left: int = 500, **more: Any) -> Ledger:
    """A campaign whose open change has these values."""
    simpler = more.pop("simplification", False)
    given = {"incumbent": Candidate(base=base), "candidate": Candidate(runs(*values), simplification=simpler)}
    return Ledger(budget=700, spent=700 - left, **(given | more))


def values_at(z: float, n: int, base: int = 8, df: int = 7) -> list[float]:
    """n equal values, better than a mean of 0 by just that score when sigma is 1."""
    return [-unscore(z, df) * math.sqrt(1 / n + 1 / base)] * n


# -- constants of the rule ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "promote", "discard"), [(1, 4.5, 1.25), (2, 3.5, 1.4), (4, 3.0, 1.7), (8, 2.75, 2.3)]
)
def test_bars(n: int, promote: float, discard: float) -> None:
    assert rule.promote_bar(n) == pytest.approx(promote)
    assert rule.discard_bar(n) == pytest.approx(discard)


@pytest.mark.parametrize(
    ("n", "promotions", "needed"),
    [(0, 0, 8), (8, 0, 8), (0, 1, 2), (1, 1, 2), (2, 1, 2), (3, 2, 3), (8, 1, 8), (9, 1, 8)],
)
def test_base_runs_needed(n: int, promotions: int, needed: int) -> None:
    assert rule.base_runs_needed(n, promotions) == needed


@pytest.mark.parametrize(
    ("budget", "kept"),
    [(0, 2), (50, 2), (75, 3), (100, 4), (499, 4), (500, 5), (700, 7), (800, 8), (9999, 8)],
)
def test_audit_runs(budget: int, kept: int) -> None:
    assert audit_runs(budget) == kept


@pytest.mark.parametrize(
    ("t", "df", "z"),
    # The normal deviate of the same tail, from tables of t: P(t > 2.998) = 0.01 on 7 df, and so on.
    [
        (0.0, 7, 0.0),
        (2.998, 7, 2.326),
        (1.895, 7, 1.645),
        (3.499, 7, 2.576),
        (2.602, 15, 2.326),
        (-2.998, 7, -2.326),
    ],
)
def test_score_is_the_equal_tail_normal_deviate(t: float, df: int, z: float) -> None:
    assert score(t, df) == pytest.approx(z, abs=0.01)


def test_score_is_clipped_and_inverted() -> None:
    assert score(math.inf, 3) == CERTAIN == -score(-math.inf, 3)
    assert score(1e200, 3) <= CERTAIN
    for z in (0.0, 1.25, 3.5, 6.0):
        for df in (1, 7, 100):
            assert score(unscore(z, df), df) == pytest.approx(z)


@pytest.mark.parametrize(("df", "quantile"), [(5, 1.145), (10, 3.940), (30, 18.493)])
def test_chi_square(df: int, quantile: float) -> None:
    assert chi_square(df) == pytest.approx(quantile, rel=0.02)


# -- the rule ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "z", "kind"),
    [
        (1, 1.24, Kind.DISCARD),
        (1, 1.26, Kind.RUN_CANDIDATE),
        (1, 9.00, Kind.RUN_CANDIDATE),  # one run never promotes
        (2, 1.39, Kind.DISCARD),
        (2, 1.41, Kind.RUN_CANDIDATE),
        (2, 3.49, Kind.RUN_CANDIDATE),
        (2, 3.51, Kind.PROMOTE),
        (4, 1.69, Kind.DISCARD),
        (4, 2.99, Kind.RUN_CANDIDATE),
        (4, 3.01, Kind.PROMOTE),
        (7, 2.14, Kind.DISCARD),
        (7, 2.16, Kind.RUN_CANDIDATE),
        (8, 2.74, Kind.DISCARD),  # no ninth run
        (8, 2.76, Kind.PROMOTE),
        (9, 2.70, Kind.DISCARD),
    ],
)
def test_score_against_bars(n: int, z: float, kind: Kind) -> None:
    action = next_action(ledger(*values_at(z, n)))
    assert action.kind is kind
    assert action.verdict.z == pytest.approx(z)
    assert action.verdict.bar == pytest.approx(rule.promote_bar(n))
    assert (action.verdict.runs, action.verdict.base_runs, action.verdict.df) == (n, 8, 7)
    assert action.verdict.sigma == pytest.approx(1)
    assert action.verdict.needed == pytest.approx(values_at(rule.promote_bar(n), n)[0])
    assert action.verdict.decision == {Kind.RUN_CANDIDATE: Decision.OPEN}.get(kind, action.verdict.decision)


@pytest.mark.parametrize(
    ("made", "left", "kind"),
    [
        (0, 700, Kind.RUN_INCUMBENT),
        (7, 600, Kind.RUN_INCUMBENT),
        (8, 600, Kind.PROPOSE),
        (8, 8, Kind.PROPOSE),
        (8, 7, Kind.RUN_INCUMBENT),  # the closing audit
        (0, 1, Kind.RUN_INCUMBENT),
        (8, 0, Kind.FINISH),
        (8, -3, Kind.FINISH),
    ],
)
def test_without_an_open_change(made: int, left: int, kind: Kind) -> None:
    assert next_action(ledger(base=runs(*UNIT[:made]), left=left, candidate=None)).kind is kind


@pytest.mark.parametrize(
    ("z", "left", "kind"),
    [
        (9.0, 8, Kind.PROMOTE),
        (9.0, 7, Kind.PROMOTE),  # a decision costs nothing
        (2.0, 8, Kind.RUN_CANDIDATE),
        (2.0, 7, Kind.DISCARD),
        (2.0, 0, Kind.DISCARD),
    ],
)
def test_the_budget_ends_with_the_audit(z: float, left: int, kind: Kind) -> None:
    assert next_action(ledger(*values_at(z, 2), left=left)).kind is kind


def test_an_unmeasured_change_does_not_start_during_the_audit() -> None:
    assert next_action(ledger(left=7)).kind is Kind.RUN_INCUMBENT
    assert next_action(ledger(left=8)).kind is Kind.RUN_CANDIDATE


def test_during_the_audit_a_change_whose_incumbent_is_short_of_runs_is_dropped() -> None:
    action = next_action(ledger(-9, -9, base=runs(0, 1), left=7))
    assert action.kind is Kind.DISCARD and action.verdict.z is None


@pytest.mark.parametrize(
    ("confirming", "later", "n", "kind"),
    [
        (0, 0, 0, Kind.RUN_INCUMBENT),
        (1, 0, 0, Kind.RUN_INCUMBENT),
        (
            7,
            1,
            0,
            Kind.RUN_INCUMBENT,
        ),  # its confirming runs measure a promoted change, but fresh ones must too
        (1, 2, 0, Kind.RUN_CANDIDATE),
        (1, 2, 2, Kind.RUN_CANDIDATE),
        (1, 2, 3, Kind.RUN_INCUMBENT),
        (1, 3, 3, Kind.RUN_CANDIDATE),
        (7, 7, 8, Kind.RUN_INCUMBENT),
        (7, 8, 8, Kind.DISCARD),
    ],
)
def test_a_later_incumbent_needs_as_many_runs_as_the_change(
    confirming: int, later: int, n: int, kind: Kind
) -> None:
    incumbent = Candidate(runs(-99, *UNIT[:confirming]), runs(*UNIT[:later]))
    closed = (Candidate(base=runs(*UNIT)),)
    open_values = [-2.0] * n if n < 8 else [0.0] * n
    case = ledger(*open_values, incumbent=incumbent, closed=closed, promotions=1)
    assert next_action(case).kind is kind


def test_the_screening_run_of_the_incumbent_is_no_bar() -> None:
    lucky = Candidate(runs(-1e6, *UNIT[:4]), runs(*UNIT[4:]))
    action = next_action(ledger(*values_at(3.51, 2), incumbent=lucky, promotions=1))
    assert action.kind is Kind.PROMOTE


def test_sigma_is_pooled_without_screening_runs() -> None:
    closed = (
        Candidate(runs(-50.0)),
        Candidate(runs(-50.0, 3.0)),
        Candidate(runs(-50.0, 3.0, 5.0)),  # 1 df, squares 2
        Candidate(runs(-50.0, math.nan, 5.0)),
        Candidate(runs(-50.0, 1.0, 1.0), runs(4.0)),  # an earlier incumbent: 2 df, squares 6
    )
    noise = noise_of(ledger(incumbent=Candidate(base=runs(1.0, 3.0)), closed=closed))
    assert noise.plain.df == 4
    assert noise.plain.squares == pytest.approx(2 + 6 + 2)


def test_the_effect_is_that_of_the_confirming_runs() -> None:
    action = next_action(ledger(-9.0, -6.0))
    assert action.verdict.effect == pytest.approx(-6.0)
    assert action.verdict.standard_error == pytest.approx(math.sqrt(1 + 1 / 8))
    assert next_action(ledger(-9.0)).verdict.effect == pytest.approx(-9.0)  # there is none yet


# -- no noise, crashes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((-1e-9,), Kind.RUN_CANDIDATE),
        ((-1e-9, -1e-9), Kind.PROMOTE),  # where nothing varies, any strict improvement is one
        ((0.0,), Kind.DISCARD),
        ((0.0, 0.0), Kind.DISCARD),
        ((1e-9, 1e-9), Kind.DISCARD),
    ],
)
def test_a_metric_without_noise(values: tuple[float, ...], kind: Kind) -> None:
    action = next_action(ledger(*values, base=runs(*ZERO)))
    assert action.kind is kind
    assert abs(action.verdict.z or 0.0) in (0.0, CERTAIN)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 2.19, -1e10])
def test_equal_values_have_exactly_no_noise_and_no_effect(value: float) -> None:
    action = next_action(ledger(value, value, value, base=runs(*[value] * 8)))
    assert action.kind is Kind.DISCARD
    assert (action.verdict.sigma, action.verdict.effect, action.verdict.z) == (0, 0, 0)


@pytest.mark.parametrize(
    "bad",
    [Run(0, 0.0, crashed=True), Run(0, math.nan), Run(0, math.inf), Run(0, 1.0, (math.nan,)), Run(0, -1e300)],
)
def test_a_crash_discards_and_never_enters_sigma(bad: Run) -> None:
    good = runs(-9, -9)
    for made in ((bad,), (*good, bad), (bad, *good)):
        action = next_action(ledger(candidate=Candidate(made)))
        assert action.kind is Kind.DISCARD and "crashed" in action.verdict.reason
    short = ledger(base=(bad, *runs(*UNIT[:7])), candidate=None)
    assert next_action(short).kind is Kind.RUN_INCUMBENT
    assert noise_of(ledger(base=(bad, *runs(*UNIT)))).plain.df == 7


# -- simplifications and guards ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "z", "kind", "label"),
    [
        (1, 1.24, Kind.DISCARD, ""),
        (1, 1.26, Kind.RUN_CANDIDATE, ""),
        (3, 2.50, Kind.RUN_CANDIDATE, ""),  # too few runs
        (4, 1.69, Kind.DISCARD, ""),
        (4, 1.99, Kind.RUN_CANDIDATE, ""),
        (4, 2.01, Kind.PROMOTE, Label.SIMPLER),
        (8, 1.99, Kind.DISCARD, ""),
        (8, 2.01, Kind.PROMOTE, Label.SIMPLER),
    ],
)
def test_a_declared_simplification_is_granted_one_sigma(n: int, z: float, kind: Kind, label: str) -> None:
    values = [value + 1.0 for value in values_at(z, n)]
    action = next_action(ledger(*values, simplification=True))
    assert (action.kind, action.verdict.label) == (kind, label)
    assert action.verdict.z == pytest.approx(z)
    assert action.verdict.needed == pytest.approx(values_at(rule.SIMPLER_BAR, n)[0] + 1)
    assert next_action(ledger(*values)).kind is not Kind.PROMOTE  # undeclared


def test_a_simplification_that_is_better_is_just_better() -> None:
    action = next_action(ledger(*values_at(3.6, 2), simplification=True))
    assert (action.kind, action.verdict.label) == (Kind.PROMOTE, "")


def guarded(change: float, *, n: int = 2, z: float = 9.0, first: float = 10.0, noise: float = 0.01) -> Action:
    """A change with this guard, against an incumbent at 10 whose guard has this sigma."""
    base = tuple(Run(None, value, (10 + noise * value,)) for value in UNIT)
    made = runs(*values_at(z, n), guards=(change,))
    case = ledger(base=base, candidate=Candidate(made), promotions=0)
    return next_action(replace(case, guards=("seconds",), first_guards=(first,)))


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (guarded(10.0), Kind.PROMOTE),
        (guarded(9.0), Kind.PROMOTE),
        (guarded(10.0157), Kind.PROMOTE),  # 1.99 standard errors of 0.01 sqrt(1/2 + 1/8)
        (guarded(10.0159), Kind.DISCARD),
        (guarded(10.0159, n=1), Kind.RUN_CANDIDATE),  # one run says nothing of time
        (guarded(10.0159, z=2.0), Kind.DISCARD),
        (guarded(10.0, first=9.7), Kind.DISCARD),  # no slower than the incumbent, but 3 % past the first
        (guarded(10.0, first=9.82), Kind.PROMOTE),
        (guarded(10.0, first=9.7, z=2.0), Kind.RUN_CANDIDATE),  # the mean may still come down
        (guarded(10.0, first=9.7, noise=0.2), Kind.PROMOTE),  # within 2 standard errors of the first
        (guarded(10.0, first=9.6, noise=0.2), Kind.DISCARD),
        (guarded(10.0, noise=0.0), Kind.PROMOTE),
        (guarded(10.0 + 1e-9, noise=0.0), Kind.DISCARD),
    ],
)
def test_guards(action: Action, kind: Kind) -> None:
    assert action.kind is kind
    assert action.verdict.failed_guard == ("seconds" if kind is Kind.DISCARD else "")
    assert action.verdict.reason.startswith("seconds is ") == (kind is Kind.DISCARD)


def test_without_a_first_baseline_given_the_first_incumbent_anchors_the_guards() -> None:
    base = tuple(Run(None, value, (10 + value,)) for value in UNIT)
    assert guard_means(base) == pytest.approx((10,))
    assert guard_means(()) == ()


def timed(change: float, *beside: float, n: int = 2) -> Action:
    """A change that ran when the machine may have changed: incumbent runs at 10 before, `beside` after."""
    base = [Run(None, value, (10 + 0.01 * value,), when=k) for k, value in enumerate(UNIT)]
    base += [Run(None, 0.0, (guard,), when=200 + k) for k, guard in enumerate(beside)]
    made = tuple(Run(None, value, (change,), when=100 + k) for k, value in enumerate(values_at(9, n)))
    return next_action(ledger(base=tuple(base), candidate=Candidate(made), guards=("seconds",)))


def test_before_a_guard_refuses_the_incumbent_is_measured_beside_the_change() -> None:
    assert timed(10.0).kind is Kind.PROMOTE
    assert timed(13.0).kind is Kind.RUN_INCUMBENT
    assert timed(13.0, 13.0).kind is Kind.RUN_INCUMBENT
    assert timed(13.0, 10.0, 10.01).kind is Kind.DISCARD  # the change is slower
    assert timed(13.0, 13.0, 13.01).kind is Kind.PROMOTE  # the machine was
    assert timed(30.0, 13.0, 13.01).kind is Kind.DISCARD
    assert [timed(13.0, *[10.0] * k, n=6).kind for k in (3, 4)] == [Kind.RUN_INCUMBENT, Kind.DISCARD]


def drifting(change: float, *beside: float, n: int = 2) -> Action:
    """A change of an objective that is a time: the incumbent at 10 before, `beside` after its first run."""
    base = [Run(None, 10 + 0.1 * value, when=k) for k, value in enumerate(UNIT)]
    base += [Run(None, value, when=200 + k) for k, value in enumerate(beside)]
    made = tuple(Run(None, change + 0.01 * k, when=100 + k) for k in range(n))
    return next_action(ledger(base=tuple(base), candidate=Candidate(made), drifts=True))


def test_a_time_is_compared_with_the_incumbent_beside_it() -> None:
    assert drifting(12.0).kind is Kind.RUN_INCUMBENT
    assert drifting(12.0, 12.0).kind is Kind.RUN_INCUMBENT
    assert drifting(12.0, 14.0, 14.1).kind is Kind.PROMOTE  # the machine was slower by then
    assert drifting(9.0, 8.0, 8.1).kind is Kind.DISCARD  # it was faster
    assert drifting(12.0, n=1).kind is Kind.RUN_INCUMBENT
    assert drifting(12.0, 11.0, n=1).kind is Kind.DISCARD
    assert [drifting(12.0, *[14.0] * k, n=6).kind for k in (3, 4)] == [Kind.RUN_INCUMBENT, Kind.PROMOTE]


def test_a_verdict_without_noise_says_that_it_rests_on_one_seed() -> None:
    verdict = next_action(ledger(-1.0, -1.0, base=runs(*ZERO))).verdict
    assert (verdict.sigma, verdict.z) == (0.0, CERTAIN)
    assert "one seed" in verdict.reason


# -- pairing -----------------------------------------------------------------------------------------------


def two_way(
    seed_sigma: float, residual_sigma: float, sizes: list[int], rng: random.Random
) -> tuple[list[float], Candidate, list[Candidate]]:
    """Seed effects, an incumbent with 8 runs, and changes of these sizes on the same seeds."""
    effects = [rng.gauss(0, seed_sigma) for _ in range(8)]

    def make(n: int, level: float) -> tuple[Run, ...]:
        return tuple(Run(k, level + effects[k] + rng.gauss(0, residual_sigma)) for k in range(n))

    return effects, Candidate(base=make(8, 0.0)), [Candidate(make(n, rng.gauss(0, 3))) for n in sizes]


def test_the_residual_is_that_of_the_additive_two_way_table() -> None:
    rng = random.Random(1)
    _, incumbent, closed = two_way(1.0, 0.3, [8, 8, 8], rng)
    pool = Noise.of([incumbent, *(replace(change, chosen=False) for change in closed)]).residual.pool
    table = [[run.value for run in (*change.runs, *change.base)] for change in (incumbent, *closed)]
    rows = [sum(row) / 8 for row in table]
    columns = [sum(column) / 4 for column in zip(*table, strict=True)]
    grand = sum(rows) / 4
    squares = sum((table[i][k] - rows[i] - columns[k] + grand) ** 2 for i in range(4) for k in range(8))
    assert pool.df == 3 * 7
    assert pool.squares == pytest.approx(squares)


@pytest.mark.parametrize(("seed_sigma", "residual_sigma"), [(0.0, 1.0), (0.6, 0.8), (0.95, 0.31)])
def test_the_residual_is_unbiased_when_changes_end_at_different_lengths(
    seed_sigma: float, residual_sigma: float
) -> None:
    rng = random.Random(2)
    squares = df = 0.0
    for _ in range(300):
        _, incumbent, closed = two_way(seed_sigma, residual_sigma, [1, 3, 8, 4, 2, 6], rng)
        pool = Noise.of([incumbent, *closed]).residual.pool
        squares, df = squares + pool.squares, df + pool.df
    assert squares / df == pytest.approx(residual_sigma**2, rel=0.06)


def test_seeds_that_were_never_run_together_tell_nothing_of_each_other() -> None:
    pool = Noise.of(
        [Candidate(base=runs(1, 5, 3, start=0)), Candidate(base=runs(1, 2, start=10))]
    ).residual.pool
    assert (pool.df, pool.squares) == (0, pytest.approx(0.0))
    assert math.isnan(Noise.of([Candidate(base=runs(1, 5, start=0))]).residual_sigma)


def test_pairing_is_known_to_help_where_it_does() -> None:
    rng = random.Random(3)
    _, incumbent, closed = two_way(1.0, 0.33, [5, 5, 5], rng)
    assert not Noise.of([incumbent]).pairing_helps  # nothing to pair with
    assert Noise.of([incumbent, *closed]).pairing_helps
    _, incumbent, closed = two_way(0.0, 1.0, [5, 5, 5], rng)
    assert not Noise.of([incumbent, *closed]).pairing_helps


def test_many_changes_on_few_seeds_do_not_make_sigma_certain() -> None:
    _, incumbent, closed = two_way(1.0, 0.33, [3] * 20, random.Random(4))
    noise = Noise.of([incumbent, *closed])
    assert (noise.plain.df, noise.df) == (7 + 20, 7)
    unseeded = Noise.of([Candidate(base=runs(*UNIT)), Candidate(runs(1, 2, 3))])
    assert unseeded.df == unseeded.plain.df == 8


def test_a_change_that_changes_nothing_is_no_evidence_of_pairing() -> None:
    _, incumbent, _ = two_way(1.0, 0.3, [], random.Random(5))
    same = [Candidate(incumbent.base), Candidate(incumbent.base[:3], chosen=False)]
    assert Noise.of([incumbent, *same]).residual.pool.df == 0


def test_the_first_run_counts_in_the_noise_unless_it_was_chosen_by() -> None:
    opened, chosen = Candidate(runs(1, 3, start=0), chosen=False), Candidate(runs(1, 3, start=0))
    assert (Noise.of([opened]).plain.df, Noise.of([chosen]).plain.df) == (1, 0)
    assert (opened.opens, chosen.opens, Candidate(runs(1, start=0), chosen=False).opens) == (
        True,
        False,
        False,
    )


@pytest.mark.parametrize("level", [-17.0, -3.0])
def test_where_the_noise_is_the_seeds_alone_two_runs_promote(level: float) -> None:
    """Better in every run by many standard deviations, or by a few: without the seed's luck both are sure."""
    _, incumbent, closed = two_way(1.0, 0.0, [5, 5, 5], random.Random(6))
    change = tuple(replace(run, value=run.value + level) for run in incumbent.base[:2])
    action = next_action(
        ledger(incumbent=incumbent, closed=tuple(closed), candidate=Candidate(change), first_seed=0)
    )
    assert (action.kind, action.verdict.paired) == (Kind.PROMOTE, True)


def test_a_small_gain_of_a_change_that_follows_the_incumbent_is_found() -> None:
    rng = random.Random(7)
    effects, incumbent, closed = two_way(1.0, 0.1, [3, 4, 5], rng)
    noise = Noise.of([incumbent, *closed])
    small = tuple(Run(k, effects[k] - 0.6 + rng.gauss(0, 0.1)) for k in range(8))
    decisions = (rule.judge(Candidate(small[:n]), incumbent.base, noise) for n in range(1, 9))
    found = next(verdict for verdict in decisions if verdict.decision is not Decision.OPEN)
    assert (found.decision, found.paired) == (Decision.PROMOTE, True)
    assert found.effect == pytest.approx(-0.6, abs=0.25)
    assert compare(small[: found.runs], incumbent.base, Noise(noise.plain)).z < (found.bar or 0)


def test_a_wild_change_is_not_judged_by_the_calm_of_others() -> None:
    """Changes of no effect that go paths of their own, judged with the noise of changes that do not."""
    false = 0
    for number in range(400):
        rng = random.Random(f"wild {number}")
        _, incumbent, closed = two_way(1.0, 0.2, [5, 5, 5, 5], rng)
        noise = Noise.of([incumbent, *closed])
        for n in range(2, 9):
            wild = tuple(Run(k, rng.gauss(0, 1.0)) for k in range(n))
            false += rule.judge(Candidate(wild), incumbent.base, noise).decision is Decision.PROMOTE
    assert false / (400 * 7) < 0.05


def known(sigma: float, residual: float) -> Noise:
    """Noise of which both parts are known: a large table of codes and seeds with just these variances."""
    noise, rng = Noise(), random.Random(8)
    luck = [rng.gauss(0, math.sqrt(sigma**2 - residual**2)) for _ in range(300)]
    for _ in range(3):
        for start in range(0, 300, 6):
            seeds = range(start, start + 6)
            noise.add(Candidate(base=tuple(Run(k, luck[k] + rng.gauss(0, residual)) for k in seeds)))
    return noise


@pytest.mark.parametrize(("n", "m"), [(1, 8), (4, 8), (3, 3)])
def test_the_paired_standard_error_is_the_true_one(n: int, m: int) -> None:
    noise, rho = known(1.0, math.sqrt(0.1)), 0.9
    rng, draws = random.Random(6), []
    for _ in range(4000):
        luck = [math.sqrt(rho) * rng.gauss(0, 1) for _ in range(m)]
        change, base = (
            [Run(k, luck[k] + math.sqrt(1 - rho) * rng.gauss(0, 1)) for k in range(count)] for count in (n, m)
        )
        found = compare(change, base, noise)
        assert found.paired
        draws.append(found.effect)
    spread = math.sqrt(sum(draw**2 for draw in draws) / len(draws))
    assert found.error == pytest.approx(spread, rel=0.1)
    assert found.error < noise.plain.error(n, m)


def test_runs_on_other_seeds_are_compared_unpaired() -> None:
    noise = known(1.0, 0.3)
    base = runs(*UNIT, start=0)
    assert compare(runs(-1, start=3), base, noise).paired
    assert not compare(runs(-1, start=50), base, noise).paired
    assert not compare(runs(-1), base, noise).paired


def test_of_two_forms_the_narrower_interval_counts() -> None:
    base = runs(*UNIT, start=0)
    alike, unlike = known(1.0, 0.2), known(1.0, 1.0)
    assert compare(runs(-1, -1, start=0), base, alike).paired
    assert not compare(runs(-1, -1, start=0), base, unlike).paired  # eight runs of the incumbent against two
    assert not compare(runs(-1, -1, start=7), base, alike).error > alike.plain.error(2, 8)


# -- seeds, and the opening --------------------------------------------------------------------------------


def opened(count: int, **more: Any) -> Ledger:
    """A seeded campaign with two incumbent runs, in whose opening so many changes were measured."""
    rng = random.Random(9)
    _, incumbent, closed = two_way(1.0, 0.3, [2] * count, rng)
    first = tuple(replace(change, chosen=False) for change in closed)
    base = Candidate(base=incumbent.base[:2])
    return replace(ledger(incumbent=base, closed=first, candidate=None, first_seed=0), **more)


def on(case: Ledger, *gains: float, chosen: bool = False) -> Ledger:
    """An open change that is better than the incumbent by this, seed by seed."""
    base = case.incumbent.base
    made = tuple(Run(k, base[k].value - gain) for k, gain in enumerate(gains))
    return replace(case, candidate=Candidate(made, chosen=chosen))


def test_seeds_follow_one_order() -> None:
    fresh = Ledger(700, 0, Candidate(), first_seed=42)
    assert (next_action(fresh).kind, next_action(fresh).seed) == (Kind.RUN_INCUMBENT, 42)
    two = replace(fresh, incumbent=Candidate(base=runs(0.1, -0.1, start=42)), spent=2)
    assert (next_action(two).kind, next_action(two).seed) == (Kind.PROPOSE, 42)
    opened = replace(two, candidate=Candidate(runs(-1.5, -1.5, start=42)))
    assert rule.next_seed(opened) == 44
    third = replace(two, candidate=Candidate(runs(-1.5, -1.5, -1.5, start=42)))
    assert (next_action(third).kind, next_action(third).seed) == (Kind.RUN_INCUMBENT, 44)


def test_nothing_of_a_promoted_change_is_run_again() -> None:
    case = opened(6, incumbent=Candidate(runs(-5, -4, -5, start=0)), promotions=1)
    assert (next_action(case).kind, next_action(case).seed) == (Kind.PROPOSE, 0)
    four = replace(case, candidate=Candidate(runs(-6, -5, -6, -6, start=0)))
    assert (next_action(four).kind, next_action(four).seed) == (Kind.RUN_INCUMBENT, 3)


def test_an_incumbent_of_other_seeds_is_run_with_those_of_the_change() -> None:
    case = opened(6, incumbent=Candidate(base=runs(*UNIT, start=40)))
    action = next_action(replace(case, candidate=Candidate(runs(-1, -2, start=0))))
    assert (action.kind, action.seed) == (Kind.RUN_INCUMBENT, 0)


def test_a_seed_that_crashes_the_incumbent_is_not_tried_for_ever() -> None:
    case = opened(6, incumbent=Candidate(base=(Run(0, math.nan), *runs(*UNIT, start=1))))
    assert (
        next_action(replace(case, candidate=Candidate(runs(-1, -2, start=0)))).kind is not Kind.RUN_INCUMBENT
    )
    short = replace(case, incumbent=Candidate(base=(Run(0, math.nan), Run(1, 0.0))))
    assert (next_action(short).kind, next_action(short).seed) == (Kind.RUN_INCUMBENT, 2)


def test_the_closing_audit_has_seeds_that_decided_nothing() -> None:
    case = opened(6, spent=693)
    assert (next_action(case).kind, next_action(case).seed) == (Kind.RUN_INCUMBENT, 2)
    longer = replace(case, closed=(*case.closed, Candidate(runs(1, 2, 3, 4, 5, start=0))))
    assert next_action(longer).seed == 5


def test_looks_take_a_few_seeds_in_turn() -> None:
    seeded = replace(on(opened(6)), first_seed=7)
    assert [rule.look_seed(seeded, k) for k in range(4)] == [7, 8, 9, 7]
    assert rule.look_seed(replace(seeded, first_seed=None), 1) is None


@pytest.mark.parametrize("screening", [False, True])
def test_the_first_changes_get_two_seeds_whatever_the_first_run_says(screening: bool) -> None:
    for gain in (-50.0, 0.0, 50.0):
        action = next_action(on(opened(3, screening=screening), gain))
        assert (action.kind, action.seed) == (Kind.RUN_CANDIDATE, 1)


@pytest.mark.parametrize(
    ("count", "gains", "chosen", "kind"),
    [
        (3, (-9.0, -9.0), False, Kind.WAIT),  # the noise is not known yet
        (3, (0.5, 0.5), False, Kind.WAIT),
        (3, (500.0, 500.0), False, Kind.PROMOTE),  # whatever the noise is
        (6, (-9.0, -9.0), False, Kind.DISCARD),
        (6, (1.2, 1.0), False, Kind.WAIT),  # the opening's changes, too, are chosen from
        (6, (1.2, 1.0), True, Kind.RUN_CANDIDATE),
        (6, (0.1, 0.1), True, Kind.WAIT),  # its own runs are not all that speaks for a change
        (6, (9.0, 9.0), False, Kind.PROMOTE),
        (6, (-9.0,), True, Kind.WAIT),  # one run decides nothing; somebody else chooses
        (6, (9.0,), True, Kind.WAIT),
        (6, (-9.0, -9.0), True, Kind.DISCARD),
    ],
)
def test_screening(count: int, gains: tuple[float, ...], chosen: bool, kind: Kind) -> None:
    case = on(opened(count, screening=True), *gains, chosen=chosen)
    assert next_action(case).kind is kind
    if kind is Kind.WAIT:
        assert next_action(case).verdict.decision is Decision.OPEN
        assert next_action(replace(case, spent=693)).kind is Kind.DISCARD  # with the budget waiting ends, too


def test_without_screening_the_opening_goes_on_by_the_rule() -> None:
    assert next_action(on(opened(1), -9.0, -9.0)).kind is Kind.DISCARD
    # Not discarded for want of degrees of freedom:
    hopeful = next_action(on(opened(1), 2.0, 2.0))
    assert (hopeful.kind, hopeful.seed) == (
        Kind.RUN_CANDIDATE,
        2,
    )
    assert hopeful.verdict.z is not None and hopeful.verdict.z < rule.discard_bar(2)
    assert next_action(on(opened(6), -9.0, chosen=True)).kind is Kind.DISCARD


def test_a_metric_without_noise_waits_for_nothing() -> None:
    flat = Candidate(base=runs(2.0, 2.0, start=0))
    case = ledger(incumbent=flat, first_seed=0, screening=True)
    better = replace(case, candidate=Candidate(runs(1.9, 1.9, start=0), chosen=False))
    assert next_action(better).kind is Kind.PROMOTE
    first = tuple(Candidate(runs(2.0 + k, 2.0 + k, start=0), chosen=False) for k in range(5))
    equal = replace(case, closed=first, candidate=Candidate(runs(2.0, 2.0, start=0), chosen=False))
    assert next_action(equal).kind is Kind.DISCARD  # with it, six were measured twice


def test_without_seeds_none_is_asked_for() -> None:
    assert next_action(Ledger(700, 0, Candidate())).seed is None
    assert next_action(ledger(-2.0)).seed is None


# -- what callers report -----------------------------------------------------------------------------------


def test_reasons_are_sentences_with_numbers() -> None:
    text = next_action(ledger(*values_at(3.51, 2))).verdict.reason
    assert (
        text == "Better by 4.946 ± 1.1 (1 confirming run against 8 of the incumbent): z = 3.51 reaches 3.50."
    )
    assert next_action(ledger(0.0)).verdict.reason.startswith("Equal to the last digit (1 run against 8")
    for n, z in ((1, 0.0), (1, 2.0), (3, 2.0), (8, 2.5)):
        text = next_action(ledger(*values_at(z, n))).verdict.reason
        assert text[0].isupper() and text.endswith(".") and f"z = {z:.2f}" in text


def test_resolution_is_what_the_rule_would_promote() -> None:
    noise = Noise.of([Candidate(base=runs(*UNIT))])
    least = resolution(noise, 2, 8)
    assert next_action(ledger(*[-least * 1.001] * 2)).kind is Kind.PROMOTE
    assert next_action(ledger(*[-least * 0.999] * 2)).kind is Kind.RUN_CANDIDATE
    assert math.isnan(resolution(Noise(), 2, 8))
    assert resolution(known(1.0, 0.3), 2, 8) < resolution(Noise(Pool(300, 300)), 2, 8)


@pytest.mark.parametrize(
    ("values", "refused"),
    [((0.0, 0.0), False), ((-1.0, -1.0), False), ((1.7, 1.7), False), ((3.0, 3.0), True)],
)
def test_overfitted(values: tuple[float, ...], refused: bool) -> None:
    assert rule.overfitted(ledger(*values)) is refused


def test_overfitting_cannot_be_told_without_values() -> None:
    assert not rule.overfitted(ledger())
    assert not rule.overfitted(ledger(math.nan))
    assert not rule.overfitted(ledger(5.0, base=()))
    assert not rule.overfitted(ledger(candidate=None))


# -- the line protocol -------------------------------------------------------------------------------------


WORDS = {
    Kind.RUN_INCUMBENT: "base",
    Kind.RUN_CANDIDATE: "run",
    Kind.PROMOTE: "promote",
    Kind.DISCARD: "discard",
}


def question(**given: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"budget": 700, "spent": 8, "left": 692, "change": 0, "cand": [], "own": []}
    return asked | {"base": UNIT, "promotions": 0} | given


def test_answers() -> None:
    memory = Memory()
    assert answer({"reset": True, "budget": 700}, memory) == {}
    assert answer(question(base=[]), memory) == {"action": "base", "effect": None, "seed": None}
    assert answer(question(), memory) == {"action": "run", "effect": None, "seed": None}
    assert answer(question(cand=[-9.0, -9.0]), memory)["action"] == "promote"
    assert answer(question(change=1, cand=[0]), memory) == {"action": "discard", "effect": 0.0, "seed": None}
    assert answer(question(change=2, left=7), memory)["action"] == "base"
    assert answer(question(change=2, left=0), memory)["action"] == "discard"
    assert answer(question(change=2, cand=[10**400]), memory)["action"] == "discard"


def test_answers_with_seeds() -> None:
    memory = Memory()
    none: dict[str, list[int]] = {"cand": [], "own": [], "base": []}
    assert answer(question(base=[], seeds=none), memory)["seed"] == 0
    asked = question(base=UNIT[:2], seeds=none | {"base": [0, 1]})
    assert answer(asked, memory) == {"action": "run", "effect": None, "seed": 0}
    asked = question(cand=[9.0], base=UNIT[:2], seeds=none | {"cand": [0], "base": [0, 1]})
    assert answer(asked, memory) == {"action": "run", "effect": None, "seed": 1}  # the opening


def test_memory_is_the_ledger_of_what_was_answered() -> None:
    """A campaign asked line by line gets what `next_action` says of the whole ledger."""
    rng, memory = random.Random(7), Memory()
    incumbent, open_change, promotions, change, left, level = Candidate(), Candidate(), 0, 0, 400, 0.0
    closed: list[Candidate] = []
    luck = [rng.gauss(0, 1) for _ in range(400)]
    seen = set()
    while left > 0:
        sides = {"cand": open_change.runs, "own": incumbent.runs, "base": incumbent.base}
        reply = answer(
            question(
                budget=400,
                spent=400 - left,
                left=left,
                change=change,
                promotions=promotions,
                seeds={name: [run.seed for run in made] for name, made in sides.items()},
                **{name: [run.value for run in made] for name, made in sides.items()},
            ),
            memory,
        )
        if not open_change.runs:
            count = sum(item.opens for item in (incumbent, *closed))
            open_change = Candidate(chosen=count >= OPENING)
        whole = Ledger(400, 400 - left, incumbent, open_change, tuple(closed), promotions, first_seed=0)
        action = next_action(whole)
        seen.add((action.kind, action.verdict.paired))
        assert reply["seed"] == action.seed
        assert reply["action"] == WORDS[action.kind]
        if action.kind is Kind.RUN_INCUMBENT:
            run = Run(action.seed, level + luck[action.seed or 0] + rng.gauss(0, 0.3))
            incumbent, left = replace(incumbent, base=(*incumbent.base, run)), left - 1
        elif action.kind is Kind.RUN_CANDIDATE:
            value = level - (change % 9 == 5) + luck[action.seed or 0] + rng.gauss(0, 0.3)
            left -= 1
            if rng.random() < 0.03:  # a crash: the caller drops the change without a word
                closed.append(open_change)
                change, open_change = change + 1, Candidate()
            else:
                open_change = replace(open_change, runs=(*open_change.runs, Run(action.seed, value)))
        else:
            if action.kind is Kind.PROMOTE:
                closed.append(incumbent)
                incumbent, promotions, level = open_change, promotions + 1, level - (change % 9 == 5)
            else:
                closed.append(open_change)
            change, open_change = change + 1, Candidate()
    assert {(Kind.PROMOTE, True), (Kind.DISCARD, True), (Kind.DISCARD, False)} <= seen


def unpaired_campaign() -> tuple[str, float]:
    """The letters of all answers of a campaign without seeds, asked line by line, and its effects' sum."""
    rng, memory, letters, total = random.Random(12), Memory(), "", 0.0
    answer({"reset": True, "budget": 120}, memory)
    own: list[float] = []
    base: list[float] = []
    cand: list[float] = []
    left, change, promotions, level = 120, 0, 0, 0.0
    while left > 0:
        question = {"budget": 120, "spent": 120 - left, "left": left, "change": change}
        reply = answer(question | {"promotions": promotions, "cand": cand, "own": own, "base": base}, memory)
        letters += reply["action"][0]
        total += reply["effect"] or 0.0
        gain = 2.5 * (change % 7 == 3) - 2.0 * (change % 3 == 1)
        if reply["action"] in ("base", "run"):
            left -= 1
            side, value = (base, level) if reply["action"] == "base" else (cand, level - gain)
            side.append(value + rng.gauss(0, 1))
        else:
            if reply["action"] == "promote":
                own, base, promotions, level = cand, [], promotions + 1, level - gain
            change, cand = change + 1, []
    return letters, total


def test_a_campaign_without_seeds_is_answered_as_ever() -> None:
    """Recorded with the rule as it was before changes had seeds of their own."""
    letters, total = unpaired_campaign()
    assert letters == (
        "bbbbbbbbrdrdrrdrrrrrrrrdrdrdrdrdrdrdrdrdrdrdrdrdrdrrrpbbrdrdrdrdrdrdrrrbrbrbpbbrdrdrdrdrdr"
        "drdrdrdrdrdrdrdrdrdrdrdrdrdrdrrrbrbpbbrdrdrdrdrdrdrdrrdrdrdrdrdrdrdrdrdrdrdrdrdrdrdrdrdrdr"
        "rdrdrdrdrdrdrdbbbb"
    )
    assert total == pytest.approx(54.247911161204215)


def test_a_reset_forgets() -> None:
    memory = Memory()
    answer(question(cand=[-9, 1, 2, 3, 4, 5, 6, 7]), memory)
    assert memory.closed
    answer({"reset": True, "budget": 10}, memory)
    assert memory == Memory()


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ({}, "cand"),
        ({"reset": True}, "budget"),
        (question(budget="700"), "budget"),
        (question(left=None), "left"),
        (question(spent=1.5), "spent"),
        (question(promotions=True), "promotions"),
        (question(change="x"), "change"),
        (question(cand=3), "cand"),
        (question(own=["1"]), "own"),
        (question(base=[True]), "base"),
        (question(seeds=[1]), "seeds"),
        (question(seeds={"cand": [], "own": []}), "seeds.base"),
        (question(seeds={"cand": [], "own": [], "base": [1]}), "seeds.base"),
        (question(seeds={"cand": ["a"], "own": [], "base": []}), "seeds.cand"),
    ],
)
def test_a_malformed_message_is_named(message: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=f"^{word}: "):
        answer(message, Memory())


@pytest.mark.parametrize("closed", [0, 1, 6], ids=["first change", "second change", "after the opening"])
@pytest.mark.parametrize("chosen", [True, False])
def test_a_gain_of_17_sigma_is_promoted_where_all_noise_is_the_seeds(closed: int, chosen: bool) -> None:
    """The seed's effect is that of every code alike, so that the residual is rounding."""
    effects = [random.Random(seed).gauss(0, 1.0) for seed in range(40)]

    def made(level: float, count: int) -> tuple[Run, ...]:
        return tuple(Run(seed, level + effects[seed]) for seed in range(count))

    earlier = tuple(Candidate(made(k - 0.5, 2), chosen=False) for k in range(closed))
    base, own = 2, 1
    for _ in range(20):
        state = Ledger(
            budget=700,
            spent=50,
            incumbent=Candidate(base=made(0.0, base)),
            candidate=Candidate(made(-17.0, own), chosen=chosen),
            closed=earlier,
            first_seed=0,
        )
        action = next_action(state)
        base += action.kind is Kind.RUN_INCUMBENT
        own += action.kind is Kind.RUN_CANDIDATE
        if action.kind not in (Kind.RUN_INCUMBENT, Kind.RUN_CANDIDATE):
            break
    assert action.kind is Kind.PROMOTE
    assert own <= 4
