"""Transfer rules: how a parameter's value follows the scale, such as `width^-2`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

# The whole grammar: a name, and the power of it that a value grows with. Nothing is ever evaluated.
_RULE = re.compile(r"(?P<name>[A-Za-z_][\w.-]*)\s*\^\s*(?P<power>[+-]?(\d+(\.\d*)?|\.\d+))")


@dataclass(frozen=True)
class Rule:
    """A value grows with a power of something: of a scale variable of the ladder, or of a parameter."""

    name: str
    power: float

    def __str__(self) -> str:
        return f"{self.name}^{self.power:g}"

    @classmethod
    def parse(cls, text: str) -> Rule:
        """
        >>> Rule.parse("width^-2")
        Rule(name='width', power=-2.0)

        Raises:
            ValueError: it is no rule.
        """
        match = _RULE.fullmatch(text.strip())
        if match is None:
            raise ValueError(text)
        return cls(match["name"], float(match["power"]))

    @classmethod
    def fitted(cls, name: str, low: tuple[float, float], high: tuple[float, float]) -> Rule:
        """The rule through the best values at two rungs, each as the scale there and the value, above 0.

        Raises:
            ValueError: the scales are equal, or something is not above 0.
        """
        (size, value), (larger, other) = low, high
        if min(size, value, larger, other) <= 0 or size == larger:
            raise ValueError(f"no rule goes through {low} and {high}")
        return cls(name, math.log(other / value) / math.log(larger / size))

    def at(self, value: float, base: float, here: float) -> float:
        """What a value of the base becomes where the scale is `here` instead of `base`."""
        grown: float = value * (here / base) ** self.power
        return float(f"{grown:.6g}")
