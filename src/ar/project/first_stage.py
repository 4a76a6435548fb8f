"""The one stage of a project that has none: a command whose metrics are read from what it prints."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ar.errors import ArError
from ar.project import naming
from ar.project.literals import Literal, of_file
from ar.project.params import PARAMS_FILE
from ar.project.pipeline_file import PIPELINE_FILE
from ar.project.ranges import around
from ar.project.source import SEED, Source, used
from ar.project.values import Scalar, dump_yaml, flat, parse

METRICS_FILE = "metrics.json"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# A number of a command line that has a name: --lr 0.1, --lr=0.1, lr=0.1, -DBLOCK=8
_NAMED = re.compile(
    r"(?<!\S)(--[A-Za-z][\w.-]+(?:=|[ \t]+)|-D[A-Za-z_]\w*=|[A-Za-z_][\w.]+=)(" + _NUMBER + r")(?![\w.])"
)
_SHELL = re.compile(r"[|&;<>()$`\n*?~]|^\s*[A-Za-z_]\w*=")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=\S*")
_AS_MODULE = re.compile(r"-m\s+([A-Za-z_][\w.]*)")
_OURS = (PIPELINE_FILE, "dvc.lock", "program.md", ".gitignore", ".dvcignore")
# Folders of what is made anew, or has no part in the work.
_NEVER = re.compile(
    r"(.*/)?(\.[^/]+|__pycache__|venv|env|node_modules|wandb|mlruns|runs|outputs?|logs|lightning_logs"
    r"|checkpoints?|build|dist)(/.*)?"
)
_LIKELY = ("train", "main", "run", "experiment", "fit", "benchmark", "bench", "solve", "model")
_RUN = {
    ".py": "{python} {script}",
    ".ipynb": "jupyter nbconvert --execute --to markdown --stdout {script}",
    ".c": "cc -O2 -o {stem} {script} -lm && ./{stem}",
    ".sh": "sh {script}",
    ".r": "Rscript {script}",
    ".jl": "julia {script}",
}


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

    @property
    def text(self) -> str:
        """The `dvc.yaml` with it."""
        params: list[Any] = [*self.params, *({file: list(names)} for file, names in self.constants.items())]
        stage: dict[str, Any] = {"cmd": self.command, "deps": list(self.deps)}
        stage |= {"params": params} if params else {}
        stage["metrics"] = [{self.metrics_file: {"cache": False}}]
        return f"{dump_yaml({'stages': {self.name: stage}})}\n"


class Folder:
    """The files of a project's folder, as they are on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> bytes | None:
        try:
            return (self.root / path).read_bytes()
        except (OSError, ValueError):
            return None

    def inside(self, text: str, folder: str = "") -> str | None:
        """The file or folder of the project that a text names, from a folder or from the root; None where
        there is none, or none that could be an input.
        """
        for base in dict.fromkeys(("", folder)):
            path = posixpath.normpath(posixpath.join(base, text.partition("*")[0] if "*" in text else text))
            if path in (".", *_OURS) or path.startswith(("../", "/")) or _NEVER.fullmatch(path):
                continue
            try:
                if (self.root / path).resolve().is_relative_to(self.root) and (self.root / path).exists():
                    return path
            except (OSError, ValueError):
                continue
        return None

    def files(self, path: str) -> list[str]:
        """A file, or the files of a folder, from the root."""
        place = self.root / path
        if not place.is_dir():
            return [path]
        found = []
        for folder, folders, names in os.walk(place):
            inner = Path(folder).relative_to(self.root).as_posix()
            folders[:] = sorted(name for name in folders if not _NEVER.fullmatch(name))
            found += [f"{inner}/{name}" for name in sorted(names) if not name.endswith((".pyc", ".dvc"))]
        return found

    def size(self, path: str) -> int:
        return sum((self.root / file).stat().st_size for file in self.files(path))


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
    python = "uv run" if (folder.root / "uv.lock").exists() else "python"
    form = _RUN[script.suffix.lower()]
    return form.format(python=python, script=shlex.quote(str(script)), stem=shlex.quote(script.stem))


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
    texts = {text for source in sources.values() for text in source.texts}
    printed = tuple(dict.fromkeys(name for script in scripts for name in sources[script].prints))
    wanted = tuple(metrics or naming.likeliest(printed)[:1])
    if not wanted:
        what = f"the text of {scripts[0]} does not tell what it prints"
        raise ArError(what, f"name its metric: ar init --run {shlex.quote(run)} --metric NAME")
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
        rivals=() if metrics else tuple(naming.likeliest(printed)[1:]),
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
    is_seeded = "seed" in values or re.search(rf"(?<!\S){re.escape(flag.partition(SEED)[0].strip())}", run)
    if flag and (seed_flag or not is_seeded):
        if present is not None and "seed" not in known:
            raise ArError(f"{PARAMS_FILE} has no seed", f"add a line to {PARAMS_FILE}: seed: 1")
        values = {"seed": 1} | values if present is None else {}
        line = _with_seed(line, flag.replace(SEED, "${seed}"))
    keys = (*values, *(["seed"] if "${seed}" in line else []))
    if "seed" in keys:
        constants = [item for item in constants if not naming.is_seed(item.name)]
    return _Settings(line, tuple(dict.fromkeys(keys)), values, tuple(constants))


def _scripts(folder: Folder, run: str) -> tuple[str, ...]:
    """Files of the folder that a command line names, but for what it makes."""
    words = re.findall(r"[^\s'\"|&;<>()=]+", run)
    made = {word for word, before in zip(words, ["", *words], strict=False) if before in ("-o", "--output")}
    modules = [name.replace(".", "/") for name in _AS_MODULE.findall(run)]
    names = [*words, *(f"{name}{end}" for name in modules for end in (".py", "/__main__.py"))]
    found = (folder.inside(word) for word in names if word not in made and not word.startswith("-"))
    made = {posixpath.normpath(word) for word in made}
    paths = dict.fromkeys(path for path in found if path is not None and path not in made)
    return tuple(path for path in paths if (folder.root / path).is_file() and path != PARAMS_FILE)


def _deps(folder: Folder, scripts: Sequence[str], sources: Mapping[str, Source]) -> tuple[str, ...]:
    """The scripts, the modules that they import (a package as its folder), and the data that they name."""
    found: dict[str, None] = dict.fromkeys(scripts)
    for path in sources:
        package = path
        while (folder.root / (up := posixpath.dirname(package)) / "__init__.py").exists() and up:
            package = up
        found[path if path in scripts else package] = None
    for path, source in sources.items():
        for text in source.texts:
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


def _named_numbers(run: str) -> tuple[dict[str, Scalar], str]:
    """The numbers of a command line that could be searched or are its seed, and the line with their keys."""
    values: dict[str, Scalar] = {}

    def taken(match: re.Match[str]) -> str:
        flag, text = match.groups()
        bare = flag.removeprefix("-D") if flag.startswith("-D") else flag.lstrip("-")
        name = re.sub(r"\W+", "_", bare.strip(" \t="))
        value = int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
        is_seed = naming.is_seed(name) and isinstance(value, int)
        name = "seed" if is_seed else name
        if name in values or naming.is_of_data(name) or not (is_seed or around(name, value) is not None):
            return match[0]
        values[name] = value
        return f"{flag}\0{name}\1"

    line = _NAMED.sub(taken, run)
    return values, _escaped(line).replace("\0", "${").replace("\1", "}")


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


def _metrics_file(folder: Folder, texts: Collection[str]) -> str:
    """A name that neither the folder nor the script has for something else."""
    names = (METRICS_FILE, "printed.json", *(f"printed-{count}.json" for count in range(2, 100)))
    return next(name for name in names if name not in texts and folder.read(name) is None)
