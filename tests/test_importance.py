"""What the campaign's model says of parameters, from a campaign in which one matters and another does not."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar
from synthetic import fill

from ar.agents import Briefing
from ar.agents.prompt import compose
from ar.errors import ArError
from ar.history.attempts import grouped
from ar.history.messages import BASELINE_AGENT
from ar.history.records import Attempt, Experiment, History, Note, Status
from ar.project.params import ParamKey
from ar.project.program import Metric, Program, Range
from ar.project.values import Scalar
from ar.surrogate.importance import FILES, curves, importances, in_words, shares
from ar.surrogate.outlook import outlook
from ar.surrogate.points import surface_of
from ar.surrogate.surface import Surface
from ar.views.charts.files import save
from ar.views.charts.surface import surface as chart
from ar.views.summary import summary
from ar.views.verdict import shares_view

LOSS = Metric("m.json", "loss")
PROGRAM = Program(
    objective=LOSS,
    seed=ParamKey.parse("seed"),
    search={
        ParamKey.parse("steep"): Range(low=0.01, high=1.0, log=True),
        ParamKey.parse("flat"): Range(low=0, high=10),
        ParamKey.parse("kind"): Range(choices=("plain", "fast", "untried")),
    },
)
START: dict[str, Scalar] = {"steep": 0.05, "flat": 5, "kind": "plain"}
MOVED: dict[str, Scalar] = {"steep": 0.5, "flat": 7, "kind": "fast"}
BEFORE, AFTER = "b" * 40, "a" * 40


def _loss(params: dict[str, Scalar], seed: int) -> float:
    steep, kind = params["steep"], params["kind"]
    assert isinstance(steep, float)
    noise = random.Random(f"noise {params} {seed}").gauss(0, 0.002) + 0.01 * (seed % 3)
    return 2.0 + 0.1 * math.log10(steep / 0.6) ** 2 - (0.05 if kind == "fast" else 0.0) + noise


def _run(candidate: str, params: dict[str, Scalar], seed: int, when: int, **more: Any) -> Experiment:
    metrics: dict[str, Scalar] = {str(more.pop("metric", LOSS)): more.pop("sign", 1) * _loss(params, seed)}
    return Experiment(
        name=f"{candidate}-{seed}",
        title=candidate,
        rev=f"{when:040x}",
        baseline=more.pop("baseline", BEFORE),
        status=Status.SUCCEEDED,
        hypothesis="",
        agent=more.pop("agent", "search"),
        candidate=candidate,
        seed=seed,
        created=float(when),
        metrics=metrics,
        params={**{f"params.yaml:{name}": value for name, value in params.items()}, "params.yaml:seed": seed},
        note=Note(Status.SUCCEEDED),
        **more,
    )


def _campaign(edits: bool = False, left_out: bool = False, **more: Any) -> History:
    """A baseline, changes all over the ranges on one seed, and a joint move that the branch took."""
    draw = random.Random(7)
    runs = [_run("start", START, seed, seed, agent=BASELINE_AGENT, **more) for seed in (1, 2, 3)]
    for number in range(24):
        params: dict[str, Scalar] = {
            "steep": float(f"{10 ** draw.uniform(-2, 0):.2g}"),
            "flat": draw.randint(0, 10),
            "kind": draw.choice(["plain", "fast"]),
        }
        runs.append(_run(f"try{number}", params, 1, 10 + number, **more))
    runs += [_run("joint", MOVED, seed, 40 + seed, edits=edits, **more) for seed in (1, 2, 3)]
    if left_out:
        without = {**MOVED, "kind": "plain"}
        runs += [_run("without", without, seed, 50 + seed, baseline=AFTER, **more) for seed in (1, 2, 3)]
    found = grouped(runs, PROGRAM, {f"{41:040x}"})
    return History(head=AFTER, incumbent="joint", attempts=found.attempts, sigma=found.sigma)


@pytest.fixture(scope="module")
def fitted() -> tuple[History, Surface]:
    """The campaign, in which the move was measured without one of its parameters, too; and its model."""
    history = _campaign(left_out=True)
    return history, _surface(history)


def _surface(history: History, program: Program = PROGRAM) -> Surface:
    found = surface_of(program, history, {f"params.yaml:{name}": value for name, value in MOVED.items()})
    assert found is not None
    return found


def _joint(history: History) -> Attempt:
    (found,) = history.promoted
    return found


def test_what_matters_comes_first_and_what_does_not_is_not_told_apart(
    fitted: tuple[History, Surface],
) -> None:
    found = {one.name: one for one in importances(fitted[1])}
    assert next(iter(found)) == "steep"
    assert found["steep"].is_clear
    assert found["steep"].size == pytest.approx(0.316, abs=0.05)
    assert found["steep"].interval[0] < found["steep"].size < found["steep"].interval[1]
    assert found["steep"].worst < 0.02  # type: ignore[operator]
    assert not found["flat"].is_clear
    assert found["flat"].size < found["steep"].size / 4


def test_a_share_is_what_the_move_gains_by_a_parameter(fitted: tuple[History, Surface]) -> None:
    history, surface = fitted
    found = {one.name: one for one in shares(surface, PROGRAM, history, _joint(history))}
    assert list(found) == ["steep", "kind", "flat"]  # the most valuable first
    for name, truth in (("steep", -0.116), ("kind", -0.05), ("flat", 0.0)):
        assert abs(found[name].expected - truth) < 0.01 + 2 * found[name].standard_error
        assert (found[name].before, found[name].after) == (START[name], MOVED[name])
    kind = found["kind"]
    assert kind.measured == pytest.approx(-0.05, abs=0.01)
    assert kind.measured_error is not None
    assert found["steep"].measured is None


def test_files_that_a_move_changes_are_a_part_of_it() -> None:
    history = _campaign(edits=True)
    found = {one.name for one in shares(_surface(history), PROGRAM, history, _joint(history))}
    assert found == {"steep", "flat", "kind", FILES}


def test_a_move_of_one_parameter_has_no_shares(fitted: tuple[History, Surface]) -> None:
    history, surface = fitted
    single = next(item for item in history.attempts if item.name.startswith("without"))
    assert shares(surface, PROGRAM, history, replace(single, baseline="c" * 40)) == ()


def test_values_are_in_the_metrics_own_direction() -> None:
    accuracy = Metric("m.json", "accuracy", "maximize")
    program = replace(PROGRAM, objective=accuracy)
    runs = [run for item in _campaign(metric=accuracy, sign=-1).attempts for run in item.experiments]
    history = replace(_campaign(), attempts=grouped(runs, program, {f"{41:040x}"}).attempts)
    surface = _surface(history, program)
    steep = next(one for one in curves(surface, accuracy) if one.importance.name == "steep")
    assert steep.places[0].change < -0.2
    assert steep.importance.size > 0.2
    gains = {one.name: one.expected for one in shares(surface, program, history, _joint(history))}
    assert gains["steep"] > 0.08


def test_a_curve_passes_through_the_branch_and_its_runs_lie_around_it(
    fitted: tuple[History, Surface],
) -> None:
    history, surface = fitted
    found = curves(surface, LOSS)
    steep = next(one for one in found if one.importance.name == "steep")
    here = next(place for place in steep.places if place.value == steep.now)
    assert here.change == pytest.approx(0.0, abs=1e-6)
    assert [place.value for place in steep.places] == sorted(place.value for place in steep.places)  # type: ignore[type-var]
    assert len(steep.runs) == len(history.experiments)
    near = min(steep.runs, key=lambda run: run.value)  # type: ignore[arg-type,return-value]
    assert near.change > 0.2


def test_the_outlook_names_what_nobody_tried(fitted: tuple[History, Surface]) -> None:
    history, surface = fitted
    found = outlook(surface, LOSS)
    assert found.runs == len(history.experiments)
    assert [(gap.name, gap.choices) for gap in found.gaps] == [("kind", ("untried",))]
    narrow = replace(PROGRAM, search={**PROGRAM.search, ParamKey.parse("steep"): Range(low=0.01, high=9.0)})
    (steep,) = [gap for gap in outlook(_surface(history, narrow), LOSS).gaps if gap.name == "steep"]
    assert steep.between == pytest.approx((2.25, 9.0), rel=0.01)


def test_a_briefing_tells_the_models_state(fitted: tuple[History, Surface]) -> None:
    history, surface = fitted
    params = {f"params.yaml:{name}": value for name, value in MOVED.items()}
    without = compose(Briefing(PROGRAM, history, params))
    told = compose(Briefing(PROGRAM, history, params, surface=surface))
    assert (told.standing, told.past) == (without.standing, without.past)
    more = told.now.replace(without.now, "")
    assert "steep 0." in more
    assert "kind: untried" in more
    assert len(told.now.splitlines()) - len(without.now.splitlines()) <= 12


def test_a_campaign_says_what_matters(project: Path, ar: Ar, tmp_path: Path) -> None:
    fill(project, 30)  # x is searched; y stands still
    data = json.loads(ar(project, "show", "--json").stdout)
    assert [(one["name"], one["is_clear"]) for one in data["matters"]] == [("x", True), ("y", False)]
    ar(project, "plot", "--kind", "surface", "-o", str(tmp_path / "s.svg"))
    assert "not told apart from nothing" in (tmp_path / "s.svg").read_text()


def test_the_summary_says_what_matters(fitted: tuple[History, Surface]) -> None:
    history, surface = fitted
    found = importances(surface)
    last = summary(history, PROGRAM, matters=found).plain.splitlines()[-1]
    assert in_words(found) in last
    assert "steep" in last
    assert summary(history, PROGRAM).plain.splitlines()[-1] != last


def test_a_judged_move_shows_its_shares(fitted: tuple[History, Surface]) -> None:
    history, surface = fitted
    found = shares(surface, PROGRAM, history, _joint(history))
    lines = [line for line in shares_view(found).plain.splitlines() if " → " in line]
    assert [line.split()[0] for line in lines] == ["steep", "kind", "flat"]
    assert [line.count("±") for line in lines] == [1, 2, 1]  # by the model; the left-out one by runs, too


def test_the_chart_has_a_view_a_parameter_on_its_own_scale(
    fitted: tuple[History, Surface], tmp_path: Path
) -> None:
    spec = chart(fitted[1], PROGRAM)
    views = {view["title"]["text"]: view for view in spec["concat"]}
    assert set(views) == {"steep", "flat", "kind"}
    scales = {name: view["layer"][-1]["encoding"]["x"] for name, view in views.items()}
    assert scales["steep"]["scale"]["type"] == "log"
    assert "type" not in scales["flat"]["scale"]
    assert scales["kind"]["type"] == "ordinal"
    domains = {json.dumps(view["layer"][-1]["encoding"]["y"]["scale"]["domain"]) for view in views.values()}
    assert len(domains) == 1
    save(spec, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_model_there_is_nothing_to_draw() -> None:
    with pytest.raises(ArError) as unmeasured:
        chart(None, PROGRAM)
    with pytest.raises(ArError) as unsearched:
        chart(None, replace(PROGRAM, search={}))
    assert unmeasured.value.mend != unsearched.value.mend
