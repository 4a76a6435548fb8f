"""What would go wrong in the first run of a project, found before it: checks of `ar doctor`."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from ar.campaign import promotion
from ar.campaign.check import Check
from ar.errors import ArError, NotAllowed
from ar.history import reader
from ar.history.records import History, Status
from ar.local import locks
from ar.project import overlap
from ar.project.cache import config
from ar.project.overlap import Kind, Overlap
from ar.project.params import PARAMS_FILE
from ar.project.pipeline_file import PIPELINE_FILE, Declared
from ar.project.project import Project
from ar.runs import demands, interpreter, rehearsal, sandbox
from ar.text import counted


def examine(project: Project, declared: Declared, history: History, ready: bool) -> list[Check]:
    """Every check, the cheap ones first. The run is rehearsed only where the branch as it is was never
    measured, nothing runs, and all else that it needs is there.

    Args:
        ready: whether all that was looked at before is in order.
    """
    checks = [
        *_allowed(project),
        *_outputs(project, declared),
        *_seed(project, declared),
        *_hydra(project),
        *_python(project, declared),
        *_checkout(project),
        *_overlaps(project, declared),
    ]
    ready = ready and all(check.ok for check in checks if check.required)
    now = history.now.experiments if history.now else ()
    is_measured = any(run.status is Status.SUCCEEDED for run in now)
    if ready and declared.stages and not is_measured and not locks.holder(project.repo, "run"):
        checks.append(_rehearsal(project))
    return checks


def _allowed(project: Project) -> list[Check]:
    """Whether this machine's owner has given leave for what the repository demands of it."""
    try:
        demands.refuse(project.repo, demands.of_project(project))
    except NotAllowed as error:
        return [Check("allowed", False, error.message, error.mend)]
    except ArError:
        return []  # the sandbox's own check says so
    return []


def _outputs(project: Project, declared: Declared) -> list[Check]:
    """Whether the stages write what is to be measured."""
    checks = []
    for file in dict.fromkeys(metric.file for metric in project.program.written):
        if declared.is_output(file):
            continue
        if project.repo.read(project.repo.head(), file) is None:
            mend = f"declare it under metrics: of the stage that writes it in {PIPELINE_FILE}"
            checks.append(Check("metric", False, f"no stage writes {file}", mend))
        else:
            detail = f"no stage declares {file}: a run that does not write it keeps its old values"
            mend = f"declare it under metrics: in {PIPELINE_FILE}"
            checks.append(Check("metric", False, detail, mend, required=False))
    files = dict.fromkeys(metric.file for metric in project.program.written)
    if cached := [file for file in files if _is_cached(declared, file)]:
        detail = f"{', '.join(cached)} is read from DVC's cache, which keeps it; another clone needs dvc pull"
        checks.append(Check("metric", True, detail))
    return checks


def _is_cached(declared: Declared, file: str) -> bool:
    return any(file == path or file.startswith(f"{path.rstrip('/')}/") for path in declared.cached)


def _seed(project: Project, declared: Declared) -> list[Check]:
    """Whether runs can be repeated with other seeds."""
    seed = project.program.seed
    if seed is None:
        what = f"{project.program.file} names none"
        detail = f"{what}: runs are told apart by chance alone, which takes more of them"
        mend = "where a parameter seeds a run, name it there: seed: KEY"
        return [Check("seed", False, detail, mend, required=False)]
    stages = declared.locked.values()
    if stages and not any(_uses(stage.params.get(seed.file), seed.key) for stage in stages):
        detail = f"no stage depends on {seed}: every run may give the same value"
        mend = f"add it under params: of a stage in {PIPELINE_FILE}"
        return [Check("seed", False, detail, mend, required=False)]
    return []


def _uses(params: Mapping[str, object] | None, key: str) -> bool:
    """Whether a stage that used these parameters of a file used a key, or a section that holds it."""
    if params is None:
        return False
    return not params or any(name == key or key.startswith(f"{name}.") for name in params)


def _hydra(project: Project) -> list[Check]:
    """Whether a composition would undo what is set in the parameters."""
    if config(project.repo.root, "hydra").get("enabled", "").lower() not in ("true", "1", "yes", "on"):
        return []
    if project.repo.read(project.repo.head(), PARAMS_FILE) is None:
        detail = f"DVC composes {PARAMS_FILE} with Hydra, and git does not have it: nothing in it can be set"
        return [Check("hydra", False, detail, f"run: git add -f {PARAMS_FILE}, and commit it")]
    return [Check("hydra", True, f"DVC composes {PARAMS_FILE} with Hydra")]


def _python(project: Project, declared: Declared) -> list[Check]:
    """Which Python the stages run, and whether they can in the sandbox."""
    named = interpreter.named(declared.commands)
    python = interpreter.find(project.repo.root, declared.commands)
    if not python.program:
        detail = f"no {named[0]} on PATH, which a stage runs" if named else ""
        return (
            [Check("python", False, detail, "activate the environment that dvc repro needs")] if named else []
        )
    own = "" if python.prefix == sys.prefix else f"; ar itself runs in {sys.prefix}"
    try:
        settings = project.program.sandbox
        sandbox.refuse_hidden(sandbox.find(settings), settings, project.repo.root, python)
    except ArError as error:
        return [Check("python", False, error.message, error.mend, required=bool(named))]
    return [Check("python", True, f"stages find {python}{own}")]


def _checkout(project: Project) -> list[Check]:
    """Whether promotions can bring the checkout along."""
    mend = "run: git stash, or commit them"
    return [Check("checkout", False, words, mend, required=False) for words in promotion.warnings(project)]


def _overlaps(project: Project, declared: Declared) -> list[Check]:
    """Whether validation data are trained on; nothing where no path says what is which."""
    found = overlap.find(project.repo.root, declared)
    shared = [_shared(one) for one in found if one.shared]
    if not found or shared:
        return shared
    looked = " and ".join(counted(one.sampled, one.kind.value) for one in found)
    partly = ", as far as they were read" if any(one.partly for one in found) else ""
    return [Check("overlap", True, f"no training data among {looked} of validation data{partly}")]


def _shared(found: Overlap) -> Check:
    what = f"{found.shared:,} of {counted(found.sampled, found.kind.value)} of validation data"
    share = f"{found.share:.2%}{' of what was read in time' if found.partly else ''}"
    pair = f"{found.validation} is {found.training}"
    if found.kind is not Kind.FILE:
        pair = f"{found.kind} {found.validation_place:,} of {found.validation} is "
        pair += f"{found.kind} {found.training_place:,} of {found.training}"
    detail = f"{what} ({share}) are among the training data: {pair}"
    mend = "take them out of either: what was trained on measures nothing; then commit, and measure anew"
    return Check("overlap", not found.is_much, detail, mend, required=False)


def _rehearsal(project: Project) -> Check:
    try:
        note = rehearsal.rehearse(project, reader.head_seed(project))
    except ArError as error:
        return Check("rehearsal", False, error.message, error.mend)
    if note.status is Status.SUCCEEDED:
        return Check("rehearsal", True, f"the pipeline ran to its end in {note.seconds:.1f} s")
    if note.status is Status.TIMED_OUT:
        return Check("rehearsal", True, f"the pipeline was well under way after {rehearsal.SECONDS:g} s")
    return Check(
        "rehearsal", False, f"the pipeline does not run: {note.reason}", note.mend or _by_hand(note.log)
    )


def _by_hand(log: str) -> str:
    last = log.strip().splitlines()[-1:] or ["nothing"]
    return f"try it by hand: dvc repro; it printed at last: {last[0][:200]}"
