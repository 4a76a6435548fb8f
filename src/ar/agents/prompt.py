"""What an agent is told, as text: the programme, the history as a table, how things stand now.

Laid out for prompt caches, which re-use what a request has in common with an earlier one from its beginning
on: first what a campaign never changes, then the history in blocks that only grow at the end, before the
newest of them what changes seldom, last what is different every time. Older experiments take less room, by a
rule that moves rarely and in large steps: a line each with all there is to say, then a line each in short,
then a paragraph for a hundred of them. Whatever comes from experiments stands between tags, as data. Values
of the holdout are in none of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ar.agents import situation
from ar.agents.base import Briefing
from ar.agents.fence import fence, tokens
from ar.agents.rows import best, brief, ended, line
from ar.agents.situation import BLOCK
from ar.history.records import Attempt, Outcome
from ar.project.program import Program, Range
from ar.redaction import redact
from ar.text import one_line, plain, shorten_middle

LIMIT = 60_000  # tokens that a briefing may take

UNIT = 100  # experiments that are condensed, and summed up, together
# How many of the newest whole units keep their full lines, and how many before those keep short ones: the
# first pair that fits. At 100 to 200 bytes a line all 700 experiments of a long campaign have one.
_PLANS = ((2, 8), (2, 4), (1, 4), (1, 2), (0, 2), (0, 0))
_HISTORY_SHARE = 0.75  # of the limit; the rest is for the programme, the tools and the present
_MOST_SUMMARIES = 40  # units older than that share one paragraph


@dataclass(frozen=True)
class Prompt:
    """A briefing as text, stable things first.

    Args:
        standing: equal for the whole campaign.
        past: blocks of the history; before the one that still grows, what changes seldom.
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


def compose(briefing: Briefing) -> Prompt:
    """The briefing as text."""
    past, settled = _past(briefing.program, ended(briefing.history))
    past = (*past[:settled], situation.lately(briefing), *past[settled:])
    return Prompt(standing(briefing.program), past, settled, situation.now(briefing))


# -- the programme ----------------------------------------------------------------------------------------


def standing(program: Program) -> str:
    """What a campaign never changes: objective, guards, scope, ranges, and the user's brief."""
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


def _condensed(program: Program, attempts: Sequence[Attempt], start: int) -> str:
    lines = [brief(program, attempt, error=False) for attempt in attempts[start : start + UNIT]]
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
    lines += [f"promoted: {brief(program, attempt)}" for attempt in promoted[:10]]
    lines += [f"among the best: {brief(program, attempt)}" for attempt in best(attempts, 3)]
    return fence("\n".join(lines), f"experiments {start + 1} to {end}, summed up; `history` lists them")
