"""What somebody asks to see of a history: filtered, sorted, in the columns of their choice, and bounded."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from histories import NOW, PROGRAM, attempt, campaign
from rich.console import Console

from ar.cli import common
from ar.cli.main import cli
from ar.errors import ArError, NotFound
from ar.history.records import Attempt, History, Outcome
from ar.history.selection import Order, Selection
from ar.views.charts.pareto import pareto
from ar.views.charts.progress import progress
from ar.views.columns import Column
from ar.views.export import rows_to_csv, rows_to_json, to_csv, to_json
from ar.views.listing import Listing, listing
from ar.views.table import render

HISTORY = campaign(30)


def _names(listed: Listing) -> list[str]:
    return [item.name for item in listed.shown]


def _made(*effects: float) -> History:
    made = (
        replace(attempt(number, 2.0 + effect, effect=effect), agent="search" if number % 2 else "claude")
        for number, effect in enumerate(effects)
    )
    return History("a" * 40, "", tuple(made), 0.014)


def _drawn(history: History, listed: Listing, width: int = 160) -> list[str]:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(render(history, PROGRAM, listed, NOW), soft_wrap=True, markup=False, highlight=False)
    return console.export_text().splitlines()


@pytest.mark.parametrize(
    ("selection", "fits"),
    [
        (Selection("EMBEDDING"), lambda it: "embedding" in it.title),
        (Selection(outcome="promoted"), lambda it: it.outcome is Outcome.PROMOTED),
        (Selection(agent="optuna"), lambda it: it.agent == "optuna"),
        (
            Selection("batch", "discarded", "optuna"),
            lambda it: "batch" in it.title and it.outcome == "discarded",
        ),
        (Selection(), lambda _: True),
    ],
)
def test_a_filter_holds_in_every_form(selection: Selection, fits: object) -> None:
    wanted = [item.name for item in reversed(HISTORY.shown) if fits(item)]  # type: ignore[operator]
    listed = listing(HISTORY, PROGRAM, selection)
    assert _names(listed) == wanted
    assert len(wanted) > 0
    assert [row["name"] for row in json.loads(to_json(HISTORY, PROGRAM, listed))["attempts"]] == wanted
    rows = csv.DictReader(io.StringIO(to_csv(HISTORY, PROGRAM, listed)))
    assert list(dict.fromkeys(row["attempt"] for row in rows)) == wanted
    assert [line.split()[0] for line in _drawn(HISTORY, listed, 250)[1 : len(wanted) + 1]] == wanted


def test_orders() -> None:
    history = _made(-0.01, 0.02, -0.03)
    first, second, third = (item.name for item in history.shown)
    assert _names(listing(history, PROGRAM)) == [third, second, first]
    assert _names(listing(history, PROGRAM, sort="oldest")) == [first, second, third]
    assert _names(listing(history, PROGRAM, sort="best")) == [third, first, second]
    assert _names(listing(history, PROGRAM, sort="worst")) == [second, first, third]
    assert _names(listing(history, PROGRAM, sort="effect")) == [third, first, second]
    assert _names(listing(history, PROGRAM, sort="-val_bpb")) == [second, first, third]
    assert _names(listing(history, PROGRAM, sort="agent")) == [third, first, second]


def test_what_a_column_says_nothing_of_comes_last() -> None:
    history = History("a" * 40, "", (attempt(1, None, "crashed"), attempt(2, 2.2), attempt(3, 2.1)), 0.014)
    for sort, places in (("val_bpb", [2, 1, 0]), ("-val_bpb", [1, 2, 0])):
        assert _names(listing(history, PROGRAM, sort=sort)) == [
            history.attempts[place].name for place in places
        ]


def test_columns_of_every_kind() -> None:
    history = _made(-0.01, 0.02)
    names = ["name", "val_bpb", "metrics.json:train_seconds", "optim.matrix_lr", "seeds", "hypothesis"]
    listed = listing(history, PROGRAM, names=names)
    assert json.loads(rows_to_json(listed))[0] == {
        "name": history.attempts[1].name,
        "val_bpb": 2.02,
        "metrics.json:train_seconds": 27.31,
        "optim.matrix_lr": 0.06,
        "seeds": 1,
        "hypothesis": "Because the history suggests it.",
    }
    assert next(csv.DictReader(io.StringIO(rows_to_csv(listed))))["optim.matrix_lr"] == "0.06"
    header, *rows = _drawn(history, listed)[:3]
    assert header.split() == [
        "name",
        "val_bpb",
        "↓",
        "train_seconds",
        "optim.matrix_lr",
        "seeds",
        "hypothesis",
    ]
    assert all("±" in row and "27.31" in row and " 0.06 " in row for row in rows)


@pytest.mark.parametrize("column", Column)
def test_every_column_can_be_told_and_sorted_by(column: Column) -> None:
    listed = listing(HISTORY, PROGRAM, sort=f"-{column}", names=[str(column)])
    assert len(json.loads(rows_to_json(listed))) == len(HISTORY.shown)
    assert len(_drawn(HISTORY, listed)) > len(HISTORY.shown)


def test_an_unknown_column_is_named_with_the_nearest() -> None:
    with pytest.raises(NotFound, match="agent") as caught:
        listing(HISTORY, PROGRAM, names=["name", "agnet"])
    assert "'agnet'" in caught.value.message
    with pytest.raises(NotFound):
        listing(HISTORY, PROGRAM, sort="-agnet")


def test_a_table_that_is_cut_says_how_many_more_there_are() -> None:
    lines = _drawn(HISTORY, listing(HISTORY, PROGRAM, limit=4))
    assert f"{len(HISTORY.shown) - 4} more: -n {len(HISTORY.shown)} " in lines[5]
    assert not any(" more: " in line for line in _drawn(HISTORY, listing(HISTORY, PROGRAM, limit=40)))


def test_nothing_that_fits() -> None:
    listed = listing(HISTORY, PROGRAM, Selection("no such text"))
    assert any("ar show" in line for line in _drawn(HISTORY, listed))
    with pytest.raises(ArError):
        progress(HISTORY, PROGRAM, Selection("no such text"))


def _dots(spec: object) -> set[str]:
    layers = spec["layer"]  # type: ignore[index]
    return {row["name"] for layer in layers for row in layer["data"]["values"] if "name" in row}


def test_a_filter_holds_in_charts_and_the_branch_stays() -> None:
    chosen = Selection(outcome="discarded")
    wanted = {item.name for item in HISTORY.attempts if chosen.takes(item) and item.value is not None}
    assert _dots(progress(HISTORY, PROGRAM, chosen)) == wanted
    line = [layer for layer in progress(HISTORY, PROGRAM, chosen)["layer"] if layer["mark"]["type"] == "line"]
    assert line == [it for it in progress(HISTORY, PROGRAM)["layer"] if it["mark"]["type"] == "line"]
    now = HISTORY.now
    assert now is not None
    assert _dots(pareto(HISTORY, PROGRAM, chosen)) == wanted | {now.name}


def test_the_command_line_knows_every_outcome() -> None:
    assert list(common.OUTCOMES) == [str(outcome) for outcome in Outcome]
    shown = CliRunner().invoke(cli, ["show", "--help"]).stdout
    assert all(f"--{name}" in shown for name in ("contains", "outcome", "agent", "columns", "sort"))


def test_orders_leave_out_nothing_but_what_has_no_effect() -> None:
    attempts: list[Attempt] = list(HISTORY.attempts)
    for order in Order:
        left = {item.name for item in attempts} - {item.name for item in Selection().of(attempts, order)}
        known = {item.name for item in attempts if item.verdict and item.verdict.effect is not None}
        assert not left & known
