"""What no agent may see: the holdout's values, wherever a text tells them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath

from ar.agents.base import Briefing
from ar.history.notebook import Notebook
from ar.history.records import Attempt, Experiment, History, Verdict
from ar.project.program import Metric, Program
from ar.project.values import number

REMOVED = "[holdout]"
UNTOLD = "[no metric is told]"
_ANY_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]\d|[A-Za-z_])")
# What may stand between a name and its value, or ends the values that belong to a name.
_LINKING = r"(?:is|was|are|of|at|to|now|about|equals|mean|final|best|value)\b"
_NEXT_WORD = re.compile(rf"\b(?!{_LINKING})[A-Za-z_]{{2,}}", re.IGNORECASE)
_WHOLE = re.compile(r"[\s\"':=|]*[-+]?\d+\s*(?:[,;|}]|$)")  # a whole number as the value
_BEFORE = re.compile(r"\s*[,;]")  # after a name whose value came before it
_OPEN_END = re.compile(r"[\s\"':={(\[|-]*")  # after a name whose value is to come on the next line
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+\.\d+(?:[eE][-+]?\d+)?(?!\w|\.\w)")
_DIGITS = 4  # a number with fewer significant digits is too often some other one


def names_it(text: str, program: Program) -> bool:
    """Whether a text names the holdout."""
    pattern = _pattern(program)
    return pattern is not None and pattern.search(text) is not None


def may_tell(program: Program, runs: Iterable[Experiment]) -> list[str]:
    """Metrics of runs that an agent may see: objective and guards first, the holdout's not."""
    first = [str(metric) for metric in (program.objective, *program.guards)]
    return [
        name
        for name in dict.fromkeys((*first, *(name for run in runs for name in run.metrics)))
        if name != str(program.holdout) and (name in first or not names_it(name, program))
    ]


def hidden(text: str, program: Program, runs: Iterable[Experiment] = ()) -> str:
    """The text without the numbers that lines which name the holdout give for it, and without the values that
    these runs have on it."""
    pattern = _pattern(program)
    if pattern is None or program.holdout is None:
        return text
    known = [number(run.metrics.get(str(program.holdout))) for run in runs]
    return _without(text, pattern, [value for value in known if value is not None], REMOVED)


def unmeasured(text: str, program: Program, values: Sequence[float]) -> str:
    """The text without the numbers that lines give for any of the programme's metrics, and without these
    values; whatever it says of the holdout is hidden too."""
    text = hidden(text, program)
    for metric in program.metrics:
        text = _without(text, _named(_words(metric)[-1:]), values, UNTOLD)
    return text


def _without(text: str, pattern: re.Pattern[str], values: Sequence[float], mark: str) -> str:
    """A text without the numbers of the lines that name something, and without values of it."""
    lines, is_open = [], False
    for line in text.split("\n"):
        names = list(pattern.finditer(line))
        lines.append(_ANY_NUMBER.sub(mark, line) if is_open and not names else _blinded(line, names, mark))
        is_open = bool(names) and _OPEN_END.fullmatch(line, names[-1].end()) is not None
    text = "\n".join(lines)
    return _NUMBER.sub(lambda match: mark if _is_one_of(match[0], values) else match[0], text)


def _blinded(line: str, names: Sequence[re.Match[str]], mark: str) -> str:
    """A line without what follows each of the names as its value, or without any number where that is not
    plain to see."""
    done, parts = 0, []
    for name in names:
        after = _NEXT_WORD.search(line, name.end())
        end = after.start() if after else len(line)
        told = line[name.end() : end]
        plain = any("." in found[0] for found in _ANY_NUMBER.finditer(told)) or _WHOLE.match(told)
        if not plain or _BEFORE.match(told):
            return _ANY_NUMBER.sub(mark, line)
        parts += [line[done : name.end()], _ANY_NUMBER.sub(mark, told)]
        done = end
    return "".join([*parts, line[done:]])


def hidden_in(history: History, program: Program) -> History:
    """The history without the holdout's values, for code that may pass on all it is given."""
    if program.holdout is None:
        return history
    attempts = tuple(_blind(attempt, program) for attempt in history.attempts)
    at_rungs = tuple(_blind(attempt, program) for attempt in history.at_rungs)
    pulled = tuple(_blind(attempt, program) for attempt in history.pulled)
    imported = tuple(_blind(attempt, program) for attempt in history.imported)
    return replace(history, attempts=attempts, at_rungs=at_rungs, pulled=pulled, imported=imported)


def hidden_from(briefing: Briefing) -> Briefing:
    """A briefing without the holdout's values, likewise."""
    program, history = briefing.program, hidden_in(briefing.history, briefing.program)
    known, told = {attempt.name: attempt for attempt in history.attempts}, briefing.history.experiments
    near = (replace(miss, attempt=known[miss.attempt.name]) for miss in briefing.near)
    written = (
        replace(item, entry=replace(item.entry, text=hidden(item.entry.text, program, told)))
        for item in briefing.notebook.written
    )
    return replace(briefing, history=history, near=tuple(near), notebook=Notebook(tuple(written)))


def _blind(attempt: Attempt, program: Program) -> Attempt:
    hide = partial(hidden, program=program, runs=attempt.experiments)

    def judged(verdict: Verdict | None) -> Verdict | None:
        return verdict and replace(verdict, reason=hide(verdict.reason))

    runs = []
    for run in attempt.experiments:
        metrics = {name: value for name, value in run.metrics.items() if name != str(program.holdout)}
        note = run.note
        if note is not None:
            verdict = judged(note.verdict)
            note = replace(note, log=hide(note.log), reason=hide(note.reason), verdict=verdict)
        if run.is_imported:  # whoever wrote its words may have seen the holdout
            run = replace(run, title=hide(run.title), hypothesis=hide(run.hypothesis))
        runs.append(replace(run, metrics=metrics, note=note))
    title = runs[0].title if runs[0].is_imported else attempt.title
    return replace(attempt, title=title, experiments=tuple(runs), verdict=judged(attempt.verdict))


def _pattern(program: Program) -> re.Pattern[str] | None:
    """Matches the words of the holdout's name that other metrics' names do not have: `test_bpb` (`test bpb`,
    `Test-BPB`), or `test` of `eval/test.json:loss` beside `eval/val.json:loss`."""
    if program.holdout is None:
        return None
    others = {word for metric in (program.objective, *program.guards) for word in _words(metric)}
    own = _words(program.holdout)
    return _named([word for word in own if word not in others] or own[-1:])


def _named(words: Sequence[str]) -> re.Pattern[str]:
    """Matches any of the words, with spaces, dashes or underscores in them."""
    spelled = ("[ _-]?".join(map(re.escape, re.split(r"[\s_-]+", word))) for word in words)
    return re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(spelled)})(?![A-Za-z0-9])", re.IGNORECASE)


def _words(metric: Metric) -> list[str]:
    return [*PurePosixPath(metric.file).with_suffix("").parts, *re.split(r"[./]", metric.key)]


def _is_one_of(text: str, values: Iterable[float]) -> bool:
    """Whether a printed number is one of the values, rounded to as many places as it shows."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa.replace(".", "").lstrip("+-0")) < _DIGITS:
        return False
    step = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return any(abs(float(text) - value) <= 0.5000001 * step for value in values)
