"""Promotion: the branch takes a measured experiment by a merge commit, and in no other way.

The merge's tree is the experiment's own, so that the branch's `dvc.lock` and metrics always come from a run
of exactly the branch's tree. Only what no stage reads, such as a README, is as the branch has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ar.campaign import headway
from ar.campaign.campaign import Campaign
from ar.changes import integrity, merging
from ar.errors import BadState, CannotPromote, FailedAtHeadSeed, Tampered
from ar.git import refs, worktree
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.history import reader
from ar.history.attempts import origin
from ar.history.messages import inert
from ar.history.records import Attempt, Experiment, History, Outcome, Status
from ar.judge.findings import Case
from ar.local import locks
from ar.project.identity import identity
from ar.project.pipeline_file import Declared
from ar.project.program import Program
from ar.project.project import Project
from ar.runs.pipeline import Pipeline
from ar.text import interval, listed, plain, quantity, signed


@dataclass(frozen=True)
class Promotion:
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
    """The judged winner with the best score that waits for promotion: one against the branch as it is, where
    there is one.

    Raises:
        CannotPromote: there is none.
    """
    winners = strongest_first(history.winners)
    if not winners:
        raise CannotPromote(
            "no experiment is judged better than the branch", "try more: ar run; see: ar show"
        )
    return next((item for item in winners if history.is_head(item.baseline)), winners[0])


def strongest_first(attempts: Iterable[Attempt]) -> list[Attempt]:
    """In the order in which they are merged: by effect, the first tried first where effects are equal.

    Scores of few degrees of freedom hardly differ between a good and a very good change.
    """
    return sorted(attempts, key=lambda item: (item.verdict.effect or 0.0) if item.verdict else 0.0)


def plan(project: Project, history: History, attempt: Attempt, force: bool = False) -> Promotion:
    """Check that the branch may take this attempt. Nothing that was recorded of its integrity is relied on:
    a verdict may come from elsewhere, and whoever forces a merge has not read every file of it.

    Raises:
        CannotPromote: it may not, and why.
        Tampered: nobody may take it.
    """
    if attempt.outcome is Outcome.PROMOTED:
        raise CannotPromote(f"{attempt.name} is in the branch already", "see: git log --first-parent")
    if attempt.is_hearsay:
        raise CannotPromote(
            f"{attempt.name} {origin(attempt)}, and nothing of it was measured here",
            f"run: ar stack {attempt.name}",
        )
    if attempt.outcome is Outcome.STACKED:
        into = [item.name for item in history.attempts if attempt.name in item.stack]
        raise CannotPromote(f"{attempt.name} went on in {into[-1]}", f"see: ar log {into[-1]}")
    if not attempt.own:
        raise CannotPromote(f"{attempt.name} is a run of the baseline itself", "choose another: ar show")
    if not history.is_head(attempt.baseline):
        raise CannotPromote(
            f"{attempt.name} was measured against {attempt.baseline[:9]}, and the branch moved on",
            "its result need not hold for the branch as it is now; propose it again: ar next",
        )
    if not attempt.is_judged_good and not force:
        said = attempt.verdict.reason if attempt.verdict else ""
        raise CannotPromote(
            f"{attempt.name}: {said or 'it is not judged yet'}",
            "run: ar run to judge it; or merge it all the same with --force",
        )
    if project.program.promote_rung and not force:
        _refuse_unclimbed(history, attempt, project.program)
    if flaw := integrity.flaw(project, history, attempt):
        raise _tampered(attempt.name, flaw)
    seed = reader.head_seed(project)
    ran = any(run.status is Status.SUCCEEDED for run in attempt.own)
    if not ran and attempt.outcome not in (Outcome.QUEUED, Outcome.RUNNING):
        raise CannotPromote(
            f"{attempt.name} never ran to its end ({attempt.outcome})", f"see: ar log {attempt.name}"
        )
    at_seed = [run for run in attempt.own if run.seed == seed]
    ready = next((run for run in at_seed if run.status is Status.SUCCEEDED), None)
    failed = next((run for run in at_seed if run.status.failed), None)
    if failed and ready is None:
        raise FailedAtHeadSeed(f"It failed at the branch's own seed {seed}.", f"see: ar log {failed.name}")
    return Promotion(attempt, ready, seed, forced=not attempt.is_judged_good)


def _tampered(name: str, flaw: str) -> Tampered:
    return Tampered(f"{name}: Refused: {flaw}.", f"its numbers do not count; see: ar log {name}")


def _refuse_unclimbed(history: History, attempt: Attempt, program: Program) -> None:
    rung = program.promote_rung
    climb = history.at_rung(attempt.candidate, rung)
    if climb is None or climb.verdict is None or not climb.is_decided:
        raise CannotPromote(
            f"{attempt.name} is not judged at {rung} yet, and {program.file} makes that a condition",
            f"run: ar climb {attempt.name} --to {rung}; or merge it all the same with --force",
        )
    if not climb.is_judged_good:
        raise CannotPromote(
            f"{attempt.name} does not hold at {rung}: {climb.verdict.reason}",
            "merge it all the same with --force",
        )


def merge(
    campaign: Campaign, history: History, ready: Promotion, branch: str | None = None, tag: str | None = None
) -> str:
    """Merge the experiment into the checked-out branch. Returns the merge commit.

    A campaign that a remote shares goes on there first, and this branch follows.

    Args:
        branch: put the merge on this branch instead, and leave the checkout alone, as is always done with one
            in which others commit.
        tag: also tag it.

    Raises:
        CannotPromote: uncommitted changes are in the way, or a name is taken; nothing has changed.
        Tampered: what would be merged differs outside the scope; nothing has changed.
    """
    repo = campaign.repo
    branch = branch or lands_on(repo)
    text = message(campaign.program, history, ready, campaign.case(history, ready.attempt))
    experiment = ready.experiment
    assert experiment is not None
    mark = f"refs/tags/{tag}" if tag else None
    if mark:
        free(repo, mark, None)
    ref = f"refs/heads/{branch}"
    if branch and ref == repo.branch():
        raise CannotPromote(f"{branch} is checked out", "leave --branch out to promote to it")
    old = free(repo, ref, history.head) if branch else history.head
    tree = _tree(campaign.project, history, experiment)
    commit = repo.commit_tree(tree, [history.head, experiment.rev], text)
    if branch:
        marks = [(mark, commit, ZERO)] if mark else []
        repo.update_refs((ref, commit, old), *marks, reason="ar: promote")
        return commit
    if campaign.queue.remote:
        headway.announce(campaign, commit, old)
        headway.bring(campaign, commit)
        return commit
    worktree.forward(repo, repo.branch(), commit, old, mark)
    campaign.pipeline.checkout()
    worktree.done(repo)
    return commit


def lands_on(repo: Repo) -> str | None:
    """The branch that promotions go to while others commit in the checkout; None where that is the
    checked-out one."""
    return refs.OBSERVED.removeprefix("refs/heads/") if repo.is_apart() else None


def merge_aside(campaign: Campaign, history: History, ready: Promotion) -> tuple[str, str]:
    """Merge into the branch that the campaign goes on to where the checkout cannot follow. Returns the merge
    commit and how to bring it in."""
    repo, ref = campaign.repo, campaign.repo.ahead()
    if (there := repo.resolve(ref)) and repo.is_ancestor(there, history.head):
        repo.update_refs((ref, history.head, there), reason="ar: promote")  # it was brought in earlier
    name = ref.removeprefix("refs/heads/")
    return merge(campaign, history, ready, branch=name), _bring_in(repo, name)


def warnings(project: Project) -> list[str]:
    """What the checkout holds that promotions may run into, with what follows."""
    repo, program = project.repo, project.program
    if beside := lands_on(repo):
        words = f"the campaign goes on on {beside}, beside the commits that it observes in your checkout"
        return [f"{words}; to have it follow your checkout again: git branch -D {beside}"]
    head, name = repo.head(), repo.ahead().removeprefix("refs/heads/")
    if head != repo.checked_out():
        return [f"the campaign goes on on {name}, ahead of your checkout; {_bring_in(repo, name)}"]
    declared = Declared.read(repo, head)
    paths = [
        path for path in worktree.uncommitted(repo) if program.may_change(path) or declared.is_generated(path)
    ]
    if not paths:
        return []
    words = f"uncommitted changes of {listed(paths, 60)}: a promotion that changes the same files goes to the"
    return [f"{words} branch {name} and leaves your checkout as it is"]


def _bring_in(repo: Repo, name: str) -> str:
    # A branch beside a detached head is named for the commit that is left then.
    merged = f"git merge --ff-only {name}" + ("" if repo.branch() else f" && git branch -d {name}")
    return f"to bring it in: git stash && {merged} && dvc checkout && git stash pop"


def _tree(project: Project, history: History, experiment: Experiment) -> str:
    """The tree of the merge, which differs from the head by nothing outside the scope.

    Raises:
        CannotPromote: the experiment and what was committed since touch the same document.
        Tampered: the experiment changed more than its scope allows.
    """
    head = history.head
    tree = integrity.confined(project, head, _merged(project, head, experiment))
    result = replace(experiment, baseline=head, rev=tree)
    if flaw := integrity.changed(project, result, integrity.reference(history, head)):
        raise _tampered(experiment.name, flaw)
    return tree


def _merged(project: Project, head: str, experiment: Experiment) -> str:
    """The experiment's tree, with what the branch changed since that no stage reads."""
    repo, rev = project.repo, experiment.rev
    if experiment.baseline == head:
        return repo.tree(rev)
    merged = merging.merge(project, experiment.baseline, head, rev, experiment.name)
    declared = Declared.read(repo, head)
    before, now, made = (repo.files(commit) for commit in (experiment.baseline, head, rev))
    # Which files git ignores both DVC and people write.
    theirs = {path for path in now if path.endswith(".gitignore") and now[path] != before.get(path)}
    paths = {path for path in now.keys() | made.keys() if declared.is_generated(path)} - theirs
    written = {path: made.get(path) for path in paths}
    tree = repo.write_tree(merged.tree, written)
    if merged.clashes or identity(project, tree) != identity(project, rev):
        where = f" in {', '.join(clash.path for clash in merged.clashes)}" if merged.clashes else ""
        mend = f"look at both: git diff {experiment.baseline[:9]} {head[:9]}"
        raise CannotPromote(f"{experiment.name} and what was committed since do not merge{where}", mend)
    return tree


def mend(pipeline: Pipeline) -> str | None:
    """Finish or undo what a killed promotion left; what was done, or None."""
    with locks.hold(pipeline.repo, "checkout", busy="another ar is mending this checkout (process {pid})"):
        words = worktree.mend(pipeline.repo)
        if words is not None and pipeline.repo.has_ref(refs.PROMOTING):
            pipeline.checkout()
            worktree.done(pipeline.repo)
        return words


def free(repo: Repo, ref: str, or_at: str | None) -> str:
    """What a ref must hold to be set: nothing, or a known commit.

    Raises:
        CannotPromote: it is no name for a ref, or taken.
    """
    name = ref.split("/", 2)[2]
    try:
        repo.run("check-ref-format", ref)
    except BadState:
        raise CannotPromote(f"'{name}' is no name for a branch or a tag", "choose another") from None
    now = repo.resolve(ref)
    if now is not None and now != or_at:
        raise CannotPromote(f"{name} exists", "choose another name")
    return now or ZERO


def message(program: Program, history: History, ready: Promotion, case: Case) -> str:
    """The merge commit's message: what changed, why it is believed, and where it was measured."""
    attempt, verdict = ready.attempt, case.verdict
    key, now = program.objective.key, history.now
    experiment = ready.experiment or attempt.first
    effect = "" if case.effect is None else f"{key} {signed(case.effect, verdict.standard_error)}"
    lines = [f"{attempt.title}: {effect}" if effect else attempt.title, "", inert(experiment.hypothesis), ""]
    if now is not None and now.value is not None and attempt.value is not None:
        ends = interval(case.interval, verdict.standard_error)
        within = f", 95 % interval of the effect {ends}" if ends else ""
        lines.append(f"{key} {quantity(now.value)} → {quantity(attempt.value)}{within}")
    lines += [
        f"{name.rpartition(':')[2]} {quantity(base)} → {quantity(own)}"
        for name, (base, own) in case.guards.items()
    ]
    lines.append(verdict.reason)
    if ready.forced:
        lines.append("Promoted by hand, against or without a verdict (--force).")
    guards = [f"{name} {base:.6g} {own:.6g}" for name, (base, own) in case.guards.items()]
    trailers = [
        ("Experiment", experiment.name),
        ("Ref", str(refs.ExperimentRef(experiment.baseline, experiment.name))),
        ("Candidate", attempt.candidate),
        ("Agent", attempt.agent),
        ("Seeds", " ".join(str(seed) for seed in case.seeds)),
        ("Metric", str(program.objective)),
        ("Effect", "" if case.effect is None else f"{case.effect:.6g}"),
        ("Interval", " ".join(f"{end:.6g}" for end in case.interval)),
        *(("Guard", guard) for guard in guards),
        ("Stack", " ".join(attempt.stack)),
        ("Reverts", experiment.reverts),
    ]
    text = "\n".join([*lines, "", *(f"Ar-{name}: {value}" for name, value in trailers if value), ""])
    return re.sub(r"\n{3,}", "\n\n", plain(text))
