"""The history table: an attempt a row, newest first, as wide as the terminal has room for.

Titles come from agents: they are printed as data, never as markup, with terminal escapes removed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from ar.campaign.neighbours import hurts
from ar.history.attempts import effect, level
from ar.history.records import Attempt, Experiment, History, Status
from ar.judge.findings import Total
from ar.project.program import Program
from ar.project.values import Scalar
from ar.text import one_line, shorten_middle, span
from ar.views.columns import Chosen
from ar.views.excerpt import Excerpt
from ar.views.facts import short_key, value_text
from ar.views.listing import Listing, listing
from ar.views.marks import MARKS
from ar.views.summary import EMPTY, levels, summary

if TYPE_CHECKING:
    from ar.agents.account import Account
    from ar.surrogate.importance import Importance

_GAP = 2  # columns between two columns
_NAME_WIDTH = 20  # what a tight table leaves of names: both ends, since replicates and retries begin alike
_TITLE_WIDTH = 36  # of titles beside the numbers; below that they move to a line of their own
_ROOMY = 140  # from this width on, guards have their whole names above them


def render(
    history: History,
    program: Program,
    listed: Listing | None = None,
    now: float | None = None,
    seeds: bool = False,
    total: Total | None = None,
    matters: Sequence[Importance] = (),
    paid: Account | None = None,
) -> RenderableType:
    """The history table, and the summary line below it.

    Args:
        listed: the attempts that it has; None for all, newest first.
        now: unix time that ages count from.
        seeds: below each attempt, its runs one by one.
        total: what the closing audit says of the whole campaign.
        matters: what the campaign's model says of each parameter.
        paid: what the agents spent.
    """
    listed = listed or listing(history, program)
    excerpt = Excerpt.of(history, program, listed, summary(history, program, total, matters, paid))
    return drawn(excerpt, program, now, seeds, listed.columns)


def drawn(
    excerpt: Excerpt,
    program: Program,
    now: float | None = None,
    seeds: bool = False,
    chosen: tuple[Chosen, ...] = (),
) -> RenderableType:
    """`render`, of what it needs to know."""
    if not excerpt.known:
        return Text(EMPTY)
    rows = tuple(
        (attempt, run) for attempt in excerpt.shown for run in (None, *(attempt.experiments if seeds else ()))
    )
    table = _Table(rows, program, time.time() if now is None else now, excerpt, chosen)
    left = excerpt.total - len(excerpt.shown)
    words = f"… {left:,} more: -n {excerpt.total} shows all; --contains, --outcome, --agent some"
    more = [Text(words, style="dim")] if left else []
    body = table if excerpt.shown else Text("No attempt is like that. All of them: ar show")
    return Group(body, *more, Text(), excerpt.text)


def climbed(
    history: History, program: Program, rungs: Sequence[str], candidates: Sequence[str] | None = None
) -> RenderableType:
    """The rows of what has climbed to any of the rungs; `candidates` None for all of it."""
    up = {it.candidate for it in history.at_rungs if it.rung in rungs and it.own}
    wanted = up if candidates is None else up.intersection(candidates)
    shown = tuple(attempt for attempt in reversed(history.attempts) if attempt.candidate in wanted)
    if not shown:
        return Text("Nothing has climbed.")
    excerpt = Excerpt.of(
        history, program, Listing(shown, len(shown)), Text("\n".join(levels(history, program)))
    )
    return drawn(excerpt, program)


@dataclass(frozen=True)
class _Column:
    header: str
    cells: list[Text]
    justify: Literal["left", "right"] = "left"

    @property
    def width(self) -> int:
        return max(len(self.header), *(cell.cell_len for cell in self.cells))


_Row = tuple[Attempt, Experiment | None]  # an attempt as a whole, or one of its runs


@dataclass(frozen=True)
class _Table:
    """Attempts and runs a row each. Rich asks it to draw itself once the width is known."""

    rows: tuple[_Row, ...]
    program: Program
    now: float
    excerpt: Excerpt
    chosen: tuple[Chosen, ...] = ()

    @property
    def rungs(self) -> tuple[str, ...]:
        """Rungs above the base that have a column."""
        return self.excerpt.rungs

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = self._columns(roomy=options.max_width >= _ROOMY)
        widths = (
            _narrowed(columns, options.max_width) if self.chosen else self._fit(columns, options.max_width)
        )
        names = list(widths)

        def line(cells: Iterable[Text]) -> Text:
            placed = []
            for name, cell in zip(names, cells, strict=True):
                cell = cell.copy()
                if name == "name":
                    cell.plain = shorten_middle(cell.plain, widths[name])
                cell.truncate(widths[name], overflow="ellipsis")
                cell.align(columns[name].justify, widths[name])
                placed.append(cell)
            joined = Text(" " * _GAP).join(placed)
            joined.rstrip()
            return joined

        yield line(Text(columns[name].header, style="bold") for name in names)
        for index, (attempt, run) in enumerate(self.rows):
            row = line(columns[name].cells[index] for name in names)
            styles = {"baseline": "cyan", "promoted": "bold green"}
            row.style = styles.get(attempt.outcome, "") if run is None else "dim"
            yield row
            if "title" not in names and run is None and not self.chosen:
                title = Text("  ", style="dim").append_text(columns["title"].cells[index])
                title.append(f" · {columns['agent'].cells[index]}" if "agent" not in names else "")
                title.truncate(options.max_width, overflow="ellipsis")
                yield title

    def _columns(self, roomy: bool) -> dict[str, _Column]:
        objective = self.program.objective
        arrow = "↓" if objective.direction == "minimize" else "↑"
        guards = [str(guard) for guard in self.program.guards]
        headers = {name: name for name in ("name", "title", "agent", "seeds")}
        base = self.program.ladder[0].name if self.rungs else "effect"
        headers |= {"objective": f"{one_line(objective.key)} {arrow}", "effect": base}
        headers |= {_at(rung): rung for rung in self.rungs}
        for guard in guards:
            header = one_line(short_key(guard))
            headers[guard] = header if roomy else shorten_middle(header, 10)
        headers |= {"verdict": "verdict", "age": "age"}
        rows = [self._cells(attempt, run) for attempt, run in self.rows]
        right = {"seeds", "objective", "effect", "age", *guards, *map(_at, self.rungs)}
        usual = {
            name: _Column(
                header, [row.get(name, Text()) for row in rows], "right" if name in right else "left"
            )
            for name, header in headers.items()
        }
        own = {str(objective): "objective", **{rung: _at(rung) for rung in self.rungs}}
        return {
            column.name: usual.get(own.get(column.key, column.key)) or self._told(column)
            for column in self.chosen
        } or usual

    def _told(self, column: Chosen) -> _Column:
        """A column that the usual table lacks: of an attempt, and of its runs where they tell it, too."""
        values = [column.of(attempt) if run is None else column.of_run(run) for attempt, run in self.rows]
        cells = [Text("" if value is None else one_line(value_text(value))) for value in values]
        is_text = any(isinstance(value, str) for value in values)
        return _Column(one_line(column.name), cells, "left" if is_text else "right")

    def _cells(self, attempt: Attempt, run: Experiment | None) -> dict[str, Text]:
        """Column to cell; what a row has nothing to say in is left out."""
        age = Text(span(self.now - (run or attempt).created))
        if run is None:
            return {
                "name": Text(one_line(attempt.name)),
                "title": Text(one_line(attempt.title)),
                "agent": Text(one_line(attempt.agent)),
                "seeds": Text(_seeds(attempt)),
                "objective": Text(level(attempt)),
                "effect": Text(effect(attempt, self.program)),
                **{_at(rung): self._climbed(attempt, rung) for rung in self.rungs},
                **{name: Text(f"{value:.4g}") for name, value in attempt.guards.items()},
                "verdict": _verdict(attempt, self.excerpt.own_class),
                "age": age,
            }
        ended_well = run.status is Status.SUCCEEDED
        guards = {str(guard): run.metrics.get(str(guard)) for guard in self.program.guards}
        value = run.metrics.get(str(self.program.objective))
        return {
            "name": Text(f"  {one_line(run.name)}"),
            "seeds": Text("" if run.seed is None else f"seed {run.seed}"),
            "objective": Text(_measured(value, ".6g") if ended_well else ""),
            **{name: Text(_measured(found, ".4g")) for name, found in guards.items() if ended_well},
            "verdict": Text(str(run.status)),
            "age": age,
        }

    def _climbed(self, attempt: Attempt, rung: str) -> Text:
        """The effect at a rung, with the mark of its verdict."""
        climb = self.excerpt.climb(attempt, rung)
        if climb is None:
            return Text()
        mark = MARKS[climb.outcome]
        sign, style = mark.sign, mark.style
        if climb.verdict and hurts(climb.verdict):
            sign, style = "✗", "red"
        return Text(f"{effect(climb, self.program)} {sign}".strip(), style=style)

    def _fit(self, columns: dict[str, _Column], width: int) -> dict[str, int]:
        """Which of the usual columns are shown, and how wide.

        On a tight terminal the effect goes, then the agent; then titles move to a line of their own below the
        numbers, and as little as still fits leaves from there. The objective never does.
        """
        names, room = self._that_fit(columns, width)
        widths = {name: columns[name].width for name in names}
        if "title" in names:
            widths["name"] = min(widths["name"], max(_NAME_WIDTH, room - widths["title"]))
            widths["title"] = min(widths["title"], room - widths["name"])
        else:
            widths["name"] = min(widths["name"], room)
        return widths

    def _that_fit(self, columns: dict[str, _Column], width: int) -> tuple[list[str], int]:
        """Which columns are shown, and how many places name and title share."""
        guards = [str(guard) for guard in self.program.guards]
        rungs = [_at(rung) for rung in self.rungs]
        below = [name for name in columns if name not in ("title", "agent")]
        beside = (list(columns), ("effect", "agent"))
        for names, leaving in (beside, (below, ("effect", "age", "seeds", *guards, *rungs))):
            for name in (None, *leaving):
                if name is not None:
                    names.remove(name)
                wanted = min(columns["name"].width, _NAME_WIDTH)
                if "title" in names:
                    wanted += min(columns["title"].width, _TITLE_WIDTH)
                fixed = sum(columns[name].width for name in names if name not in ("name", "title"))
                room = width - fixed - _GAP * (len(names) - 1)
                if room >= wanted:
                    return names, room
        return names, max(room, 4)


def _narrowed(columns: dict[str, _Column], width: int) -> dict[str, int]:
    """How wide columns are that all stay: of those that are text the widest give way first."""
    widths = {name: column.width for name, column in columns.items()}
    texts = [name for name, column in columns.items() if column.justify == "left"]
    while texts and (over := sum(widths.values()) + _GAP * (len(widths) - 1) - width) > 0:
        widest = max(texts, key=lambda name: widths[name])
        if widths[widest] <= _NAME_WIDTH:
            break
        widths[widest] = max(_NAME_WIDTH, widths[widest] - over)
    return widths


def _measured(value: Scalar, form: str) -> str:
    """One run's number; empty for what is no number."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:{form}}" if known else ""


def _seeds(attempt: Attempt) -> str:
    """Runs that count, and how many more are under way."""
    done = sum(run.status is Status.SUCCEEDED for run in attempt.distinct)
    coming = sum(not run.status.ended for run in attempt.experiments)
    return f"{done}+{coming}" if coming else str(done)


def _verdict(attempt: Attempt, own_class: str) -> Text:
    """The outcome, and what kind of one; on which devices, where those are not the campaign's own."""
    mark = MARKS[attempt.outcome]
    verdict = attempt.verdict
    label = f", {verdict.called}" if verdict is not None and verdict.hurts_higher else ""
    said = attempt.claimed or (str(attempt.audited.finding) if attempt.audited else "")
    label = f": {said}" if said else label
    if attempt.verdict and attempt.verdict.device not in ("", own_class):
        label += f", on {one_line(attempt.verdict.device)}"
    return Text(f"{mark.sign} {attempt.outcome}{label}", style=mark.style)


def _at(rung: str) -> str:
    """The key of a rung's column."""
    return f"at {rung}"
