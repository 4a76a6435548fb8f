"""Charts beside the progress chart: what they hold, and that they can be drawn at 700 attempts."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from histories import GUARD, OBJECTIVE, PROGRAM, attempt, campaign, every_outcome, renamed

from ar.errors import ArError
from ar.history.records import Decision, History, Outcome, Verdict
from ar.project.params import ParamKey
from ar.project.program import Metric, Program, Rung
from ar.views.charts.files import save
from ar.views.charts.ladder import ladder
from ar.views.charts.pareto import pareto
from ar.views.charts.progress import progress
from ar.views.charts.stack import stack

SCALES = replace(
    PROGRAM,
    ladder=(Rung("d3"), *(Rung(f"d{depth}", {ParamKey.parse("model.depth"): depth}) for depth in (4, 8))),
)


def climbed(size: int) -> History:
    """A campaign whose promoted changes were measured at two larger rungs, and whose times differ."""
    draw = random.Random(1)
    history = campaign(size)
    attempts = tuple(
        replace(item, guards={str(GUARD): 27.3 + draw.gauss(0, 0.5)}) if item.value is not None else item
        for item in history.attempts
    )
    climbs = []
    for item in attempts:
        if item.outcome == "promoted" and item.verdict and item.verdict.effect:
            for rung, share in (("d4", 0.7), ("d8", -0.3)):
                verdict = Verdict(Decision.PROMOTE, "", item.verdict.effect * share, 0.004, df=9)
                climbs.append(replace(item, rung=rung, verdict=verdict))
    return replace(history, attempts=attempts, at_rungs=tuple(climbs))


def rows(spec: dict[str, Any], *fields: str) -> list[dict[str, Any]]:
    found = [spec.get("data", {}), *(layer.get("data", {}) for layer in spec["layer"])]
    return [row for data in found for row in data.get("values", []) if all(field in row for field in fields)]


@pytest.mark.parametrize("size", [3, 700])
@pytest.mark.parametrize("chart", [pareto, ladder, stack])
def test_they_can_be_drawn(chart: Any, size: int, tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    save(chart(climbed(size), SCALES), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert len(path.read_bytes()) > 10_000


def test_the_frontier_holds_no_dot_that_another_beats_and_no_unconfirmed_one() -> None:
    history = climbed(120)
    spec = pareto(history, SCALES)
    front = next(
        layer
        for layer in spec["layer"]
        if isinstance(layer["mark"], dict) and layer["mark"].get("strokeDash")
    )
    dots = front["data"]["values"]
    assert len(dots) >= 2
    kept = [item for item in history.attempts if item.outcome in ("promoted", "baseline")]
    for dot in dots:
        assert not any(
            item.value is not None and item.value < dot["y"] and item.guards[str(GUARD)] < dot["x"]
            for item in kept
        )
    assert {(dot["x"], dot["y"]) for dot in dots} <= {(item.guards[str(GUARD)], item.value) for item in kept}


@pytest.mark.parametrize("chart", [progress, pareto])
def test_what_is_decided_is_not_drawn_as_undecided(chart: Any) -> None:
    history = every_outcome()
    outcomes = {item.name: item.outcome for item in history.attempts}
    drawn = {outcomes[dot["name"]]: dot["kind"] for dot in rows(chart(history, PROGRAM), "name", "kind")}
    assert {Outcome.STACKED, Outcome.LAPSED, Outcome.REVERTED, Outcome.TAMPERED, Outcome.OPEN} <= set(drawn)
    assert [outcome for outcome, kind in drawn.items() if kind == "not decided"] == [Outcome.OPEN]


def test_a_long_label_is_wrapped_and_whole(tmp_path: Path) -> None:
    members = "optim.matrix_lr 0.02 → 0.06, embedding_lr 0.3 → 0.6, weight decay 0.1 → 0"
    history = renamed(climbed(60), f"Stack of 3: {members}")
    for chart, field in ((stack, "row"), (ladder, "row"), (progress, "text")):
        spec = chart(history, SCALES)
        labels = {row[field] for row in rows(spec, field) if "Stack" in row[field]}
        assert labels
        for label in labels:
            assert label.rstrip("\u200b").replace("\n", " ") == f"Stack of 3: {members}"
            assert max(map(len, label.split("\n"))) <= 46
        save(spec, tmp_path / "chart.svg")
        assert "0.1 → 0" in (tmp_path / "chart.svg").read_text()


def test_what_is_better_than_all_is_inside_the_picture() -> None:
    """Only what is worse by far is left out."""
    history = climbed(60)
    lucky = replace(attempt(99, 1.2, "discarded", "lucky"), guards={str(GUARD): 3.0})
    broken = replace(attempt(98, 90.0, "discarded", "broken"), guards={str(GUARD): 900.0})
    spec = pareto(replace(history, attempts=(*history.attempts, lucky, broken)), SCALES)
    shown = {row["title"] for row in rows(spec, "title")}
    assert "lucky" in shown and "broken" not in shown
    assert "outside the picture" in spec["title"]["subtitle"][-1]


@pytest.mark.parametrize("chart", [progress, pareto])
def test_what_the_branch_left_behind_has_a_mark_of_its_own(chart: Any) -> None:
    left = attempt(50, 2.2, Outcome.SUPERSEDED)
    history = campaign(30)
    spec = chart(replace(history, attempts=(*history.attempts, left)), PROGRAM)
    kinds = {row["name"]: row["kind"] for row in rows(spec, "name", "kind")}
    assert kinds[left.name] == "superseded"
    assert "discarded" in kinds.values()


@pytest.mark.parametrize("chart", [progress, pareto])
def test_all_count_the_same_attempts(chart: Any) -> None:
    history = every_outcome()
    passed = (Outcome.BASELINE, Outcome.FOREIGN, Outcome.PULLED, Outcome.IMPORTED)
    assert f"{len(Outcome) - len(passed)} attempts" in chart(history, PROGRAM)["title"]["text"]


def test_levels_are_dots_and_words_end_inside_the_frame() -> None:
    spec = stack(climbed(120), SCALES)
    marks = {layer["mark"]["type"]: layer["data"]["values"] for layer in spec["layer"]}
    assert {row["row"] for row in marks["point"]} == {"first baseline", "the branch, measured"}
    assert not {row["row"] for row in marks["point"]} & {row["row"] for row in marks["bar"]}
    low, high = spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
    for row in marks["text"]:
        end = (row["end"] - low) / (high - low) * spec["width"]
        assert end + 5 * len(row["text"]) < spec["width"]


def test_the_shaded_region_ends_at_the_branch() -> None:
    history = climbed(120)
    now = history.now
    assert now is not None
    (box,) = rows(pareto(history, SCALES), "x2", "y2")
    assert (box["x"], box["y"]) == (now.guards[str(GUARD)], now.value)
    assert box["x2"] < box["x"]
    assert box["y2"] < box["y"]


def test_a_higher_objective_shades_upwards() -> None:
    history = climbed(40)
    turned = replace(SCALES, objective=Metric(OBJECTIVE.file, OBJECTIVE.key, "maximize"))
    (box,) = rows(pareto(history, turned), "x2", "y2")
    assert box["y2"] > box["y"]


def test_the_ladder_has_an_interval_a_rung() -> None:
    history = climbed(40)
    promoted = [item for item in history.attempts if item.outcome == "promoted"]
    found = [row for row in rows(ladder(history, SCALES), "rung") if row["name"] == promoted[0].name]
    assert {row["rung"] for row in found} == {"d3", "d4", "d8", "expected at d8"}
    effect = promoted[0].verdict.effect if promoted[0].verdict else None
    assert effect is not None
    at = {row["rung"]: row for row in found}
    assert at["d8"]["y"] == pytest.approx(-0.3 * effect)
    assert at["d8"]["low"] < at["d8"]["y"] < at["d8"]["high"]
    assert at["d8"]["high"] - at["d8"]["low"] == pytest.approx(2 * 2.26 * 0.004, rel=0.03)  # t of 9 df


def test_the_waterfall_ends_where_the_branch_measures() -> None:
    history = climbed(120)
    bars = stack(history, SCALES)["layer"][-1]["data"]["values"]
    for before, after in pairwise(bars[1:-1]):
        assert after["from"] == pytest.approx(before["to"])
    assert history.now is not None
    assert bars[-2]["to"] == pytest.approx(history.now.value)
    assert bars[-1]["to"] == history.now.value
    assert len({row["row"] for row in bars}) == len(bars)  # equal titles keep rows of their own


def test_titles_are_data(tmp_path: Path) -> None:
    evil = '</script><img src=x onerror="alert(1)"> {{datum}}'
    history = renamed(climbed(40), evil)
    history = replace(history, at_rungs=tuple(replace(item, title=evil) for item in history.at_rungs))
    for chart in (pareto, ladder, stack):
        path = tmp_path / "chart.html"
        save(chart(history, SCALES), path)
        assert "</script><img" not in path.read_text()


@pytest.mark.parametrize(
    ("chart", "program", "said"),
    [
        (ladder, SCALES, "no change has climbed"),
        (stack, PROGRAM, "nothing is promoted"),
        (pareto, Program(OBJECTIVE), "needs a guard"),
        (pareto, PROGRAM, "no experiment has been measured"),
    ],
)
def test_nothing_to_draw_is_said(chart: Any, program: Program, said: str) -> None:
    with pytest.raises(ArError, match=said):
        chart(History(head="a" * 40, incumbent=""), program)
