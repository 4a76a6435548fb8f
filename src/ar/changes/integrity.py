"""Whether an experiment's result may count: only what its scope allows differs from the baseline.

The scope is checked when a proposal is made, too; here it is the *result* that is looked at, whoever ran it:
also what its run rewrote, and what arrived from `dvc exp run` or from another clone.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath

from ar.changes import composition
from ar.changes.seeding import influenced_stages
from ar.errors import BadParams
from ar.history.records import Attempt, Experiment, History, Status
from ar.project.params import PARAMS_FILE, ParamKey
from ar.project.pipeline_file import ARGS_FILE, LOCK_FILE, Declared, within
from ar.project.project import Project
from ar.project.values import flat, is_infinite, number

MOST_NAMED = 3  # flaws in one reason


def flaw(project: Project, history: History, attempt: Attempt) -> str:
    """Why an attempt's numbers may not count, naming what is wrong; empty if nothing is."""
    for run in attempt.own:
        found = (run.note.refused or run.note.lacking) if run.note and run.status.ended else ""
        if not found and run.status is Status.SUCCEEDED:
            found = _unfit_metrics(project, run) or changed(project, run, _reference(history, run.baseline))
        if found:
            return found
    return ""


def _reference(history: History, baseline: str) -> str:
    """What a result is held against: a run of the baseline itself, or of a commit whose stages read the same;
    it shows what any run changes."""
    known = history.identities.get(baseline, baseline)
    base = (run for run in history.experiments if run.measures_baseline and run.status is Status.SUCCEEDED)
    own = (run for run in base if history.identities.get(run.baseline, run.baseline) == known)
    return next((run.rev for run in own), baseline)


def _unfit_metrics(project: Project, run: Experiment) -> str:
    """What the declared metrics lack. Files that only DVC's cache holds may simply not be here."""
    for metric in project.program.written:
        value = run.metrics.get(str(metric))
        if value is None and project.repo.read(run.rev, metric.file) is not None:
            return f"{metric.file} has no '{metric.key}'"
        if value is not None and number(value) is None and not is_infinite(value):
            return f"{metric} is not a finite number"
    return ""


def changed(project: Project, run: Experiment, reference: str) -> str:
    """How a result's tree differs from its baseline's outside the scope, in words; empty if it does not."""
    declared = Declared.read(project.repo, run.baseline)
    old, new = project.repo.files(run.baseline), project.repo.files(run.rev)
    usual = project.repo.files(reference)
    flaws = []
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        written = path == ARGS_FILE or PurePosixPath(path).name in (LOCK_FILE, ".gitignore")
        # What a run of the baseline itself rewrites is an output that nobody declared. Parameters differ in
        # any run, by its seed or scale: they are compared by key.
        rewritten = usual.get(path) != before and path not in project.program.param_files
        if before == after or written or declared.is_output(path) or rewritten:
            continue
        if project.program.scope.may_edit(path):
            flaws += [f"{path} is a link"] if after and not after.is_file else []
        elif path in project.program.param_files and before and after:
            flaws += _foreign_params(project, run, path)
        elif after and after.is_file and composition.is_source(project.repo, run.baseline, path):
            continue  # held to what it composes
        else:
            flaws.append(f"{path} {'differs from' if before and after else 'is not as in'} the baseline")
    flaws += _foreign_data(project, run, reference)
    flaws += _foreign_composition(project, run)
    more = f" and {len(flaws) - MOST_NAMED} more" if len(flaws) > MOST_NAMED else ""
    return ", ".join(flaws[:MOST_NAMED]) + more


def _foreign_composition(project: Project, run: Experiment) -> list[str]:
    scale = next((rung.params for rung in project.program.ladder if rung.name == run.rung), {})
    apart = [*scale, *([project.program.seed] if project.program.seed else [])]
    keys = [key.key for key in apart if key.file == PARAMS_FILE]
    try:
        return [words] if (words := composition.flaw(project, run.baseline, run.rev, keys)) else []
    except BadParams as error:
        return [error.message]


def _foreign_params(project: Project, run: Experiment, file: str) -> list[str]:
    before, after = (project.repo.read(rev, file) or b"" for rev in (run.baseline, run.rev))
    try:
        old, new = flat(before, file), flat(after, file)
    except BadParams:
        return [f"{file} cannot be read"]
    scale = next((rung.params for rung in project.program.ladder if rung.name == run.rung), {})
    flaws = []
    for key in (ParamKey(file, name) for name in sorted(old.keys() | new.keys())):
        was, now = (repr(values.get(key.key)) for values in (old, new))
        if now == repr(scale.get(key, was)) or key == project.program.seed:
            continue
        if was != now and not project.program.scope.allows_param(key):
            flaws.append(f"{key} is {now}, not {was} as in the baseline")
    return flaws


def _foreign_data(project: Project, run: Experiment, reference: str) -> list[str]:
    """What `dvc.lock` says of data that git does not hold, and of the metrics that the run left."""
    theirs, ours = (Declared.read(project.repo, rev).locked for rev in (run.rev, reference))
    made = {out for name in influenced_stages(ours, project.program) for out in ours[name].outs}
    flaws = []
    for name, stage in theirs.items():
        known = ours[name].deps if name in ours else {}
        for path, md5 in stage.deps.items():
            own = within(path, made) or project.program.scope.reaches(path)
            if path in known and not own and md5 != known[path]:
                flaws.append(f"{path} is not what the baseline was measured with")
        for path, md5 in stage.outs.items():
            is_metric = any(path == metric.file for metric in project.program.written)
            content = project.repo.read(run.rev, path) if md5 and is_metric else None
            if content is not None and md5 != hashlib.md5(content, usedforsecurity=False).hexdigest():
                flaws.append(f"{path} is not what the run wrote")
    return flaws
