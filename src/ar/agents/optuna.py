"""The agent of Optuna: moves all searched parameters at once, by its tree-structured Parzen estimator.

TPE (Bergstra et al. 2011, multivariate as in Falkner et al. 2018) is told every run of the history that the
ranges of `program.md` hold, on whatever baseline. By the "constant liar" it keeps off what is under way.
"""

from __future__ import annotations

import math
import random
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ar.agents.base import Briefing
from ar.agents.untried import Values, beside, is_settled, ranges_for
from ar.history.attempts import objective
from ar.history.ideas import Proposal
from ar.history.messages import TITLE_LIMIT
from ar.history.records import Outcome
from ar.project.params import ParamKey
from ar.project.program import Range
from ar.project.values import Scalar, number
from ar.text import listed, quantity

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

STARTUP_RUNS = 10  # TPE draws at random before it has seen so many configurations
SIGNIFICANT_DIGITS = 2
NEAREST = 0.02  # share of a range that two tries of a parameter lie apart at least
_DRAWS = 16

Ranges = Mapping[ParamKey, Range]


@dataclass
class Tried:
    """All runs of one configuration of the searched parameters.

    Args:
        measured: objectives, oriented (lower is better).
        pending: a run waits or is under way.
        settled: it need not be tried again.
    """

    measured: list[float] = field(default_factory=list)
    pending: bool = False
    settled: bool = False


class OptunaAgent:
    """Proposes by Optuna; needs neither key nor network."""

    instant = True

    def __init__(self, *_settings: object) -> None:
        """All it needs is in the briefing."""

    def propose(self, briefing: Briefing) -> Proposal:
        ranges = ranges_for(briefing, "optuna")
        now = tuple(briefing.params[key.flat] for key in ranges)
        tried = _tried(briefing, ranges, now)
        values = _suggest(ranges, now, tried, salt=len(briefing.history.experiments) + len(briefing.refused))
        return _proposal(briefing, ranges, now, values, tried)


def _tried(briefing: Briefing, ranges: Ranges, now: Values) -> dict[Values, Tried]:
    """What the history has of each configuration that the ranges hold.

    A run made before a parameter was there stands at its default, the branch's value.
    """
    program, tried = briefing.program, dict[Values, Tried]()
    for attempt in briefing.history.attempts:
        for run in attempt.experiments:
            values = tuple(run.params.get(key.flat, here) for key, here in zip(ranges, now, strict=True))
            one, value = tried.setdefault(values, Tried()), objective(run, program)
            if value is not None and attempt.outcome is not Outcome.TAMPERED:
                one.measured.append(program.objective.orient(value))
            one.pending |= not run.status.ended
            one.settled |= is_settled(attempt, briefing.history)
    return {it: one for it, one in tried.items() if all(map(Range.holds, ranges.values(), it))}


def _suggest(ranges: Ranges, now: Values, tried: Mapping[Values, Tried], salt: int) -> Values:
    """A configuration that was not tried before."""
    seed = zlib.crc32(f"{salt}".encode())
    distributions = {str(key): _distribution(within) for key, within in ranges.items()}
    known = {now, *(values for values, one in tried.items() if one.settled)}
    study, spare = _study(distributions, tried, seed), None
    for _ in range(_DRAWS):
        drawn = study.ask(distributions).params.values()
        values = tuple(map(_settled, drawn, ranges.values(), now))
        if values in known:
            continue
        if not any(all(map(_near, values, other, ranges.values())) for other in known):
            return values
        spare = spare or values
    return spare or beside(list(ranges.values()), _best(tried) or now, known, random.Random(seed))  # noqa: S311


def _study(distributions: dict[str, BaseDistribution], tried: Mapping[Values, Tried], seed: int) -> Study:
    """What Optuna is told, a trial a configuration."""
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=STARTUP_RUNS, multivariate=True, constant_liar=True
        )
    study = optuna.create_study(direction="minimize", sampler=sampler)
    for values, one in tried.items():
        value = fmean(one.measured) if one.measured else None
        # One without a value is ranked behind all others; of a failed trial TPE would learn nothing.
        state = TrialState.RUNNING if one.pending else TrialState.PRUNED
        trial = create_trial(
            state=state if value is None else TrialState.COMPLETE,
            value=value,
            params=dict(zip(distributions, values, strict=True)),
            distributions=distributions,
        )
        study.add_trial(trial)
    return study


def _distribution(within: Range) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if within.choices:
        return CategoricalDistribution(within.choices)
    assert within.low is not None and within.high is not None
    if within.integer:
        step = 1 if within.step is None else int(within.step)
        return IntDistribution(int(within.low), int(within.high), log=within.log, step=step)
    return FloatDistribution(float(within.low), float(within.high), log=within.log, step=within.step)


def _settled(drawn: Any, within: Range, now: Scalar) -> Scalar:
    """The branch's value where the drawn one is hardly another, else the drawn one, rounded."""
    value = _rounded(drawn, within, now)
    return now if _near(value, now, within) and within.holds(now) else value


def _rounded(value: Any, within: Range, now: Scalar) -> Scalar:
    """Two significant digits: more would pretend to a precision that no campaign can measure.

    Values that program.md lists stay as they are.
    """
    if within.low is None or within.high is None or not isinstance(value, float):
        return value  # type: ignore[no-any-return]
    if within.step is not None:
        return float(f"{value:.12g}")
    rounded = min(max(float(f"{value:.{SIGNIFICANT_DIGITS}g}"), within.low), within.high)
    return round(rounded) if type(now) is int else float(rounded)


def _near(value: Scalar, other: Scalar, within: Range) -> bool:
    """Whether two values are too close to tell apart: equal, or within a few percent of the range."""
    ends = [end for end in map(number, (within.low, within.high, value, other)) if end is not None]
    if value == other or len(ends) < 4:
        return value == other
    if within.log:
        if min(ends) <= 0:
            return False
        ends = [math.log(end) for end in ends]
    low, high, here, there = ends
    return abs(here - there) < NEAREST * (high - low)


def _best(tried: Mapping[Values, Tried]) -> Values | None:
    measured = [values for values, one in tried.items() if one.measured]
    return min(measured, key=lambda values: fmean(tried[values].measured), default=None)


def _proposal(
    briefing: Briefing, ranges: Ranges, now: Values, values: Values, tried: Mapping[Values, Tried]
) -> Proposal:
    metric = briefing.program.objective
    moves = [move for move in zip(ranges, now, values, strict=True) if move[1] != move[2]]
    runs = sum(len(one.measured) for one in tried.values())
    evidence = "It has seen no measured run yet."
    if best := _best(tried):
        mean = quantity(metric.orient(fmean(tried[best].measured)))
        at = ", ".join(f"{key} {value}" for key, value in zip(ranges, best, strict=True))
        evidence = f"It has seen {runs} measured run{'s' * (runs > 1)}; best so far {mean} at {at}."
    wanted = ", ".join(f"{key} = {value}" for key, _, value in moves)
    return Proposal(
        title=listed([f"{key} {old} → {new}" for key, old, new in moves], TITLE_LIMIT),
        hypothesis=(
            f"Optuna's TPE expects a better {metric.key} of {wanted} than of the branch. {evidence}\n"
            f"Refuted if {metric.key} is not better beyond noise on fresh seeds."
        ),
        agent="optuna",
        params={str(key): value for key, _, value in moves},
    )
