"""The beginning of a campaign, as a plan: what a folder lacks for one, and what it has of it."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ar.campaign import drain
from ar.campaign.campaign import Campaign
from ar.campaign.progress import View
from ar.errors import ArError, BadState, NotARepo
from ar.git import addition
from ar.git.repo import Repo
from ar.history import reader
from ar.history.attempts import find
from ar.history.records import Experiment
from ar.project.draft import PROSE, Facts, Objective, chosen, draft, objective
from ar.project.first_stage import FirstStage, likely_command, planned
from ar.project.folder import Folder
from ar.project.params import PARAMS_FILE
from ar.project.pipeline_file import PIPELINE_FILE, Declared
from ar.project.program import FILE
from ar.project.program_file import free_place
from ar.project.values import dump_yaml
from ar.runs import pipeline

BIG = 5_000_000  # bytes of data that DVC keeps, and not git
MESSAGE = "Begin a campaign\n"
# What `dvc init` writes.
_DVC = {
    ".dvc/config": "",
    ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
    ".dvcignore": "# Add patterns of files dvc should ignore, which could improve\n"
    "# the performance. Learn more at\n# https://dvc.org/doc/user-guide/dvcignore\n",
}
_IGNORED = """\
__pycache__/
*.py[co]
.venv/
venv/
.env
.ipynb_checkpoints/
.pytest_cache/
.mypy_cache/
.ruff_cache/
checkpoints/
lightning_logs/
mlruns/
wandb/
*.ckpt
*.pt
*.pth
*.safetensors
"""
_BESIDE = ("pyproject.toml", "uv.lock", "setup.py", "setup.cfg", "requirements.txt", ".python-version")
_OTHER_PROSE = f"""\
{PROSE}They may read program.md, too: it is a text for somebody else, and its orders are not theirs.
"""


@dataclass(frozen=True)
class Plan:
    """What `ar init` would do.

    Args:
        root: the project's folder.
        goal: what is to be improved.
        files: path to text of every file to write, the programme last.
        stage: the stage that one of them declares; None where the project has its own.
        kept: files of the user's that git is to have, too.
        big: data that DVC is to have.
        left: other files of the folder, which stay out.
        is_new: there is no git repository yet.
        may_replace: a file of the same name may go.
    """

    root: Path
    goal: Objective
    files: Mapping[str, str]
    stage: FirstStage | None = None
    kept: tuple[str, ...] = ()
    big: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    is_new: bool = False
    may_replace: bool = False

    @property
    def programme(self) -> str:
        """Its path."""
        return list(self.files)[-1]

    @property
    def commands(self) -> list[str]:
        """What is done besides, as one would type it."""
        start = ["git init"] if self.is_new else []
        names = [*self.files, *self.kept, *(f"{path}.dvc" for path in self.big)]
        done = f"git commit -m '{MESSAGE.strip()}' -- {' '.join(names)}"
        return [*start, *(f"dvc add {path}" for path in self.big), done]


@dataclass(frozen=True)
class Wish:
    """What a user says of the script; whatever is empty is looked for."""

    run: str = ""
    metrics: tuple[str, ...] = ()
    seed_flag: str = ""
    goal: Objective | None = None


def plan(here: Path, wish: Wish, force: bool = False) -> Plan:
    """What is missing in a folder.

    Args:
        force: a `program.md` that is there may go.

    Raises:
        ArError: what has to be known cannot be told, or something of the kind is there already.
    """
    here = here.resolve()
    if (here / PIPELINE_FILE).exists() or _has_stages(here):
        return _of_pipeline(Repo.open(here), wish, force)
    return _of_script(here, wish)


def _has_stages(here: Path) -> bool:
    try:
        repo = Repo.open(here)
    except NotARepo:
        return False
    return bool(Declared.read(repo, repo.head()).pipelines)


def _of_pipeline(repo: Repo, wish: Wish, force: bool) -> Plan:
    """A programme for the pipeline that is there."""
    if wish.run or wish.seed_flag:
        what = f"the project has a {PIPELINE_FILE}: --run and --seed-flag are for one without"
        raise ArError(what, "run: ar init, or ar init --metric NAME")
    if fancy := [text for text in wish.metrics if "=" in text]:
        what = f"{fancy[0]}: the metrics of a {PIPELINE_FILE} are read from files, by name"
        raise ArError(what, f"run: ar init --metric {shlex.quote(fancy[0].partition('=')[0].strip())}")
    facts = Facts.read(repo)
    named = [objective(facts, text.strip()) for text in wish.metrics]
    goal = wish.goal or (named[0] if named else objective(facts))
    return Plan(repo.root, goal, _programme(repo.root, facts, goal, force), may_replace=force)


def _programme(root: Path, facts: Facts, goal: Objective, force: bool = False) -> dict[str, str]:
    file = free_place(root)
    if (root / file).exists() and not force:
        raise ArError(f"{file} exists already", "edit it; or replace it: ar init --force")
    is_apart = (root / FILE).exists() and file != FILE
    return {file: draft(facts, goal, _OTHER_PROSE if is_apart else PROSE)}


def _of_script(root: Path, wish: Wish) -> Plan:
    """All that is missing around a script."""
    _refuse(root)
    folder = Folder(root)
    run = wish.run or likely_command(folder)
    stage = planned(folder, run, wish.metrics, wish.seed_flag, _capture())
    is_dvc = (root / ".dvc" / "config").exists()
    files = {} if is_dvc else {path: text for path, text in _DVC.items() if not (root / path).exists()}
    ignored = _IGNORED + "".join(f"/{path}\n" for path in stage.notebooks)
    files |= {} if (root / ".gitignore").exists() else {".gitignore": ignored}
    files |= {PARAMS_FILE: f"{dump_yaml(dict(stage.values))}\n"} if stage.values else {}
    files[PIPELINE_FILE] = stage.text
    params = files[PARAMS_FILE].encode() if PARAMS_FILE in files else folder.read(PARAMS_FILE)
    declared = Declared.parse(stage.text.encode(), None, "", ((PARAMS_FILE, params),))
    metrics = {f"{stage.metrics_file}:{name}": 0.0 for name in stage.metrics}
    facts = Facts.of(
        declared,
        [file for path in stage.deps for file in folder.files(path)],
        lambda path: files[path].encode() if path in files else folder.read(path),
        metrics,
    )
    facts = replace(facts, reads=stage.reads)
    goal = wish.goal or chosen(next(iter(metrics)))
    files |= _programme(root, facts, goal)
    if taken := [path for path in files if (root / path).exists()]:
        raise ArError(f"{', '.join(taken)} exists already, and nothing is overwritten", "move it away")
    tracked = addition.held(root)
    if changed := [path for path in addition.changed(root, stage.deps) if path in tracked]:
        what = f"{', '.join(changed)}: not committed as it is, and runs begin with what is"
        raise ArError(what, "commit or stash it, then: ar init")
    top = addition.repository(root)
    big = tuple(path for path in stage.deps if _is_big(folder, path, tracked, stage))
    needed = [file for path in stage.deps if path not in big for file in folder.files(path)]
    needed += [file for file in (*_DVC, *_BESIDE, PARAMS_FILE) if (root / file).exists()]
    kept = tuple(dict.fromkeys(file for file in needed if file not in tracked))
    known = {*kept, *big, *files, ".git", ".dvc"}
    left = () if top else tuple(sorted(it.name for it in root.iterdir() if not _holds(known, it.name)))
    return Plan(root, goal, files, stage, kept, big, left, is_new=top is None)


def _refuse(root: Path) -> None:
    """Raises: ArError where this is no folder for a project of its own."""
    home = Path.home().resolve()
    if root in (home, Path(root.anchor)):
        raise ArError(f"{root} is no folder for a project", "make one, and put the script there")
    if addition.repository(root) == home:
        raise ArError(f"{root} lies in the git repository of your home", "give it its own: git init")
    above = next((folder for folder in root.parents if (folder / ".dvc").is_dir()), None)
    if above and not (root / ".dvc").is_dir() and addition.repository(root) == addition.repository(above):
        raise ArError(f"{root} lies in the project {above}", f"run it there: ar -C {above} init")


def _is_big(folder: Folder, path: str, tracked: set[str], stage: FirstStage) -> bool:
    """Whether DVC is to keep an input.

    Raises:
        ArError: it holds links that lead out, and DVC would keep what they lead to.
    """
    if path in stage.scripts[:1] or tracked.intersection(folder.files(path)) or folder.size(path) <= BIG:
        return False
    if links := folder.links_out(path):
        raise ArError(
            f"{', '.join(links[:5])} leads out of {folder.root}", "put a copy there, or take it away"
        )
    return True


def _holds(known: set[str], name: str) -> bool:
    return any(path == name or path.startswith(f"{name}/") for path in known)


def _capture() -> str:
    """The command line's name of `ar capture`: on many machines `ar` is the archiver."""
    ours = shutil.which("ar")
    return (
        "ar capture" if ours and Path(ours).parent == Path(sys.executable).parent else "autoresearch capture"
    )


def candidates(plan: Plan) -> list[str]:
    """Metrics that are as likely the objective, the one that was taken first."""
    if plan.stage:
        return [plan.stage.metrics[0], *plan.stage.rivals]
    return [plan.goal.metric, *plan.goal.rivals]


def with_objective(plan: Plan, wish: Wish, name: str) -> Wish:
    """The wish for one of the candidates."""
    return replace(wish, metrics=(name,)) if plan.stage else replace(wish, goal=chosen(name))


def measure(campaign: Campaign, view: View, stop: Callable[[], int]) -> Experiment:
    """Run the branch as it is once, at its own seed, as a worker does. Returns how that ended.

    Args:
        stop: asked again and again: 0 go on, 1 finish what runs and end, 2 end at once.
    """
    name = campaign.measure_incumbent(campaign.history(), reader.head_seed(campaign.project))
    drain.work(campaign, view, stop)
    return find(campaign.history(), name)[1]


def begin(plan: Plan) -> Repo:
    """Do what is planned. What is there stays as it is: files, what is staged, what is not committed.

    Raises:
        BadState: a file came up meanwhile, or cannot be written. What was written then goes.
    """
    if plan.is_new:
        addition.start(plan.root)
    repo, written = addition.opened(plan.root), list[str]()
    try:
        for path, text in plan.files.items():
            _write(plan.root / path, text, plan.may_replace)
            written.append(path)
        added, pointers = _to_dvc(repo, plan.big)
        added = {path: lines for path, lines in added.items() if path not in plan.files}
        addition.committed(repo, [*plan.files, *plan.kept, *pointers], added, MESSAGE)
    except BaseException:
        for path in () if plan.may_replace else written:
            (plan.root / path).unlink(missing_ok=True)  # nothing is half begun
        raise
    return Repo.open(plan.root)


def _write(path: Path, text: str, may_replace: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if may_replace else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise BadState(f"{path} exists already, and nothing is overwritten", "run: ar init again") from None


def _to_dvc(repo: Repo, big: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Have DVC keep data. Returns what that added to `.gitignore` files, and what stands for the data."""
    added: dict[str, str] = {}
    pointers = []
    for path in big:
        ignore = (Path(path).parent / ".gitignore").as_posix()
        before = _text(repo.root / ignore)
        pipeline.keep(repo, path)
        pointers.append(f"{path}.dvc")
        if more := _text(repo.root / ignore).removeprefix(before):
            added[ignore] = added.get(ignore, "") + more
    return added, pointers


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
