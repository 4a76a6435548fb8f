"""The embedded agent: moves one parameter at a time within the `search:` ranges of `program.md`.

One move a proposal keeps every experiment a readable hypothesis, and its effect can be added to others'.
Which value to try is up to Optuna's tree-structured Parzen estimator (Bergstra et al. 2011): it is made for
few and noisy trials, and with the "constant liar" it keeps away from what is queued or running. It is
warm-started with every experiment of the history that moved the same parameter, on whatever baseline.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ar.agents.base import Briefing
from ar.errors import BadProgram
from ar.history.ideas import Proposal
from ar.history.records import Label, Outcome
from ar.project.params import ParamKey
from ar.project.program import FILE, Program, Range
from ar.project.values import Scalar, number

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

# TPE draws this many trials of a parameter at random before it models them.
STARTUP_TRIALS = 4
SIGNIFICANT_DIGITS = 2
NEAREST = 0.02  # share of a range that two tries of a parameter lie apart at least
_DRAWS = 32


@dataclass(frozen=True)
class Move:
    """A past or pending experiment that changed one searched parameter.

    Args:
        gain: objective against its baseline, oriented (below 0 is better); None while it is not known.
        superseded: the branch moved on before it was decided.
    """

    key: ParamKey
    old: Scalar
    new: Scalar
    gain: float | None
    pending: bool
    name: str
    superseded: bool = False


class OptunaAgent:
    """Proposes by Optuna; needs neither key nor network."""

    instant = True

    def __init__(self, *_settings: object) -> None:
        """All it needs is in the briefing."""

    def propose(self, briefing: Briefing) -> Proposal:
        program = briefing.program
        if briefing.idea:
            raise BadProgram(
                "the optuna agent moves parameters by itself and follows no idea",
                "set agent: {kind: claude} in program.md, or make the change: ar next --set, or --diff",
            )
        if not program.search:
            raise BadProgram(
                f"the optuna agent needs ranges under search: in {FILE}",
                "for example: search: {lr: {low: 0.001, high: 0.1, log: true}}",
            )
        moves = _moves(briefing)
        by_key = {key: [move for move in moves if move.key == key] for key in program.search}
        for move in _undecided(moves, briefing)[:1]:
            return _proposal(program, move.key, move.old, move.new, by_key[move.key])
        # The least tried first; of equals the one that program.md lists first. Refusals move on.
        keys = sorted(by_key, key=lambda key: len(by_key[key]))
        turn, salt = len(briefing.refused) % len(keys), len(moves) + len(briefing.refused)
        for key in keys[turn:] + keys[:turn]:
            now = briefing.params[key.flat]
            value = _suggest(key, program.search[key], now, by_key[key], salt)
            if value is not None:
                return _proposal(program, key, now, value, by_key[key])
        raise BadProgram(
            "every value that the search ranges offer has been tried",
            f"widen search: in {FILE}, or change the agent",
        )


def _moves(briefing: Briefing) -> list[Move]:
    """Every attempt that moved exactly one searched parameter from its baseline's value."""
    program, history = briefing.program, briefing.history
    means: dict[str, float] = {}
    at: dict[str, Mapping[str, Scalar]] = {history.head: briefing.params}
    for attempt in history.attempts:
        for run in attempt.base:
            at[run.baseline] = run.params
            if attempt.value is not None:
                means[run.baseline] = attempt.value
    moves = []
    for attempt in history.attempts:
        run = attempt.first
        if attempt.baseline not in at or not attempt.own:
            continue
        before, base = at[attempt.baseline], means.get(attempt.baseline)
        changed = [key for key in program.search if run.params.get(key.flat) != before.get(key.flat)]
        if len(changed) != 1:
            continue
        gain = None
        if attempt.value is not None and base is not None:
            gain = program.objective.orient(attempt.value) - program.objective.orient(base)
        move = Move(
            key=changed[0],
            old=before.get(changed[0].flat),
            new=run.params.get(changed[0].flat),
            gain=gain,
            pending=attempt.outcome in (Outcome.QUEUED, Outcome.RUNNING),
            name=attempt.name,
            superseded=attempt.verdict is not None and attempt.verdict.label is Label.SUPERSEDED,
        )
        moves.append(move)
    return moves


def _undecided(moves: list[Move], briefing: Briefing) -> list[Move]:
    """Moves that looked better when the branch moved on without them, and were not tried again since."""
    if briefing.refused:
        return []
    return [
        move
        for index, move in enumerate(moves)
        if move.superseded
        and move.gain is not None
        and move.gain < 0
        and briefing.params[move.key.flat] == move.old
        and not any((later.key, later.new) == (move.key, move.new) for later in moves[index + 1 :])
    ]


def _potential(moves: list[Move], now: Scalar) -> dict[Scalar, float]:
    """What each tried value is worth on one common scale, chained over baselines: a gain found against 0.04
    counts from what 0.04 had gained before. The scale's zero is where the chain began."""
    worth: dict[Scalar, float] = {}
    for move in moves:
        if move.gain is not None:
            worth.setdefault(move.old, 0.0)
            worth[move.new] = worth[move.old] + move.gain
    worth.setdefault(now, 0.0)
    return worth


def _suggest(key: ParamKey, within: Range, now: Scalar, moves: list[Move], salt: int) -> Scalar:
    """A value that was not tried before; None if the range has no other."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tried = {now, *(move.new for move in moves)}
    spare = next((choice for choice in within.choices if choice not in tried), None)
    distribution = _distribution(within)
    for draw in range(_DRAWS):
        sampler = optuna.samplers.TPESampler(
            seed=zlib.crc32(f"{key}{salt}".encode()) + draw,
            n_startup_trials=STARTUP_TRIALS,
            constant_liar=True,
        )
        study = optuna.create_study(direction="minimize", sampler=sampler)
        _remember(study, str(key), distribution, moves, now)
        value = _rounded(study.ask({str(key): distribution}).params[str(key)], within, now)
        if not any(_near(value, other, within) for other in tried):
            return value
        if spare is None and value not in tried:
            spare = value
    return spare


def _near(value: Scalar, other: Scalar, within: Range) -> bool:
    """Whether two values are too close to tell apart: equal, or within a few percent of the range."""
    ends = [end for end in map(number, (within.low, within.high, value, other)) if end is not None]
    if within.integer or len(ends) < 4:
        return value == other
    if within.log:
        if min(ends) <= 0:
            return False
        ends = [math.log(end) for end in ends]
    low, high, here, there = ends
    return abs(here - there) < NEAREST * (high - low)


def _remember(
    study: Study, name: str, distribution: BaseDistribution, moves: list[Move], now: Scalar
) -> None:
    from optuna.trial import TrialState, create_trial

    known: list[tuple[Any, float | None]] = list(_potential(moves, now).items())
    known += [(move.new, None) for move in moves if move.pending and move.gain is None]
    for value, worth in known:
        state = TrialState.RUNNING if worth is None else TrialState.COMPLETE
        # Without those that the range, changed since, does not hold any more.
        with contextlib.suppress(ValueError, TypeError):
            if distribution._contains(distribution.to_internal_repr(value)):
                params, distributions = {name: value}, {name: distribution}
                study.add_trial(
                    create_trial(state=state, value=worth, params=params, distributions=distributions)
                )


def _distribution(within: Range) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if within.choices:
        return CategoricalDistribution(within.choices)
    assert within.low is not None and within.high is not None
    if within.integer:
        step = 1 if within.step is None else int(within.step)
        return IntDistribution(int(within.low), int(within.high), log=within.log, step=step)
    return FloatDistribution(float(within.low), float(within.high), log=within.log, step=within.step)


def _rounded(value: Any, within: Range, now: Scalar) -> Scalar:
    """Two significant digits: more would pretend to a precision that no campaign can measure.

    Values that program.md lists stay as they are.
    """
    if within.low is None or within.high is None or within.step is not None or not isinstance(value, float):
        return value  # type: ignore[no-any-return]
    rounded = min(max(float(f"{value:.{SIGNIFICANT_DIGITS}g}"), within.low), within.high)
    return int(rounded) if type(now) is int and float(rounded).is_integer() else float(rounded)


def _proposal(program: Program, key: ParamKey, now: Scalar, value: Scalar, moves: list[Move]) -> Proposal:
    metric = program.objective.key
    evidence = f"{key} has not been tried yet in this campaign."
    known = [move for move in moves if move.gain is not None]
    if known:
        best = min(known, key=lambda move: move.gain or 0.0)
        evidence = (
            f"{len(known)} earlier value{'s' if len(known) > 1 else ''} of {key} measured; "
            f"best so far {best.new} ({best.gain:+.4g} against its baseline, {best.name})."
        )
    return Proposal(
        title=f"{key} {now} → {value}",
        hypothesis=(
            f"{key} = {value} gives a better {metric} than {now}. {evidence}\n"
            f"Refuted if {metric} is not better beyond noise on fresh seeds."
        ),
        agent="optuna",
        params={str(key): value},
    )
