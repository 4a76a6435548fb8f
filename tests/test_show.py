"""The history as text: right numbers at every width, nothing of an experiment's text taken for a command."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from histories import NOW, OBJECTIVE, PROGRAM, attempt, campaign, every_outcome, renamed
from rich.console import Console, RenderableType

from ar.agents.curve_tables import CurvePair
from ar.campaign.check import Check
from ar.campaign.doctor import walls
from ar.history.ideas import Edit, Proposal
from ar.history.records import Attempt, History, Note, Outcome, Status
from ar.judge.findings import Total
from ar.project.program import Metric, Program
from ar.text import clock, one_line, plain, quantity, shorten_middle, span
from ar.views.checks import checks_view
from ar.views.comparison import compared, comparison_view
from ar.views.console import echo
from ar.views.experiment import diff_view, log_view, proposal_view
from ar.views.export import to_csv, to_json
from ar.views.listing import listing
from ar.views.marks import MARKS
from ar.views.summary import EMPTY, summary
from ar.views.table import render

WEIRD = "[bold]x[/bold] [/] \x1b[31mred\x1b]0;title\x07\x1b[2J \ud800 日本語 \u202eback\nnext\tline\r"
HISTORY = campaign(30)
NOTHING = History(head="a" * 40, incumbent="")


def draw(renderable: RenderableType, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, record=True, legacy_windows=False)
    console.print(renderable, soft_wrap=True, markup=False, emoji=False, highlight=False)
    return console.export_text()


def history(*attempts: Attempt, incumbent: int = 0) -> History:
    return History("a" * 40, f"{incumbent:016x}", tuple(attempts), 0.014)


# -- text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1bPq#0\x1b\\after", "after"),
        ("\x1b(Bx\x1b=y\x1bcz", "xyz"),
        ("ends in \x1b", "ends in "),
        ("ends in \x1b[3", "ends in "),
        ("\x1b]0;never closed\nnext", "\nnext"),
        ("a\x00b\x07c\x08d\x7fe\x85f", "abcdef"),
        ("10%\r50%\r100%\ndone", "100%\ndone"),
        ("100%\r", "100%"),
        ("dos\r\nline\r\n", "dos\nline\n"),
        ("tab\tstays\n", "tab\tstays\n"),
        ("abc\u202edef\u2066", "abcdef"),
        ("half \ud83d surrogate", "half \ufffd surrogate"),
        ("emoji 👩‍🔬 stays", "emoji 👩‍🔬 stays"),
    ],
)
def test_plain(raw: str, clean: str) -> None:
    assert plain(raw) == clean
    assert plain(plain(raw)) == clean


def test_plain_takes_no_time_over_hostile_text() -> None:
    for text in ("\x1b" * 200_000, "\x1b[" * 100_000, "\x1b]" * 100_000, "\r" * 200_000, "a\r" * 100_000):
        plain(text)


def test_one_line() -> None:
    assert one_line(" a\n\tb \x1b[1mc ") == "a b c"


@pytest.mark.parametrize(
    ("limit", "short"), [(20, "matrix-lr-3fa2"), (14, "matrix-lr-3fa2"), (9, "matr…3fa2"), (1, "…"), (0, "")]
)
def test_shorten_middle(limit: int, short: str) -> None:
    assert shorten_middle("matrix-lr-3fa2", limit) == short


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (2.187342, 0.00214, "2.1873 ±0.0021"),
        (2.187342, 0.0996, "2.19 ±0.10"),
        (2.187342, 0.00999, "2.187 ±0.010"),
        (2.187342, None, "2.1873"),
        (2.187342, float("nan"), "2.1873"),
        (2.187342, 0.0, "2.1873 ±0"),
        (0.0, 0.0, "0 ±0"),
        (-0.0437, 0.0041, "-0.0437 ±0.0041"),
        (0.0001, 0.0123, "0.000 ±0.012"),
        (27.31, 1.26, "27.3 ±1.3"),
        (12345.0, 234.0, "12340 ±230"),
        (123456.7, None, "123457"),
        (1.2345e-9, 3.1e-11, "(1.234 ±0.031)e-9"),
        (1.2345e12, 3.1e10, "(1.234 ±0.031)e12"),
        (float("inf"), 0.1, "inf"),
        (float("nan"), None, "nan"),
        (-0.0336, 7.4e-10, "-0.0336 ±7.4e-10"),
    ],
)
def test_quantity(value: float, error: float | None, text: str) -> None:
    assert quantity(value, error) == text


@pytest.mark.parametrize("value", [5e-324, 1.7e308, -1.7e308, 0.0])
@pytest.mark.parametrize("error", [5e-324, 1.7e308, 0.0])
def test_quantity_at_the_ends_of_what_a_float_holds(value: float, error: float) -> None:
    assert "±" in quantity(value, error)


def test_stretches_of_time() -> None:
    assert [clock(7.9), clock(751), clock(3723), clock(-3)] == ["0:07", "12:31", "1:02:03", "0:00"]
    spans = [span(40), span(720), span(3 * 3600), span(5 * 86400), span(-1)]
    assert spans == ["40 s", "12 min", "3 h", "5 d", "0 s"]


# -- the table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 400])
def test_table_fits_and_keeps_the_objective(width: int) -> None:
    lines = draw(render(HISTORY, PROGRAM, now=NOW), width).splitlines()
    assert max(map(len, lines)) <= width
    for item in HISTORY.attempts:
        if item.value is not None:
            wanted = quantity(item.value, item.standard_error)
            assert any(wanted in line and item.name[-4:] in line for line in lines)


@pytest.mark.parametrize("width", [80, 100, 160])
def test_table_keeps_every_number_from_80_columns_on(width: int) -> None:
    lines = draw(render(HISTORY, PROGRAM, now=NOW), width).splitlines()
    row = next(line for line in lines if "000003" in line)
    for part in ("27.31", "discarded", "24 h"):
        assert part in row


def test_wide_table_shows_everything_in_one_line() -> None:
    item = attempt(1, 2.18734, "promoted", "optim.matrix_lr 0.02 → 0.06", runs=4)
    line = draw(render(history(item), PROGRAM, now=NOW), 200).splitlines()[1]
    parts = [item.name, item.title, "optuna", "   4", "2.1873 ±0.0070", "−0.0214 ±0.0032", "27.31"]
    parts += ["✓ promoted", "24 h"]
    places = [line.index(part) for part in parts]
    assert places == sorted(places)


def test_newest_first_and_limited() -> None:
    lines = draw(render(HISTORY, PROGRAM, listing(HISTORY, PROGRAM, limit=3), now=NOW), 200).splitlines()
    numbers = [int(line.split()[0][-6:], 16) for line in lines[1:4]]
    assert numbers == [31, 30, 29]
    assert f"{len(HISTORY.attempts) - 3} more: -n {len(HISTORY.attempts)} " in lines[4]
    assert "31 attempts" in lines[-1]


@pytest.mark.parametrize("limit", [None, 1, 1000])
def test_any_limit(limit: int | None) -> None:
    assert "val_bpb" in draw(render(HISTORY, PROGRAM, listing(HISTORY, PROGRAM, limit=limit), NOW))


def test_direction_turns_arrow_and_effect() -> None:
    program = Program(objective=Metric("m.yaml", "accuracy", "maximize"))
    text = draw(render(history(attempt(1, 0.91, "winner", sigma=None)), program, now=NOW), 200)
    assert "accuracy ↑" in text and "+0.0214 ±0.0032" in text


def test_summary_counts_and_gain() -> None:
    attempts = [attempt(0, 2.2310, "baseline", runs=8), attempt(1, 2.1873, "promoted", runs=4)]
    outcomes = ["discarded", "discarded", "crashed", "timed out", "cancelled"]
    outcomes += ["open", "queued", "running", "winner"]
    attempts += [attempt(2 + index, 2.3, outcome) for index, outcome in enumerate(outcomes)]
    text = draw(summary(history(*attempts, incumbent=1), PROGRAM), 400)
    assert "10 attempts: 1 promoted, 1 winning, 2 discarded, 2 crashed, 1 cancelled, 3 open." in text
    assert "val_bpb 2.2310 ±0.0049 → 2.1873 ±0.0070 (−0.0437 ±0.0086)." in text


def test_every_outcome_has_a_mark_and_is_counted_once() -> None:
    assert set(MARKS) == set(Outcome)
    text = draw(summary(every_outcome(), PROGRAM), 400)
    counts = text.partition(": ")[2].partition(". ")[0]
    # Nobody tried the baseline, nor what DVC ran, nor here what a remote brought or another tool tells of.
    assert sum(map(int, re.findall(r"\d+", counts))) == len(Outcome) - 4
    assert "1 reverted" in counts


def test_summary_before_anything_won() -> None:
    only = history(attempt(0, 2.231, "baseline", runs=8))
    assert "0 attempts" in draw(summary(only, PROGRAM))
    assert "val_bpb 2.2310 ±0.0049." in draw(summary(only, PROGRAM))
    assert "not measured" in draw(summary(history(attempt(3, None, "queued")), PROGRAM))


def test_seeds_count_runs_that_ended_well_and_those_to_come() -> None:
    item = attempt(1, 2.2, "open", runs=3)
    last = replace(item.experiments[-1], status=Status.QUEUED)
    item = replace(item, experiments=(*item.experiments[:-1], last))
    assert " 2+1 " in draw(render(history(item), PROGRAM, now=NOW), 200)


def test_empty_history_says_what_to_run() -> None:
    assert draw(render(NOTHING, PROGRAM)).strip() == EMPTY
    assert "ar run" in draw(summary(NOTHING, PROGRAM))


@pytest.mark.parametrize("width", [1, 10, 80, 200])
def test_weird_text_is_data(width: int) -> None:
    text = draw(render(renamed(HISTORY, WEIRD), PROGRAM, now=NOW), width)
    assert "\x1b" not in text and "\u202e" not in text and "\x07" not in text
    if width == 200:
        assert "[bold]x[/bold] [/] red" in text


def test_no_guards_and_no_noise() -> None:
    item = replace(attempt(1, 2.2, sigma=None), guards={})
    text = draw(render(history(item), Program(objective=OBJECTIVE), now=NOW), 120)
    assert "2.2 " in text and "train_sec" not in text


def test_baseline_and_promoted_rows_stand_out() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=120, force_terminal=True, color_system="standard", record=True)
    console.print(render(HISTORY, PROGRAM, now=NOW), soft_wrap=True)
    lines = console.export_text(styles=True).splitlines()
    for word, code in (("baseline-0", "\x1b[36m"), ("✓ promoted", "\x1b[1;32m")):
        assert any(word in line and line.startswith(code) for line in lines)


def test_echo_is_flat_and_whole_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 72
    echo(render(renamed(HISTORY, long), PROGRAM, now=NOW))
    out = capsys.readouterr().out
    assert "\x1b" not in out and long in out and "…" not in out


def test_echo_survives_a_terminal_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    echo(render(HISTORY, PROGRAM, now=NOW))
    assert b"val_bpb" in raw.getvalue()


def test_seeds_unfold_an_attempt_into_its_runs() -> None:
    shown = draw(render(history(attempt(1, 2.2, runs=3)), PROGRAM, now=NOW, seeds=True)).splitlines()
    runs = [line for line in shown if line.startswith("  matrix")]
    assert len(runs) == 3
    for seed, line in enumerate(runs):
        assert line.split()[1:4] == ["seed", str(seed), "2.2"]
        assert "27.31" in line and "succeeded" in line
    folded = draw(render(history(attempt(1, 2.2, runs=3)), PROGRAM, now=NOW))
    assert "seed 1" not in folded


def test_a_run_that_failed_unfolds_without_numbers() -> None:
    failed = attempt(1, None, "crashed")
    shown = draw(render(history(failed), PROGRAM, now=NOW, seeds=True))
    line = next(line for line in shown.splitlines() if line.startswith("  matrix"))
    assert line.split()[1:4] == ["seed", "0", "crashed"]


def test_the_audited_total_stands_in_the_summary() -> None:
    total = Total(-0.0484, 0.0053, (-0.0602, -0.0366), 2.3263, 2.2779, 8, 4)
    text = draw(render(HISTORY, PROGRAM, now=NOW, total=total), width=400)
    assert "Total val_bpb −0.0484 ±0.0053, 95 % interval −0.0602 to −0.0366" in text
    assert "2.3263 in 8 runs of the first baseline, 2.2779 in 4 of the closing audit" in text
    assert json.loads(to_json(HISTORY, PROGRAM, total=total))["total"]["change"] == -0.0484
    assert json.loads(to_json(HISTORY, PROGRAM))["total"] is None


# -- one experiment ---------------------------------------------------------------------------------------

DIFF = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old [bold]\n+new \x1b[2J\n same\n"


def test_diff_is_whole_and_coloured() -> None:
    text = diff_view(DIFF)
    assert text.plain == DIFF.replace("\x1b[2J", "").rstrip()
    assert {str(span.style) for span in text.spans} == {"bold", "cyan", "red", "green"}


def test_log_says_what_and_why_and_what_was_printed() -> None:
    item = attempt(1, 2.18734, "promoted")
    note = Note(Status.SUCCEEDED, log="step 1\nstep \x1b[31m2\n", seconds=27.3, worker="here:12")
    text = draw(log_view(PROGRAM, item, replace(item.experiments[0], note=note)))
    for part in (item.title, item.name, "27 s", "promoted", "It says so.", "Because", "2.18734", "step 2"):
        assert part in text


def test_log_holds_what_was_expected_against_what_was_measured() -> None:
    item = attempt(1, 2.18734, "promoted")
    assert "expected" not in draw(log_view(PROGRAM, item, item.first))
    for said, shown in (("-0.5", "−0.5, measured "), ("a bit less", "a bit less")):
        run = replace(item.first, expected=said)
        told = draw(log_view(PROGRAM, replace(item, experiments=(run,)), run))
        assert "expected" in told and shown in told


def test_log_of_a_crash_and_of_a_run_under_way() -> None:
    crashed = attempt(1, None, "crashed")
    note = Note(Status.CRASHED, reason="CUDA out of memory")
    text = draw(log_view(PROGRAM, crashed, replace(crashed.experiments[0], note=note)))
    assert "CUDA out of memory" in text and "printed nothing" in text
    running = attempt(2, None, "running")
    assert "so far" in draw(log_view(PROGRAM, running, running.experiments[0], running_log="loss 3.1\n"))


def test_a_run_without_walls_is_shown_as_one() -> None:
    item = attempt(1, 2.18734, "promoted")
    [run] = item.experiments
    for value, shown in (("unprotected", True), ("kernel", False)):
        told = replace(run, metrics={**run.metrics, "metrics.json:walls": value})
        history = replace(HISTORY, attempts=(replace(item, experiments=(told,)),))
        assert told.is_unprotected is shown
        assert ("walls around the code under test: 1 run" in draw(render(history, PROGRAM, now=NOW))) is shown
        assert ("no walls kept" in draw(log_view(PROGRAM, item, told))) is shown
        assert [check.ok for check in walls(history)] == [False] * shown


def test_proposal_says_whether_it_was_queued() -> None:
    why = f"It helps. {WEIRD}"
    edits = (Edit("a", "b", "c"),)
    proposal = Proposal("Raise it", why, "optuna", {"optim.lr": 0.1}, edits, expected="-0.01", parent="p-1")
    queued = draw(proposal_view(proposal, DIFF, "raise-it-1"))
    dry = draw(proposal_view(proposal, DIFF))
    assert "Queued raise-it-1: Raise it" in queued and "Would queue: Raise it" in dry
    for part in ("optim.lr", "0.1", "It helps. [bold]", "-0.01", "p-1", "+new"):
        assert part in queued


def test_checks_end_with_the_mend() -> None:
    checks = [
        Check("git", True, "2.39"),
        Check("program.md", False, "missing", "ar init"),
        Check("gpu", False, "none", "", required=False),
    ]
    text = draw(checks_view(checks))
    assert "✓ git" in text and "✗ program.md" in text and "! gpu" in text and "ar init" in text


# -- for programs -----------------------------------------------------------------------------------------


def test_json_shape() -> None:
    data = json.loads(to_json(HISTORY, PROGRAM))
    assert data["objective"] == {"metric": "metrics.json:val_bpb", "direction": "minimize"}
    assert [item["name"] for item in data["attempts"]] == [item.name for item in reversed(HISTORY.attempts)]
    first = data["attempts"][-1]
    assert first["outcome"] == "baseline" and len(first["experiments"]) == 8
    keys = {
        "name",
        "rev",
        "status",
        "where",
        "reason",
        "seed",
        "created",
        "device_class",
        "metrics",
        "params",
    }
    assert set(first["experiments"][0]) == keys
    assert first["experiments"][0]["metrics"]["metrics.json:val_bpb"] == 2.231


def test_json_is_valid_whatever_was_measured() -> None:
    item = attempt(1, 2.2)
    run = replace(item.experiments[0], metrics={"m:x": float("nan"), "m:y": float("inf"), "m:z": WEIRD})
    text = to_json(history(replace(item, experiments=(run,), title=WEIRD)), PROGRAM)
    assert json.loads(text)["attempts"][0]["experiments"][0]["metrics"]["m:x"] is None
    text.encode("ascii")


def test_json_and_csv_of_nothing_and_of_the_newest() -> None:
    assert json.loads(to_json(NOTHING, PROGRAM))["attempts"] == []
    assert len(json.loads(to_json(HISTORY, PROGRAM, listing(HISTORY, PROGRAM, limit=2)))["attempts"]) == 2
    assert len(to_csv(NOTHING, PROGRAM).splitlines()) == 1
    assert len(to_csv(HISTORY, PROGRAM, listing(HISTORY, PROGRAM, limit=2)).splitlines()) == 3


def test_csv_has_a_line_for_every_experiment() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(renamed(HISTORY, 'a, "b"\n[c]'), PROGRAM))))
    assert [row["name"] for row in rows][-1] == HISTORY.experiments[7].name
    assert len(rows) == len(HISTORY.experiments)
    assert rows[-1]["metrics.json:val_bpb"] == "2.231" and rows[-1]["params.yaml:optim.matrix_lr"] == "0.06"


# -- two side by side -------------------------------------------------------------------------------------


def test_a_comparison_has_metrics_parameters_curves_and_the_change() -> None:
    one, two = attempt(1, 2.2, runs=3), attempt(2, 2.1, runs=2, title=WEIRD)
    moved = {"params.yaml:optim.matrix_lr": 0.12}
    two = replace(two, experiments=tuple(replace(run, params=moved) for run in two.experiments))
    curve = CurvePair(
        "loss.csv", (("step", "loss"), ("1", "9.5"), ("2", "8.5")), (("step", "loss"), ("1", "7.5"))
    )
    found = compared(PROGRAM, one, two, [curve], "--- a\n+++ b\n-x\n+y\n")
    rows = [line.split() for line in draw(comparison_view(found), 200).splitlines()]
    assert ["val_bpb", "2.2", "2.1", "−0.1", "±0", "2"] in rows
    assert ["optim.matrix_lr", "0.06", "0.12"] in rows
    assert ["1", "9.5", "1", "7.5"] in rows and ["2", "8.5"] in rows
    assert rows[-1] == ["+y"]
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["a"]["value"] == 2.2 and data["b"]["title"] == WEIRD
    assert data["curves"] == [
        {"path": "loss.csv", "a": [list(row) for row in curve.a], "b": [["step", "loss"], ["1", "7.5"]]}
    ]


@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_comparison_of_weird_text_is_data(width: int) -> None:
    item = attempt(1, None, "crashed", title=WEIRD)
    curve = CurvePair(WEIRD, ((WEIRD, "b"), ("1", WEIRD)), ())
    text = draw(comparison_view(compared(PROGRAM, item, attempt(2, 2.1), [curve], WEIRD)), width)
    assert "\x1b" not in text and "\u202e" not in text
