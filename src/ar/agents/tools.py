"""What an agent can look at and try while it makes up its mind: files of the branch, earlier experiments.

Files come from the head's tree in git, never from a working tree. Every answer is data between tags: free of
secrets and of the holdout, and short enough.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
from collections.abc import Mapping
from typing import Any, TypeVar

from ar import formats
from ar.agents import holdout, literature, memory, prompt, side_by_side
from ar.agents.base import Briefing
from ar.changes.proposal import prepare
from ar.errors import ArError, NotFound, nearest
from ar.git.repo import Repo
from ar.history.attempts import find
from ar.history.ideas import Edit, Proposal
from ar.history.reader import changed
from ar.history.records import Attempt, Experiment, History, Outcome
from ar.judge.reflection import reflect
from ar.project import papers
from ar.project.pipeline_file import Declared
from ar.project.program import Program
from ar.project.project import Project
from ar.project.values import number
from ar.redaction import redact
from ar.text import one_line, plain, quantity, shorten_middle

MAX_REPAIRS = 2  # of one crashed experiment
MOST = 32_000  # characters of one answer
_Row = TypeVar("_Row")
_LINES, _FILES, _HITS, _ROWS, _POINTS, _CURVES, _METRICS = 400, 500, 60, 100, 16, 3, 40
_LOG, _DIFF, _WORDS, _CURVE = 6_000, 12_000, 4_000, 2_000  # characters of an experiment's parts
_BIGGEST = 2_000_000  # bytes of a file that is worth reading as text

_NAME = {"type": "string"}
_VALUE = {"anyOf": [{"type": "number"}, _NAME, {"type": "boolean"}]}


def _text(words: str) -> dict[str, Any]:
    return {"type": "string", "description": words}


def _whole(words: str) -> dict[str, Any]:
    return {"type": "integer", "description": words}


def _list(words: str, items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "description": words, "items": items}


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """A schema as strict tools want it: every property is there, and no other."""
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_CHANGE: dict[str, Mapping[str, Any]] = {
    "params": _list(
        "Parameters to set; may be empty.",
        _object(key=_text("Dotted key as the list of parameters has it."), value=_VALUE),
    ),
    "edits": _list(
        "Edits of files in scope, applied in order; may be empty.",
        _object(
            path=_text("Relative to the project's root."),
            old=_text("Text that stands exactly once in the file; empty creates the file."),
            new=_text("What replaces it."),
        ),
    ),
}

SCHEMAS: dict[str, tuple[str, dict[str, Any]]] = {
    "list_files": (
        "List the files of the branch; those that a proposal may edit are marked with *.",
        _object(pattern=_text("Glob such as model/*.py; empty for all.")),
    ),
    "read_file": (
        "Read a file of the branch as it is now.",
        _object(
            path=_NAME, start=_whole("First line, from 1."), lines=_whole(f"How many; at most {_LINES}.")
        ),
    ),
    "search_code": (
        "Find a text (no regular expression; upper and lower case are the same) in the branch's files.",
        _object(text=_NAME, pattern=_text("Glob of the files to look in; empty for all.")),
    ),
    "history": (
        "List earlier experiments, a line each, as in the briefing's table.",
        _object(
            contains=_text("Text that name, title, hypothesis or agent has; empty for any."),
            outcome=_text("promoted, discarded, crashed, open, queued, …; empty for any."),
            sort={"type": "string", "enum": ["newest", "oldest", "best", "worst"]},
            skip=_whole("How many of the first to leave out."),
            limit=_whole(f"How many; at most {_ROWS}."),
        ),
    ),
    "show_experiment": (
        "Open one experiment: hypothesis, change, verdict, loss curve, the end of what it printed.",
        _object(name=_NAME),
    ),
    "compare": (
        "Put two experiments side by side: metrics by seed, parameters, curves, the change from a to b.",
        _object(a=_text("Name of the one."), b=_text("Name of the other.")),
    ),
    "lessons": (
        "Look through the notebook, beyond what the briefing has of it.",
        _object(contains=_text("Text that a lesson, its status, author or experiments have; empty for any.")),
    ),
    "literature": (
        "Search the branch's cards of literature (papers/*.md) by words: what papers claim, on what scale,"
        " and what experiments here made of it.",
        _object(query=_text("Words to look for, such as value embeddings; empty for all cards, in short.")),
    ),
    "note": (
        "Write into the notebook, for all who come later, what holds beyond one change, or does not.",
        _object(
            text=_text("What was learned, at most 600 characters; empty if only the status changes."),
            status={"type": "string", "enum": ["", "open", "supported", "refuted", "stale"]},
            cites=_list("Names of the experiments that it rests on.", _NAME),
            lesson=_text("Name of the lesson that it is about; empty for a new one."),
        ),
    ),
    "revisit": (
        "Propose an earlier change once more on the branch as it is, such as a near miss. This ends your"
        " turn, unless it is refused.",
        _object(name=_NAME, why=_text("Why it may come out otherwise by now.")),
    ),
    "combine": (
        "Propose two earlier changes together on the branch as it is. This ends your turn, unless it is"
        " refused; where they conflict you are shown how.",
        _object(a=_NAME, b=_NAME, why=_text("Why they should add up.")),
    ),
    "try_edit": (
        "Check a change without proposing it: does it apply, compile, and keep to the scope?",
        _object(**_CHANGE),
    ),
    "propose": (
        "Propose the experiment to run next. This ends your turn, unless it is refused.",
        _object(
            title=_text("What changes, at most 72 characters."),
            hypothesis=_text("Why it should help, in a few sentences."),
            evidence=_list("Names of the experiments and cards that it rests on; may be empty.", _NAME),
            expected=_text("Effect on the objective that you expect, in its unit."),
            refuted_by=_text("What result would refute the hypothesis."),
            **_CHANGE,
            simplification={
                "type": "boolean",
                "description": "It only makes things simpler, and is to be kept if nothing gets worse.",
            },
            builds_on=_text("Name of the experiment that it repairs or refines; else empty."),
            insist=_text(
                "Why it is worth a run although earlier ones changed the same lines with other numbers, or"
                " had the same reasons; else empty."
            ),
        ),
    ),
}


PROPOSING = ("propose", "revisit", "combine")  # tools that end the turn


class BadInput(ArError):
    """A tool was called with something that its schema does not allow."""


class Tools:
    """The tools of one turn, over the history and the head that its briefing has."""

    def __init__(self, repo: Repo, briefing: Briefing) -> None:
        self.project = Project(repo, briefing.program)
        self.briefing = briefing
        self.notes = 0
        self.repo = repo
        self.program = briefing.program
        self.history = briefing.history
        self.head = briefing.history.head
        self.files = repo.files(self.head)
        self.declared = Declared.read(repo, self.head)

    def answer(self, name: str, given: Mapping[str, Any]) -> str:
        """What a tool says.

        Raises:
            ArError: it cannot say it, and what would help.
        """
        if name not in SCHEMAS or name in PROPOSING:
            raise BadInput(f"there is no tool '{name}'", nearest(name, SCHEMAS))
        check(given, SCHEMAS[name][1], name)
        return str(getattr(self, f"_{name}")(**given))

    def concluded(self, name: str, given: Mapping[str, Any]) -> Proposal:
        """What a tool that ends the turn was called with, as a proposal.

        Raises:
            ArError: it is not what the schema asks for, or that cannot be tried.
        """
        if name == "propose":
            return self.proposal(given)
        check(given, SCHEMAS[name][1], name)
        if name == "revisit":
            return memory.revisit(self.project, self.briefing, given["name"], given["why"])
        return memory.combine(self.project, self.briefing, (given["a"], given["b"]), given["why"])

    def proposal(self, given: Mapping[str, Any]) -> Proposal:
        """What `propose` was called with, as a proposal.

        Raises:
            BadInput: it is not what the schema asks for, or names experiments that do not exist.
        """
        check(given, SCHEMAS["propose"][1], "propose")
        cited, rests_on = self._cited(given["evidence"])
        try:
            for name in rests_on:
                find(self.history, name)
            if given["builds_on"]:
                refuse_third_repair(self.history, given["builds_on"])
        except NotFound as error:
            raise BadInput(error.message, f"cite experiments by their names. {error.mend}") from None
        parts = [plain(given["hypothesis"]).strip()]
        if rests_on:
            parts.append(f"Evidence: {', '.join(map(one_line, rests_on))}.")
        if given["refuted_by"].strip():
            parts.append(f"Refuted if: {one_line(given['refuted_by'])}")
        return Proposal(
            title=one_line(given["title"]),
            hypothesis="\n\n".join(parts),
            agent="claude",
            **_change(given),
            expected=one_line(given["expected"]),
            simplification=given["simplification"],
            parent=one_line(given["builds_on"]),
            insist=one_line(given["insist"]),
            sources=tuple(cited),
        )

    def _cited(self, names: list[str]) -> tuple[list[str], list[str]]:
        """Those of the names that are cards', and the others, which are experiments'.

        A card is meant where no experiment has the name, or by its path.
        """
        known = {attempt.name for attempt in self.history.attempts}
        cards = papers.read(self.repo, self.head).cards if names else {}
        cited = [name for name in names if papers.named(name) in cards and name not in known]
        return list(dict.fromkeys(map(papers.named, cited))), [name for name in names if name not in cited]

    # -- files --------------------------------------------------------------------------------------------

    def _list_files(self, pattern: str) -> str:
        found = [path for path in sorted(self.files) if _fits(path, pattern)]
        lines = [f"{'* ' if self.program.scope.covers(path) else '  '}{path}" for path in found[:_FILES]]
        if len(found) > _FILES:
            lines.append(f"… {len(found) - _FILES} more: give a narrower pattern")
        return prompt.fence("\n".join(lines) or "no file fits", "the files of the branch", MOST)

    def _read_file(self, path: str, start: int, lines: int) -> str:
        text = self._texts([path]).get(path)
        if text is None:
            near = nearest(path, self.files) if len(self.files) < 5_000 else "use list_files"
            raise NotFound(f"no text file of the branch is called '{path}'", near)
        if holdout.names_it(text, self.program) and self._is_result(path):
            raise NotFound(f"{path} holds values of the holdout, which no agent sees", "use show_experiment")
        rows = text.split("\n")
        first = max(1, start)
        part = rows[first - 1 :][: max(1, min(lines, _LINES))]
        what = f"{path}, lines {first} to {first - 1 + len(part)} of {len(rows)}"
        return prompt.fence("\n".join(part), what, MOST)

    def _search_code(self, text: str, pattern: str) -> str:
        if not text.strip():
            raise BadInput("the text to search for is empty", "say what to look for")
        paths = [path for path in sorted(self.files) if _fits(path, pattern) and not self._is_result(path)]
        wanted = text.lower()
        hits = [
            f"{path}:{place}: {shorten_middle(redact(row.strip()), 200)}"
            for path, content in self._texts(paths).items()
            for place, row in enumerate(content.split("\n"), 1)
            if wanted in row.lower()
        ]
        if len(hits) > _HITS:
            hits = [*hits[:_HITS], f"… {len(hits) - _HITS} more: give a narrower pattern"]
        return prompt.fence("\n".join(hits) or "nothing found", f"places with {text[:60]!r}", MOST)

    def _texts(self, paths: list[str]) -> dict[str, str]:
        """Those of the paths that are text files of the head, whatever else the paths try to be."""
        known = [path for path in paths if path in self.files and self.files[path].is_file]
        contents = self.repo.read_many([(self.head, path) for path in known])
        return {
            path: content.decode(errors="replace")
            for path, content in zip(known, contents, strict=True)
            if content is not None and len(content) <= _BIGGEST and b"\0" not in content[:8000]
        }

    def _is_result(self, path: str) -> bool:
        """Whether runs write this file."""
        metric_files = (*self.declared.metrics, *(metric.file for metric in self.program.written))
        return self.declared.is_output(path) or path in metric_files

    # -- experiments --------------------------------------------------------------------------------------

    def _history(self, contains: str, outcome: str, sort: str, skip: int, limit: int) -> str:
        found = select(self.history, contains, outcome, sort)
        part = found[max(0, skip) :][: max(1, min(limit, _ROWS))]
        lines = "\n".join(prompt.line(self.program, attempt) for attempt in part)
        return prompt.fence(lines or "none", f"{len(part)} of {len(found)} experiments, {sort} first")

    def _show_experiment(self, name: str) -> str:
        attempt, run = find(self.history, name)
        hidden = functools.partial(holdout.hidden, program=self.program, runs=attempt.experiments)
        quoted = hidden if attempt.is_hearsay else str  # our own agents were never told
        facts = [quoted(prompt.line(self.program, attempt)), *self._values(attempt)]
        facts += [f"another tool says: {hidden(attempt.claimed)}"] if attempt.claimed else []
        facts += [f"judge: {hidden(attempt.verdict.reason)}"] if attempt.verdict else []
        if told := reflect(self.program, attempt):
            facts.append(f"looking back: {told.words}")
        elif run.expected:
            facts.append(f"expected: {run.expected}")
        change = changed(self.project, run.baseline, run.rev) or "nothing besides outputs"
        parts = [
            prompt.fence("\n".join(facts), run.name),
            prompt.fence(quoted(run.hypothesis) or "(none)", "its hypothesis", _WORDS),
            prompt.fence(change, "its change", _DIFF),
            *self._curves(run),
        ]
        if run.note and run.note.log:
            parts.append(prompt.fence(hidden(run.note.log), "the end of what it printed", _LOG))
        return "\n".join(parts)

    def _compare(self, a: str, b: str) -> str:
        (one, first), (two, second) = find(self.history, a), find(self.history, b)
        tables = [dict(curves(self.repo, self.declared, self.program, run)) for run in (first, second)]
        diff = changed(self.project, first.rev, second.rev)
        return side_by_side.told(self.program, one, two, tables, diff)

    def _values(self, attempt: Attempt) -> list[str]:
        """Every metric but the holdout's, objective and guards first, a line a run."""
        lines = []
        for run in attempt.experiments:
            shown = [
                f"{one_line(name.rpartition(':')[2])} {quantity(value)}"
                for name in holdout.may_tell(self.program, [run])
                if (value := number(run.metrics.get(name))) is not None
            ][:_METRICS]
            seed = "" if run.seed is None else f", seed {run.seed}"
            lines.append(f"run {run.name}{seed}: {', '.join([run.status, *shown])}")
        return lines

    def _curves(self, run: Experiment) -> list[str]:
        tables = curves(self.repo, self.declared, self.program, run)
        return [
            prompt.fence("\n".join(map(" ".join, rows)), f"its curve {path}", _CURVE) for path, rows in tables
        ]

    # -- the notebook -------------------------------------------------------------------------------------

    def _lessons(self, contains: str) -> str:
        return memory.lessons(self.repo, self.briefing, contains)

    def _literature(self, query: str) -> str:
        return literature.found(self.repo, self.program, self.history, query)

    def _note(self, text: str, status: str, cites: list[str], lesson: str) -> str:
        if self.notes == memory.MOST_NOTES:
            raise BadInput(f"{self.notes} notes are enough for one proposal", "propose now")
        said = memory.note(self.repo, self.briefing, text, status, cites, lesson)
        self.notes += 1
        return said

    def _try_edit(self, params: list[Any], edits: list[Any]) -> str:
        tried = Proposal("try", agent="claude", **_change({"params": params, "edits": edits}))
        patch = self.repo.diff(self.head, prepare(self.project, tried, self.history).tree)
        return "It applies, keeps to the scope and is new.\n" + prompt.fence(patch, "the change", _DIFF)


def refuse_third_repair(history: History, name: str) -> None:
    """Hold a change that builds on another to the number of times that a crashed one may be repaired.

    Raises:
        BadInput: it was repaired often enough.
        NotFound: there is no such experiment.
    """
    broken, _ = find(history, name)
    tries = [item for item in history.attempts if item.first.parent == broken.name]
    if broken.outcome is Outcome.CRASHED and len(tries) >= MAX_REPAIRS:
        words = f"{broken.name} was repaired {len(tries)} times already"
        raise BadInput(words, "let it be; propose something else")


def select(history: History, contains: str, outcome: str, sort: str) -> list[Attempt]:
    """What was tried and has a text in its name, title, agent or hypothesis.

    Args:
        outcome: empty for any.
        sort: newest, oldest, best or worst first; the latter two leave out what has no effect yet.
    """
    wanted = contains.lower()
    found = [
        attempt
        for attempt in history.attempts
        if not attempt.is_baseline
        and (not outcome or attempt.outcome == outcome)
        and any(
            wanted in text.lower()
            for text in (attempt.name, attempt.title, attempt.agent, attempt.first.hypothesis)
        )
    ]
    if sort == "newest":
        found.reverse()
    elif sort in ("best", "worst"):
        effects = {item.name: item.verdict.effect for item in found if item.verdict}
        found = [item for item in found if effects.get(item.name) is not None]
        found.sort(key=lambda item: effects[item.name] or 0.0, reverse=sort == "worst")
    return found


def curves(
    repo: Repo, declared: Declared, program: Program, run: Experiment
) -> list[tuple[str, list[list[str]]]]:
    """Curves that a run left in its commit, by their paths: header and rows, thinned out, nothing of the
    holdout."""
    if not run.status.ended or run.is_imported:  # its tree holds its baseline's
        return []
    inside = tuple(f"{path.rstrip('/')}/" for path in declared.plots)
    paths = [
        path
        for path in repo.files(run.rev)
        if f"{path}/".startswith(inside) and not holdout.names_it(path, program)
    ]
    contents = repo.read_many([(run.rev, path) for path in paths])
    tables = (
        (path, _thinned(path, content or b"", program)) for path, content in zip(paths, contents, strict=True)
    )
    return [(path, rows) for path, rows in tables if rows][:_CURVES]


def check(given: Any, schema: Mapping[str, Any], place: str) -> None:
    """Hold an input against the part of JSON schema that the tools use.

    Raises:
        BadInput: where it differs.
    """
    if "anyOf" in schema:
        if isinstance(given, str | int | float):
            return
        raise BadInput(f"{place} should be a plain value", "see the tool's schema")
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    kind = kinds[schema["type"]]
    if type(given) is not kind:
        raise BadInput(f"{place} should be of type {schema['type']}", "see the tool's schema")
    if kind is dict:
        for key in schema["required"]:
            if key not in given:
                raise BadInput(f"{place} lacks '{key}'", "give every property of the tool's schema")
        for key, value in given.items():
            if key not in schema["properties"]:
                raise BadInput(f"{place} has an unknown '{key}'", nearest(key, schema["properties"]))
            check(value, schema["properties"][key], f"{place}.{key}")
    elif kind is list:
        for index, item in enumerate(given):
            check(item, schema["items"], f"{place}[{index}]")
    elif given not in schema.get("enum", [given]):
        raise BadInput(f"{place} is {given!r}", nearest(str(given), schema["enum"]))


def _change(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "params": {item["key"]: item["value"] for item in given["params"]},
        "edits": tuple(Edit(item["path"], item["old"], item["new"]) for item in given["edits"]),
    }


def _fits(path: str, pattern: str) -> bool:
    return not pattern or fnmatch.fnmatchcase(path, pattern) or path.startswith(f"{pattern.rstrip('/')}/")


def _thinned(path: str, content: bytes, program: Program) -> list[list[str]]:
    """A table of a few rows, evenly spaced, first and last among them; columns of the holdout left out."""
    header: list[str] = []
    rows: list[list[str]] = []
    with contextlib.suppress(ValueError):
        if path.endswith(".json"):
            data = formats.load_json(content)
            found = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
            header = list(found[0]) if found else []
            rows = [[str(row.get(key, "")) for key in header] for row in _spread(found)]
        elif path.endswith((".csv", ".tsv")) and len(content) <= formats.MOST_BYTES:
            header, *read = formats.table(content.decode(), "\t" if path.endswith(".tsv") else ",")
            rows = _spread(read)
    shown = [place for place, key in enumerate(header) if key and not holdout.names_it(key, program)]
    if not rows:
        return []
    return [[row[place] if place < len(row) else "" for place in shown] for row in (header, *rows)]


def _spread(rows: list[_Row]) -> list[_Row]:
    """At most `_POINTS` of the rows, evenly spaced, first and last among them."""
    last = max(0, len(rows) - 1)
    places = {round(index * last / (_POINTS - 1)) for index in range(_POINTS)}
    return [rows[place] for place in sorted(places)] if rows else []
