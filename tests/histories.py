"""Made-up campaigns for tests of tables and charts."""

from __future__ import annotations

import random
from dataclasses import replace

from ar.history.records import Attempt, Decision, Experiment, History, Label, Note, Outcome, Status, Verdict
from ar.project.program import Metric, Program

NOW = 1_800_000_000.0
OBJECTIVE = Metric("metrics.json", "val_bpb")
GUARD = Metric("metrics.json", "train_seconds")
PROGRAM = Program(objective=OBJECTIVE, guards=(GUARD,))
TITLES = (
    "optim.matrix_lr 0.02 → 0.06",
    "Halve the batch to 1,024 tokens, since the run is bounded by steps",
    "embedding_lr 0.3 → 0.6",
    "Warm-down over 65 % of the steps instead of 50 %",
    "Gate value embeddings on every layer, not only the alternating ones",
    "softcap 15 → 20",
    "QK norm with a learned scale",
    "weight decay 0.1 → 0",
)

DECISIONS = {
    **dict.fromkeys((Outcome.PROMOTED, Outcome.REVERTED), Decision.PROMOTE),
    **dict.fromkeys((Outcome.WINNER, Outcome.STACKED, Outcome.LAPSED), Decision.PROMOTE),
    **dict.fromkeys((Outcome.DISCARDED, Outcome.TAMPERED), Decision.DISCARD),
}
LABELS = {Outcome.LAPSED: Label.DOES_NOT_STACK, Outcome.TAMPERED: Label.TAMPERED}


def attempt(
    number: int,
    value: float | None,
    outcome: str = Outcome.DISCARDED,
    title: str = "optim.matrix_lr 0.02 → 0.06",
    runs: int = 1,
    sigma: float | None = 0.014,
    effect: float = -0.0214,
) -> Attempt:
    """One attempt with all its runs alike."""
    outcome = Outcome(outcome)
    # A run that ended badly, waits or runs has the outcome's own word.
    status = Status(outcome) if outcome in list(Status) else Status.SUCCEEDED
    metrics = {} if value is None else {str(OBJECTIVE): value, str(GUARD): 27.31}
    is_baseline = outcome is Outcome.BASELINE
    name = f"{'baseline' if is_baseline else 'matrix.lr-0.02-0.06'}-{number:06x}"
    error = sigma / runs**0.5 if sigma is not None and value is not None else None
    agent = "baseline" if is_baseline else "optuna"
    decision = DECISIONS.get(outcome)
    verdict = None
    if decision is not None and value is not None:
        label = LABELS.get(outcome, Label.PLAIN)
        verdict = Verdict(decision, "It says so.", effect, 0.0032, label=label)
    created = NOW - 86_400 + 60.0 * number
    experiments = tuple(
        Experiment(
            name=name if seed == 0 else f"{name}-s{seed}",
            rev=f"{number * 100 + seed:040x}",
            baseline="b" * 40,
            title=title,
            status=status,
            hypothesis="Because the history suggests it.",
            agent=agent,
            candidate=f"{number:016x}",
            seed=seed,
            created=created + seed,
            metrics=dict(metrics),
            params={"params.yaml:optim.matrix_lr": 0.06},
            note=Note(status, log="step 1\n") if status.ended else None,
        )
        for seed in range(runs)
    )
    return Attempt(
        name=name,
        title=title,
        agent=agent,
        baseline="b" * 40,
        candidate=f"{number:016x}",
        experiments=experiments,
        value=value,
        standard_error=error,
        guards={} if value is None else {str(GUARD): 27.31},
        outcome=outcome,
        verdict=verdict,
        created=created,
    )


def campaign(size: int, seed: int = 0, promotions: float = 0.04) -> History:
    """A baseline and `size` attempts, of which some are promoted, some crash, and a few diverge."""
    draw = random.Random(seed)
    level, sigma = 2.231, 0.014
    attempts = [attempt(0, level, "baseline", "baseline", runs=8)]
    for number in range(1, size + 1):
        title = f"{TITLES[number % len(TITLES)]}"
        lot = draw.random()
        if lot < 0.03:
            attempts.append(attempt(number, None, "crashed", title))
        elif lot < 0.04:
            attempts.append(attempt(number, 9.0 + draw.random(), "discarded", title))
        elif lot < 0.04 + promotions or (number == size // 2 and size < 100):
            effect = -draw.lognormvariate(-4.2, 0.7)
            level += effect
            value = level + draw.gauss(0, sigma / 2)
            attempts.append(attempt(number, value, "promoted", title, runs=4, effect=effect))
        else:
            worse = abs(draw.gauss(0, 0.03)) + draw.gauss(0, sigma)
            attempts.append(attempt(number, level + worse, "discarded", title))
    attempts.append(attempt(size + 1, None, "running", "softcap 15 → 20"))
    promoted = [item for item in attempts if item.outcome == "promoted"] or attempts[:1]
    return History(head="a" * 40, incumbent=promoted[-1].candidate, attempts=tuple(attempts), sigma=sigma)


def every_outcome() -> History:
    """An attempt of each outcome, measured unless its run came to no end."""
    unmeasured = ("crashed", "timed out", "cancelled", "running", "queued")
    attempts = [
        attempt(number, None if outcome in unmeasured else 2.231 - number / 500, outcome, f"It is {outcome}")
        for number, outcome in enumerate(Outcome)
    ]
    promoted = next(item for item in attempts if item.outcome is Outcome.PROMOTED)
    return History(head="a" * 40, incumbent=promoted.candidate, attempts=tuple(attempts), sigma=0.014)


def renamed(history: History, title: str) -> History:
    """The same campaign with one title for all."""
    return replace(history, attempts=tuple(replace(item, title=title) for item in history.attempts))
