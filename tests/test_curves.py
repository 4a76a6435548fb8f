"""Time to target: where a curve first reaches the first baseline's last level, on curves of known shape."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, commit, edit, git, run
from histories import PROGRAM, attempt

from ar.errors import BadProgram
from ar.history.curves import Curve, read_curve, read_rows
from ar.history.tracks import Track
from ar.judge.time_to_target import Reach, reaches, smooth
from ar.project.program import CurveFile
from ar.project.program_file import parse as parse_program
from ar.views.charts.time_to_target import time_to_target
from ar.views.time_to_target import leaderboard

SPEC = CurveFile("loss.csv", "bpb", ("seconds", "tokens"))


def file(speed: float, noise: float = 0.0, seed: int = 0, rows: int = 120) -> bytes:
    """A curve that reaches 2 + exp(-3 * speed * t) at time t in [0, 1] of 20 s and 100,000 tokens."""
    draw = random.Random(seed)
    lines = ["step,tokens,seconds,bpb"]
    for row in range(rows):
        at = row / (rows - 1)
        value = 2 + math.exp(-3 * speed * at) + draw.gauss(0, noise)
        lines.append(f"{row},{at * 100_000:.0f},{at * 20:.4f},{value:.5f}")
    return "\n".join(lines).encode()


def track(number: int, speed: float, seeds: int, noise: float = 0.02) -> Track:
    found = {seed: read_curve(file(speed, noise, 100 * number + seed), SPEC) for seed in range(seeds)}
    return Track(attempt(number, 2.2), {seed: curve for seed, curve in found.items() if curve})


def test_what_learns_a_quarter_faster_needs_four_fifths_of_the_time() -> None:
    first, second, third = reaches([track(1, 1.0, 8), track(2, 1.25, 4), track(3, 0.8, 4)])
    assert first.ratio == {"seconds": 1.0, "tokens": 1.0}
    assert first.at["seconds"] == pytest.approx(20, abs=0.01)
    assert second.ratio["seconds"] == pytest.approx(0.8, abs=0.05)
    assert second.ratio["tokens"] == pytest.approx(0.8, abs=0.05)
    assert 0.0 < second.error["seconds"] < 0.1
    assert third.at == {}  # slower: never there within its run
    assert third.ratio == {}


CENSORED = [  # each run's speed; does the state reach it, by how many runs, is its interval closed
    ((1.25, 1.25, 1.25, 1.25), True, 4, True),
    ((1.40, 1.40, 1.40, 0.95), True, 3, False),
    ((1.20, 1.00, 1.00, 0.80), False, 1, False),
    ((0.80, 0.80, 0.80, 0.80), False, 0, False),
    ((1.25,), True, 1, None),
    ((0.80,), False, 0, None),
]


@pytest.mark.parametrize(("speeds", "is_reached", "runs", "is_closed"), CENSORED)
def test_a_run_that_never_gets_there_counts_as_longer_than_it_ran(
    speeds: tuple[float, ...], is_reached: bool, runs: int, is_closed: bool | None
) -> None:
    base = {seed: 1 + 0.001 * seed for seed in range(4)}
    tracks = []
    for place, side in enumerate((base, dict(enumerate(speeds)))):
        curves = {seed: read_curve(file(speed), SPEC) for seed, speed in side.items()}
        tracks.append(Track(attempt(place + 1, 2.2), {seed: it for seed, it in curves.items() if it}))
    _, found = reaches(tracks)
    assert bool(found.at) is is_reached
    assert (found.reached, found.runs) == (runs, len(speeds))
    assert found.end["seconds"] == pytest.approx(20)
    assert {len(ends) for ends in found.interval.values()} == (
        {1 + is_closed} if is_closed is not None else set()
    )
    for axis, ends in found.interval.items():
        points = [ends[0], found.at.get(axis, found.end[axis]), *ends[1:]]
        assert points == sorted(points)
    assert Reach.from_json(found.to_json()) == found


def test_the_leaderboard_has_the_fastest_first_and_who_never_gets_there_last() -> None:
    tracks = [track(1, 1.0, 4), track(2, 0.8, 4), track(3, 1.5, 4), track(4, 1.25, 1)]
    found = reaches(tracks)
    program = replace(PROGRAM, curve=SPEC)
    board = leaderboard(found, program)
    titles = [found[place].title for place in (2, 3, 0, 1)]
    assert [row[0] for row in board.rows] == titles
    assert [row[1] for row in board.rows][-1] == "0 of 4"
    assert {len(row) for row in board.rows} == {len(board.header)}
    assert board.rows[-1][2].startswith("> 20")


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_words_of_the_chart_lie_inside_the_frame_and_off_the_curves(direction: Any) -> None:
    program = replace(PROGRAM, curve=replace(SPEC, direction=direction))
    (view,) = time_to_target({"": [track(1, 1.0, 8), track(2, 1.25, 4)]}, program)["vconcat"]
    low, high = view["layer"][2]["encoding"]["x"]["scale"]["domain"]
    sides = {}
    for layer in view["layer"]:
        if layer["mark"]["type"] == "text":
            ((row,), mark) = layer["data"]["values"], layer["mark"]
            at = (row["x"] - low) / (high - low) * view["width"] + mark["dx"]
            ends = (at, at + 5 * len(row["text"])) if mark["align"] == "left" else (at, at)
            assert 0 < ends[0] <= ends[1] < view["width"]
            sides[row["role"]] = mark["dy"] > 0
    assert sides == {"first baseline": direction == "maximize", "the branch": direction == "minimize"}


def test_the_error_holds_the_truth() -> None:
    missed = outside = 0
    for place in range(12):
        _, found = reaches([track(3 * place, 1.0, 6), track(3 * place + 1, 1.25, 4)])
        low, high = found.interval["tokens"]
        missed += abs(found.ratio["seconds"] - 0.8) > 2.5 * found.error["seconds"]
        outside += not low <= 80_000 <= high
    assert missed <= 1
    assert outside <= 2


def test_smoothing_follows_a_line_to_its_ends() -> None:
    line = Curve(tuple(3 - 0.01 * place for place in range(100)), {})
    assert smooth(line).values == pytest.approx(line.values)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a,b\n1,2\n",
        b"bpb,seconds,tokens\n1,2\n",
        b"\xff\xfe\x00",
        b"bpb,seconds,tokens\n" + b"nan,1,1\n" * 9,
    ],
)
def test_what_is_no_curve_is_none(content: bytes) -> None:
    assert read_curve(content, SPEC) is None


def test_a_metric_that_grows_is_turned() -> None:
    grows = CurveFile("loss.csv", "bpb", ("seconds",), "maximize")
    found = read_curve(file(1.0), grows)
    assert found is not None
    assert found.values[0] == pytest.approx(-3)


def test_broken_lines_are_left_out() -> None:
    content = file(1.0).replace(b"\n7,", b"\nseven,x,y,z\n7,")
    assert read_curve(content, SPEC) == read_curve(file(1.0), SPEC)


def test_a_file_that_is_being_written_and_one_with_tabs() -> None:
    text = "step,tokens,loss\n0,10,3.0\n1,20,nan\n2,30,inf\n3,40,\n4,50,x\n5,60\n6,5,2.0\n7,70,1.5\n8,80,1."
    columns = ("tokens", "loss")
    assert read_rows(text, columns, growing=True) == [[10.0, 3.0], [5.0, 2.0], [70.0, 1.5]]
    assert read_rows(text, columns)[-1] == [80.0, 1.0]
    assert read_rows(text + "4\n", columns, growing=True)[-1] == [80.0, 1.4]
    assert read_rows("a\tb\n1\t2\n", ("a", "b")) == [[1.0, 2.0]]
    assert (
        read_rows("a,b\n1,2\n", ("a", "c")) == read_rows("a,b\n", ("a", "b")) == read_rows("", ("a",)) == []
    )


def test_a_cell_without_an_end_ends_the_curve() -> None:
    assert read_rows(f"a\n1\n{'x' * 200_000}\n2\n", ("a",)) == [[1.0]]


def test_a_curve_must_be_inside_the_project() -> None:
    with pytest.raises(BadProgram, match="inside the project"):
        parse_program('---\nobjective: "m.json:x"\ncurve: {file: ../x.csv, value: y}\n---\n')


@pytest.mark.slow
def test_the_branch_tells_its_time(project: Path, ar: Ar) -> None:
    """The stage's curve falls faster the lower the loss it ends at; one change is promoted."""
    stage = (project / "fit.awk").read_text()
    lines = '  for (i = 0; i <= 50; i++) printf("%d,%.6f\\n", i, loss + 5 * exp(-i / 10)) > "curve.csv"\n}\n'
    (project / "fit.awk").write_text(
        stage.rstrip().removesuffix("}") + '  print "s,v" > "curve.csv"\n' + lines
    )
    pipeline = (project / "dvc.yaml").read_text() + "    outs:\n    - curve.csv: {cache: false}\n"
    (project / "dvc.yaml").write_text(pipeline)
    edit(project / "program.md", "budget:", "curve: {file: curve.csv, value: v, against: [s]}\nbudget:")
    run(project, "dvc", "repro", "-q")
    commit(project, "Tell a curve")
    missing = ar(project, "show", "--time-to", check=False)
    assert missing.returncode == 2
    assert "has no curve" in missing.stderr
    assert "ar baseline" in missing.stderr

    ar(project, "next", "--set", "x=2.5", "-m", "Nearer")
    ar(project, "run", "-n", "0", "--plain", "--jobs", "2")
    first, last = json.loads(ar(project, "show", "--time-to", "--json").stdout)[-2:]
    # Both fall as 5 exp(-t / 10) towards their own loss; the baseline ends at 50.
    assert first["at"] == {"s": 50}
    assert last["title"] == "x 1.5 → 2.5"
    assert last["outcome"] == "promoted"
    assert last["ratio"]["s"] < 0.5
    table = ar(project, "show", "--time-to").stdout
    assert "x 1.5 → 2.5" in table
    assert "% less than the first baseline" in table
    assert git(project, "status", "--porcelain") == ""
    for kind in ("time-to-target", "pareto", "stack"):
        ar(project, "plot", "--kind", kind, "-o", f"{kind}.svg")
        assert "<svg" in (project / f"{kind}.svg").read_text()
    assert "x 1.5" in (project / "stack.svg").read_text()


def test_without_a_declared_curve_the_mend_is_said(measured: Path, ar: Ar) -> None:
    done = ar(measured, "show", "--time-to", check=False)
    assert done.returncode == 2
    assert "names no curve" in done.stderr
    assert "curve: {file:" in done.stderr
