"""Plain optimisers on the worlds of `search_worlds`, as a user would run them.

Every trial is one run at one seed, the default first. What the user takes is the best single run: the
lowest measured value of those that did not crash and whose measured guard is within its limit. What counts
is its true share of the possible gain.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import Trial, TrialState
from search_worlds import GUARD_LIMIT, World

from ar.project.program import Range
from ar.project.values import Scalar

PEERS = ("random", "TPE", "TPE multivariate", "GP", "CMA-ES")
TAKES_CONSTRAINTS = ("TPE", "TPE multivariate", "GP")
SEED = 1  # of every run

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


@dataclass
class Trace:
    """One study, trial by trial: true share of the best single run so far, and seconds of the proposal."""

    shares: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def peer(name: str, world: World, runs: int) -> Trace:
    """A study of so many runs. Its trials do not depend on their number: a smaller budget's come first.

    Raises:
        ValueError: there is no such peer.
    """
    study = optuna.create_study(direction="minimize", sampler=_sampler(name, world))
    study.enqueue_trial(world.default)
    trace = Trace()
    best, share = float("inf"), 0.0
    for _ in range(runs):
        start = time.perf_counter()
        trial = study.ask()
        params = {key: suggest(trial, key, values) for key, values in world.space.items()}
        seconds = time.perf_counter() - start
        measured = world.run(params, SEED)
        start = time.perf_counter()
        if measured is None:
            study.tell(trial, state=TrialState.FAIL)
        else:
            value, guard = measured
            if guard <= GUARD_LIMIT and value < best:
                best, share = value, world.share(params)
            if world.has_guard and name in TAKES_CONSTRAINTS:
                trial.set_constraint("guard", guard - GUARD_LIMIT)
            if guard <= GUARD_LIMIT or name in TAKES_CONSTRAINTS:
                study.tell(trial, value)
            else:  # the sampler knows no constraints: to it the run is as good as crashed
                study.tell(trial, state=TrialState.FAIL)
        trace.shares.append(share)
        trace.seconds.append(seconds + time.perf_counter() - start)
    return trace


def suggest(trial: Trial, key: str, values: Range) -> Scalar:
    if values.choices:
        return trial.suggest_categorical(key, values.choices)
    assert values.low is not None and values.high is not None
    if values.integer:
        return trial.suggest_int(key, int(values.low), int(values.high), log=values.log)
    return trial.suggest_float(key, values.low, values.high, log=values.log)


def _sampler(name: str, world: World) -> BaseSampler:
    if name == "random":
        return RandomSampler(seed=world.number)
    if name == "TPE":
        return TPESampler(multivariate=False, seed=world.number)
    if name == "TPE multivariate":
        return TPESampler(multivariate=True, seed=world.number)
    if name == "GP":
        import torch

        torch.set_num_threads(1)
        return GPSampler(seed=world.number)
    if name == "CMA-ES":
        return CmaEsSampler(seed=world.number, warn_independent_sampling=False)
    raise ValueError(f"no peer {name!r}: {', '.join(PEERS)}")
