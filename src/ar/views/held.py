"""What became of what was tried: the report on what held, with the evidence, and on what did not."""

from __future__ import annotations

from collections.abc import Sequence

from ar.campaign.campaign import Campaign
from ar.campaign.ladder import cases
from ar.errors import ArError
from ar.history import attempts
from ar.history.attempts import level
from ar.history.reader import changed
from ar.history.records import Attempt, History, Label, Outcome
from ar.judge.findings import Additivity, Case, additivity
from ar.project.program import Program
from ar.redaction import redact
from ar.text import counted, interval, one_line, plain, quantity, signed
from ar.views.document import Block, Code, Items, Prose, Section, Table
from ar.views.facts import short_key
from ar.views.marks import MARKS
from ar.views.verdict import device_words, member_cells, share_cells

_OPEN = (Outcome.OPEN, Outcome.RUNNING, Outcome.QUEUED, Outcome.WINNER)
MOST_DIFF = 20_000  # characters of one diff
MOST_LISTED = 60  # changes of one group that did not work


def held(campaign: Campaign, history: History) -> list[Section]:
    """What is promoted, in a table and one by one."""
    if not history.promoted:
        return [Section("What held", ("No change was promoted.",))]
    program = campaign.program
    rungs = [rung.name for rung in program.ladder[1:] if any(it.rung == rung.name for it in history.at_rungs)]
    header = ("change", "effect", "95 % interval", "score", "runs", *(f"at {rung}" for rung in rungs))
    rows: list[tuple[str, ...]] = []
    details: list[Section] = []
    for item in history.promoted:
        try:
            case, climbs = cases(campaign, history, item)
        except ArError:
            continue
        within = interval(case.interval, case.verdict.standard_error)
        score = "" if case.verdict.z is None else f"{case.verdict.z:.1f}"
        runs = str(len(case.seeds) or case.verdict.runs)
        cells = (_effect(climbs.get(rung)) for rung in rungs)
        rows.append((one_line(item.title), _effect(case), within, score, runs, *cells))
        details.append(_evidence(campaign, history, item, case, climbs))
    words = f"Effects on {program.objective.key} against the branch as it was then, from confirming runs."
    return [Section("What held", (words, Table(header, tuple(rows)))), *details]


def _effect(case: Case | None) -> str:
    return "" if case is None or case.effect is None else signed(case.effect, case.verdict.standard_error)


def _evidence(
    campaign: Campaign, history: History, item: Attempt, case: Case, climbs: dict[str, Case]
) -> Section:
    own = item.own or list(item.experiments)
    facts = [f"Verdict: {case.verdict.reason}"]
    if words := device_words(case.verdict, case.devices):
        facts.append(f"Measured {words}.")
    facts += [f"At {rung}: {climb.verdict.reason}" for rung, climb in climbs.items()]
    facts += [
        f"{short_key(name)}: {quantity(sides[0])} → {quantity(sides[1])}"
        for name, sides in (*case.guards.items(), *case.holdout.items())
    ]
    label = f", {case.verdict.called}" if case.verdict.label else ""
    facts.append(f"Proposed by {item.agent}{label}; experiment {item.name} ({own[0].rev[:9]}).")
    diff = redact(plain(changed(campaign.project, item.baseline, own[0].rev)))
    if len(diff) > MOST_DIFF:
        diff = f"{diff[:MOST_DIFF]}\n… {len(diff) - MOST_DIFF} more characters: ar diff {item.name}"
    blocks: list[Block] = [Prose(own[0].hypothesis)]
    added = additivity(campaign.program, history, item)
    if added is not None:
        blocks = ["Each of these won alone; this is their sum.", _members(added)]
    if parts := campaign.model.shares(history, item):
        words = "What it gains by each of its parts: the whole against the whole without it."
        blocks += [words, Table(("part", "by the model", "measured"), tuple(map(share_cells, parts)))]
    return Section(one_line(item.title), (*blocks, Items(tuple(facts)), Code(diff, "diff")), level=3)


def _members(found: Additivity) -> Table:
    """Whether a stack's members add up."""
    within = interval(found.interval, found.interaction_error)
    rows = (
        *map(member_cells, found.members),
        ("sum of the single effects", signed(found.sum, found.sum_error), ""),
        ("measured together", signed(found.joint, found.joint_error), ""),
        (f"interaction, 95 % from {within}", signed(found.interaction, found.interaction_error), ""),
    )
    return Table(("member", "alone", "in the stack"), rows)


def not_held(program: Program, history: History) -> list[Section]:
    """What did not hold, and what may yet."""
    others = [item for item in history.tried if _heading(item)]
    failed = _grouped(program, [item for item in others if item.outcome not in _OPEN])
    opened = _grouped(program, [item for item in others if item.outcome in _OPEN])
    sections = [Section("What did not", tuple(failed) or ("Nothing else was decided.",))]
    return [*sections, Section("What is open", tuple(opened))] if opened else sections


def foreign(program: Program, history: History) -> list[Section]:
    """What remotes brought, apart from all that was measured here."""
    items = history.foreign
    if not items:
        return []
    key = short_key(str(program.objective))
    words = (
        f"{counted(len(items), 'attempt')} came from remotes. The figures are what others say: nothing of it "
        "was measured here or signed with a trusted key, and nothing of it counts."
    )
    said = [f"{key} {value}" if (value := level(item)) else "" for item in items]
    return [Section("What is foreign", (words, _told("Foreign", items, said)))]


def imported(history: History) -> list[Section]:
    """What other tools' records tell of, apart from all that was measured here."""
    items = history.imported
    if not items:
        return []
    words = (
        f"{counted(len(items), 'attempt')} came from other tools' records. The figures are what those say of "
        "a single run each: nothing of it was measured here, and nothing of it counts."
    )
    said = [item.claimed for item in items]
    return [Section("What was imported", (words, _told("Imported", items, said)))]


def _told(word: str, items: Sequence[Attempt], said: Sequence[str]) -> Items:
    """The newest of what only others tell of, each with what they say it came to."""
    pairs = list(zip(items, said, strict=True))[-MOST_LISTED:]
    told = [
        f"{one_line(item.name)}: {one_line(item.title)}{f' ({value})' if value else ''}"
        for item, value in pairs
    ]
    more = [f"… and {len(items) - MOST_LISTED} more: ar show"] if len(items) > MOST_LISTED else []
    return Items((*told, *more), folded=f"{word}: {len(items)}")


def _grouped(program: Program, items: Sequence[Attempt]) -> list[Items]:
    """Titles with their effects below their headings, the longest list first."""
    groups: dict[str, list[str]] = {}
    for item in items:
        effect = attempts.effect(item, program)
        title = f"{one_line(item.title)}{f' ({effect})' if effect else ''}"
        groups.setdefault(_heading(item), []).append(title)
    blocks = []
    for heading, titles in sorted(groups.items(), key=lambda pair: -len(pair[1])):
        more = (f"… and {len(titles) - MOST_LISTED} more: ar show",) if len(titles) > MOST_LISTED else ()
        blocks.append(Items((*titles[:MOST_LISTED], *more), folded=f"{heading}: {len(titles)}"))
    return blocks


def _heading(item: Attempt) -> str:
    """Below which heading it is told that an attempt did not hold; empty where it did, or nobody tried it."""
    verdict, heading = item.verdict, MARKS[item.outcome].told
    if not heading or verdict is None or item.outcome in (Outcome.REVERTED, Outcome.SUPERSEDED):
        return heading
    if verdict.hurts_higher:
        return "Better at the base, worse at a larger scale"
    if verdict.label is not Label.PLAIN:
        return verdict.label.capitalize()
    if item.outcome is not Outcome.DISCARDED:
        return heading
    # Notes of earlier versions do not name the guard; but nothing else discards what reached the bar.
    reached = verdict.z is not None and verdict.bar is not None and verdict.z >= verdict.bar
    if verdict.failed_guard or reached:
        guard = one_line(verdict.failed_guard)
        return f"Refused by the guard {guard}" if guard else "Refused by a guard"
    return "Clearly worse" if verdict.z is not None and verdict.z < -2 else heading
