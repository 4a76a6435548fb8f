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
from ar.judge.evidence import Candidate, Ledger, Run, audit_runs, guard_means
from ar.judge.findings import resolution
from ar.judge.noise import LEAST_RESIDUAL, SCREENED, Noise, Pool, Residual, noise_of
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
    ("budget", "kept"), [(0, 4), (100, 4), (499, 4), (500, 5), (700, 7), (800, 8), (9999, 8)]
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
    noise = Noise.of([incumbent, *closed])
    table = [[run.value for run in change.fair[-7:]] for change in (incumbent, *closed)]
    rows = [sum(row) / 7 for row in table]
    columns = [sum(column) / 4 for column in zip(*table, strict=True)]
    grand = sum(rows) / 4
    squares = sum((table[i][k] - rows[i] - columns[k] + grand) ** 2 for i in range(4) for k in range(7))
    assert noise.residual.df == 3 * 6
    assert noise.residual.squares == pytest.approx(squares)


@pytest.mark.parametrize(("seed_sigma", "residual_sigma"), [(0.0, 1.0), (0.6, 0.8), (0.95, 0.31)])
def test_the_residual_is_unbiased_when_changes_end_at_different_lengths(
    seed_sigma: float, residual_sigma: float
) -> None:
    rng = random.Random(2)
    squares = df = 0.0
    for _ in range(300):
        _, incumbent, closed = two_way(seed_sigma, residual_sigma, [1, 3, 8, 4, 2, 6], rng)
        noise = Noise.of([incumbent, *closed])
        squares, df = squares + noise.residual.squares, df + noise.residual.df
    assert squares / df == pytest.approx(residual_sigma**2, rel=0.06)


def test_pairing_is_used_once_it_is_known_to_help() -> None:
    rng = random.Random(3)
    _, incumbent, closed = two_way(1.0, 0.33, [5, 5, 5], rng)
    assert Noise.of([incumbent]).correlation == 0  # nothing to pair with
    noise = Noise.of([incumbent, *closed])
    assert 0.7 < noise.correlation < 0.98
    assert noise.residual_sigma < noise.sigma
    _, incumbent, closed = two_way(0.0, 1.0, [5, 5, 5], rng)
    assert Noise.of([incumbent, *closed]).correlation == 0


def test_pairing_is_trusted_to_a_quarter_of_sigma_at_most() -> None:
    _, incumbent, closed = two_way(1.0, 1e-4, [5, 5, 5], random.Random(4))
    noise = Noise.of([incumbent, *closed])
    assert noise.residual_sigma == pytest.approx(LEAST_RESIDUAL * noise.sigma)


def test_a_change_that_changes_nothing_is_no_evidence_of_pairing() -> None:
    _, incumbent, _ = two_way(1.0, 0.3, [], random.Random(5))
    same = Candidate(incumbent.base)
    assert Noise.of([incumbent, same, same]).residual.df == 0


def close_and_wild(rng: random.Random) -> tuple[list[float], Candidate, list[Candidate]]:
    """An incumbent, a dozen changes that follow it closely and do little, and two that go their own way."""
    effects = [rng.gauss(0, 1.0) for _ in range(8)]

    def make(n: int, level: float, residual: float) -> tuple[Run, ...]:
        return tuple(Run(k, level + effects[k] + rng.gauss(0, residual)) for k in range(n))

    close = [Candidate(make(1, rng.gauss(0, 0.1), 0.05)) for _ in range(12)]
    wild = [Candidate(tuple(Run(k, rng.gauss(0, 1.4)) for k in range(6))) for _ in range(2)]
    return effects, Candidate(base=make(8, 0.0, 0.05)), [*close, *wild]


def test_what_is_typical_shows_where_a_few_wild_changes_hide_it() -> None:
    _, incumbent, closed = close_and_wild(random.Random(6))
    noise = Noise.of([incumbent, *closed])
    assert noise.correlation == 0  # the pool of all knows nothing of pairing
    assert noise.typical == pytest.approx(LEAST_RESIDUAL * noise.sigma)
    assert Noise.of([incumbent, *closed[: SCREENED - 3], *closed[-2:]]).typical is None  # too few
    assert Noise.of([incumbent, *[closed[0]] * 20, *closed[-2:]]).typical is None  # all the same computation
    # After a promotion changes are screened on another seed, at another level.
    later = [
        Candidate(tuple(replace(run, seed=9, value=run.value - 5) for run in it.runs)) for it in closed[:9]
    ]
    assert Noise.of([incumbent, *closed, *later]).typical == pytest.approx(noise.typical, rel=0.3)


def test_a_small_gain_of_a_change_that_follows_closely_is_found() -> None:
    rng = random.Random(7)
    effects, incumbent, closed = close_and_wild(rng)
    noise = Noise.of([incumbent, *closed])
    small = tuple(Run(k, effects[k] - 0.8 + rng.gauss(0, 0.05)) for k in range(8))
    decisions = [rule.judge(Candidate(small[:n]), incumbent.base, noise) for n in range(1, 9)]
    assert all(verdict.decision is Decision.OPEN for verdict in decisions[:2])
    found = next(verdict for verdict in decisions if verdict.decision is not Decision.OPEN)
    assert found.decision is Decision.PROMOTE
    assert found.paired
    assert abs(found.effect + 0.8) < 0.25
    unpaired = compare(small[: found.runs], incumbent.base, Noise(noise.plain))
    assert unpaired.z < found.bar  # without pairing by seed it would have been lost


@pytest.mark.parametrize("hidden", [True, False])
def test_a_wild_change_is_not_judged_by_the_calm_of_others(hidden: bool) -> None:
    """Changes of no effect that go paths of their own, judged with the noise of changes that do not."""
    false = 0
    for number in range(400):
        rng = random.Random(f"wild {number}")
        _, incumbent, closed = close_and_wild(rng)
        if not hidden:  # the pool itself says that pairing helps
            _, incumbent, closed = two_way(1.0, 0.2, [5, 5, 5, 5], rng)
        noise = Noise.of([incumbent, *closed])
        for n in range(2, 9):
            wild = tuple(Run(k, rng.gauss(0, 1.0)) for k in range(n))
            verdict = rule.judge(Candidate(wild), incumbent.base, noise)
            false += verdict.decision is Decision.PROMOTE
    assert false / (400 * 7) < (0.01 if hidden else 0.05)


@pytest.mark.parametrize(("rho", "n", "m"), [(0.9, 1, 8), (0.9, 4, 8), (0.5, 2, 8), (0.5, 1, 2), (0.9, 3, 3)])
def test_the_paired_standard_error_is_the_true_one(rho: float, n: int, m: int) -> None:
    noise = Noise(Pool(1000, 1000), Residual(1000 * (1 - rho), 1000))
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
    assert found.error == pytest.approx(spread, rel=0.05)
    assert found.error < noise.plain.error(n, m)


def test_runs_on_other_seeds_are_compared_unpaired() -> None:
    noise = Noise(Pool(100, 100), Residual(10, 100))
    base = runs(*UNIT, start=0)
    assert compare(runs(-1, start=3), base, noise).paired
    assert not compare(runs(-1, start=50), base, noise).paired
    assert not compare(runs(-1), base, noise).paired
    half = compare(runs(-1, -1, start=7), base, noise)
    whole = compare(runs(-1, -1, start=6), base, noise)
    assert whole.error < half.error < noise.plain.error(2, 8)


def test_a_promising_change_goes_on_until_pairing_is_measured() -> None:
    base = runs(*UNIT, start=0)  # the incumbent's first run is at -1.08
    case = ledger(base=base, first_seed=0)

    def kind(*values: float, left: int = 500) -> Kind:
        made = Candidate(runs(*values, start=0))
        return next_action(replace(case, candidate=made, spent=700 - left)).kind

    assert kind(-1.09) is Kind.RUN_CANDIDATE
    assert kind(-1.09, 5, 5, 5) is Kind.RUN_CANDIDATE  # by its first run alone, which sigma leaves out
    assert kind(-1.09, 5, 5, 5, 5) is Kind.DISCARD
    assert kind(-1.07) is Kind.DISCARD
    assert kind(UNIT[0]) is Kind.DISCARD  # changes nothing
    assert kind(-1.09, left=7) is Kind.DISCARD
    small = replace(case, candidate=Candidate(runs(-1.09, start=0)), budget=199, spent=9)
    assert next_action(small).kind is Kind.DISCARD
    assert next_action(replace(small, budget=200)).kind is Kind.RUN_CANDIDATE
    assert next_action(ledger(-1.09, base=base)).kind is Kind.DISCARD  # no seeds, no pairing


# -- seeds -------------------------------------------------------------------------------------------------


def test_seeds_follow_one_order() -> None:
    fresh = Ledger(700, 0, Candidate(), first_seed=42)
    assert next_action(fresh).seed == 42
    measured = replace(fresh, incumbent=Candidate(base=runs(*UNIT, start=42)), spent=8)
    assert next_action(measured).seed == 42  # of the next change's first run
    opened = replace(measured, candidate=Candidate(runs(-1.5, -1.5, start=42)))
    assert next_action(opened).seed == 44
    audit = replace(measured, spent=693)
    assert next_action(audit).seed == 50


def test_seeds_of_a_promoted_change_go_on_where_it_stopped() -> None:
    incumbent = Candidate(runs(-5, -1, start=42))
    case = Ledger(700, 20, incumbent, promotions=1, first_seed=42)
    assert next_action(case) == Action(Kind.RUN_INCUMBENT, next_action(case).verdict, 44)
    measured = replace(case, incumbent=replace(incumbent, base=runs(0.5, 0.5, start=44)))
    assert (next_action(measured).kind, next_action(measured).seed) == (Kind.PROPOSE, 44)


def test_a_seed_whose_incumbent_run_crashed_is_passed_over() -> None:
    base = (Run(0, math.nan), *runs(*UNIT, start=1))
    assert next_action(ledger(base=base, first_seed=0)).seed == 1


def test_pairing_survives_a_crash_of_the_incumbents_first_seed() -> None:
    base = (Run(0, 0.0, crashed=True), *runs(*UNIT, start=1))
    change = Candidate(runs(*(2 * value for value in UNIT[:4]), start=1))
    assert Noise.of([Candidate(base=base), change]).residual.df == 2


def test_a_change_past_the_incumbents_seeds_goes_on_beyond_them() -> None:
    incumbent = Candidate(base=runs(0, 1, start=0))
    case = ledger(incumbent=incumbent, candidate=Candidate(runs(-2, -2, start=0)), promotions=1)
    assert next_action(case).seed == 2


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
    paired = Noise(Pool(100, 100), Residual(10, 100))
    assert resolution(paired, 2, 8) < resolution(Noise(Pool(100, 100)), 2, 8)


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
    asked = question(seeds=none | {"base": list(range(8))})
    assert answer(asked, memory) == {"action": "run", "effect": None, "seed": 0}


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
                open_change = Candidate((*open_change.runs, Run(action.seed, value)))
        else:
            if action.kind is Kind.PROMOTE:
                closed.append(incumbent)
                incumbent, promotions, level = open_change, promotions + 1, level - (change % 9 == 5)
            else:
                closed.append(open_change)
            change, open_change = change + 1, Candidate()
    assert {(Kind.PROMOTE, True), (Kind.DISCARD, True), (Kind.DISCARD, False)} <= seen


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
