"""What waits against an earlier commit when the branch has moved on: carried along, or kept and named."""

from __future__ import annotations

from ar.campaign import kept, rebase
from ar.campaign.engine import Engine
from ar.errors import BadParams, BadProposal
from ar.history.records import Attempt, Experiment, History, Label, Outcome, Status
from ar.project.program import EMBEDDED


def follow(engine: Engine, history: History, everything: bool = False) -> None:
    """Carry ideas that never ran onto the branch as it is, and put aside what is not decided.

    Args:
        everything: what the embedded agents queued, too. Amid a run they know better by now.
    """
    for attempt in history.attempts:
        if history.is_head(attempt.baseline) or attempt.outcome is Outcome.PROMOTED:
            continue
        never_ran = bool(attempt.own) and all(run.status is Status.QUEUED for run in attempt.own)
        for run in attempt.experiments:
            if run.is_foreign or run.status is not Status.QUEUED:
                continue
            wanted = never_ran and not run.measures_baseline and not run.earlier
            if wanted and (everything or run.agent not in EMBEDDED):
                _carry(engine, history, attempt, run)
            elif engine.campaign.queue.withdraw(run.name, run.rev):
                engine.event(f"{run.name} withdrawn: the branch moved on")
        is_left = not attempt.is_foreign and not attempt.is_decided and not attempt.first.earlier
        if is_left and not attempt.is_under_way:
            _put_aside(engine, history, attempt)


def _put_aside(engine: Engine, history: History, attempt: Attempt) -> None:
    """The last word on what was not decided. Settings that an embedded agent tried are those of the whole
    branch, so that they need not be tried again where the branch is better by now.
    """
    campaign, now = engine.campaign, history.now
    orient = campaign.program.objective.orient
    by_settings = attempt.agent in EMBEDDED and not attempt.stack
    reached, best = attempt.value, now.value if now else None
    if by_settings and reached is not None and best is not None and orient(reached) >= orient(best):
        campaign.discard(attempt, "The branch moved on, and is better by now.", Label.PLAIN)
    else:
        campaign.discard(attempt, "The branch moved on before this was decided.", Label.SUPERSEDED)
    if by_settings:
        engine.pass_over(attempt)


def _carry(engine: Engine, history: History, attempt: Attempt, run: Experiment) -> None:
    """Queue an idea on the branch as it is instead; one that does not go there is kept, with the reason."""
    campaign = engine.campaign
    try:
        change = rebase.carried(campaign, history, attempt)
        there = history.of(change.candidate)
        # A kill may have cut in before the old one was withdrawn.
        is_there = there is not None and there.is_under_way and not there.is_baseline
        name = there.name if there and is_there else campaign.submit(change)[1]
    except (BadProposal, BadParams) as error:
        if words := kept.keep(campaign, run.name, error.message):
            engine.event(words)
        return
    engine.queued(name)
    if campaign.queue.withdraw(run.name, run.rev):
        engine.event(f"{run.name} waited while the branch moved on; it is {name} there")
