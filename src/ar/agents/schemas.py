"""What an agent's tools are given: a schema of each, and whether an input fits it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ar.errors import ArError, nearest
from ar.history.selection import Order

MOST_LINES, MOST_LISTED = 400, 100  # of a file, and experiments, in one answer
MOST_TRIALS = 3  # smoke runs for one proposal

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
            path=_NAME, start=_whole("First line, from 1."), lines=_whole(f"How many; at most {MOST_LINES}.")
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
            sort={"type": "string", "enum": list(map(str, Order))},
            skip=_whole("How many of the first to leave out."),
            limit=_whole(f"How many; at most {MOST_LISTED}."),
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
    "work_on": (
        "Say what you are about to work on. Others who propose at the same time see it, and keep off it,"
        " until your proposal is there.",
        _object(text=_text("In one sentence, at most 200 characters.")),
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
    "smoke_run": (
        "Run a change in the sandbox for a few seconds, without proposing it: does everything import, do the"
        " shapes fit, does it take a step? You are told whether it lived, and the end of what it printed, but"
        f" no metric. At most {MOST_TRIALS} for one proposal.",
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
