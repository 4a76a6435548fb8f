"""How a campaign stands at one moment, as the page shows it: read once, for every browser that looks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ar.agents.account import Account
from ar.campaign import progress
from ar.campaign.campaign import Campaign
from ar.campaign.pace import Pace
from ar.campaign.progress import Snapshot
from ar.git import refs
from ar.git.repo import Repo
from ar.history import notebook
from ar.history.attempts import effect
from ar.history.notebook import MOST_TEXT, Standing
from ar.history.records import Attempt, History, Outcome
from ar.history.spend import Spend
from ar.judge.findings import total
from ar.judge.nodes import set_aside
from ar.local import locks
from ar.page.errands import Errand
from ar.page.rows import Row, Rows, State
from ar.project.program import Metric, Program
from ar.runs import budget, queue
from ar.runs.stop import WORKER
from ar.serve.desk import Desk, advice
from ar.serve.words import Words
from ar.text import counted, interval, one_line, quantity, signed
from ar.views.charts.progress import shown_range
from ar.views.report import gain_so_far
from ar.views.summary import elsewhere, levels

_MOST_LESSONS = 60
_MOST_WAITING = 12


@dataclass(frozen=True)
class Gain:
    """How far the branch has come, in words.

    Args:
        interval: 95 %.
        is_better: the whole of it is an improvement.
        is_audited: by runs that no decision selected.
    """

    change: str
    interval: str
    is_audited: bool
    is_better: bool


@dataclass(frozen=True)
class Line:
    """An attempt that waits, or wants something."""

    name: str
    title: str
    agent: str
    outcome: str
    where: str
    gain: str


@dataclass(frozen=True)
class AgentRow:
    """What an agent proposed, and what came of it.

    Args:
        gain: of its promoted changes, each as it was judged; in words.
        worth: improvement for each dollar that it spent.
        refused: proposals that were refused, and changes whose runs the harness refused or whose numbers may
            not count.
    """

    name: str
    proposed: int
    promoted: int
    failed: int
    refused: int
    gain: str
    spent: str
    worth: str


@dataclass(frozen=True)
class Note:
    """A lesson of the notebook."""

    name: str
    text: str
    standing: str
    who: str
    cites: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """A host that runs ended on."""

    host: str
    device: str
    runs: int
    aside: str


@dataclass(frozen=True)
class Scene:
    """Everything that the page's first view shows.

    Args:
        began: name of a running experiment to the unix time at which its stages began.
        low, high: ends of the metric's axis.
        waiting: the first of the attempts that wait for a run, or for the judge; `wait` is how many do.
        workers: processes on this machine that run experiments.
        elsewhere: what remotes' queues, a cluster's among them, had when they were last looked at, in words.
    """

    title: str
    branch: str
    metric: Metric
    now: Snapshot
    began: dict[str, float]
    gain: Gain | None
    hours: float
    hours_budget: float | None
    counts: dict[str, int]
    noise: str
    advice: str
    rows: tuple[Row, ...]
    states: tuple[State, ...]
    low: float | None
    high: float | None
    base: tuple[float, float] | None
    waiting: tuple[Line, ...]
    wait: int
    winners: tuple[Line, ...]
    agents: tuple[AgentRow, ...]
    notes: tuple[Note, ...]
    rungs: tuple[str, ...]
    climbs: tuple[Line, ...]
    machines: tuple[Machine, ...]
    workers: tuple[str, ...]
    elsewhere: tuple[str, ...]
    errands: tuple[Errand, ...]


class Reader:
    """Reads scenes of one project."""

    def __init__(self, desk: Desk, errands: Callable[[], tuple[Errand, ...]] = tuple) -> None:
        self._desk, self._rows, self._errands = desk, Rows(), errands
        self._gain: tuple[object, Gain | None] | None = None

    def marks(self) -> tuple[object, ...]:
        """What differs once a scene would: cheap enough to be asked each second."""
        repo = self._desk.repo()
        stages = {name: stage.began for name, stage in queue.training(repo).items()}
        written = repo.resolve(refs.NOTEBOOK), repo.resolve(refs.SPEND)
        return *self._desk.marks(), *written, stages, _workers(repo), self._errands()

    def read(self) -> Scene:
        with self._desk.campaign() as campaign:
            return self._read(campaign, campaign.history())

    def _read(self, campaign: Campaign, history: History) -> Scene:
        program, repo = campaign.program, campaign.repo
        used, workers = budget.used(repo, history), _workers(repo)
        stages = queue.training(repo)
        now = progress.snapshot(campaign, history, used, Pace(jobs=max(1, len(stages))))
        rows, states = self._rows.of(program, history)
        first = history.first
        axis = shown_range(history, program)
        kinds = Outcome.QUEUED, Outcome.OPEN
        waiting = [item for item in history.attempts if item.outcome in kinds and not item.is_foreign]
        return Scene(
            title=one_line(repo.root.name),
            branch=one_line((repo.branch() or "a detached head").removeprefix("refs/heads/")),
            metric=program.objective,
            now=now,
            began={name: stage.began for name, stage in stages.items()},
            gain=self._gain_of(campaign, history),
            hours=used.hours,
            hours_budget=program.budget.hours,
            counts=dict(Counter(row.kind for row in rows if row.outcome != Outcome.BASELINE)),
            noise="" if history.sigma is None else quantity(history.sigma),
            advice=advice(campaign, history, for_agents=False),
            rows=rows,
            states=states,
            low=axis[0] if axis else None,
            high=axis[1] if axis else None,
            base=(first.value, first.standard_error or 0.0) if first and first.value is not None else None,
            waiting=_lines(program, waiting[:_MOST_WAITING]),
            wait=len(waiting),
            winners=_lines(program, history.winners[::-1]),
            agents=_agents(program, history, campaign.books.read()),
            notes=_notes(campaign, history),
            rungs=tuple(levels(history, program)),
            climbs=_lines(program, [item for item in history.at_rungs if item.own][-_MOST_WAITING:][::-1]),
            machines=_machines(program, history),
            workers=workers,
            elsewhere=tuple(elsewhere(history)),
            errands=self._errands(),
        )

    def _gain_of(self, campaign: Campaign, history: History) -> Gain | None:
        """The noise takes a while to tell, and changes the interval only where the branch was run again."""
        key = history.first, history.now
        if self._gain is None or self._gain[0] != key:
            self._gain = key, _gain(campaign, history)
        return self._gain[1]


def _gain(campaign: Campaign, history: History) -> Gain | None:
    orient = campaign.program.objective.orient
    audited = total(campaign.program, history)
    if audited is not None:
        words = (
            signed(audited.change, audited.standard_error),
            interval(audited.interval, audited.standard_error),
        )
        return Gain(*words, is_audited=True, is_better=all(orient(end) < 0 for end in audited.interval))
    found = gain_so_far(campaign, history)
    if found is None or history.first is history.now:
        return None
    change, error, half = found
    words = signed(change, error), interval((change - half, change + half), error)
    return Gain(*words, is_audited=False, is_better=abs(change) > half and orient(change) < 0)


def _lines(program: Program, attempts: Sequence[Attempt]) -> tuple[Line, ...]:
    found = []
    for item in attempts:
        words = Words(program, [item])
        where = item.rung or next((run.where for run in item.experiments if run.where), "")
        found.append(
            Line(
                item.name,
                words(one_line(item.title)),
                words(item.agent),
                str(item.outcome),
                words(where),
                effect(item, program),
            )
        )
    return tuple(found)


def _agents(program: Program, history: History, paid: Account) -> tuple[AgentRow, ...]:
    """Every agent that was asked or proposed something, what gained most first."""
    by_agent: dict[str, list[Attempt]] = {name: [] for name in (*paid.agents, *paid.refused)}
    for item in history.tried:
        by_agent.setdefault(item.agent, []).append(item)
    found = []
    for name, items in by_agent.items():
        words = Words(program, [])
        won = [item for item in items if item.outcome is Outcome.PROMOTED]
        verdicts = [item.verdict for item in won if item.verdict and item.verdict.effect is not None]
        change = sum(verdict.effect or 0.0 for verdict in verdicts)
        error = math.hypot(*(verdict.standard_error or 0.0 for verdict in verdicts))
        spent = paid.agents.get(name)
        usd = spent.usd if spent else None
        worth = f"{-change / usd:.2g} a dollar" if usd and change < 0 else ""
        row = AgentRow(
            name=words(one_line(name)) or "others",
            proposed=len(items),
            promoted=len(won),
            failed=sum(
                item.outcome in (Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.DIVERGED) for item in items
            ),
            refused=paid.refused.get(name, 0) + sum(_is_refused(item) for item in items),
            gain=signed(program.objective.orient(change), error or None) if verdicts else "",
            spent=_amount(spent) if spent else "",
            worth=worth,
        )
        found.append((change, row))
    return tuple(row for _, row in sorted(found, key=lambda item: (item[0], -item[1].proposed, item[1].name)))


def _amount(spent: Spend) -> str:
    return f"{spent.tokens:,} tokens" if spent.usd is None else f"{spent.usd:,.2f} USD"


def _is_refused(attempt: Attempt) -> bool:
    if attempt.outcome is Outcome.TAMPERED:
        return True
    return any(run.note and run.note.refused for run in attempt.experiments)


def _notes(campaign: Campaign, history: History) -> tuple[Note, ...]:
    standings = (Standing.SUPPORTED, Standing.OPEN, Standing.REFUTED)
    lessons = notebook.by_recency(notebook.read(campaign.repo).lessons(), *standings)[:_MOST_LESSONS]
    cited = {name for lesson in lessons for name in lesson.cites}
    words = Words(campaign.program, [item for item in history.attempts if item.name in cited])
    return tuple(
        Note(one.short, words(one.text, MOST_TEXT), str(one.standing), words(one.who), tuple(one.cites))
        for one in lessons
    )


def _machines(program: Program, history: History) -> tuple[Machine, ...]:
    aside = {(one.host, one.device): one.words for one in set_aside(program, history)}
    return tuple(
        Machine(one_line(host), one_line(kind), len(runs), aside.get((host, kind), ""))
        for kind, hosts in history.machines.items()
        for host, runs in hosts.items()
    )


def _workers(repo: Repo) -> tuple[str, ...]:
    """Processes of this machine that run experiments, in words."""
    names = [name for name in locks.names(repo, "run", f"{WORKER}-*") if locks.holder(repo, name)]
    found = Counter("ar run" if name == "run" else "ar worker" for name in names)
    return tuple(counted(count, word) if count > 1 else word for word, count in sorted(found.items()))
