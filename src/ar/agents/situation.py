"""How things stand, for a briefing: what changes with a promotion or a block of experiments, and what is
different every time. The first is told before the experiments of the newest block, so that prompt caches can
re-use it; it takes no notice of what ended since that block began.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING

from ar.agents import digest, holdout, literature, roles
from ar.agents.base import Briefing
from ar.agents.fence import fence
from ar.agents.rows import best, brief, ended, ended_at
from ar.history.attempts import level
from ar.history.near_misses import NearMiss
from ar.history.notebook import Standing
from ar.history.records import Attempt, History, Outcome, Status
from ar.judge.reflection import reflect
from ar.project.program import Program
from ar.project.values import number
from ar.redaction import redact
from ar.text import counted, one_line, plain, quantity, shorten_middle, signed, span

if TYPE_CHECKING:
    from ar.surrogate.outlook import Gap

BLOCK = 25  # experiments in one block of the history's table
PLATEAU = 25  # experiments without a promotion after which the notebook is to be doubted
_EARLY = 5  # experiments that count as a block before there is a whole one
_MOST_OPEN = 5  # lessons that nobody has settled for a block before somebody is asked to
_BEST, _NEWEST, _MOST_PARAMS, _MOST_PENDING = 8, 5, 120, 40
_EXPLAINED, _MOST_SAID = 2, 300  # experiments whose hypotheses are told, and characters of each
_MOST_GAPS, _MOST_IMPORTED, _MOST_METRICS, _MOST_NEAR, _MOST_FRESH_NEAR = 12, 100, 40, 8, 3


def snapshot(attempts: Sequence[Attempt]) -> tuple[Sequence[Attempt], float]:
    """The changes that had ended when the newest block began, and when the last of them did."""
    step = next((size for size in (BLOCK, _EARLY) if len(attempts) >= size), 1)
    known = attempts[: len(attempts) // step * step]
    return known, (ended_at(known[-1]) or 0.0) if known else -math.inf


# -- what changes seldom ----------------------------------------------------------------------------------


def lately(briefing: Briefing) -> str:
    """The branch, the best of what was tried, and the notebook, as the newest block began."""
    program, history = briefing.program, briefing.history
    known, until = snapshot(ended(history))
    parts = ["# The branch, and what is known", *_branch(briefing), _machine(known)]
    leading = best(known, _BEST)
    if leading:
        lines = [brief(program, item) for item in leading]
        parts.append(fence("\n".join(lines), "the best effects so far"))
        parts.append(_explained(program, leading[:_EXPLAINED], "hypotheses of the best"))
    parts.append(_near(briefing, -math.inf, until, _MOST_NEAR))
    if told := digest.digest(program, history, briefing.notebook, until):
        parts.append(
            "The notebook: what was learned so far. Rest on it; say where an experiment contradicts it.\n"
            + told
        )
    parts += [literature.pointer(briefing.cards), _params(briefing)]
    return "\n\n".join(filter(None, parts))


def _branch(briefing: Briefing) -> list[str]:
    """The incumbent: its name, level, figures and curve; and the noise."""
    program, history = briefing.program, briefing.history
    key, now, first = program.objective.key, history.now, history.first
    said = "is not measured yet"
    if now and now.value is not None:
        runs = sum(run.status.ended for run in now.experiments)
        said = f"has {key} {quantity(now.value, now.standard_error)} over {counted(runs, 'run')}"
    title = "" if now is None or now.is_baseline else f", last changed by {one_line(now.name)}"
    lines = [f"The branch ({history.head[:9]}{title}) {said}."]
    if first and now and first is not now and first.value is not None:
        lines[0] += f" The campaign began at {quantity(first.value, first.standard_error)}."
    if history.sigma is not None:
        lines.append(
            f"Noise: runs of equal code have a standard deviation of {history.sigma:.2g} {key} between"
            " seeds. An effect far below that will take many runs to show, or never will."
        )
    if now and (figures := _figures(program, now)):
        lines.append(fence("\n".join(figures), "what the branch's runs measure, on average"))
    if briefing.curve:
        points = " ".join(f"{value:.4g}" for value in briefing.curve)
        lines.append(f"The branch's curve, at equal shares of a run: {points}")
    return lines


def _figures(program: Program, attempt: Attempt) -> list[str]:
    """Means of all metrics but the holdout's."""
    runs = [run for run in attempt.experiments if run.status is Status.SUCCEEDED]
    values: dict[str, list[float]] = {}
    for run in runs:
        for name, value in run.metrics.items():
            if (size := number(value)) is not None and not holdout.names_it(name, program):
                values.setdefault(name, []).append(size)
    values.pop(str(program.holdout), None)
    lines = [f"{one_line(name)} {fmean(sizes):.5g}" for name, sizes in values.items()]
    return lines[:_MOST_METRICS]


def _machine(known: Sequence[Attempt]) -> str:
    """What a run takes, and where it runs; empty where nobody noted it."""
    runs = [run for item in known for run in item.experiments if run.status is Status.SUCCEEDED]
    notes = [run.note for run in runs[-BLOCK:] if run.note and run.note.seconds]
    if not notes:
        return ""
    words = [f"A run takes {span(median(note.seconds or 0.0 for note in notes))}"]
    if memory := [note.peak_memory_mb for note in notes if note.peak_memory_mb]:
        words.append(f"{median(memory):.0f} MB of memory")
    if on_gpu := [note.gpu_memory_mb for note in notes if note.gpu_memory_mb]:
        words.append(f"{median(on_gpu):.0f} MB of its GPU's")
    device = notes[-1].device.device_class if notes[-1].device else ""
    return ", ".join(words) + (f", on {one_line(device)}." if device else ".")


def _near(briefing: Briefing, since: float, until: float, most: int) -> str:
    """Changes that are promising and not settled, of those that ended within a stretch of time."""
    near = [item for item in briefing.near if since < (ended_at(item.attempt) or math.inf) <= until]
    if not near:
        return ""
    more = [f"… {len(near) - most} more"] if len(near) > most else []
    lines = [near_line(briefing.program, item) for item in near[:most]]
    said = (
        "Promising, not settled. `revisit` takes one up on the branch as it is, where that has moved since."
    )
    return f"{said}\n{fence(chr(10).join(lines + more), 'near misses: name | title | effect | state | why')}"


def near_line(program: Program, miss: NearMiss) -> str:
    """A near miss in a line: name, title, effect, state, why, and whether the branch has moved since."""
    where = "the branch is as it was" if miss.here else "the branch has moved since"
    return f"{brief(program, miss.attempt)} | {miss.why}; {where}"


def _explained(program: Program, attempts: Sequence[Attempt], what: str) -> str:
    words = [
        f"{one_line(item.name)}: {shorten_middle(one_line(item.first.hypothesis), _MOST_SAID)}"
        for item in attempts
        if item.first.hypothesis
    ]
    hidden = (holdout.hidden(line, program) for line in words)
    return fence("\n".join(hidden), what) if words else ""


def _params(briefing: Briefing) -> str:
    allowed = [
        f"{name.removeprefix('params.yaml:')} = {value}"
        for name, value in briefing.params.items()
        if any(key.flat == name or name.startswith(f"{key.flat}.") for key in briefing.program.scope.params)
    ]
    if not allowed:
        return ""
    rest = [f"… {len(allowed) - _MOST_PARAMS} more"] if len(allowed) > _MOST_PARAMS else []
    return fence("\n".join(allowed[:_MOST_PARAMS] + rest), "the branch's parameters that may be set")


# -- what is different every time -------------------------------------------------------------------------


def now(briefing: Briefing) -> str:
    """All the rest of the present."""
    program, history = briefing.program, briefing.history
    attempts = ended(history)
    parts = ["# How things stand", _left(briefing)]
    if attempts:
        parts.append("The newest: " + ", ".join(one_line(item.name) for item in attempts[-_NEWEST:]))
        parts.append(_explained(program, attempts[-_EXPLAINED:], "hypotheses of the newest"))
    parts += [_looking_back(briefing, attempts), _doubts(briefing, attempts)]
    _, since = snapshot(attempts)
    parts.append(_near(briefing, since, math.inf, _MOST_FRESH_NEAR))
    parts.append(digest.fresh(program, history, briefing.notebook, since))
    parts += [_model(briefing), _pending(history), _board(briefing), _pulled(briefing), _imported(briefing)]
    if briefing.lane:
        parts.append(f"Your lane is: {one_line(briefing.lane)}. Others work on the rest; keep to it.")
    if briefing.idea:
        parts.append(
            "The user asks for this very idea to be tried; make it into a sound experiment:\n"
            + redact(plain(briefing.idea)).strip()
        )
    if briefing.refused:
        refusals = fence("\n".join(f"- {plain(item)}" for item in briefing.refused), "the refusals")
        parts.append(f"Your last answers to this very question were refused:\n{refusals}")
    parts.append(roles.told(briefing.role))
    return "\n\n".join(filter(None, parts))


def _left(briefing: Briefing) -> str:
    """What is left of each budget that is set."""
    budget, used, spent = briefing.program.budget, briefing.used, briefing.spent
    if used is None or spent is None:
        return ""
    sizes: list[tuple[float | None, float, str]] = [
        (budget.runs, used.runs + used.under_way, "runs"),
        (budget.hours, used.hours, "hours"),
        (budget.gpu_hours, used.gpu_hours, "GPU hours"),
        (budget.tokens, spent.tokens, "tokens"),
        (budget.usd, spent.usd or 0.0, "US dollars"),
    ]
    left = [
        f"{max(0.0, limit - amount):,.5g} of {limit:,.6g} {unit}" for limit, amount, unit in sizes if limit
    ]
    return f"Left of the budget: {', '.join(left)}."


def _looking_back(briefing: Briefing, attempts: Sequence[Attempt]) -> str:
    """What became of the agent's own last changes, against what it expected."""
    own = [item for item in attempts if item.is_decided and item.agent == briefing.agent]
    told = [found.words for item in own[-_EXPLAINED:] if (found := reflect(briefing.program, item))]
    if not told:
        return ""
    lines = fence("\n".join(told), "your last verdicts")
    return f"{lines}\nAsk why before you go on; a lesson that holds beyond one change is worth a note."


def _doubts(briefing: Briefing, attempts: Sequence[Attempt]) -> str:
    """Whether the notebook should be doubted, or put in order."""
    places = [place for place, item in enumerate(attempts, 1) if item.outcome is Outcome.PROMOTED]
    waited = len(attempts) - max(places, default=0)
    if waited >= PLATEAU:
        return (
            f"Nothing was promoted for {waited} experiments. Challenge the notebook: which of its lessons may"
            " be wrong, or hold only for what the branch was then? Prefer a change that would show it."
        )
    unsettled = [item for item in briefing.notebook.lessons() if item.standing is Standing.OPEN]
    begun = ended_at(attempts[-BLOCK]) if len(attempts) >= BLOCK else None
    old = [item for item in unsettled if begun is not None and item.changed < begun]
    if len(old) >= _MOST_OPEN:
        return (
            f"{len(old)} lessons stand open for more than {BLOCK} experiments: where these settle one, `note`"
            " that it is supported, refuted or stale."
        )
    return ""


def _model(briefing: Briefing) -> str:
    """What the campaign's model says; empty where there is none."""
    if briefing.surface is None:
        return ""
    from ar.surrogate.importance import in_words
    from ar.surrogate.outlook import outlook

    found = outlook(briefing.surface, briefing.program.objective)
    lines = [
        "By how much a parameter's worst value is worse than its best, the others as the branch has them: "
        + in_words(found.importances)
    ]
    if found.best is None:
        lines.append("No move of searched parameters is expected to beat the branch.")
    else:
        moved = ", ".join(f"{one_line(key)} = {value}" for key, value in found.best.params.items())
        change = signed(found.best.change, found.best.standard_error)
        lines.append(f"Best expected move: {moved}: {change} against the branch")
    if gaps := [_gap(gap) for gap in found.gaps]:
        more = f"; {len(gaps) - _MOST_GAPS} more" if len(gaps) > _MOST_GAPS else ""
        lines.append(f"No run has: {'; '.join(gaps[:_MOST_GAPS])}{more}")
    said = (
        f"A model of the searched parameters, fitted to all {found.runs} runs; propose from it or against it."
    )
    return f"{said}\n{fence(chr(10).join(lines), 'what the model expects')}"


def _gap(gap: Gap) -> str:
    values = ", ".join(map(str, gap.choices))
    if gap.between is not None:
        values = " to ".join(map(str, gap.between))
    return f"{one_line(gap.name)}: {values}"


def _pending(history: History) -> str:
    """What waits, runs, or wants more runs: others must not propose it again."""
    waiting = [
        item
        for item in history.attempts
        if item.outcome in (Outcome.QUEUED, Outcome.RUNNING, Outcome.OPEN, Outcome.WINNER)
        and history.is_head(item.baseline)
    ]
    if not waiting:
        return "Nothing is queued or running."
    lines = [
        f"{one_line(item.name)} | {one_line(item.title)} | {item.outcome} | {one_line(item.agent)}"
        for item in waiting[-_MOST_PENDING:]
    ]
    if len(waiting) > _MOST_PENDING:
        lines.insert(0, f"{len(waiting) - _MOST_PENDING} more, and:")
    return fence("\n".join(lines), "under way, do not propose again: name | title | state | agent")


def _board(briefing: Briefing) -> str:
    """What others are about to propose."""
    lines = [
        holdout.hidden(f"{one_line(post.agent)} | {post.text}", briefing.program)
        for post in briefing.board[-_MOST_PENDING:]
    ]
    return fence("\n".join(lines), "others work on this now, keep off it: agent | what") if lines else ""


def _pulled(briefing: Briefing) -> str:
    """What remotes brought. Whoever wrote that may say anything: it is hearsay, and counts for nothing."""
    key = briefing.program.objective.key
    told = briefing.history.foreign
    lines = [f"{one_line(item.name)} | {one_line(item.title)} | {level(item)}" for item in told]
    if not lines:
        return ""
    said = "Foreign: others say they measured this; none of it was measured here, and none of it counts."
    text = "\n".join(lines[-_MOST_PENDING:])
    return f"{said}\n{fence(text, f'foreign: name | title | {one_line(key)}')}"


def _imported(briefing: Briefing) -> str:
    """What other tools' records tell of, each from a single run that nobody made here: hearsay, too."""
    told = briefing.history.imported
    lines = [
        " | ".join(
            holdout.hidden(one_line(cell), briefing.program) for cell in (item.name, item.title, item.claimed)
        )
        for item in told[-_MOST_IMPORTED:]
    ]
    if not lines:
        return ""
    if len(told) > len(lines):
        lines.insert(0, f"{len(told) - len(lines)} more, and:")
    said = "Imported from another tool, which says it ran each once: none of it was measured here, or counts."
    return f"{said}\n{fence(chr(10).join(lines), 'imported: name | title | what that tool says')}"
