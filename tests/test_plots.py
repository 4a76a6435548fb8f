"""Charts are drawn in every format, from every history, whole or not at all."""

from __future__ import annotations

import errno
import re
import resource
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from histories import OBJECTIVE, PROGRAM, attempt, campaign, renamed

from ar.errors import ArError
from ar.history.records import Attempt, History
from ar.project.program import Metric, Program
from ar.views.charts.files import save
from ar.views.charts.progress import HEIGHT, WIDTH, progress

WEIRD = "[bold]</script><script>alert(1)</script> \x1b[31mred \ud800 日本語 \u202eback\nnext" + "x" * 300


def history(*attempts: Attempt, incumbent: int = 0) -> History:
    return History("a" * 40, f"{incumbent:016x}", attempts, 0.014)


def tables(spec: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [layer["data"]["values"] for layer in spec["layer"]]


def rows(spec: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Every row of the chart's data that has a key."""
    return [row for data in tables(spec) for row in data if key in row]


def dots(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(rows(spec, "name"), key=lambda row: row["x"])


def y_domain(spec: dict[str, Any]) -> tuple[float, float]:
    scales = [layer["encoding"]["y"].get("scale") for layer in spec["layer"]]
    low, high = next(scale["domain"] for scale in scales if scale)
    return low, high


FORMATS = [(".png", b"\x89PNG"), (".svg", b"<svg"), (".html", b"<!DOCTYPE html>"), (".PNG", b"\x89PNG")]


@pytest.mark.parametrize(("ending", "start"), FORMATS)
def test_formats_by_ending_into_folders_that_are_made(tmp_path: Path, ending: str, start: bytes) -> None:
    path = tmp_path / "a" / "b" / f"progress{ending}"
    save(progress(campaign(5), PROGRAM), path)
    assert path.read_bytes().startswith(start)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_html_works_offline(tmp_path: Path) -> None:
    path = tmp_path / "progress.html"
    save(progress(campaign(5), PROGRAM), path)
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"""<(script|link|img)[^>]+(src|href)=["']?(https?:)?//""", text)
    assert "@import" not in text


def test_page_cannot_be_broken_by_a_title(tmp_path: Path) -> None:
    path = tmp_path / "progress.html"
    save(progress(renamed(campaign(5), WEIRD), PROGRAM), path)
    assert "</script><script>alert(1)" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["progress.gif", "progress", "progress.png.", "png"])
def test_unknown_ending_names_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArError, match=r"\.png, \.svg, \.html"):
        save(progress(campaign(5), PROGRAM), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "empty", [history(), history(attempt(1, None, "running")), history(attempt(1, None, "crashed"))]
)
def test_nothing_measured_says_what_to_run(tmp_path: Path, empty: History) -> None:
    with pytest.raises(ArError, match="ar run"):
        save(progress(empty, PROGRAM), tmp_path / "progress.png")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "progress.svg"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError) as failed:
            save(progress(campaign(5), PROGRAM), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failed.value.errno == errno.EFBIG
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_every_measured_or_crashed_attempt_is_a_dot_in_order() -> None:
    past = campaign(60)
    shown = dots(progress(past, PROGRAM))
    expected = [item for item in past.attempts[1:] if item.value is not None or item.outcome == "crashed"]
    assert [dot["name"] for dot in shown] == [item.name for item in expected]
    assert [dot["x"] for dot in shown] == list(range(1, len(expected) + 1))


def test_step_line_is_the_incumbents_mean() -> None:
    past = history(
        attempt(0, 2.231, "baseline", runs=8),
        attempt(1, 2.25),
        attempt(2, 2.20, "promoted", runs=4),
        attempt(3, 2.19),
        attempt(4, 2.18, "promoted", runs=4),
        incumbent=4,
    )
    spec = progress(past, PROGRAM)
    steps = next(data for data in tables(spec) if data[:1] == [{"x": 0, "y": 2.231}])
    assert [step["y"] for step in steps] == [2.231, 2.20, 2.18, 2.18]
    assert spec["title"]["text"] == "val_bpb over 4 attempts: 2.2310 → 2.1800"


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_one_diverged_run_does_not_flatten_the_rest(direction: Any) -> None:
    sign = 1 if direction == "minimize" else -1
    program = Program(objective=replace(OBJECTIVE, direction=direction))
    past = campaign(30)
    turned = [replace(item, value=item.value and sign * item.value) for item in past.attempts]
    turned.append(attempt(40, sign * 9.0))
    turned.append(attempt(41, None, "crashed"))
    spec = progress(replace(past, attempts=tuple(turned)), program)
    low, high = y_domain(spec)
    assert high - low < 0.5
    far, crashed = dots(spec)[-2:]
    assert far["kind"] == ("above the scale" if sign > 0 else "below the scale")
    assert crashed["kind"] == "crashed"
    edge = high if sign > 0 else low
    assert abs(far["y"] - edge) == abs(crashed["y"] - edge) < 0.02 * (high - low)


def test_what_was_kept_is_always_inside() -> None:
    attempts = [attempt(0, 2.0, "baseline", runs=8)]
    attempts += [attempt(number, 2.0 + number / 1e4) for number in range(1, 30)]
    past = history(*attempts, attempt(40, 0.5, "promoted", runs=4), incumbent=40)
    low, high = y_domain(progress(past, PROGRAM))
    assert low < 0.5 and high > 2.0


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_error_bars_are_whole(direction: Any) -> None:
    past = campaign(30)
    spec = progress(past, Program(objective=replace(OBJECTIVE, direction=direction)))
    low, high = y_domain(spec)
    bars = [row for data in tables(spec) for row in data if {"y", "y2"} <= row.keys()]
    assert len(bars) > 20
    for bar in bars:
        assert low < bar["y"] < bar["y2"] < high
    by_place = {dot["x"]: dot["y"] for dot in dots(spec)}
    assert all(by_place[bar["x"]] == pytest.approx((bar["y"] + bar["y2"]) / 2) for bar in bars)


@pytest.mark.parametrize("size", [60, 700])
def test_labels_stay_off_the_step_line(size: int) -> None:
    spec = progress(campaign(size), PROGRAM)
    low, high = y_domain(spec)
    count = max(dot["x"] for dot in dots(spec)) + 1
    steps = next(data for data in tables(spec) if data[0].get("x") == 0 and "low" not in data[0])
    for label in {row["text"]: row for row in rows(spec, "text")}.values():
        lines = label["text"].split("\n")
        right = label["x"]
        left = right - 4.5 * max(map(len, lines)) * (count + 1) / WIDTH
        top = label["y"] + 4 * (high - low) / HEIGHT
        bottom = label["y"] - (13 * len(lines) - 9) * (high - low) / HEIGHT
        for before, after in pairwise(steps):
            crosses = before["x"] < right and left < after["x"] and bottom < before["y"] < top
            assert not crosses, label["text"]


@pytest.mark.parametrize("size", [5, 60, 700])
def test_labels_do_not_cover_each_other(size: int) -> None:
    past = campaign(size)
    spec = progress(past, PROGRAM)
    low, high = y_domain(spec)
    labels = rows(spec, "text")
    assert labels
    last = dots(spec)[-1]["x"]
    unique = {(label["x"], label["y"]): label for label in labels}.values()
    boxes = []
    for label in unique:
        right = label["x"] * WIDTH / (last + 1)
        top = (high - label["y"]) * HEIGHT / (high - low) - 5  # `y` is the middle of the first line
        lines = label["text"].split("\n")
        bottom = top + 13 * len(lines) - 3
        boxes.append((right - 5 * max(map(len, lines)), top, right, bottom))
        assert top >= 0 and bottom <= HEIGHT and right <= WIDTH
    for index, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[:index]:
            assert not (left < other[2] and other[0] < right and top < other[3] and other[1] < bottom)


@pytest.mark.parametrize(
    "past",
    [
        history(attempt(0, 2.231, "baseline", sigma=None), attempt(1, 2.231, sigma=None)),
        history(attempt(1, 2.2, "winner"), attempt(2, 2.3, "timed out"), attempt(3, 2.2, "open")),
        history(attempt(0, 0.0, "baseline", sigma=0.0), attempt(1, 0.0, "promoted", sigma=0.0)),
        history(attempt(1, 1e-300), attempt(2, 1e300)),
        renamed(campaign(8), WEIRD),
    ],
    ids=["no noise", "outcomes", "zeros", "extremes", "weird"],
)
def test_any_history_can_be_drawn(past: History, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for ending in ("svg", "png"):
        save(progress(past, Program(objective=Metric("m.json", "a.b[0]"))), tmp_path / f"progress.{ending}")
    assert capfd.readouterr() == ("", "")
