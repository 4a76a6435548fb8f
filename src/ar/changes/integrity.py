"""Whether an experiment's result may count: only what its scope allows differs from the baseline.

The scope is checked when a proposal is made, too; here it is the *result* that is looked at, whoever ran it:
also what its run rewrote, and what arrived from `dvc exp run` or from another clone.
"""

from __future__ import annotations

import hashlib
import posixpath
from pathlib import PurePosixPath

from ar.changes import composition, size
from ar.changes.seeding import influenced_stages
from ar.errors import BadParams
from ar.history.records import Attempt, Experiment, History, Status
from ar.project.params import PARAMS_FILE, ParamKey, same_code
from ar.project.pipeline_file import Declared, within
from ar.project.project import Project
from ar.project.scope import is_obeyed
from ar.project.values import flat, is_infinite, number

MOST_NAMED = 3  # flaws in one reason


def flaw(project: Project, history: History, attempt: Attempt) -> str:
    """Why an attempt's numbers may not count, naming what is wrong; empty if nothing is."""
    for run in attempt.own:
        found = (run.note.refused or run.note.lacking) if run.note and run.status.ended else ""
        if not found and run.status is Status.SUCCEEDED:
            found = _unfit_metrics(project, run) or changed(project, run, reference(history, run.baseline))
        if found:
            return found
    return ""


def reference(history: History, baseline: str) -> str:
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


def changed(project: Project, run: Experiment, usual: str) -> str:
    """How a result's tree differs from its baseline's outside the scope, in words; empty if it does not.

    Args:
        usual: the `reference` of its baseline.
    """
    repo, program = project.repo, project.program
    declared = Declared.read(repo, run.baseline)
    old, new, rewritten = (repo.files(rev) for rev in (run.baseline, run.rev, usual))
    flaws, own = [], []
    for path in sorted(repo.changed(run.baseline, run.rev)):
        before, after = old.get(path), new.get(path)
        if after and not after.is_file:
            flaws.append(f"{path} is a link")
        elif path in program.param_files and before and after:
            own.append(path)
            flaws += _foreign_params(project, run, path)
        elif may_differ(project, run.baseline, path):
            own += [] if declared.is_generated(path) else [path]
            flaws += _foreign_ignores(project, run, path) if path.endswith(".gitignore") else []
        # What a run of the baseline itself rewrites is an output that nobody declared; it is not merged.
        elif is_obeyed(path) or within(path, declared.inputs) or rewritten.get(path) == before:
            flaws.append(f"{path} {'differs from' if before and after else 'is not as in'} the baseline")
    flaws += _foreign_data(project, run, usual)
    flaws += _foreign_composition(project, run)
    if (added := size.added(project.repo, run.baseline, run.rev, own)) > size.MAX_ADDED_BYTES:
        flaws.append(f"it adds {added} bytes, more than {size.MAX_ADDED_BYTES}")
    more = f" and {len(flaws) - MOST_NAMED} more" if len(flaws) > MOST_NAMED else ""
    return ", ".join(flaws[:MOST_NAMED]) + more


def may_differ(project: Project, baseline: str, path: str) -> bool:
    """Whether a result may have another version of a file: it is in scope, or DVC or a stage writes it.

    The files of parameters and what Hydra composes them of are held to what they say besides.
    """
    program = project.program
    declared = Declared.read(project.repo, baseline)
    if is_obeyed(path) and path not in program.param_files:
        return path in declared.locks or PurePosixPath(path).name == ".gitignore"
    is_ours = program.may_change(path)
    return is_ours or declared.is_output(path) or composition.is_source(project.repo, baseline, path)


def confined(project: Project, head: str, tree: str) -> str:
    """A tree in which whatever no result may change is as in the head, also what a stage wrote unasked."""
    repo, before = project.repo, project.repo.files(head)
    changed = [path for path in repo.changed(head, tree) if not may_differ(project, head, path)]
    return repo.write_tree(tree, {path: before.get(path) for path in changed})


def _foreign_ignores(project: Project, run: Experiment, path: str) -> list[str]:
    """DVC keeps a list of outputs in `.gitignore`; nothing else may come or go there."""
    repo, folder = project.repo, posixpath.dirname(path)
    before, after = (set((repo.read(rev, path) or b"").split(b"\n")) for rev in (run.baseline, run.rev))
    lines = [line.decode(errors="replace").strip() for line in before ^ after]
    outputs = Declared.read(repo, run.baseline).outputs | Declared.read(repo, run.rev).outputs
    plain = (line.removeprefix("/").replace("\\", "") for line in lines if line)
    foreign = any(posixpath.normpath(posixpath.join(folder, line)) not in outputs for line in plain)
    return [f"{path} differs from the baseline"] if foreign else []


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
    if project.program.scope.may_edit(file):
        return []
    flaws = [] if same_code(file, before, after) else [f"the code of {file} is not as in the baseline"]
    for key in (ParamKey(file, name) for name in sorted(old.keys() | new.keys())):
        was, now = (repr(values.get(key.key)) for values in (old, new))
        if now == repr(scale.get(key, was)) or key == project.program.seed:
            continue
        if was != now and not project.program.scope.allows_param(key):
            flaws.append(f"{key} is {now}, not {was} as in the baseline")
    return flaws


def _foreign_data(project: Project, run: Experiment, reference: str) -> list[str]:
    """What `dvc.lock` says of data that git does not hold, and of the metrics that the run left."""
    revs = (run.rev, reference, run.baseline)
    theirs, ours, before = (Declared.read(project.repo, rev).locked for rev in revs)
    influenced = influenced_stages(ours, project.program)
    made = {out for name in influenced for out in ours[name].outs}
    flaws = []
    for name, stage in theirs.items():
        known = ours[name].deps if name in ours else {}
        for path, md5 in stage.deps.items():
            own = within(path, made) or project.program.scope.reaches(path)
            if path in known and not own and md5 != known[path]:
                flaws.append(f"{path} is not what the baseline was measured with")
        for path, md5 in stage.outs.items():
            usual = ours[name].outs.get(path, md5) if name in ours and name not in influenced else md5
            steady = name not in before or before[name].outs.get(path, usual) == usual
            if md5 != usual and steady:
                flaws.append(f"{path} is not what the baseline was measured with")
            is_metric = any(path == metric.file for metric in project.program.written)
            content = project.repo.read(run.rev, path) if md5 and is_metric else None
            if content is not None and md5 != hashlib.md5(content, usedforsecurity=False).hexdigest():
                flaws.append(f"{path} is not what the run wrote")
    return flaws
