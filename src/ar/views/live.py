"""What `ar run` shows while it runs: a live frame on a terminal, plain lines elsewhere.

A view is told what happened (`event`) and how things stand (`update`, as often as the engine likes); how soon
that reaches the screen is the view's own business. All text from experiments is data, never markup.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ar.campaign.progress import Running, Snapshot, View
from ar.history.records import Outcome
from ar.text import clock, one_line, plain
from ar.views.lines import PlainView
from ar.views.marks import MARKS
from ar.views.standing import objective_name, run_clock, spent

HINT = "Ctrl-C once: finish what runs; twice: stop now"
FRAME = 0.25  # seconds between two frames
VERDICTS = 6


def open_view(plain: bool | None = None) -> View:
    """The view that fits standard output; `plain` decides it instead where not None."""
    if plain is None:
        encoding = (sys.stdout.encoding or "").lower().replace("-", "")
        plain = not sys.stdout.isatty() or os.environ.get("TERM") == "dumb" or not encoding.startswith("utf")
    if plain:
        return PlainView(sys.stdout)
    return LiveView(Console())


class LiveView:
    """A frame at the bottom of the terminal that is redrawn in place; events scroll by above it."""

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._now = now
        self._drawn = float("-inf")
        # Drawn when something is known, not by a thread: what the engine prints can then never tear a frame.
        # Standard output stays as it is: colorama (of DVC's) keeps it, and writes an escape there at the end.
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            vertical_overflow="crop",
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._errors = contextlib.redirect_stderr(_Above(console))

    def __enter__(self) -> Self:
        self._live.start()
        self._errors.__enter__()
        return self

    def __exit__(self, *ended_by: object) -> None:
        self._errors.__exit__(None, None, None)
        with contextlib.suppress(OSError):  # the terminal may be gone; what ended the engine matters more
            self._live.stop()

    def event(self, text: str) -> None:
        line = Text(f"{time.strftime('%H:%M:%S')} ", style="dim")
        line.append(plain(text), style="default not dim")
        self._console.print(line, soft_wrap=False)

    def update(self, snapshot: Snapshot) -> None:
        if self._now() - self._drawn >= FRAME * 0.9:
            self._drawn = self._now()
            self._live.update(frame(snapshot, self._console.width, self._console.height), refresh=True)


class _Above(io.TextIOBase):
    """Standard error as lines above the frame. It is no terminal: DVC draws no bars of its own on it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._console.print(Text(plain(line)))
        return len(text)


def frame(snapshot: Snapshot, width: int, height: int = 24) -> RenderableType:
    """The live frame for a terminal of that size. Tight, it gives up titles first and numbers last."""
    parts: list[RenderableType] = [Rule(style="dim"), _headline(snapshot), _levels(snapshot), Text()]
    height -= bool(snapshot.asking) + bool(snapshot.paid)
    jobs = max(1, height - 14)
    parts.append(_runs(snapshot, jobs, width))
    if snapshot.asking:
        parts.append(_line(snapshot.asking, "dim"))
    if snapshot.verdicts and height >= 16:
        shown = snapshot.verdicts[-max(1, min(VERDICTS, height - 12 - min(jobs, len(snapshot.running)))) :]
        parts += [Text(), _verdicts(shown, width)]
    parts += [Text(), _spending(snapshot, width)]
    if snapshot.paid:
        parts.append(_line(f"agents spent {snapshot.paid}", "dim"))
    parts.append(_line(HINT, "dim"))
    return Group(*parts)


def _line(text: str, style: str = "") -> Text:
    """One line of data: never markup, never wrapped."""
    return Text(one_line(text), style=style, no_wrap=True, overflow="ellipsis")


def _headline(snapshot: Snapshot) -> Table:
    table = _grid()
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    left = _line(snapshot.phase or "starting", "bold")
    if snapshot.agent:
        left.append(f"  agent {one_line(snapshot.agent)}", style="not bold dim")
    table.add_row(left, _line(clock(snapshot.elapsed), "dim"))
    return table


def _levels(snapshot: Snapshot) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{objective_name(snapshot)}now ", style="dim")
    text.append(one_line(snapshot.best) or "not measured yet", style="bold")
    if snapshot.baseline and snapshot.baseline != snapshot.best:
        text.append("   baseline ", style="dim").append(one_line(snapshot.baseline))
    if snapshot.metric:
        text.append(f"   {snapshot.metric.better} is better", style="dim")
    return text


def _runs(snapshot: Snapshot, most: int, width: int) -> RenderableType:
    table = _grid()
    if width >= 60:
        table.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True)
    table.add_column(ratio=2, min_width=6)
    table.add_column(justify="right", no_wrap=True)
    for run in snapshot.running[:most]:
        bar = ProgressBar(
            total=max(run.expected or 1.0, 0.001),
            completed=min(run.elapsed, run.expected or 0.0),
            pulse=run.expected is None,
            complete_style="yellow",
            finished_style="yellow",
            pulse_style="yellow",
        )
        place = f"{run.slot}: " if run.slot else ""
        words = [_line(f"{place}{run.title or run.name}"), _line(_seed(run), "dim")] if width >= 60 else []
        table.add_row(*words, bar, _line(run_clock(run)))
    waiting = [f"{snapshot.queued} queued"] if snapshot.queued else []
    if not snapshot.running:
        waiting.insert(0, "nothing runs")
    elif len(snapshot.running) > most:
        waiting.insert(0, f"{len(snapshot.running) - most} more run")
    return Group(table, _line(", ".join(waiting), "dim")) if waiting else table


def _verdicts(verdicts: tuple[tuple[str, str, Outcome, str], ...], width: int) -> Table:
    table = _grid()
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    for name, title, outcome, effect in verdicts:
        mark = MARKS[outcome]
        word = f"{mark.sign} {outcome}" if width >= 60 else mark.sign
        table.add_row(_line(word, mark.style), _line(title or name, mark.style), _line(effect))
    return table


def _spending(snapshot: Snapshot, width: int) -> RenderableType:
    """How far the campaign is: of the changes that were asked for, or else of the budget."""
    roomy = width >= 60
    word, done, whole = "budget", snapshot.spent, snapshot.budget
    if snapshot.wanted:
        word, done, whole = "changes", snapshot.tried, snapshot.wanted
    table = _grid()
    if roomy:
        table.add_column(no_wrap=True)
    table.add_column(ratio=1, min_width=4)
    table.add_column(justify="right", no_wrap=True)
    whole = max(1, whole)
    bar = ProgressBar(whole, min(done, whole), complete_style="cyan", finished_style="cyan")
    table.add_row(*([_line(word, "dim")] if roomy else []), bar, _line(spent(snapshot, roomy)))
    return table


def _grid() -> Table:
    return Table.grid(padding=(0, 2, 0, 0), expand=True)


def _seed(run: Running) -> str:
    return "" if run.seed is None else f"seed {run.seed}"
