"""What the embedded agents share: the ranges that they search, and configurations that nobody tried."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

from ar.agents.base import Briefing
from ar.errors import BadProgram, Exhausted
from ar.history.records import Attempt, History
from ar.project.params import ParamKey
from ar.project.program import Range
from ar.project.values import Scalar

_FINE_DIGITS = 6  # of a value, once all shorter ones are taken

Values = tuple[Scalar, ...]  # of the searched parameters, in the order of their ranges


def ranges_for(briefing: Briefing, kind: str) -> dict[ParamKey, Range]:
    """What an embedded agent of this kind searches.

    Raises:
        BadProgram: it is to follow an idea, or there is nothing to search.
    """
    file = briefing.program.file
    if briefing.idea:
        raise BadProgram(
            f"the {kind} agent moves parameters by itself and follows no idea",
            f"set agent: {{kind: claude}} in {file}, or make the change: ar next --set, or --diff",
        )
    ranges = briefing.program.searched(briefing.params)
    if not ranges:
        raise BadProgram(
            f"the {kind} agent needs ranges under search: in {file}, of parameters that the branch has",
            "for example: search: {lr: {low: 0.001, high: 0.1, log: true}}",
        )
    return ranges


def is_settled(attempt: Attempt, history: History) -> bool:
    """Whether its configuration need not be tried again; it may be where the branch moved on undecided."""
    return not attempt.is_superseded or history.is_head(attempt.baseline)


def beside(ranges: Sequence[Range], best: Values, known: set[Values], draw: random.Random) -> Values:
    """A configuration that is not known, if possible one parameter beside the best.

    Raises:
        Exhausted: the ranges have none.
    """
    # Of more values than configurations are known, one must be new.
    levels = [_levels(within, len(known) + 1, draw) for within in ranges]
    near = (
        (*best[:place], value, *best[place + 1 :])
        for place in draw.sample(range(len(best)), len(best))
        for value in levels[place]
    )
    anywhere = itertools.product(*levels)
    found = next((values for values in itertools.chain(near, anywhere) if values not in known), None)
    if found is None:
        raise Exhausted(
            "every value that the search ranges offer has been tried",
            "widen search: of the programme, or change the agent",
        )
    return found


def _levels(within: Range, count: int, draw: random.Random) -> Sequence[Scalar]:
    """Values of a range in random order: at least `count` of them, or all that there are."""
    if within.low is None or within.high is None:
        return draw.sample(within.choices, len(within.choices))
    low, high, spacing = within.low, within.high, within.spacing
    if spacing is None:
        ends = (math.log(low), math.log(high)) if within.log else (low, high)
        drawn = [draw.uniform(*ends) for _ in range(count)]
        return [float(f"{math.exp(it) if within.log else it:.{_FINE_DIGITS}g}") for it in drawn]
    places = range(math.floor((high - low) / spacing + 1e-8) + 1)
    chosen = [low + place * spacing for place in draw.sample(places, min(len(places), count))]
    return [int(value) if within.integer else float(f"{value:.12g}") for value in chosen]
