"""Which idea runs next, and where: decided from the history alone, as truth tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from histories import PROGRAM, attempt

from ar.campaign.climb import ideas, open_rungs
from ar.history.records import Attempt, Decision, History, Note, Status, Verdict
from ar.project.params import ParamKey
from ar.project.program import Program, Rung
from ar.surrogate.choosing import choices, detour, finalists
from ar.surrogate.climbs import climbs_of
from ar.views.charts.ladder import ladder as chart
from ar.views.ladder import ladder_json

DEPTH = ParamKey("params.yaml", "depth")
LADDER = replace(PROGRAM, ladder=(Rung("d2"), *(Rung(f"d{depth}", {DEPTH: depth}) for depth in (4, 8))))
SECONDS = {"": 1.0, "d4": 4.0, "d8": 16.0}
HEAD = "b" * 40
At = Mapping[str, float]  # rung to effect; "" is the base


def made(number: int, effect: float, rung: str, decided: bool, error: float) -> Attempt:
    decision = Decision.DISCARD if decided else Decision.OPEN
    verdict = Verdict(
        decision, "", effect, error, z=0.0, runs=1, base_runs=8, sigma=error / 1.5, df=20, paired=True
    )
    found = attempt(number, 2.2)
    note = Note(Status.SUCCEEDED, seconds=SECONDS[rung])
    runs = tuple(replace(run, rung=rung, note=note, seed=1) for run in found.experiments)
    return replace(found, verdict=verdict, rung=rung, experiments=runs)


def history_of(*every: At, decided: bool = False, error: float = 0.5) -> History:
    """Ideas by their effects at each rung."""
    base = [made(k, at[""], "", True, error) for k, at in enumerate(every, 1)]
    above = [
        made(k, effect, rung, decided, error)
        for k, at in enumerate(every, 1)
        for rung, effect in at.items()
        if rung
    ]
    return History(head=HEAD, incumbent="", attempts=tuple(base), at_rungs=tuple(above))


def chosen(
    history: History, program: Program = LADDER, rungs: Sequence[str] = ("d4", "d8"), most: int = 1
) -> list[tuple[int, str]]:
    climbs = climbs_of(program, history, rungs[-1])
    open_to = {item.candidate: open_rungs(history, item, rungs) for item in ideas(history)}
    return [(int(choice.attempt.candidate, 16), choice.rung) for choice in choices(climbs, open_to, most)]


def test_what_is_in_doubt_is_measured_and_at_the_cheaper_rung_first() -> None:
    found = chosen(history_of({"": -0.6}, {"": 4.0}, {"": -0.4}))
    assert found[0][1] == "d4"
    assert found[0][0] != 2  # it can hardly become good


def test_the_same_history_is_answered_alike() -> None:
    history = history_of({"": -0.6}, {"": 0.3, "d4": -0.4}, {"": -0.4, "d4": 0.5})
    assert chosen(history) == chosen(history_of({"": -0.6}, {"": 0.3, "d4": -0.4}, {"": -0.4, "d4": 0.5}))


def test_a_rung_whose_budget_is_spent_leaves_the_others() -> None:
    history = history_of({"": -0.6}, {"": -0.4})
    assert {rung for _, rung in chosen(history, rungs=("d8",))} == {"d8"}
    climbs = climbs_of(LADDER, history, "d8")
    assert choices(climbs, {item.candidate: [] for item in ideas(history)}, 1) == []


def test_one_run_of_an_idea_at_a_time() -> None:
    history = history_of({"": -0.6, "d4": -0.5}, {"": -0.5})
    first = history.at_rungs[0]
    running = tuple(replace(run, status=Status.RUNNING) for run in first.experiments)
    waiting = replace(history, at_rungs=(replace(first, experiments=running),))
    assert open_rungs(waiting, waiting.attempts[0], ["d4", "d8"]) == []
    assert {number for number, _ in chosen(waiting)} == {2}


def test_what_failed_at_a_rung_climbs_no_further() -> None:
    history = history_of({"": -0.6, "d4": -0.5}, decided=True)
    [climb] = history.at_rungs
    failed = replace(climb, verdict=Verdict(Decision.DISCARD, "It crashed."))
    assert open_rungs(replace(history, at_rungs=(failed,)), history.attempts[0], ["d4", "d8"]) == []
    assert open_rungs(history, history.attempts[0], ["d4", "d8"]) == ["d8"]


def test_measuring_takes_no_more_time_than_confirming() -> None:
    rows = [{"": -0.2 - k / 100, "d4": -0.1} for k in range(60)]
    assert chosen(history_of(*rows[:4]))
    assert chosen(history_of(*rows)) == []  # 60 runs of 4 s; one idea to confirm, and eight of the baseline


def test_the_best_at_the_target_are_confirmed_and_what_flipped_is_not() -> None:
    good, flipped, fair = {"": -3.0, "d4": -3.0}, {"": -5.0, "d4": 5.0}, {"": -2.0, "d4": -2.0}
    history = history_of(good, flipped, fair, error=0.2)
    climbs = climbs_of(LADDER, history, "d8")
    found = finalists(climbs, ideas(history), 3)
    assert [int(item.candidate, 16) for item in found] == [1, 3]
    assert finalists(climbs, ideas(history), 0) == []


@pytest.mark.parametrize(("row", "rung"), [({"": -0.8}, "d4"), ({"": -9.0}, ""), ({"": 9.0}, "")])
def test_a_winner_takes_a_detour_where_the_target_is_in_doubt(row: At, rung: str) -> None:
    others = [{"": k, "d4": k, "d8": k} for k in (-2.0, -1.0, 1.0, 2.0, 3.0)]
    history = history_of(row, *others)
    climbs = climbs_of(LADDER, history, "d8")
    assert detour(climbs, history.attempts[0], ["d4"]) == rung


def test_the_table_has_the_best_at_the_target_first_and_says_what_is_expected() -> None:
    history = history_of({"": -0.5, "d4": 3.0}, {"": -3.0}, {"": -1.0, "d4": -1.0, "d8": -1.0}, error=0.2)
    climbs = climbs_of(LADDER, history, "d8")
    found = ladder_json(climbs, LADDER, {})
    assert [int(item["name"][-6:], 16) for item in found["ideas"]] == [2, 3, 1]
    first, second, last = found["ideas"]
    assert list(first["effects"]) == ["d2"]
    assert first["expected"]["interval"][0] < first["expected"]["effect"] < first["expected"]["interval"][1]
    assert second["effects"]["d8"]["effect"] == -1.0
    assert last["expected"]["chance"] < 0.05
    assert found["seconds"] == {"d2": 1.0, "d4": 4.0, "d8": 16.0}
    assert len(ladder_json(climbs, LADDER, {}, limit=1)["ideas"]) == 1


def test_a_metric_that_is_maximised_is_told_in_its_own_direction() -> None:
    up = replace(LADDER, objective=replace(LADDER.objective, direction="maximize"))
    [idea] = ladder_json(climbs_of(up, history_of({"": -3.0}), "d8"), up, {})["ideas"]
    assert idea["effects"]["d2"]["effect"] == 3.0
    assert idea["expected"]["effect"] > 0
    assert idea["expected"]["interval"] == sorted(idea["expected"]["interval"])


def test_the_chart_has_a_band_of_what_is_expected() -> None:
    history = history_of({"": -1.0, "d4": -1.0}, {"": -0.5}, error=0.2)
    rows = [row for layer in chart(history, LADDER)["layer"] for row in layer["data"]["values"]]
    bands = [row for row in rows if row.get("rung") == "expected at d8"]
    assert {row["name"] for row in bands} == {history.attempts[0].name}  # the other did not climb
    assert all(row["low"] < row["y"] < row["high"] for row in bands)
