"""Which open changes get another run: the model's choice, not the luck of the runs that they have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ar.campaign import candidates
from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine
from ar.history.records import Attempt, Decision, History
from ar.judge.evidence import Ledger
from ar.judge.ledger import on_device
from ar.judge.rule import next_seeds
from ar.text import signed


def waits(campaign: Campaign, history: History, attempt: Attempt) -> bool:
    """Whether an open attempt was looked at with the runs that it has, and left to the model."""
    verdict = attempt.verdict
    if verdict is None or verdict.decision is not Decision.OPEN:
        return False
    here = on_device(campaign.program, history, attempt, verdict.device or history.devices[0])
    return here is not None and verdict.runs == len(here.own)


def settle(engine: Engine, history: History, ledger: Ledger, room: int, is_last: bool) -> bool:
    """Run the waiting change that the model chooses once more, and discard those that are clearly out.

    True if that changed the history.

    Args:
        ledger: of that history, with no change open.
        room: for runs, at once.
        is_last: no other change will be proposed.
    """
    campaign = engine.campaign
    opened = _opened(campaign, history)
    waiting = [item for item in opened if waits(campaign, history, item) and not item.is_under_way]
    if (
        not waiting
        or not ledger.knows_noise
        or any(len(item.own) > 1 and item not in waiting for item in opened)
    ):
        return False
    from ar.surrogate import screening  # it takes its time to load
    from ar.surrogate.points import residual_range, settings_of

    surface, known = campaign.model.surface(history), residual_range(ledger)
    if surface is None or known is None:
        return False
    residual, at_most = known
    settings = settings_of(campaign.program, history, waiting)
    if _discard_clear(campaign, waiting, *surface.difference(settings)):
        return True
    first = history.first
    start = settings_of(campaign.program, history, [first])[0] if first else surface.incumbent
    chosen = screening.choose(
        surface,
        [screening.Waiting(item.name, at, len(item.own)) for item, at in zip(waiting, settings, strict=True)],
        gained=max(0.0, -float(surface.difference([surface.incumbent], start)[0][0])),
        residual=residual,
        at_most=at_most,
        spare=0 if is_last else _spare(engine, history, ledger),
        base_runs=len(ledger.base),
        at_once=max(screening.AT_ONCE, room // 2),
    )
    if chosen is None:
        return False
    item = next(item for item in waiting if item.name == chosen.change.name)
    _confirm(engine, history, item, chosen.seeds)
    engine.event(f"{item.name} is the most promising of {len(waiting)}: it gets more seeds")
    return True


def is_reserved(engine: Engine, history: History, ledger: Ledger) -> bool:
    """Whether a change that is being confirmed may take all the runs that are left: nothing new is proposed
    beside it, as it could not be confirmed any more.

    Args:
        ledger: of that history, with no change open; the incumbent's runs under way count as measured.
    """
    campaign = engine.campaign
    chosen = [item for item in _opened(campaign, history) if item.is_under_way and len(item.own) > 1]
    if not chosen or not ledger.knows_noise:
        return False
    from ar.surrogate.points import residual_range, settings_of
    from ar.surrogate.screening import runs_needed, runs_to_go

    surface, known = campaign.model.surface(history), residual_range(ledger)
    if surface is None or known is None:
        return False
    _, at_most = known
    means, _ = surface.difference(settings_of(campaign.program, history, chosen))
    to_go = [
        runs_to_go(runs_needed(-float(mean), at_most), len(item.own), len(ledger.base))
        for item, mean in zip(chosen, means, strict=True)
    ]
    return _spare(engine, history, ledger) <= max(to_go)


def _opened(campaign: Campaign, history: History) -> list[Attempt]:
    """The open changes that the model chooses from."""
    return [item for item in history.attempts if history.is_open(item) and campaign.model.chooses(item.first)]


def _spare(engine: Engine, history: History, ledger: Ledger) -> float:
    """Runs that are left, by budget and by time, besides those under way and the closing audit."""
    return min(ledger.spare, engine.runs_in_time - len(engine.pending(history)))


def _confirm(engine: Engine, history: History, attempt: Attempt, count: int) -> None:
    """Queue a change with so many more seeds; of several, also what the incumbent lacks beside them."""
    campaign = engine.campaign
    ledger = campaign.ledger(history, attempt)
    seeds, only_on = next_seeds(ledger, count), ledger.only_on
    for seed in seeds:
        engine.queued(campaign.replicate(attempt, seed, only_on))
    for seed in seeds if count > 1 else ():
        if seed is not None and seed not in ledger.incumbent.seeds:
            candidates.measure_incumbent(engine, history, seed, only_on)


def _discard_clear(
    campaign: Campaign, waiting: Sequence[Attempt], means: Iterable[float], errors: Iterable[float]
) -> bool:
    """Discard what the model expects to be clearly worse than the branch. True if there was any."""
    from ar.surrogate.screening import CLEARLY

    out = [found for found in zip(waiting, means, errors, strict=True) if found[1] > CLEARLY * found[2]]
    for item, mean, error in out:
        effect = signed(campaign.program.objective.orient(float(mean)), float(error))
        words = f"The model of all runs expects {effect} of it: clearly out."
        assert item.verdict is not None
        campaign.record(item, replace(item.verdict, decision=Decision.DISCARD, reason=words))
    return bool(out)
