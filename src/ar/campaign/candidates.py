"""The branch's candidates: judged a step further while the branch stays, closed when it has moved on."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

from ar.campaign import rebase
from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine
from ar.errors import BadState
from ar.history.attempts import objective, origin, tried_again
from ar.history.records import Attempt, Decision, Experiment, History, Outcome, Status, Verdict
from ar.judge.evidence import Ledger, Run
from ar.judge.rule import Kind
from ar.project.program import Program

MAX_BASELINE_CRASHES = 2


def judge(engine: Engine, history: History, attempt: Attempt, room: int, screening: bool = False) -> bool:
    """Take the judge's next step for an open candidate. True if it changed the history."""
    campaign = engine.campaign
    action = campaign.step(history, attempt, screening)
    if action.kind is Kind.WAIT:
        is_news = attempt.verdict is None or attempt.verdict.runs != action.verdict.runs
        if is_news:
            campaign.record(attempt, action.verdict)
        return is_news
    if action.decides:
        verdict = rebase.explain(campaign, history, attempt, action)
        rebase.close(campaign, history, attempt, verdict)
        return True
    if action.kind is Kind.RUN_CANDIDATE and room > 0:
        campaign.record(attempt, action.verdict)
        engine.queued(campaign.replicate(attempt, action.seed, action.only_on))
        return True
    wanted = action.kind is Kind.RUN_INCUMBENT and room > 0
    return wanted and measure_incumbent(engine, history, action.seed, action.only_on)


def measure_incumbent(engine: Engine, history: History, seed: int | None, only_on: str = "") -> bool:
    """Queue an incumbent's run, on a class of devices or on any, unless the same one is under way."""
    measuring = (run for run in engine.pending(history) if measures_incumbent(run, history))
    if any(
        run.seed == seed and (run.only_on == only_on or "" in (run.only_on, only_on)) for run in measuring
    ):
        return False
    engine.queued(engine.campaign.measure_incumbent(history, seed, only_on=only_on))
    return True


def measures_incumbent(run: Experiment, history: History) -> bool:
    """Whether a run measures the incumbent at the base scale."""
    return run.measures_baseline and not run.rung and run.candidate == history.incumbent


def with_incumbents(ledger: Ledger, seeds: Sequence[int | None]) -> Ledger:
    """The ledger as if the incumbent had been measured with these seeds, too: those runs are under way."""
    base = ledger.incumbent.base
    run = replace(base[-1] if base else Run(None, 0.0), crashed=False)
    base = (*base, *(replace(run, seed=seed) for seed in seeds))
    return replace(ledger, incumbent=replace(ledger.incumbent, base=base))


def as_if_ended(engine: Engine, history: History, ledger: Ledger) -> Ledger:
    """The ledger with what is on its way: the incumbent's runs under way count as measured, as enough of them
    are queued already, and proposals that are asked for have their places."""
    measuring = (run for run in engine.pending(history) if measures_incumbent(run, history))
    seeds = [run.seed for run in measuring if run.only_on in ("", ledger.device)]
    ledger = with_incumbents(ledger, seeds)
    return replace(ledger, spent=ledger.spent + engine.asking.count)


def try_again(engine: Engine, history: History) -> None:
    """Queue once more, with the same seed, what of the incumbent's runs failed before this engine began.

    What they failed by may be mended by now, and often lies outside git, where nothing tells: data that was
    missing, a limit in `program.md`, the machine. After a run that ended well, failures are their seeds' own.
    """
    base = [run for run in (history.now.base if history.now else ()) if not run.audit]
    failed: dict[int | None, Experiment] = {}
    for run in base:
        if run.status is Status.SUCCEEDED:
            failed.clear()
        elif run.status.ended:
            failed[run.seed] = run
    under_way = {run.seed for run in base if not run.status.ended}
    left = engine.campaign.ledger(history).spare
    for seed in [seed for seed in failed if seed not in under_way][:MAX_BASELINE_CRASHES]:
        if left <= 0:
            return
        left -= 1
        engine.queued(engine.campaign.measure_incumbent(history, seed, only_on=failed[seed].only_on))


def retry(campaign: Campaign, history: History, attempt: Attempt) -> list[str]:
    """Queue the failed runs of an attempt once more, with the same seeds; it is open again until they have
    ended. Returns their names.

    Raises:
        BadState: none failed, or what they would be compared with is not the branch's any more.
    """
    name, replaced = attempt.name, tried_again(attempt.experiments)
    if attempt.is_hearsay:
        raise BadState(f"{name} {origin(attempt)}: none of its runs is one of yours", f"run: ar stack {name}")
    failed = [run for run in attempt.experiments if run.status.ended and run.name not in replaced]
    failed = [run for run in failed if run.status is not Status.SUCCEEDED]
    if not failed:
        raise BadState(f"no run of {name} failed ({attempt.outcome})", f"see: ar log {name}")
    if attempt.outcome is Outcome.TAMPERED or any(run.note and run.note.refused for run in failed):
        raise BadState(f"{name} was refused: {failed[-1].reason}", f"see: ar log {name}")
    own = [run for run in failed if not run.measures_baseline]
    if attempt.candidate != history.incumbent if not own else attempt.baseline != history.head:
        what = f"{name} belongs to an earlier baseline: the branch has moved on"
        raise BadState(what, f"try its change on the branch as it is: ar diff {name}, ar next")
    if own:
        campaign.record(attempt, Verdict(Decision.OPEN, "It is tried again."))
    return [
        campaign.replicate(attempt, run.seed, run.only_on)
        if own
        else campaign.measure_incumbent(history, run.seed, run.audit, run.aa, run.only_on)
        for run in own or failed
    ]


def refuse_hopeless(program: Program, baseline: Attempt | None, before: Container[str]) -> None:
    """A baseline that does not run cannot be improved on.

    Args:
        before: names of runs that do not count, as they ended before this engine began: whatever they failed
            by may be mended.

    Raises:
        BadState: it failed too often.
    """
    runs = baseline.experiments if baseline else ()
    ended = [run for run in runs if run.status.ended and run.name not in before]
    failed = [run for run in ended if objective(run, program) is None]
    failed = [run for run in failed if run.status is not Status.CANCELLED]
    if len(failed) >= max(MAX_BASELINE_CRASHES, len(ended) / 2):
        last = failed[-1]
        where = f" at {last.rung}" if last.rung else " itself"
        mend = f"{last.note.mend}; see: ar log {last.name}" if last.note and last.note.mend else ""
        raise BadState(
            f"the baseline{where} does not run: {last.reason or last.status}",
            mend or f"see: ar log {last.name}; once it is mended, run the command again",
        )
