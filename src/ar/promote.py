"""Promotion: the branch takes a measured experiment by a merge commit, and in no other way.

The merge's tree is the experiment's own, so that the branch's `dvc.lock` and metrics always come from a run
of exactly the branch's tree.
"""

from __future__ import annotations

from dataclasses import dataclass

from ar import history as reading
from ar.errors import CannotPromote
from ar.messages import BASELINE_AGENT
from ar.pipeline import LOCK_FILE, Pipeline
from ar.program import Program
from ar.records import Attempt, Decision, Experiment, History, Status
from ar.repo import Repo


@dataclass(frozen=True)
class Plan:
    """A promotion that may go ahead.

    Args:
        experiment: the run whose commit is merged; None if the change must first run at the head's seed.
        seed: the head's seed; None where the programme has none.
        forced: the verdict did not ask for it.
    """

    attempt: Attempt
    experiment: Experiment | None
    seed: int | None
    forced: bool


def best(history: History) -> Attempt:
    """The judged winner with the best score that waits for promotion.

    Raises:
        CannotPromote: there is none.
    """
    winners = [
        attempt
        for attempt in history.attempts
        if attempt.outcome == "winner" and attempt.baseline == history.head
    ]
    if not winners:
        stale = sum(attempt.outcome == "winner" for attempt in history.attempts)
        if stale:
            raise CannotPromote(
                f"{stale} winner{'s were' if stale > 1 else ' was'} measured against an earlier baseline",
                "propose the change again on the new one: ar next",
            )
        raise CannotPromote(
            "no experiment is judged better than the branch", "try more: ar run; see: ar show"
        )
    return max(
        winners, key=lambda attempt: attempt.verdict.z if attempt.verdict and attempt.verdict.z else 0.0
    )


def plan(repo: Repo, program: Program, history: History, attempt: Attempt, force: bool = False) -> Plan:
    """Check that the branch may take this attempt.

    Raises:
        CannotPromote: it may not, and why.
    """
    if attempt.outcome == "promoted":
        raise CannotPromote(f"{attempt.name} is in the branch already", "see: git log --first-parent")
    if all(run.agent == BASELINE_AGENT for run in attempt.experiments):
        raise CannotPromote(f"{attempt.name} is a run of the baseline itself", "choose another: ar show")
    if attempt.baseline != history.head:
        raise CannotPromote(
            f"{attempt.name} was measured against {attempt.baseline[:9]}, and the branch moved on",
            "its result does not hold for the branch as it is now; propose it again: ar next",
        )
    decided = attempt.verdict.decision if attempt.verdict else Decision.OPEN
    if decided is not Decision.PROMOTE and not force:
        said = (
            attempt.verdict.reason if attempt.verdict and attempt.verdict.reason else "it is not judged yet"
        )
        raise CannotPromote(
            f"{attempt.name}: {said}", "run: ar run to judge it; or merge it all the same with --force"
        )
    if program.promote_rung and not force:
        _refuse_unclimbed(history, attempt, program.promote_rung)
    seed = head_seed(repo, program)
    runs = [
        run for run in attempt.experiments if run.status is Status.SUCCEEDED and run.agent != BASELINE_AGENT
    ]
    if not runs and attempt.outcome not in ("queued", "running"):
        raise CannotPromote(
            f"{attempt.name} never ran to its end ({attempt.outcome})", "see: ar log " + attempt.name
        )
    matching = [run for run in runs if run.seed == seed]
    return Plan(attempt, matching[0] if matching else None, seed, forced=decided is not Decision.PROMOTE)


def _refuse_unclimbed(history: History, attempt: Attempt, rung: str) -> None:
    climb = history.climb(attempt.candidate, rung)
    verdict = climb.verdict if climb else None
    if verdict is None or verdict.decision is Decision.OPEN:
        raise CannotPromote(
            f"{attempt.name} is not judged at {rung} yet, and program.md makes that a condition",
            f"run: ar climb {attempt.name} --to {rung}; or merge it all the same with --force",
        )
    if verdict.decision is not Decision.PROMOTE:
        raise CannotPromote(
            f"{attempt.name} does not hold at {rung}: {verdict.reason}", "merge it all the same with --force"
        )


def head_seed(repo: Repo, program: Program) -> int | None:
    """The seed that the head's parameters hold; None where the programme has none."""
    if program.seed is None:
        return None
    value = reading.baseline_params(repo, program)[program.seed.flat]
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def merge(repo: Repo, pipeline: Pipeline, program: Program, history: History, ready: Plan) -> str:
    """Merge the experiment into the checked-out branch. Returns the merge commit.

    Raises:
        CannotPromote: uncommitted changes are in the way; nothing has changed.
    """
    experiment = ready.experiment
    assert experiment is not None
    commit = repo.commit_tree(
        repo.tree(experiment.rev),
        [history.head, experiment.rev],
        message(program, history, ready, experiment),
    )
    repo.fast_forward(repo.branch(), commit, history.head)
    pipeline.checkout()
    return commit


def message(program: Program, history: History, ready: Plan, experiment: Experiment) -> str:
    """The merge commit's message: what changed, why it is believed, and where it was measured."""
    attempt, verdict = ready.attempt, ready.attempt.verdict
    base = history.now
    lines = [attempt.title, "", experiment.hypothesis.strip(), ""]
    if verdict:
        lines.append(f"{program.objective.key}: {verdict.reason}")
    if base is not None:
        for name, value in attempt.guards.items():
            if name in base.guards:
                lines.append(f"{name.rpartition(':')[2]}: {base.guards[name]:.4g} → {value:.4g}")
    if ready.forced:
        lines.append("Promoted by hand, against or without a verdict (--force).")
    trailers = {
        "Experiment": experiment.name,
        "Candidate": attempt.candidate,
        "Agent": attempt.agent,
        "Seeds": " ".join(str(run.seed) for run in attempt.experiments if run.seed is not None),
    }
    return "\n".join([*lines, "", *(f"Ar-{key}: {value}" for key, value in trailers.items() if value), ""])


def changed(repo: Repo, program: Program, old: str, new: str, stat: bool = False) -> str:
    """The diff that matters between two commits: without outputs and `dvc.lock`."""
    plan = reading.read_layout(repo, new)
    return repo.diff(
        old, new, exclude=[LOCK_FILE, *sorted(plan.outputs), *(m.file for m in program.metrics)], stat=stat
    )
