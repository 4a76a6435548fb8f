"""The A/A check of the branch: when it is due, with which seeds it runs, and what it says in words.

What its runs say is worked out in `ar.judge.aa`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ar.campaign.engine import Engine
from ar.campaign.pace import RUNS_A_CHANGE, expected
from ar.errors import BadState
from ar.history.records import Experiment, History
from ar.judge import aa
from ar.judge.aa import AACheck, Flaw, FlawKind, Spread
from ar.judge.evidence import MOST_RUNS, Ledger
from ar.project.program import Program
from ar.text import counted, one_line, quantity, signed

RUNS = 4  # of a check that nobody asked for
SHARE = 0.02  # of what a campaign may spend: a check that costs less is made unasked


def affordable(engine: Engine, history: History, experiments: int | None) -> int:
    """How many runs a check has that nobody asked for: `RUNS` where nothing was tried yet and they cost less
    than `SHARE` of the budget's runs (or of those that so many new changes take) and of each limit of time;
    else 0. One that was begun is made whole."""
    duration = expected(history, "")
    if duration is None or experiments == 0 or (history.tried and not runs_of(history)):
        return 0
    budget = engine.campaign.program.budget
    runs = budget.runs if experiments is None else min(budget.runs, RUNS_A_CHANGE * experiments)
    hours = [limit * engine.jobs for limit in (engine.hours, budget.hours) if limit is not None]
    hours += [] if budget.gpu_hours is None else [budget.gpu_hours]
    cheap = all(RUNS * duration < SHARE * 3600 * limit for limit in hours)
    return RUNS if cheap and SHARE * runs > RUNS else 0


def check_room(program: Program, history: History, ledger: Ledger, wanted: int) -> None:
    """Raises: BadState where the budget has no room for what a check still lacks."""
    lacks, spare = wanted - len(runs_of(history)), max(0, ledger.spare)
    if lacks > spare:
        what = (
            f"an A/A check of {counted(wanted, 'run')} lacks {lacks}, and the budget has room for {spare:g}"
        )
        raise BadState(what, f"raise budget.runs in {program.file}, or ask for fewer")


def runs_of(history: History) -> list[Experiment]:
    """The runs of the head's check, whatever became of them."""
    return [run for run in history.now.base if run.aa and not run.only_at] if history.now else []


def is_done(made: Sequence[Experiment], wanted: int) -> bool:
    return len(made) >= wanted and all(run.status.ended for run in made)


def lacking(history: History, ledger: Ledger, wanted: int) -> list[int | None]:
    """The seeds of the runs that a check of `wanted` still lacks.

    Half as many seeds as runs, and no more than a change gets, in turns: each has two runs at least, far
    apart in time.
    """
    count = wanted - len(runs_of(history))
    if ledger.first_seed is None:
        return [None] * count
    made = Counter(run.seed for run in (history.now.base if history.now else ()))
    first = ledger.first_seed
    seeds = range(first, first + max(2, min(MOST_RUNS, wanted // 2)))
    found: list[int | None] = []
    for _ in range(count):
        found.append(min(seeds, key=lambda seed: made[seed]))
        made[found[-1]] += 1
    return found


# -- in words ----------------------------------------------------------------------------------------------


def lines(program: Program, history: History) -> list[str]:
    """What the latest check came to, and what to do about each flaw; nothing where none was made."""
    found = aa.last(program, history)
    if found is None:
        return []
    return [f"A/A check: {line(found)}", *(f"warning: {mend(flaw, program)}" for flaw in found.flaws)]


def line(found: AACheck) -> str:
    """What a check came to, in a line."""
    parts = [f"{counted(found.measured, 'run')} of the unchanged branch"]
    if found.failed:
        parts.append(f"{counted(found.failed, 'more')} failed")
    if found.compared:
        parts.append(f"{found.promoted} of {counted(found.compared, 'pretended change')} promoted")
    if found.metrics and (words := by_seed(found.metrics[0])):
        parts.append(words)
    shifts = [words for spread in found.metrics for words in _shifts(found, spread)]
    has_told = any(spread.drift for spread in found.metrics)
    return "; ".join([*parts, *(shifts or (["nothing drifts"] if has_told else []))])


def by_seed(spread: Spread) -> str:
    """How a metric's runs with one seed compare; empty where none was repeated."""
    key = _key(spread.metric)
    if spread.same_seed is None:
        return ""
    if spread.is_deterministic:
        return f"a seed gives the same {key} to the last digit"
    return f"{key} of one seed varies by σ = {quantity(spread.same_seed)}"


def _shifts(found: AACheck, spread: Spread) -> list[str]:
    """What moves one metric."""
    key, words = _key(spread.metric), []
    for flaw in found.flaws:
        if flaw.metric != spread.metric:
            continue
        if flaw.kind is FlawKind.DRIFTS and spread.drift:
            much = signed(spread.drift.size, spread.drift.standard_error)
            words.append(f"{key} drifts: {much} from the first run to the last")
        elif flaw.kind is FlawKind.MACHINE:
            shift = spread.machines[flaw.host]
            much = signed(shift.size, shift.standard_error)
            words.append(f"{key} differs on {one_line(flaw.host)}: {much}")
    return words


def mend(flaw: Flaw, program: Program) -> str:
    """What a flaw means and what to do about it."""
    key = _key(flaw.metric)
    steady = "keep the machine idle and its clock fixed, or count work instead of time (docs/judge.md)"
    match flaw.kind:
        case FlawKind.FAILS:
            return "the branch as it is does not always run to its end; see: ar show --seeds, ar log NAME"
        case FlawKind.PROMOTES:
            return "the rule takes the branch for better than itself: find what else than code moves its runs"
        case FlawKind.MACHINE:
            where = one_line(flaw.host)
            return f"{key} is not the same on {where}: let one kind of machine run all of a campaign"
        case FlawKind.DRIFTS if flaw.metric != str(program.objective):
            return f"{key} drifts, so that its guard may refuse good changes and pass bad ones: {steady}"
        case FlawKind.DRIFTS if program.objective.is_time:
            return (
                f"{key} drifts; changes are compared with runs beside them, which takes more runs: {steady}"
            )
        case FlawKind.DRIFTS:
            causes = "the date, a cache, a file or data set that grows, a machine that warms up"
            return (
                f"{key} drifts, and late changes would look better or worse than they are: look for {causes}"
            )


def _key(metric: str) -> str:
    return one_line(metric.rpartition(":")[2])
