"""What `ar run` shows: steady on a terminal, sparse in a log, never broken by an experiment's text."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, attempts_of, commit, edit, git, start, wait_for
from rich.console import Console
from rich.progress_bar import ProgressBar
from synthetic import Made, fill, write

from ar.campaign.campaign import Campaign
from ar.campaign.pace import Pace
from ar.campaign.progress import Running, Snapshot, snapshot
from ar.git import refs
from ar.git.repo import Repo
from ar.history.records import Outcome
from ar.local import claims
from ar.project.program import Metric
from ar.project.project import Project
from ar.runs import queue
from ar.runs.budget import Used
from ar.stage import files
from ar.stage.files import Stage
from ar.text import plain
from ar.views import live
from ar.views.lines import HEARTBEAT, PlainView, heartbeat
from ar.views.live import LiveView, frame, open_view

WEIRD = "[bold]x[/bold] [/] \x1b[31mred\x1b]0;title\x07\x1b[2J \ud800 日本語 \u202eback\nnext\tline\r"
SNAPSHOT = Snapshot(
    running=(
        Running("lr-up-3f2a1c", "optim.matrix_lr 0.02 → 0.04", 3, 12.3, 27, "1"),
        Running("window-a1b2c3", WEIRD, None, 3.0, None, "2"),
    ),
    queued=2,
    phase="measuring the baseline 3/8",
    verdicts=(
        ("lr-up-3f2a1c", "optim.matrix_lr 0.02 → 0.04", Outcome.PROMOTED, "-0.045 ± 0.003"),
        ("deep-1", WEIRD, Outcome.CRASHED, ""),
        ("deep-2", "x" * 300, Outcome.REVERTED, "+0.019 ± 0.01"),
    ),
    best="2.1873 ± 0.0021",
    baseline="2.2310 ± 0.0035",
    spent=142,
    budget=700,
    elapsed=4000,
    left=3.44 * 3600,
    metric=Metric("m.json", "val_bpb"),
    agent="optuna",
    asking="claude: reads model/gpt.py",
)
EMPTY = Snapshot()


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def draw(snapshot: Snapshot, width: int, height: int = 40) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, record=True)
    console.print(frame(snapshot, width, height))
    return console.export_text()


# -- plain ------------------------------------------------------------------------------------------------


def test_plain_stamps_every_line_of_an_event() -> None:
    stream = io.StringIO()
    with PlainView(stream) as view:
        view.event("queued lr-up\nbecause")
    first, second = stream.getvalue().splitlines()
    assert first[2] == first[5] == ":" and first[8:] == " queued lr-up"
    assert second[8:] == " because"


def test_plain_flushes_every_event() -> None:
    class Stream(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    stream = Stream()
    PlainView(stream).event("x")
    assert stream.flushed == 1


def test_plain_gives_a_sign_of_life_every_ten_seconds_while_something_runs() -> None:
    stream, clock = io.StringIO(), Clock()
    view = PlainView(stream, clock)
    for tenth in range(601):
        clock.seconds = tenth / 10
        view.update(SNAPSHOT)
    assert len(stream.getvalue().splitlines()) == 60 // HEARTBEAT


def test_plain_is_silent_after_an_event_and_when_nothing_runs() -> None:
    stream, clock = io.StringIO(), Clock()
    view = PlainView(stream, clock)
    clock.seconds = 9.0
    view.event("ended")
    clock.seconds = 18.0
    view.update(SNAPSHOT)
    clock.seconds = 60.0
    view.update(EMPTY)
    assert len(stream.getvalue().splitlines()) == 1


def test_plain_gives_a_sign_of_life_while_an_agent_thinks() -> None:
    stream, clock = io.StringIO(), Clock()
    with PlainView(stream, clock) as view:
        clock.seconds = 11
        view.update(Snapshot(phase="searching", asking="claude: reads model/gpt.py"))
    assert "searching | claude: reads model/gpt.py | " in stream.getvalue()


def test_frame_says_what_agents_do() -> None:
    assert "claude: reads model/gpt.py" in draw(SNAPSHOT, 80)


def test_heartbeat_says_what_runs_and_how_far_it_is() -> None:
    line = heartbeat(SNAPSHOT)
    for part in ("baseline 3/8", "lr-up-3f2a1c 0:12 / 0:27", "val_bpb now 2.1873 ± 0.0021", "142/700 runs"):
        assert part in line
    assert "about 3 h left" in line
    assert "\n" not in line


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_plain_survives_any_text_on_any_stream(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    PlainView(stream).event(WEIRD)
    written = raw.getvalue()
    assert b"\x1b" not in written and b"red" in written


# -- live -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 10, 40, 80, 200])
@pytest.mark.parametrize("height", [1, 10, 24, 60])
@pytest.mark.parametrize("snapshot", [SNAPSHOT, EMPTY], ids=["busy", "empty"])
def test_frame_never_exceeds_the_terminal(snapshot: Snapshot, width: int, height: int) -> None:
    console = Console(file=io.StringIO(), width=width, height=height)
    lines = console.render_lines(frame(snapshot, width, height), pad=False)
    assert all(sum(segment.cell_length for segment in line) <= width for line in lines)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_frame_keeps_the_numbers_at_every_width(width: int) -> None:
    text = draw(SNAPSHOT, width)
    for part in ("0:12 / 0:27", "-0.045 ± 0.003", "142/700 runs", "2.1873 ± 0.0021", "2 queued", "Ctrl-C"):
        assert part in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_frame_names_the_metric_and_what_is_better(width: int) -> None:
    down = draw(SNAPSHOT, width)
    up = draw(replace(SNAPSHOT, baseline="", metric=Metric("m.json", "accuracy", "maximize")), width)
    assert "val_bpb now 2.1873" in down and "accuracy now 2.1873" in up and "higher is better" in up
    assert width == 60 or "lower is better" in down


@pytest.mark.parametrize(("tried", "wanted", "share"), [(1, 4, 0.25), (4, 4, 1.0), (0, None, 6 / 7)])
def test_bar_counts_the_changes_that_were_asked_for(
    tried: int, wanted: int | None, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[ProgressBar] = []

    class Spy(ProgressBar):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            bars.append(self)

    monkeypatch.setattr(live, "ProgressBar", Spy)
    text = draw(replace(SNAPSHOT, spent=600, tried=tried, wanted=wanted), 80)
    assert bars[-1].total and bars[-1].completed / bars[-1].total == pytest.approx(share)
    assert (f"{tried}/{wanted} changes, 600/700 runs" in text) is (wanted is not None)


def test_bar_of_the_changes_keeps_the_time_left_on_a_narrow_terminal() -> None:
    assert "1/4 changes, about 3 h left" in draw(replace(SNAPSHOT, tried=1, wanted=4), 40)


def test_frame_shows_text_as_it_is_and_no_escapes() -> None:
    text = draw(SNAPSHOT, 200)
    assert "[bold]x[/bold]" in text
    assert "\x1b" not in text and "\u202e" not in text and "title" not in text


def test_frame_fits_the_height() -> None:
    many = replace(SNAPSHOT, running=SNAPSHOT.running * 20, verdicts=SNAPSHOT.verdicts * 2)
    for height in (16, 24, 40):
        assert len(draw(many, 80, height).splitlines()) <= height
    assert "more run" in draw(many, 80, 24)


def test_frame_says_so_when_nothing_is_known_yet() -> None:
    text = draw(EMPTY, 80)
    assert "not measured yet" in text and "nothing runs" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_live_view_redraws_in_place_and_leaves_events_behind(width: int) -> None:
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, force_terminal=True, width=width, height=30, _environ={"TERM": "xterm"})
    with LiveView(console, clock) as view:
        for second in range(5):
            clock.seconds = second
            view.update(SNAPSHOT)
        view.event(f"ended {WEIRD}")
    text = stream.getvalue()
    assert "ended [bold]" in text
    assert "\x1b[2J" not in text and "\x1b]0;" not in text  # none of the experiment's escapes
    assert "\x1b[?25h" in text[-200:]  # the cursor is given back


def test_live_view_draws_at_most_four_frames_a_second() -> None:
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, force_terminal=True, width=80, height=30, _environ={"TERM": "xterm"})
    with LiveView(console, clock) as view:
        for hundredth in range(100):
            clock.seconds = hundredth / 100
            view.update(SNAPSHOT)
    frames = stream.getvalue().count("Ctrl-C once")
    assert 2 <= frames <= 6


def test_open_view_is_plain_off_a_terminal() -> None:
    assert isinstance(open_view(), PlainView)
    assert isinstance(open_view(plain=True), PlainView)
    assert isinstance(open_view(plain=False), LiveView)


def test_what_dvc_writes_leaves_frame_and_terminal_alone() -> None:
    """Its logger and colorama keep standard output as it is when DVC is imported, and write there at exit."""
    code = """
import sys
from ar.views.live import open_view
with open_view(plain=False):
    import dvc.logger
    from dvc.progress import Tqdm
    dvc.logger.setup()
    list(Tqdm(range(3), desc="Applying changes"))
    print("\\x1b[2Jdisk is full", file=sys.stderr)
"""
    ours, theirs = os.openpty()
    env = os.environ | {"TERM": "xterm"}
    child = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    printed = b""
    with contextlib.suppress(OSError):  # how a terminal says that nobody writes to it any more
        while more := os.read(ours, 65536):
            printed += more
    assert child.wait() == 0
    assert plain(printed.decode()).strip() == "disk is full"
    assert b"\x1b[2J" not in printed


# -- how things stand -------------------------------------------------------------------------------------


def standing(root: Path, pace: Pace) -> Snapshot:
    campaign = Campaign(Project.open(root))
    return snapshot(campaign, campaign.history(), Used(runs=20), pace)


def train(root: Path, stage: Stage) -> None:
    """An experiment that runs, as far as refs and its claim's folder tell."""
    tree = git(root, "rev-parse", "HEAD^{tree}")
    git(root, "update-ref", refs.running("mine"), git(root, "commit-tree", tree, "-p", "HEAD", "-m", "x"))
    folder = claims.folder(Repo.open(root), "mine")
    folder.mkdir(parents=True)
    files.write(folder / files.STAGE, stage)


def test_the_clock_counts_over_all_stages(project: Path) -> None:
    fill(project, 10)
    train(project, Stage(1, "", time.time() - 10, "", earlier=3600.0))
    [run] = standing(project, Pace()).running
    assert 3610 <= run.elapsed < 3700
    assert run.expected == 1.0


def test_nothing_is_expected_of_runs_that_crashed(project: Path) -> None:
    write(project, [Made(seed=seed) for seed in (1, 2)])
    train(project, Stage(1, "", time.time(), ""))
    [run] = standing(project, Pace()).running
    assert run.expected is None


def test_the_launcher_says_how_long_earlier_stages_took(project: Path, ar: Ar) -> None:
    second = "  more:\n    cmd: sleep 336.5\n    deps: [c.yaml]\n"
    edit(project / "dvc.yaml", "stages:\n", f"stages:\n{second}")
    edit(project / "dvc.yaml", "awk -f", "sleep 0.3 && awk -f")
    commit(project, "Add a stage")
    ar(project, "next")
    worker = start(project, "worker")
    repo = Repo.open(project)
    wait_for(lambda: any(stage.earlier >= 0.3 for stage in queue.training(repo).values()))
    ar(project, "stop", *queue.training(repo))
    worker.communicate(timeout=60)


def test_time_left_follows_what_was_asked_for(project: Path) -> None:
    fill(project, 18)
    tried = frozenset(attempt["name"] for attempt in attempts_of(project)[:4])

    def left(**pace: Any) -> float | None:
        return standing(project, Pace(ended=10, elapsed=100.0, **pace)).left

    assert left(wanted=None) == pytest.approx(180 * 10)  # the budget has 180 runs left
    assert left(wanted=None, hours=0.1) == pytest.approx(260)
    assert left(wanted=10, proposed=tried, searching=60.0) == pytest.approx(6 * 15)
    assert left(wanted=10) == pytest.approx(10 * 2 * 10)
    assert left(wanted=0) is None
    assert standing(project, Pace(jobs=2)).left == pytest.approx(180 * 0.5)


def test_a_change_is_tried_once_it_has_a_run_though_it_be_open(project: Path) -> None:
    names = write(project, [Made(value=3.7), Made(2.0, 1.9, agent="optuna"), Made(2.5, 1.2, agent="optuna")])
    shown = standing(project, Pace(wanted=4, proposed=frozenset([*names[1:], "queued"])))
    assert (shown.tried, shown.wanted) == (2, 4)
    assert not shown.verdicts
