"""The one stage of a project that has none: a command whose metrics are read from what it prints."""

from __future__ import annotations

import contextlib
import posixpath
import re
import shlex
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ar.errors import ArError
from ar.project import naming
from ar.project.folder import Folder
from ar.project.literals import Literal, of_file
from ar.project.params import PARAMS_FILE
from ar.project.ranges import around
from ar.project.source import SEED, Source, read, used
from ar.project.values import Scalar, dump_yaml, flat, parse

METRICS_FILE = "metrics.json"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# A number of a command line that has a name: --lr 0.1, --lr=0.1, lr=0.1, -DBLOCK=8, papermill's -p lr 0.1
_NAMED = re.compile(
    r"(?<!\S)(?P<flag>--(?P<long>[A-Za-z][\w.-]+)(?:=|[ \t]+)|(?:-D)?(?P<set>[A-Za-z_][\w.]*)="
    r"|-p[ \t]+(?P<of_notebook>[A-Za-z_]\w*)[ \t]+)(?P<number>" + _NUMBER + r")(?![\w.])"
)
_SHELL = re.compile(r"[|&;<>()$`\n*?~]|^\s*[A-Za-z_]\w*=")
_NOTEBOOK = re.compile(r"\w[\w./-]*\.ipynb")  # of the folder, in signs that mean themselves in .gitignore
_PAPERMILL = re.compile(r"(?<!\S)(?:\S*/)?papermill(?=\s)")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=\S*")
_AS_MODULE = re.compile(r"-m\s+([A-Za-z_][\w.]*)")
_LIKELY = ("train", "main", "run", "experiment", "fit", "benchmark", "bench", "solve", "model")
_RUN = {
    ".py": "{python} {script}",
    ".ipynb": "jupyter nbconvert --execute --to markdown --stdout {script}",  # what cells print is in that
    ".c": "cc -O2 -o {stem} {script} -lm && ./{stem}",
    ".sh": "sh {script}",
    ".r": "Rscript {script}",
    ".jl": "julia {script}",
}


class Unnamed(ArError):
    """Nothing tells which metric a script prints."""


@dataclass(frozen=True)
class FirstStage:
    """A stage to be.

    Args:
        command: its whole line, with `${key}` for parameters.
        scripts: what of the project the command names first.
        deps: the scripts, what they import, and what data they name.
        params: keys of `params.yaml` that it depends on.
        constants: of Python files, names that are assigned at their top.
        values: what `params.yaml` is to hold; empty where there is one, or none is needed.
        metrics: the names that it reads from what is printed, the objective first.
        metrics_file: where it writes them.
        rivals: other names that are as likely the objective.
        reads: what is below the user's home and is read by it, as `~/.cache/x`.
        notebooks: that the command writes. Nobody needs them: whatever no stage declares is removed.
    """

    name: str
    command: str
    scripts: tuple[str, ...]
    deps: tuple[str, ...]
    params: tuple[str, ...] = ()
    constants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    values: Mapping[str, Scalar] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    metrics_file: str = METRICS_FILE
    rivals: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    notebooks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The `dvc.yaml` with it."""
        params: list[Any] = [*self.params, *({file: list(names)} for file, names in self.constants.items())]
        stage: dict[str, Any] = {"cmd": self.command, "deps": list(self.deps)}
        stage |= {"params": params} if params else {}
        stage["metrics"] = [{self.metrics_file: {"cache": False}}]
        return f"{dump_yaml({'stages': {self.name: stage}})}\n"


def likely_command(folder: Folder) -> str:
    """How the likeliest script of a folder is run.

    Raises:
        ArError: none is likelier than the others.
    """
    scripts = sorted(path.name for path in folder.root.iterdir() if path.suffix.lower() in _RUN)
    named = [name for stem in _LIKELY for name in scripts if PurePosixPath(name).stem.lower() == stem]
    if not named and len(scripts) != 1:
        what = f"several could be the script: {', '.join(scripts[:8])}" if scripts else "there is no script"
        raise ArError(f"{what} in {folder.root}", 'say how it runs: ar init --run "python train.py"')
    script = PurePosixPath((named or scripts)[0])
    python = "uv run" if (folder.root / "uv.lock").exists() else _python(folder.root)
    form = _RUN[script.suffix.lower()]
    if read(script.name, folder.read(script.name) or b"").parameters and shutil.which("papermill"):
        form = "papermill {script} /dev/null"  # nobody would look at the notebook of a run
    return form.format(python=python, script=shlex.quote(str(script)), stem=shlex.quote(script.stem))


def _python(root: Path) -> str:
    """The Python of the folder's own environment, or else that of PATH, by the name that a command has."""
    own, found = root / ".venv" / "bin" / "python", shutil.which("python")
    if own.exists() and not (found and Path(found).is_relative_to(root)):
        return ".venv/bin/python"
    return "python" if found else "python3"


def planned(folder: Folder, run: str, metrics: Sequence[str], seed_flag: str, capture: str) -> FirstStage:
    """The stage that runs a command line.

    Args:
        run: as a user would type it.
        metrics: `NAME` or `NAME=REGEX` of what it prints, the objective first; where it is empty, the
            likeliest of those that the script's text tells.
        seed_flag: how the command takes its seed, such as `--seed {seed}`; empty for what the text tells.
        capture: the command that reads metrics from what another prints.

    Raises:
        ArError: no file of the folder stands in the command, nothing tells what it prints, or what the seed
            needs cannot be written.
    """
    scripts = _scripts(folder, run)
    if not scripts:
        raise ArError(f"no file of {folder.root} stands in: {run}", "name the script, from this folder")
    sources = used(scripts, folder.read)
    if papermill := _PAPERMILL.search(run):
        run = _for_papermill(run, papermill, sources[scripts[0]])
    texts = {text for source in sources.values() for text in source.texts}
    printed = tuple(dict.fromkeys(name for script in scripts for name in sources[script].prints))
    wanted = tuple(metrics or naming.likeliest(printed)[:1])
    if not wanted:
        what = f"the text of {scripts[0]} does not tell what it prints"
        raise Unnamed(what, f"name its metric: ar init --run {shlex.quote(run)} --metric NAME")
    settings = _settings(folder, run, scripts, sources, seed_flag)
    own = parse(folder.read(PARAMS_FILE) or b"", PARAMS_FILE) if PARAMS_FILE in texts else {}
    by_file = {
        file: tuple(item.name for item in settings.constants if item.file == file)
        for file in dict.fromkeys(item.file for item in settings.constants)
    }
    file = _metrics_file(folder, texts)
    words = [word for text in wanted for word in ("-m", text)]
    words += [] if file == METRICS_FILE else ["--out", file]
    return FirstStage(
        name=re.sub(r"[^a-z0-9_-]+", "-", PurePosixPath(scripts[0]).stem.lower()).strip("-") or "train",
        command=f"{' '.join(map(shlex.quote, [*capture.split(), *words]))} -- {settings.line}",
        scripts=scripts,
        deps=_deps(folder, scripts, sources),
        params=tuple(dict.fromkeys([*map(str, own), *settings.keys])),
        constants=by_file,
        values=settings.values,
        metrics=tuple(text.partition("=")[0].strip() for text in wanted),
        metrics_file=file,
        reads=tuple(dict.fromkeys(path for it in sources.values() for path in it.home if _is_data(path))),
        rivals=() if metrics else tuple(naming.likeliest(printed)[1:]),
        notebooks=tuple(filter(_NOTEBOOK.fullmatch, map(posixpath.normpath, _made(run)))),
    )


@dataclass(frozen=True)
class _Settings:
    """What can be set of a command.

    Args:
        line: the command, with `${key}` for what is in `params.yaml`.
        keys: those.
        values: what `params.yaml` is to hold; empty where there is one.
        constants: of its scripts.
    """

    line: str
    keys: tuple[str, ...]
    values: Mapping[str, Scalar]
    constants: tuple[Literal, ...]


def _settings(
    folder: Folder, run: str, scripts: Sequence[str], sources: Mapping[str, Source], seed_flag: str
) -> _Settings:
    """Numbers of the command and of its scripts, and the seed: by the flag that is given, as the command line
    has it, by a flag that the script's text tells, or a constant of it."""
    if seed_flag and SEED not in seed_flag:
        what = f"--seed-flag {shlex.quote(seed_flag)} does not say where the seed goes"
        raise ArError(what, f"for example: --seed-flag '--seed {SEED}'")
    present = folder.read(PARAMS_FILE)
    known = flat(present or b"", PARAMS_FILE)
    values, line = _named_numbers(run) if present is None else ({}, _escaped(run))
    constants = _constants(folder, scripts)
    flag = seed_flag or next((it.seed_flag for it in sources.values() if it.seed_flag), "")
    if present is None and not line.startswith("sh -c "):
        options = {option: None for script in scripts for option in sources[script].options}
        for option, number in options:
            name = re.sub(r"\W+", "_", option.lstrip("-"))
            if name not in values and not _stands(option, run) and _is_searched(name, number):
                values[name] = number
                line += f" {option} ${{{name}}}"
    if flag and not _stands(flag.partition(SEED)[0].strip(), run) and (seed_flag or "seed" not in values):
        if present is not None and "seed" not in known:
            raise ArError(f"{PARAMS_FILE} has no seed", f"add a line to {PARAMS_FILE}: seed: 1")
        defaults = {name: number for it in sources.values() for name, number in it.options}
        seed = defaults.get(flag.partition(SEED)[0].strip(), 1)
        values = {"seed": int(seed)} | values if present is None else {}
        line = _with_seed(line, flag.replace(SEED, "${seed}"))
    keys = (*values, *(["seed"] if "${seed}" in line else []))
    if "seed" in keys:
        constants = [item for item in constants if not naming.is_seed(item.name)]
    return _Settings(line, tuple(dict.fromkeys(keys)), values, tuple(constants))


def _scripts(folder: Folder, run: str) -> tuple[str, ...]:
    """Files of the folder that a command line names, but for what it makes."""
    made = {PARAMS_FILE, *map(posixpath.normpath, _made(run))}
    modules = [name.replace(".", "/") for name in _AS_MODULE.findall(run)]
    names = [*_words(run), *(f"{name}{end}" for name in modules for end in (".py", "/__main__.py"))]
    paths = dict.fromkeys(filter(None, map(folder.inside, names)))
    return tuple(path for path in paths if path not in made and (folder.root / path).is_file())


def _made(run: str) -> list[str]:
    """What a command line writes: after an option that says so, or beside the notebook that it runs."""
    words = _words(run)
    pairs = zip(words, ["", *words], strict=False)
    return [word for word, before in pairs if before in ("-o", "--output") or before.endswith(".ipynb")]


def _words(run: str) -> list[str]:
    words = re.findall(r"[^\s'\"|&;<>()=]+", run)
    with contextlib.suppress(ValueError):  # an open quote
        words += shlex.split(run)
    return words


def _deps(folder: Folder, scripts: Sequence[str], sources: Mapping[str, Source]) -> tuple[str, ...]:
    """The scripts, the modules that they import (a package as its folder), and the data that they name."""
    found: dict[str, None] = dict.fromkeys(scripts)
    for path in sources:
        package = path
        while (folder.root / (up := posixpath.dirname(package)) / "__init__.py").exists() and up:
            package = up
        found[path if path in scripts else package] = None
    for path, source in sources.items():
        for text in dict.fromkeys(source.texts):
            place = folder.inside(text, posixpath.dirname(path))
            if place not in (None, PARAMS_FILE) and folder.files(place or "") and place not in sources:
                found[str(place)] = None
    apart = [path for path in found if not any(path.startswith(f"{other}/") for other in found)]
    return tuple(apart)


def _constants(folder: Folder, scripts: Iterable[str]) -> list[Literal]:
    """Numbers at the top of the scripts that could be searched, and their seeds."""
    python = [path for path in scripts if path.endswith(".py")]
    found = [item for path in python for item in of_file(path, folder.read(path) or b"")]
    return [item for item in found if item.is_setting]


def _stands(option: str, run: str) -> bool:
    """Whether an option is in a command line already."""
    return re.search(rf"(?<!\S){re.escape(option)}(?![\w-])", run) is not None


def _is_searched(name: str, value: Scalar) -> bool:
    return not naming.is_of_data(name) and around(name, value) is not None


def _named_numbers(run: str) -> tuple[dict[str, Scalar], str]:
    """The numbers of a command line that could be searched or are its seed, and the line with their keys."""
    values: dict[str, Scalar] = {}

    def taken(match: re.Match[str]) -> str:
        flag, text = match["flag"], match["number"]
        name = re.sub(r"\W+", "_", match["long"] or match["set"] or match["of_notebook"])
        value = int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
        is_seed = naming.is_seed(name) and isinstance(value, int)
        name = "seed" if is_seed else name
        if name in values or not (is_seed or _is_searched(name, value)):
            return match[0]
        values[name] = value
        return f"{flag}\0{name}\1"

    line = _NAMED.sub(taken, run)
    return values, _escaped(line).replace("\0", "${").replace("\1", "}")


def _for_papermill(run: str, found: re.Match[str], notebook: Source) -> str:
    """The command such that what cells print is seen, and that it sets what can be searched, and the seed."""
    given = {match["of_notebook"] for match in _NAMED.finditer(run)}
    if not _stands("--log-output", run):
        run = f"{run[: found.end()]} --log-output{run[found.end() :]}"
    for name, value in () if _SHELL.search(run) else notebook.parameters:
        is_seed = naming.is_seed(name) and isinstance(value, int)
        if name not in given and (is_seed or _is_searched(name, value)):
            run += f" -p {name} {value}"
    return run


def _escaped(run: str) -> str:
    """The line as DVC hands it on unchanged: one command, of the shell where it needs that."""
    plain = run.replace("${", "\\${")
    return f"sh -c {shlex.quote(plain)}" if _SHELL.search(plain) else plain


def _with_seed(line: str, flag: str) -> str:
    """The command with its seed: in a variable of the environment, or at its end."""
    if _VARIABLE.fullmatch(flag):
        return f"env {flag} {line}"
    if line.startswith("sh -c ") and line.endswith("'"):
        return f"{line[:-1]} {flag}'"
    return f"{line} {flag}"


def _is_data(path: str) -> bool:
    """Whether what is below the user's home is there, and may be data."""
    return path.count("/") > 1 and Path(path).expanduser().exists()


def _metrics_file(folder: Folder, texts: Collection[str]) -> str:
    """A name that neither the folder nor the script has for something else."""
    names = (METRICS_FILE, "printed.json", *(f"printed-{count}.json" for count in range(2, 100)))
    return next(name for name in names if name not in texts and folder.read(name) is None)
