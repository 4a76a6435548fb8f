"""What an agent is told, as text: the programme, the history as a table, how things stand now.

Laid out for prompt caches, which re-use what a request has in common with an earlier one from its beginning
on: first what a campaign never changes, then the history in blocks that only grow at the end, last what is
different every time. Older experiments take less room, by a rule that moves rarely and in large steps: a
line each with all there is to say, then a line each in short, then a paragraph for a hundred of them.
Whatever comes from experiments stands between tags, as data. Values of the holdout are in none of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

from ar.agents import holdout
from ar.agents.base import Briefing
from ar.history.attempts import effect, level
from ar.history.records import Attempt, History, Label, Outcome, Status
from ar.project.program import Program, Range
from ar.project.values import number
from ar.redaction import redact
from ar.text import counted, one_line, plain, quantity, shorten_middle, signed

if TYPE_CHECKING:
    from ar.surrogate.outlook import Gap

LIMIT = 60_000  # tokens that a briefing may take
BYTES_PER_TOKEN = 3  # UTF-8 bytes; prose has 4 to 5, tables of names and numbers 2.5 to 3.5

BLOCK = 25  # experiments in one block of the table
UNIT = 100  # experiments that are condensed, and summed up, together
# How many of the newest whole units keep their full lines, and how many before those keep short ones: the
# first pair that fits. At 100 to 200 bytes a line all 700 experiments of a long campaign have one.
_PLANS = ((2, 8), (2, 4), (1, 4), (1, 2), (0, 2), (0, 0))
_HISTORY_SHARE = 0.75  # of the limit; the rest is for the programme, the tools and the present
_MOST_SUMMARIES = 40  # units older than that share one paragraph
_REASON, _SHORT_TITLE = 120, 48
_BEST, _NEWEST, _MOST_PARAMS, _MOST_PENDING = 8, 5, 120, 40
_MOST_GAPS = 12
_MOST_IMPORTED = 100


@dataclass(frozen=True)
class Prompt:
    """A briefing as text, stable things first.

    Args:
        standing: equal for the whole campaign.
        past: blocks of the history.
        settled: how many of `past` are full, so that only condensing changes them.
        now: different every time.
    """

    standing: str
    past: tuple[str, ...]
    settled: int
    now: str

    @property
    def text(self) -> str:
        return "\n\n".join((self.standing, *self.past, self.now))


def tokens(text: str) -> int:
    """About how many tokens a text takes: a third of its bytes, rather too many than too few."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def compose(briefing: Briefing) -> Prompt:
    """The briefing as text."""
    past, settled = _past(briefing.program, ended(briefing.history))
    return Prompt(_standing(briefing.program), past, settled, _now(briefing))


def fence(text: str, what: str, limit: int | None = None) -> str:
    """Text of unknown origin between two tags that it cannot forge: without secrets and control characters,
    shortened from the middle to `limit` characters."""
    text = redact(plain(text)).strip("\n")
    if limit is not None:
        text = shorten_middle(text, limit)
    tag = next(tag for tag in ("data", *(f"data{n}" for n in range(2, 99))) if f"</{tag}" not in text)
    return f'<{tag} of="{redact(one_line(what)).replace(chr(34), chr(39))}">\n{text}\n</{tag}>'


# -- the programme ----------------------------------------------------------------------------------------


def _standing(program: Program) -> str:
    objective = program.objective
    better = "lower" if objective.direction == "minimize" else "higher"
    lines = ["# The programme", f"Objective: {objective}; {better} is better."]
    for guard in program.guards:
        worse = "higher" if guard.direction == "minimize" else "lower"
        lines.append(f"Guard: {guard} must not get worse (which is {worse}) beyond noise, nor by over 2 %.")
    if program.seed:
        lines.append(f"Every run sets `{program.seed}`, the seed; a proposal may not.")
    if program.budget.timeout:
        lines.append(f"A run is ended after {program.budget.timeout:g} s.")
    files = ", ".join(program.scope.files) or "none"
    params = ", ".join(str(key) for key in program.scope.params) or "none"
    lines += [f"Files that a proposal may edit or create: {files}", f"Parameters that it may set: {params}"]
    if program.search:
        lines.append("Ranges that the user finds worth trying:")
        lines += [f"  {key}: {_range(low_high)}" for key, low_high in program.search.items()]
    lines += [
        "",
        "A change is kept only if its mean over fresh seeds beats the branch's by several standard errors",
        "and no guard fails. One run screens it; it gets more seeds while it may still win. Small true gains",
        "add up; lucky runs do not count. A simplification at equal quality is kept if declared as one.",
        "",
        "# The user's brief",
        redact(plain(program.prose)).strip() or "(none)",
    ]
    return "\n".join(lines)


def _range(within: Range) -> str:
    if within.choices:
        return ", ".join(map(str, within.choices))
    return f"{within.low:g} to {within.high:g}{', logarithmic' if within.log else ''}"


# -- the history ------------------------------------------------------------------------------------------


def ended(history: History) -> list[Attempt]:
    """Changes of which a run has ended, in the order in which the first of them did: new ones come last."""
    return [
        attempt
        for attempt in history.attempts
        if not attempt.is_baseline and any(run.status.ended for run in attempt.own)
    ]


def _past(program: Program, attempts: Sequence[Attempt]) -> tuple[tuple[str, ...], int]:
    """The blocks of the table, and how many of them are full."""
    guards = "".join(f" | {one_line(guard.key)}" for guard in program.guards)
    head = (
        "# The history\nOldest first. Effects are against the branch at that time, in the objective's own"
        " direction and unit, ± one standard error.\n"
        f"A line: name | title | effect{guards} | verdict | reason"
    )
    if not attempts:
        return (f"{head}\nNothing has been tried yet.",), 0
    units = len(attempts) // UNIT
    for wanted, short in _PLANS:
        detailed = min(units, wanted)
        condensed = min(units - detailed, short)
        summed = (units - detailed - condensed) * UNIT
        full = summed + condensed * UNIT
        # The oldest units share a paragraph where there are very many.
        bounds = [0, *range(max(UNIT, summed - _MOST_SUMMARIES * UNIT), summed + 1, UNIT)]
        blocks = [
            *(_summary(program, attempts, *span) for span in pairwise(bounds)),
            *(_condensed(program, attempts, start) for start in range(summed, full, UNIT)),
            *(_block(program, attempts, start) for start in range(full, len(attempts), BLOCK)),
        ]
        if sum(map(tokens, blocks)) <= _HISTORY_SHARE * LIMIT:
            break
    blocks[0] = f"{head}\n{blocks[0]}"
    return tuple(blocks), len(blocks) - (len(attempts) % BLOCK > 0)


def _block(program: Program, attempts: Sequence[Attempt], start: int) -> str:
    lines = (line(program, attempt) for attempt in attempts[start : start + BLOCK])
    return fence("\n".join(lines), f"experiments from {start + 1} on")


def line(program: Program, attempt: Attempt) -> str:
    """All of an experiment that fits on a line."""
    label = attempt.verdict.label if attempt.verdict else ""
    cells = [
        attempt.name,
        attempt.title,
        effect(attempt, program),
        *(_guard(attempt, str(guard)) for guard in program.guards),
        f"{attempt.outcome} ({label})" if label else attempt.outcome,
        reason(program, attempt),
    ]
    return " | ".join(map(one_line, cells))


def _guard(attempt: Attempt, metric: str) -> str:
    """The mean over the runs that ended well."""
    runs = [run for run in attempt.own if run.status is Status.SUCCEEDED]
    values = [value for run in runs if (value := number(run.metrics.get(metric))) is not None]
    return f"{fmean(values):.4g}" if values else ""


def reason(program: Program, attempt: Attempt) -> str:
    """How the run failed, or why the verdict is what it is; nothing of the holdout."""
    told = [run.note for run in attempt.own if run.note]
    said = next(filter(None, (item.reason for item in (*told, attempt.verdict) if item)), "")
    return shorten_middle(one_line(holdout.hidden(said, program, attempt.experiments)), _REASON)


def _condensed(program: Program, attempts: Sequence[Attempt], start: int) -> str:
    lines = [_brief(program, attempt, error=False) for attempt in attempts[start : start + UNIT]]
    what = f"experiments {start + 1} to {start + len(lines)}, in short: name | title | effect | verdict"
    return fence("\n".join(lines), what)


def _summary(program: Program, everything: Sequence[Attempt], start: int, end: int) -> str:
    attempts = everything[start:end]
    outcomes = Counter(attempt.outcome for attempt in attempts)
    subjects = Counter(one_line(attempt.title).partition(" ")[0] for attempt in attempts)
    lines = [
        ", ".join(f"{count} {word}" for word, count in outcomes.most_common()),
        "first words of their titles: "
        + ", ".join(f"{shorten_middle(word, 40)} ×{count}" for word, count in subjects.most_common(15)),
    ]
    promoted = [attempt for attempt in attempts if attempt.outcome is Outcome.PROMOTED]
    lines += [f"promoted: {_brief(program, attempt)}" for attempt in promoted[:10]]
    lines += [f"among the best: {_brief(program, attempt)}" for attempt in best(attempts, 3)]
    return fence("\n".join(lines), f"experiments {start + 1} to {end}, summed up; `history` lists them")


def _brief(program: Program, attempt: Attempt, error: bool = True) -> str:
    title = shorten_middle(one_line(attempt.title), _SHORT_TITLE)
    gain = effect(attempt, program)
    gain = gain if error else gain.partition(" ")[0]
    return f"{one_line(attempt.name)} | {title} | {gain} | {attempt.outcome}"


def best(attempts: Iterable[Attempt], count: int) -> list[Attempt]:
    """Those with the most convincing improvements, the best first; of the holdout's victims none."""
    better = [
        (attempt.verdict.effect / (attempt.verdict.standard_error or 1e-300), attempt)
        for attempt in attempts
        if attempt.verdict
        and attempt.verdict.effect is not None
        and attempt.verdict.effect < 0
        and attempt.verdict.label is not Label.OVERFITTED
    ]
    return [attempt for _, attempt in sorted(better, key=lambda pair: pair[0])[:count]]


# -- the present ------------------------------------------------------------------------------------------


def _now(briefing: Briefing) -> str:
    program, history = briefing.program, briefing.history
    parts = ["# How things stand", *_level(program, history)]
    attempts = ended(history)
    if attempts:
        parts.append("The newest: " + ", ".join(one_line(item.name) for item in attempts[-_NEWEST:]))
    if leading := [_brief(program, item) for item in best(attempts, _BEST)]:
        parts.append(fence("\n".join(leading), "the best effects so far"))
    parts += [_model(briefing), _pending(history), _pulled(briefing), _imported(briefing)]
    parts.append(_params(briefing))
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
    return "\n\n".join(filter(None, parts))


def _level(program: Program, history: History) -> list[str]:
    key, now = program.objective.key, history.now
    level = "is not measured yet"
    if now and now.value is not None:
        runs = sum(run.status.ended for run in now.experiments)
        level = f"has {key} {quantity(now.value, now.standard_error)} over {counted(runs, 'run')}"
    lines = [f"The branch ({history.head[:9]}) {level}."]
    first = history.first
    if first and now and first is not now and first.value is not None:
        lines.append(f"The campaign began at {quantity(first.value, first.standard_error)}.")
    if history.sigma is not None:
        lines.append(
            f"Noise: runs of equal code have a standard deviation of {quantity(history.sigma)} {key} between"
            " seeds. An effect far below that will take many runs to show, or never will."
        )
    return lines


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
