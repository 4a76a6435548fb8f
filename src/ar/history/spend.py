"""What calls of a model cost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from ar.record import Record

_SPEND = re.compile(
    r"in (?P<input>\d{1,15}), cached (?P<cached>\d{1,15}), out (?P<output>\d{1,15})"
    r"(?:, usd (?P<usd>\d{1,15}(?:\.\d+)?(?:e[+-]?\d{1,2})?))?"
)


@dataclass(frozen=True)
class Spend(Record):
    """What calls of a model cost.

    Args:
        input: tokens sent, those answered from the prompt cache too.
        cached: those of them that were answered from it.
        output: tokens received.
        usd: in US dollars; None where `program.md` sets no prices.
    """

    input: int = 0
    cached: int = 0
    output: int = 0
    usd: float | None = None

    @property
    def tokens(self) -> int:
        return self.input + self.output

    @property
    def words(self) -> str:
        """`in 5300, cached 4800, out 120, usd 0.041`; `parse` reads it."""
        words = f"in {self.input}, cached {self.cached}, out {self.output}"
        return words if self.usd is None else f"{words}, usd {self.usd:.6g}"

    @classmethod
    def parse(cls, words: str) -> Self | None:
        """None for text that `words` did not write."""
        match = _SPEND.fullmatch(words.strip())
        if match is None:
            return None
        usd = None if match["usd"] is None else float(match["usd"])
        return cls(int(match["input"]), int(match["cached"]), int(match["output"]), usd)

    def __add__(self, other: Spend) -> Spend:
        usd = None if self.usd is None and other.usd is None else (self.usd or 0.0) + (other.usd or 0.0)
        return Spend(self.input + other.input, self.cached + other.cached, self.output + other.output, usd)

    def at_least(self, other: Spend) -> Spend:
        """The larger of two amounts, in each of its numbers."""
        told = [usd for usd in (self.usd, other.usd) if usd is not None]
        return Spend(
            max(self.input, other.input),
            max(self.cached, other.cached),
            max(self.output, other.output),
            max(told, default=None),
        )
