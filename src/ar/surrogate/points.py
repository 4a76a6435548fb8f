"""The campaign's history as evidence about one surface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ar.history.attempts import objective, of_commit
from ar.history.records import Attempt, Experiment, History, Outcome, Status
from ar.judge import devices
from ar.judge.arithmetic import at_most
from ar.judge.evidence import Ledger, guard_means
from ar.judge.ledger import ledger, measurements
from ar.judge.noise import noise_of
from ar.judge.rule import GUARD_DRIFT
from ar.project.program import Program
from ar.project.values import Scalar, number
from ar.surrogate.regression import Weights
from ar.surrogate.space import Space
from ar.surrogate.surface import Point, Setting, Surface

LEAST_RUNS = 6  # measured configurations before anything is fitted
KNOWN_DF = 3  # degrees of freedom from which the judge's residual is taken for the noise


def surface_of(
    program: Program, history: History, params: Mapping[str, Scalar], start: Weights | None = None
) -> Surface | None:
    """The model of a campaign; None while too little is measured.

    Args:
        params: at the head, keyed as `Experiment.params`.
        start: hyperparameters of an earlier fit, to begin from.
    """
    codes, main, own = Codes(program, history), most_measured(program, history), history.devices[0]
    counts = devices.counting(program, history)
    points = tuple(
        _point(program, run, codes.of(attempt), run.device_class or own, main, _bound(program, history, run))
        for attempt in history.at_every_scale
        if attempt.outcome is not Outcome.TAMPERED
        for run in attempt.distinct
        if counts(run)
    )
    settings = {
        (tuple(sorted(p.params.items(), key=str)), p.codes)
        for p in points
        if p.value is not None and not p.rung
    }
    ranges = program.searched(params)
    if len(settings) < LEAST_RUNS or not ranges:
        return None
    known = ledger(program, history, device=main)
    first = known.first_guards or guard_means(known.base)
    return Surface(
        Space.of({str(key): within for key, within in ranges.items()}),
        points,
        Setting({str(key): params[key.flat] for key in ranges}, codes.here),
        residual_of(known),
        tuple(guard + GUARD_DRIFT * abs(guard) for guard in first),
        start,
    )


def most_measured(program: Program, history: History) -> str:
    """The class of devices whose runs the model is about: that of most, of equals the campaign's own."""
    own = history.devices[0]
    times = Counter(run.device_class or own for run in history.experiments if run.status.ended)
    return max(devices.classes(program, history), key=lambda device: times[device])


def residual_of(known: Ledger) -> float | None:
    """Standard deviation of one run after its seed's effect, as far as the judge knows it."""
    found = residual_range(known)
    return found[0] if found else None


def residual_range(known: Ledger) -> tuple[float, float] | None:
    """`residual_of`, and what it may be at most."""
    noise = noise_of(known)
    sigma, df = noise.residual_sigma or None, noise.residual.pool.df
    if df < KNOWN_DF:
        sigma, df = noise.sigma, noise.df
    return None if sigma is None or df < KNOWN_DF else (sigma, at_most(sigma, df))


def settings_of(program: Program, history: History, attempts: Sequence[Attempt]) -> list[Setting]:
    """What each attempt has of the searched parameters, and its code."""
    codes = Codes(program, history)
    return [Setting(_searched(program, item.first), codes.of(item)) for item in attempts]


def _searched(program: Program, run: Experiment) -> dict[str, Scalar]:
    return {str(key): run.params[key.flat] for key in program.search if key.flat in run.params}


class Codes:
    """Which changes of files an attempt's tree holds: those of the branch, and its own.

    A change of parameters that are not searched counts as one of files.
    """

    def __init__(self, program: Program, history: History) -> None:
        self.history = history
        self.searched = {key.flat for key in program.search}
        self.seed = program.seed.flat if program.seed else ""
        self._known: dict[str, frozenset[str]] = {}
        self._at: dict[str, Attempt | None] = {}

    @property
    def here(self) -> frozenset[str]:
        """Those of the branch as it is."""
        now = self.history.now
        return self.of(now) if now else frozenset()

    def of(self, attempt: Attempt) -> frozenset[str]:
        found = self._known.get(attempt.candidate)
        if found is None:
            self._known[attempt.candidate] = frozenset()  # a revert may lead back to where it began
            found = self._known[attempt.candidate] = self._of(attempt)
        return found

    def _of(self, attempt: Attempt) -> frozenset[str]:
        if not attempt.own:
            first = self.history.first
            return frozenset() if first is attempt else frozenset({attempt.candidate})
        commit = attempt.first.baseline
        if commit not in self._at:
            self._at[commit] = of_commit(self.history, commit)
        base = self._at[commit]
        held = self.of(base) if base else frozenset[str]()
        return held | {attempt.candidate} if self._edits(attempt.first, base) else held

    def _edits(self, run: Experiment, base: Attempt | None) -> bool:
        if run.edits:
            return True
        if base is None:
            return False
        before = base.first.params
        moved = {key for key in run.params.keys() | before.keys() if run.params.get(key) != before.get(key)}
        moved.discard(self.seed)
        # Without any difference in what is read, it must lie in the files.
        return not moved or bool(moved - self.searched)


def _bound(program: Program, history: History, run: Experiment) -> float | None:
    """What a run that was ended early would have reached at best: the branch's value, with its seed if known
    there. None for all others."""
    if run.note is None or not run.note.hopeless:
        return None
    base = of_commit(history, run.baseline)
    known = measurements(program, base.experiments) if base else ()
    same = [it.value for it in known if it.measured and it.seed == run.seed]
    return next(iter(same), None) if same else min((it.value for it in known if it.measured), default=None)


def _point(
    program: Program, run: Experiment, codes: frozenset[str], device: str, main: str, bound: float | None
) -> Point:
    """A run as evidence.

    Args:
        device: class of devices that it was measured on.
        main: the one that the model is about. Another is to it as another scale: levels differ, effects are
            alike.
    """
    place = f"{run.rung} on {device}" if run.status.ended and device != main else run.rung
    value = objective(run, program)
    guards = [number(run.metrics.get(str(guard))) for guard in program.guards]
    oriented = tuple(
        guard.orient(found) for guard, found in zip(program.guards, guards, strict=True) if found is not None
    )
    settings = _searched(program, run)
    failed = run.status.ended and value is None
    if bound is not None:
        return Point(settings, codes, run.seed, bound, is_bound=True, rung=place)
    return Point(
        params=settings,
        codes=codes,
        seed=run.seed,
        value=None if value is None else program.objective.orient(value),
        guards=oriented if value is not None and len(oriented) == len(program.guards) else (),
        crashed=failed and run.status is not Status.CANCELLED,
        rung=place,
    )
