"""Where the labels of a chart go, so that none covers another, a dot, or another's leader line."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ar.views.charts.base import CHARACTER, LINE

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels; they grow downwards

_EDGE = 4  # pixels between a label and the border
_REACH, _STEP = 150, 6  # pixels a label may hang away from its dot, and between two places that are tried


@dataclass(frozen=True)
class Label:
    """A label's place in pixels: its right end, the middle of its first line, and where its leader ends."""

    text: str
    right: float
    first: float
    leader: float


@dataclass
class Places:
    """What is taken of a picture so far.

    Args:
        better: 1 where labels hang below their dots, -1 where above.
    """

    width: float
    height: float
    better: int
    taken: list[Box] = field(default_factory=list)
    _labels: list[Box] = field(default_factory=list)

    def put(self, x: float, y: float, texts: Iterable[str]) -> Label | None:
        """Hang the first of the texts that has room on a dot; None where none has.

        A label ends, or else begins, at its leader: from left to right they form a staircase along the step
        line.
        """
        for text in texts:
            lines = text.split("\n")
            width, height = max(map(len, lines)) * CHARACTER, len(lines) * LINE
            for left, step in itertools.product((x - width, x), range(1, _REACH // _STEP)):
                left = min(max(left, _EDGE), self.width - _EDGE - width)
                middle = y + self.better * (2.5 + height / 2 + step * _STEP)
                box = (left - 3, middle - height / 2, left + width + 3, middle + height / 2)
                end = middle - self.better * height / 2
                leader = (x - 1, min(y + self.better * 7, end), x + 1, max(y + self.better * 7, end))
                inside = box[1] >= _EDGE and box[3] <= self.height - _EDGE
                if inside and not _hits(box, self.taken) and not _hits(leader, self._labels):
                    self.taken += [box, leader]
                    self._labels.append(box)
                    return Label(text, left + width, box[1] + LINE / 2, end)
        return None


def _hits(box: Box, others: Sequence[Box]) -> bool:
    left, top, right, bottom = box
    return any(left < r and x < right and top < b and y < bottom for x, y, r, b in others)
