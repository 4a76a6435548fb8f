"""The campaign's model: what it learns, and what it proposes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ar.project.program import Range
from ar.surrogate.acquisition import Search, opening, potential
from ar.surrogate.regression import Array, Kernel, Likelihood, Rows, Weights, priors
from ar.surrogate.screening import Waiting, choose, is_last_stretch, runs_needed
from ar.surrogate.space import Space
from ar.surrogate.surface import Point, Setting, Surface

RATE = Range(1e-4, 1e-1, log=True)
PLAIN = {"a": Range(0.0, 1.0), "b": Range(0.0, 1.0), "c": Range(0.0, 1.0)}
DEFAULT = {"a": 0.5, "b": 0.5, "c": 0.5}
NOISE = 0.003


def bowl(params: dict[str, float]) -> float:
    """Least at a = 0.2 and b = 0.7; c does nothing."""
    return 1 + 0.5 * (params["a"] - 0.2) ** 2 + 0.5 * (params["b"] - 0.7) ** 2


def measured(count: int, seed: int = 0, noise: float = NOISE) -> list[Point]:
    rng = np.random.default_rng(seed)
    settings = [DEFAULT, *(dict(zip("abc", rng.random(3).tolist(), strict=True)) for _ in range(count))]
    return [Point(s, seed=1, value=bowl(s) + rng.normal() * noise) for s in settings]


def surface(points: list[Point], **more: object) -> Surface:
    return Surface(Space.of(PLAIN), points, Setting(DEFAULT), residual=NOISE, **more)  # type: ignore[arg-type]


# ---------- the space ----------


@pytest.mark.parametrize(
    "within",
    [
        RATE,
        Range(0.0, 2.0),
        Range(1, 12),
        Range(8, 256, log=True),
        Range(0.0, 1.0, step=0.25),
        Range(choices=(8, 16, 64)),
        Range(choices=("relu", "gelu", "silu")),
    ],
)
def test_a_snapped_point_is_what_its_values_say(within: Range) -> None:
    space = Space.of({"x": within})
    top = space.axes[0].levels - 1 if space.axes[0].categorical else 1
    points = space.snapped(np.linspace(0, top, 40)[:, None])
    for point in points:
        values = space.values(point)
        assert space.point(values, {}) == pytest.approx(point, abs=1e-9)
        if within.choices:
            assert values["x"] in within.choices
        else:
            assert within.low <= values["x"] <= within.high  # type: ignore[operator]


def test_values_have_few_digits_and_whole_numbers_stay_whole() -> None:
    space = Space.of({"rate": RATE, "share": Range(0.0, 2.0), "depth": Range(1, 12)})
    found = space.values([0.6543, 0.61234, 0.321])
    assert found == {"rate": 0.0092, "share": 1.22, "depth": 5}
    assert isinstance(found["depth"], int)


# ---------- the regression ----------


def test_the_gradient_is_that_of_the_likelihood() -> None:
    rng = np.random.default_rng(1)
    x = rng.random((25, 4))
    x[5] = x[6]
    x[:, 3] = rng.integers(0, 3, 25)
    code, seeds = rng.integers(0, 2, (25, 2)).astype(float), rng.integers(-1, 3, 25)
    kernel = Kernel(np.array([False, False, False, True]))
    likelihood = Likelihood(
        kernel, Rows(x, code, seeds, np.zeros_like(seeds)), rng.normal(size=25), noise=0.1
    )
    logs = likelihood.mean + 0.3 * rng.normal(size=len(likelihood.mean))
    _, gradient = likelihood(logs)
    steps = 1e-5 * np.eye(len(logs))
    differences = [(likelihood(logs + step)[0] - likelihood(logs - step)[0]) / 2e-5 for step in steps]
    assert gradient == pytest.approx(np.array(differences), rel=1e-4, abs=1e-4)


def test_a_bowl_is_learnt() -> None:
    model = surface(measured(40))
    at = [Setting({"a": 0.2, "b": 0.7, "c": 0.5}), Setting({"a": 0.6, "b": 0.4, "c": 0.9})]
    mean, sd = model.difference(at)
    truth = np.array([bowl(dict(s.params)) - bowl(DEFAULT) for s in at])  # type: ignore[arg-type]
    assert np.abs(mean - truth).max() < 0.01
    assert (np.abs(mean - truth) < 4 * sd).all()


def test_the_seeds_effect_is_not_taken_for_the_settings() -> None:
    rng = np.random.default_rng(0)
    effect = {1: 0.0, 2: 0.2}
    points = [
        Point(p.params, seed=seed, value=bowl(dict(p.params)) + effect[seed])  # type: ignore[arg-type]
        for p in measured(30)
        for seed in (1, 2)
        if seed == 1 or rng.random() < 0.5
    ]
    mean, _ = surface(points).difference([Setting({"a": 0.2, "b": 0.7, "c": 0.5})])
    assert mean[0] == pytest.approx(-0.065, abs=0.015)


def test_what_a_change_of_files_is_worth_is_learnt_beside_the_parameters() -> None:
    points = [
        Point(p.params, frozenset({"edit"}) if k % 2 else frozenset(), 1, p.value - 0.05 * (k % 2))  # type: ignore[operator]
        for k, p in enumerate(measured(30))
    ]
    mean, sd = surface(points).difference([Setting(DEFAULT, frozenset({"edit"}))])
    assert mean[0] == pytest.approx(-0.05, abs=0.015)
    assert sd[0] < 0.02


# ---------- proposals ----------


def test_the_proposal_nears_the_optimum() -> None:
    model = surface(measured(40))
    found = model.space.values(Search(model, exploit=True).best())
    assert bowl(found) - 1 < 0.01  # type: ignore[arg-type]


@pytest.mark.parametrize(("slope", "noise", "at_the_end"), [(0.0, 0.05, False), (0.5, NOISE, True)])
def test_the_best_lies_within_the_ranges_unless_runs_say_otherwise(
    slope: float, noise: float, at_the_end: bool
) -> None:
    rng = np.random.default_rng(3)
    settings = [DEFAULT, *({**DEFAULT, "a": a} for a in np.linspace(0, 1, 12).tolist())]
    values = [1 + slope * setting["a"] + rng.normal() * noise for setting in settings]
    points = [Point(setting, seed=1, value=value) for setting, value in zip(settings, values, strict=True)]
    model = Surface(Space.of(PLAIN), points, Setting(DEFAULT), residual=noise)
    found = model.space.values(Search(model, exploit=True).best())
    assert (found["a"] < 0.05) == at_the_end  # type: ignore[operator]
    assert all(0.2 < found[key] < 0.8 for key in "bc")  # type: ignore[operator]


def test_what_is_under_way_is_not_proposed_again() -> None:
    points, seen = measured(20), set()
    for _ in range(5):
        model = surface(points)
        values = model.space.values(Search(model, exploit=True).best())
        assert tuple(values.values()) not in seen
        seen.add(tuple(values.values()))
        points.append(Point(values))


def test_what_crashes_is_avoided() -> None:
    points = measured(40)
    points += [
        Point({"a": 0.05 * k, "b": 0.7, "c": 0.1 * c}, crashed=True) for k in range(8) for c in (2, 5, 8)
    ]
    assert surface(points).allowed([Setting({"a": 0.2, "b": 0.7, "c": 0.5})])[0] < 0.5
    model = surface(points)
    found = model.space.values(Search(model, exploit=True).best())
    assert model.allowed([Setting(found)])[0] > 0.5


def test_a_guard_is_respected() -> None:
    rng = np.random.default_rng(0)
    points = [
        Point(p.params, seed=1, value=p.value, guards=(2 - p.params["a"] + rng.normal() * 0.01,))  # type: ignore[operator]
        for p in measured(40)
    ]
    model = surface(points, limits=(1.55,))
    found = model.space.values(Search(model, exploit=True).best())
    assert 2 - found["a"] <= 1.56  # type: ignore[operator]


def test_choices_and_whole_numbers_are_searched() -> None:
    space = Space.of({"depth": Range(1, 12), "norm": Range(choices=("none", "rms", "layer")), "rate": RATE})
    default = {"depth": 6, "norm": "none", "rate": 0.01}

    def value(params: dict[str, object]) -> float:
        return 1 + 0.01 * abs(params["depth"] - 3) + 0.1 * (params["norm"] != "rms")  # type: ignore[operator]

    points = [Point(default, seed=1, value=value(default))]
    incumbent = space.point(default, {})
    starts: list[Array] = [opening(space, incumbent, k) for k in range(12)]
    for k in range(24):
        model = Surface(space, points, Setting(default), residual=0.001) if k >= 12 else None
        params = space.values(Search(model, k % 2 == 0).best() if model else starts[k])
        points.append(Point(params, seed=1, value=value(params)))
    best = min(points, key=lambda point: point.value or 9.0)
    assert best.params["norm"] == "rms"
    assert abs(best.params["depth"] - 3) <= 1  # type: ignore[operator]


def test_the_first_steps_differ_and_stay_in_the_space() -> None:
    space = Space.of({**PLAIN, "norm": Range(choices=("none", "rms", "layer"))})
    incumbent = space.point({**DEFAULT, "a": 0.01, "norm": "rms"}, {})
    steps = [opening(space, incumbent, k) for k in range(8)]
    assert len({tuple(step) for step in steps}) == 8
    assert all(((step[:3] >= 0) & (step[:3] <= 1)).all() for step in steps)
    assert len({step[3] for step in steps}) > 1


def test_a_large_campaign_is_answered() -> None:
    space = Space.of({f"x{k}": Range(0.0, 1.0) for k in range(16)})
    rng = np.random.default_rng(0)
    points = []
    for _ in range(700):
        params = {axis.name: float(rng.random()) for axis in space.axes}
        points.append(Point(params, seed=1, value=(params["x0"] - 0.3) ** 2 + rng.normal() * 0.01))
    weights = Weights.unpacked(priors(16)[0])
    model = Surface(space, points, Setting(dict.fromkeys(params, 0.9)), residual=0.01, start=weights)
    found = space.values(Search(model, exploit=True).best())
    assert abs(found["x0"] - 0.3) < 0.25  # type: ignore[operator]


# ---------- which change to run again ----------


def test_runs_needed_fall_with_the_gain() -> None:
    assert runs_needed(1.0, 0.01) == 2
    needed = [runs_needed(gain, 0.01) for gain in (0.01, 0.02, 0.03, 0.05)]
    assert needed == sorted(needed, reverse=True)
    assert needed[0] > 8


def test_the_last_stretch_comes_with_the_end_of_the_budget() -> None:
    assert not is_last_stretch(0.05, 0.01, spare=100, base_runs=2)
    assert is_last_stretch(0.05, 0.01, spare=8, base_runs=2)


def test_a_best_point_that_is_lost_in_the_noise_is_not_refined() -> None:
    assert not is_last_stretch(0.003, 0.01, spare=8, base_runs=2)
    assert not is_last_stretch(0.003, 0.01, spare=60, base_runs=2)


def test_the_best_is_confirmed_before_the_budget_ends_and_the_worse_is_not() -> None:
    model = surface(measured(40))
    good = Waiting("good", Setting({"a": 0.2, "b": 0.7, "c": 0.5}))
    bad = Waiting("bad", Setting({"a": 0.9, "b": 0.1, "c": 0.5}))
    found = choose(model, [bad, good], 0.0, NOISE, NOISE, spare=5, base_runs=2)
    assert found is not None and found.change == good
    assert choose(model, [bad], 0.0, NOISE, NOISE, spare=5, base_runs=2) is None
    assert choose(model, [], 0.0, NOISE, NOISE, spare=5, base_runs=2) is None


def test_what_is_hard_to_confirm_is_tried_where_runs_are_left_for_it() -> None:
    model = surface(measured(140))
    good = Waiting("good", Setting({"a": 0.2, "b": 0.7, "c": 0.5}))
    noise = -2 * float(model.difference([good.setting])[0][0])
    assert runs_needed(noise / 2, noise) > 8
    assert choose(model, [good], 0.0, noise, noise, spare=33, base_runs=2) is not None
    assert choose(model, [good], 0.0, noise, noise, spare=9, base_runs=2) is None


def test_runs_are_kept_for_noise_that_may_be_larger_than_it_seemed() -> None:
    model = surface(measured(140))
    good = Waiting("good", Setting({"a": 0.2, "b": 0.7, "c": 0.5}))
    gain = -float(model.difference([good.setting])[0][0])
    noise = gain / 3
    spare = 2 * runs_needed(gain, 2 * noise)
    assert spare > 3 * runs_needed(gain, noise)
    assert choose(model, [good], 0.0, noise, noise, spare, base_runs=2) is None
    assert choose(model, [good], 0.0, noise, 2 * noise, spare, base_runs=2) is not None


def test_a_short_campaign_keeps_more_than_a_quarter_for_its_last_confirmation() -> None:
    model = surface(measured(26))
    good = Waiting("good", Setting({"a": 0.2, "b": 0.7, "c": 0.5}))
    noise = -float(model.difference([good.setting])[0][0]) / 2
    assert choose(model, [good], 0.0, noise, noise, spare=12, base_runs=2) is not None
    long = surface(measured(80))
    noise = -float(long.difference([good.setting])[0][0]) / 2
    assert choose(long, [good], 0.0, noise, noise, spare=40, base_runs=2) is None


def test_idle_workers_get_seeds_of_the_last_confirmation() -> None:
    model = surface(measured(140))
    good = Waiting("good", Setting({"a": 0.2, "b": 0.7, "c": 0.5}))
    noise = -float(model.difference([good.setting])[0][0]) / 2
    seeds = []
    for most in (1, 2, 4, 100):
        found = choose(model, [good], 0.0, noise, noise, spare=5, base_runs=2, at_once=most)
        assert found is not None
        seeds.append(found.seeds)
    assert seeds == [1, 2, min(4, runs_needed(2 * noise, noise) - 1), runs_needed(2 * noise, noise) - 1]


def test_of_equal_values_the_one_that_is_known_less_is_measured() -> None:
    model = surface(measured(40))
    searches = [Search(model, exploit=True, hope=hope) for hope in (0.0, 2.0)]
    _, errors = model.difference([Setting(model.space.values(one.best())) for one in searches])
    assert errors[0] < errors[1]


def test_a_gain_is_confirmed_early_only_where_what_it_leaves_does_not_matter() -> None:
    model = surface(measured(140))
    good = Waiting("good", Setting({"a": 0.2, "b": 0.7, "c": 0.5}))
    gain = -float(model.difference([good.setting])[0][0])
    small, large = (
        choose(model, [good], 0.0, noise, noise, spare=400, base_runs=2) for noise in (gain / 10, gain / 20)
    )
    assert small is None and large is not None


def test_with_few_runs_a_gain_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    model = surface(measured(30))
    good = Waiting("good", Setting({"a": 0.2, "b": 0.7, "c": 0.5}))
    gain = -float(model.difference([good.setting])[0][0])
    monkeypatch.setattr("ar.surrogate.screening.potential", lambda *args, **kwargs: 0.01 * gain)
    short, long = (choose(model, [good], 0.0, gain / 10, gain / 10, spare, base_runs=2) for spare in (7, 30))
    assert short is not None and long is None


def test_less_is_to_be_had_beyond_a_better_setting() -> None:
    model = surface(measured(40))
    near, far = Setting({"a": 0.2, "b": 0.7, "c": 0.5}), Setting(DEFAULT)
    assert 0 <= potential(model, near) < potential(model, far)


def test_a_run_that_was_ended_early_is_no_better_than_its_bound() -> None:
    points, at = measured(30), {"a": 0.2, "b": 0.7, "c": 0.5}
    ended = Point(at, seed=1, value=1.3, is_bound=True)
    free, bound = (surface(each).difference([Setting(at)])[0][0] for each in (points, [*points, ended]))
    assert bound > free


def test_a_larger_scale_tells_of_the_base_scale_too() -> None:
    points, at = measured(10), Setting({"a": 0.2, "b": 0.7, "c": 0.5})
    larger = [replace(point, rung="d8", value=(point.value or 0.0) + 10) for point in measured(40, seed=1)]
    alone, both = (surface(each).difference([at])[1][0] for each in (points, [*points, *larger]))
    assert both < alone


@pytest.mark.parametrize(
    ("within", "now"), [(Range(low=10, high=200), 100), (Range(low=1e-3, high=0.1, log=True), 0.01)]
)
def test_no_first_step_of_a_single_parameter_is_lost_in_noise(within: Range, now: float) -> None:
    """Each goes at least a tenth of the range, and none repeats another."""
    space = Space.of({"x": within})
    start = space.point({"x": now}, {"x": now})
    points = [opening(space, start, number) for number in range(6)]
    assert min(abs(float(point[0] - start[0])) for point in points) > 0.095
    assert len({space.values(point)["x"] for point in points}) == len(points)
