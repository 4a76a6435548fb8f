"""Text of an experiment's, and values, made such that any program may read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from ar.agents import holdout
from ar.history.records import Attempt, Verdict
from ar.project.program import Metric, Program
from ar.redaction import redact
from ar.text import one_line, plain, shorten_middle, visible

CELL, LINE, PROSE, LOG, DIFF = 40, 300, 4_000, 6_000, 16_000  # characters


class Words:
    """Makes texts of attempts short, and free of secrets and of the holdout."""

    def __init__(self, program: Program, attempts: Iterable[Attempt]) -> None:
        self._program = program
        self._runs = [run for attempt in attempts for run in attempt.experiments]

    def __call__(self, text: str, limit: int = LINE) -> str:
        hidden = holdout.hidden(plain(text), self._program, self._runs)
        return shorten_middle(redact(hidden).strip("\n"), limit)

    def lines(self, texts: Sequence[str]) -> list[str]:
        """Each of the texts as one line. They are looked at together, since each look takes its time."""
        whole = "\n".join(["-", *(shorten_middle(one_line(text), LINE) for text in texts), "-"])
        found = self(whole, len(whole) + len(texts) * LINE).split("\n")[1:-1]
        return found if len(found) == len(texts) else [self(one_line(text)) for text in texts]


def shown(program: Program) -> tuple[Metric, ...]:
    """The metrics that are told, and no other is: the holdout may be told by more than its own."""
    return (program.objective, *program.guards)


def finite(value: float | None) -> float | None:
    """JSON has no word for others."""
    return value if value is not None and math.isfinite(value) else None


def patch(diff: str) -> str:
    return shorten_middle(redact(visible(diff)), DIFF)


def told_verdict(words: Words, verdict: Verdict | None) -> Verdict | None:
    if verdict is None:
        return None
    return replace(
        verdict,
        reason=words(verdict.reason),
        failed_guard=words(verdict.failed_guard),
        device=words(verdict.device),
        effect=finite(verdict.effect),
        standard_error=finite(verdict.standard_error),
        z=finite(verdict.z),
        bar=finite(verdict.bar),
        needed=finite(verdict.needed),
        sigma=finite(verdict.sigma),
    )


def tame(value: Any) -> Any:
    """An answer as plain JSON types, every text in it without secrets and without what a terminal would obey:
    a last look, whatever field of whatever record it came in."""
    if isinstance(value, str):
        return redact(plain(value))
    if is_dataclass(value):
        return {spec.name: tame(getattr(value, spec.name)) for spec in fields(value)}
    if isinstance(value, Mapping):
        return {tame(key): tame(item) for key, item in value.items()}
    return [tame(item) for item in value] if isinstance(value, list | tuple) else value
