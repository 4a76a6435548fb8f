"""The embedded agent: moves searched parameters together, to where the campaign's model expects most.

The model (`ar.surrogate`) is fitted to every run of the history. Two of three proposals are by expected
improvement, every third and the campaign's last by a bound close to the expected value.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ar.agents import untried
from ar.agents.base import Briefing
from ar.history.attempts import of_commit
from ar.history.ideas import Proposal
from ar.history.messages import TITLE_LIMIT
from ar.history.records import Attempt
from ar.judge.ledger import ledger
from ar.project.program import Range
from ar.project.values import Scalar
from ar.text import listed, signed

if TYPE_CHECKING:
    from ar.surrogate.surface import Surface

DRAWS = 3  # before a configuration beside the last of them is taken
EXPLOITING = 3  # every so many proposals is by the value, or little better
TRIMMED_BUDGET = 200  # runs of a campaign from which what carries no weight is taken out again
TRIMMED_SHARE = 0.1  # of a joint move's effect: a parameter that is expected to carry less may go

Values = dict[str, Scalar]


class SearchAgent:
    """Proposes by the campaign's model; needs neither key nor network."""

    instant = True

    def __init__(self, *_settings: object) -> None:
        """All it needs is in the briefing."""

    def propose(self, briefing: Briefing) -> Proposal:
        ranges = untried.ranges_for(briefing, "search")
        surface, now = briefing.surface, {str(key): briefing.params[key.flat] for key in ranges}
        draws = _Draws({str(key): within for key, within in ranges.items()}, now, _tried(briefing, now))
        if surface is None:
            return _open(briefing, draws)
        return _weightless(briefing, surface, draws) or _move(briefing, surface, draws)


@dataclass
class _Draws:
    """What is drawn of the searched parameters, kept off what was tried.

    Args:
        now: the branch's values.
        known: configurations that need not be tried again.
    """

    ranges: dict[str, Range]
    now: Values
    known: set[untried.Values]

    def first_new(self, draw: Callable[[int], Values], refused: int) -> Values:
        """The first drawn configuration that is not known, or one beside it.

        Args:
            draw: a configuration for each number, from 0.
            refused: how many answers to this very question were refused. The same history leads to the same
                answers, so that those come first.

        Raises:
            Exhausted: the ranges have no other.
        """
        known = set(self.known)
        for turn in range(refused + 1):
            values = self._new(draw, turn, known)
            known.add(tuple(values.values()))
        return values

    def _new(self, draw: Callable[[int], Values], turn: int, known: set[untried.Values]) -> Values:
        for number in range(turn, turn + DRAWS):
            values = {key: self._whole(key, value) for key, value in draw(number).items()}
            if tuple(values.values()) not in known:
                return values
        ranges = [self._whole_range(key) for key in values]
        other = untried.beside(ranges, tuple(values.values()), known, random.Random(len(known)))  # noqa: S311
        return dict(zip(values, other, strict=True))

    def _whole(self, key: str, value: Scalar) -> Scalar:
        whole = type(self.now[key]) is int and not self.ranges[key].choices
        return round(value) if whole and isinstance(value, float) else value

    def _whole_range(self, key: str) -> Range:
        """The range; where the branch has a whole number, of such only."""
        within = self.ranges[key]
        if type(self.now[key]) is not int or within.low is None or within.high is None:
            return within
        return replace(within, low=math.ceil(within.low), high=math.floor(within.high))


def _open(briefing: Briefing, draws: _Draws) -> Proposal:
    """One of the first changes, spread around the branch's values so that there is something to fit."""
    from ar.surrogate.acquisition import opening
    from ar.surrogate.space import Space

    space = Space.of(draws.ranges)
    base = space.point(draws.now, draws.now)
    made = sum(not attempt.is_baseline for attempt in briefing.history.attempts)
    values = draws.first_new(
        lambda turn: space.values(opening(space, base, made + turn)), len(briefing.refused)
    )
    words = "One of the first changes, which spread around the branch's values."
    return _proposal(briefing, draws.now, values, words)


def _move(briefing: Briefing, surface: Surface, draws: _Draws) -> Proposal:
    from ar.surrogate.acquisition import HOPE, Search
    from ar.surrogate.surface import Setting

    program, history = briefing.program, briefing.history
    proposed = sum(not attempt.is_baseline for attempt in history.attempts)
    last = _is_last_stretch(briefing, surface)
    exploit = last or proposed % EXPLOITING == EXPLOITING - 1
    values = draws.first_new(
        lambda turn: surface.space.values(Search(surface, exploit, salt=turn).best()), len(briefing.refused)
    )
    now, codes = draws.now, surface.incumbent.codes
    moved = {key: value for key, value in values.items() if value != now[key]}
    rest = [Setting({**values, key: now[key]}, codes) for key in moved]
    [mean, *without], [error, *_] = (
        list(map(float, part)) for part in surface.difference([Setting(values, codes), *rest])
    )
    orient = program.objective.orient
    expected = signed(orient(mean), error)
    shares = sorted(zip(moved, without, strict=True), key=lambda pair: -pair[1])
    parts = ", ".join(f"{key} {signed(orient(mean - other))}" for key, other in shares)
    why = f"By value less {HOPE:g} times its error, from" if exploit else "By expected improvement, from"
    words = f"{why} {len(surface.measured)} runs: {expected} against the branch"
    words += f", of which {parts}." if len(moved) > 1 else "."
    ordered = {key: values[key] for key, _ in shares}
    return _proposal(briefing, now, {**ordered, **values}, words, expected)


def _is_last_stretch(briefing: Briefing, surface: Surface) -> bool:
    from ar.surrogate.points import residual_of
    from ar.surrogate.screening import is_last_stretch
    from ar.surrogate.surface import Setting

    known = ledger(briefing.program, briefing.history)
    residual = residual_of(known)
    if residual is None:
        return False
    best = max(
        0.0, -float(surface.difference([Setting(p.params, p.codes) for p in surface.measured])[0].min())
    )
    return is_last_stretch(best, residual, known.spare, len(known.base))


def _weightless(briefing: Briefing, surface: Surface, draws: _Draws) -> Proposal | None:
    """A parameter of the last joint move put back, where the model expects that nothing is lost by it."""
    from ar.surrogate.surface import Setting

    program, now = briefing.program, draws.now
    budget, spare = program.budget.runs, ledger(program, briefing.history).spare
    if (budget is not None and budget < TRIMMED_BUDGET) or spare < TRIMMED_BUDGET / 4 or briefing.refused:
        return None
    before = _before(briefing)
    moved = {key: before[key] for key in now if key in before and before[key] != now[key]}
    if len(moved) < 2:
        return None
    codes = surface.incumbent.codes
    whole = -float(surface.difference([Setting({**now, **moved}, codes)])[0][0])
    for key, old in moved.items():
        values = {**now, key: old}
        if tuple(values.values()) in draws.known:
            continue
        loss, error = (float(part[0]) for part in surface.difference([Setting(values, codes)]))
        if loss < TRIMMED_SHARE * abs(whole) and loss < error:
            lost = signed(-program.objective.orient(loss), error)
            words = f"Its share of the last joint move is expected to be {lost}."
            return _proposal(briefing, now, values, words, simplification=True)
    return None


def _tried(briefing: Briefing, now: Values) -> set[untried.Values]:
    """The branch's configuration, and those that were tried on its code."""
    from ar.surrogate.points import Codes

    history, codes = briefing.history, Codes(briefing.program, briefing.history)
    keys = {str(key): key.flat for key in briefing.program.search}
    settled = (attempt for attempt in history.attempts if untried.is_settled(attempt, history))
    tried = [attempt.first.params for attempt in settled if codes.of(attempt) == codes.here]
    return {
        tuple(now.values()),
        *(tuple(params.get(keys[key], here) for key, here in now.items()) for params in tried),
    }


def _before(briefing: Briefing) -> Values:
    """The searched parameters before the last promotion."""
    now = briefing.history.now
    if now is None or not now.own:
        return {}
    base: Attempt | None = of_commit(briefing.history, now.first.baseline)
    run = base.first if base else None
    keys = briefing.program.searched(briefing.params)
    return {str(key): run.params[key.flat] for key in keys if run and key.flat in run.params}


def _proposal(
    briefing: Briefing,
    now: Values,
    values: Values,
    words: str,
    expected: str = "",
    simplification: bool = False,
) -> Proposal:
    metric = briefing.program.objective.key
    moved = {key: value for key, value in values.items() if value != now[key]}
    wanted = ", ".join(f"{key} = {value}" for key, value in moved.items())
    claim = "loses nothing in" if simplification else "gives a better"
    refuted = "worse" if simplification else "not better"
    return Proposal(
        title=listed([f"{key} {now[key]} → {value}" for key, value in moved.items()], TITLE_LIMIT),
        hypothesis=(
            f"{wanted} {claim} {metric}. {words}\n"
            f"Refuted if {metric} is {refuted} beyond noise on fresh seeds."
        ),
        agent="search",
        expected=expected,
        simplification=simplification,
        params=dict(moved),
    )
