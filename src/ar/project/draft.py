"""`ar init`: a `program.md` from what the project declares."""

from __future__ import annotations

import contextlib
import re
from pathlib import PurePosixPath
from typing import Any

from ar.errors import ArError, BadParams
from ar.git.repo import Repo
from ar.project.literals import Literal, of_stages
from ar.project.params import PARAMS_FILE
from ar.project.pipeline_file import PIPELINE_FILE, Declared
from ar.project.program import FILE
from ar.project.ranges import around
from ar.project.values import Scalar, dump_yaml, flat, number
from ar.text import one_line

# Words in a metric's name that say which way is better.
_LESS = "loss error err bpb perplexity ppl rmse mse mae cost distance wer cer"
_MORE = "acc accuracy f1 auc score precision recall r2 map bleu rouge reward iou dice"
_SPEND = {"seconds", "time", "latency", "memory", "duration"}
_VALIDATION = ("val", "valid", "validation", "dev", "eval")
_SEEDS = ("seed", "random_seed", "random_state", "rng_seed")
_CODE = ".py .sh .awk .r .jl .js .ts .c .cc .cpp .rs .go .java .pl .rb .sql .cu"
_MOST_LITERALS = 20
_COMMENTS = {
    "objective": "what to improve",
    "guards": "a change must not be worse here, beyond noise",
    "holdout": "looked at only when promoting, never shown to an agent",
    "seed": "the key that re-seeds a run",
    "scope": "what a proposal may change; everything else is refused",
    "search": "how far to search each parameter",
    "budget": "runs in all; time limit of one run",
}
_HOW_TO_MOVE = (
    "  Numbers in scripts, out of the search's reach. To search one: give params.yaml its name and value,",
    "  have the script read it there, add it to the stage's params: in dvc.yaml and to scope.params above,",
    "  and take the # away.",
)
_PROSE = """\
What we look for, what is known, what not to try: write it here, in plain words. Agents read it whole.
"""


def draft(repo: Repo) -> str:
    """A programme for this project.

    Raises:
        ArError: it declares no stage, or no metric with a value that could be an objective.
    """
    head = repo.head()
    declared = Declared.read(repo, head)
    if not declared.stages:
        raise ArError(f"{PIPELINE_FILE} at HEAD declares no stage", "run: dvc stage add …, then git commit")
    if not declared.metrics:
        mend = "add one to a stage: dvc stage add -M metrics.json …"
        raise ArError(f"{PIPELINE_FILE} declares no metrics file", mend)
    metrics = _metrics(repo, declared)
    if not metrics:
        mend = "run: dvc repro && git add -A && git commit, then: ar init"
        raise ArError(f"{', '.join(declared.metrics)} holds no number yet", mend)
    params = _params(repo, head, declared)
    to_move = _to_move([item for item in of_stages(repo, head, declared) if item.name.lower() not in params])
    return _text(metrics, params, _code(repo, head, declared), to_move)


def refuse_overwrite(repo: Repo, force: bool) -> None:
    """Raises: ArError where `program.md` exists and may not be replaced."""
    if (repo.root / FILE).exists() and not force:
        raise ArError(f"{FILE} exists already", "edit it; or replace it: ar init --force")


def write(repo: Repo, text: str) -> None:
    path = repo.root / FILE
    fresh = path.with_name(f".{FILE}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _metrics(repo: Repo, declared: Declared) -> dict[str, float]:
    """Numbers of the metrics files: as committed, or as the last `dvc repro` left them."""
    metrics: dict[str, float] = {}
    for path in declared.metrics:
        content = repo.read("HEAD", path)
        with contextlib.suppress(OSError, BadParams):
            values = flat((repo.root / path).read_bytes() if content is None else content, path)
            sizes = {f"{path}:{key}": number(value) for key, value in values.items()}
            metrics |= {key: size for key, size in sizes.items() if size is not None}
    return metrics


def _params(repo: Repo, head: str, declared: Declared) -> dict[str, Scalar]:
    params: dict[str, Scalar] = {}
    for path in dict.fromkeys([PARAMS_FILE, *declared.params]):
        content = repo.read(head, path)
        if content is not None:
            prefix = "" if path == PARAMS_FILE else f"{path}:"
            params.update({f"{prefix}{key}": value for key, value in flat(content, path).items()})
    return params


def _code(repo: Repo, head: str, declared: Declared) -> list[str]:
    """Code files that stages depend on, as globs: a folder of them stands for what it holds."""
    code = [path for path in repo.files(head) if PurePosixPath(path).suffix.lower() in _CODE.split()]
    globs: dict[str, None] = {}
    for path in (path.rstrip("/") for path in declared.inputs):
        if declared.is_output(path) or path.startswith(".dvc"):
            continue
        if path in code:
            globs[path] = None
        elif any(name.startswith(f"{path}/") for name in code):
            globs[f"{path}/**"] = None
    return list(globs)


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^._-]+", name.rpartition(":")[2].lower()))


def _direction(name: str) -> str | None:
    words = _words(name)
    if words.intersection(_MORE.split()):
        return "maximize"
    return "minimize" if words.intersection([*_LESS.split(), *_SPEND]) else None


def _objective(metrics: dict[str, float]) -> str:
    """The likeliest objective: a quality on validation data, then any quality, then whatever comes first."""

    def rank(name: str) -> tuple[bool, bool, bool]:
        words = _words(name)
        return bool(words & {*_SPEND, "test", "train"}), words.isdisjoint(_VALIDATION), not _direction(name)

    return min(metrics, key=rank)


def _holdout(objective: str, metrics: dict[str, float]) -> str | None:
    others = (objective.replace(word, "test") for word in _VALIDATION)
    return next((other for other in others if other != objective and other in metrics), None)


def _to_move(literals: list[Literal]) -> list[str]:
    """A comment on numbers in scripts that could be searched: each with a range, and how to make it so."""
    found = [(item, around(item.name, item.value)) for item in literals]
    searchable = [(item, span) for item, span in found if span is not None]
    if not searchable:
        return []
    lines = []
    for item, span in searchable[:_MOST_LITERALS]:
        now = f"{item.name} = {item.value} at {one_line(item.file)}:{item.line}"
        lines.append(f"  {item.name.lower()}: {dump_yaml(span, flow=True)}  # {now}")
    left_out = len(searchable) - len(lines)
    more = [f"  … {left_out} more"] if left_out else []
    return [f"#{line}" for line in (*_HOW_TO_MOVE, *lines, *more)]


def _text(metrics: dict[str, float], params: dict[str, Scalar], files: list[str], to_move: list[str]) -> str:
    objective = _objective(metrics)
    guards = [name for name in metrics if _words(name) & _SPEND and name != objective]
    seed = next((key for key in params if key.rpartition(".")[2].lower() in _SEEDS), None)
    free = [key for key in params if key != seed]
    groups = dict.fromkeys(_group(key) for key in free if _group(key) != seed)
    sections: dict[str, Any] = {
        "objective": {"metric": objective, "direction": _direction(objective) or "minimize"},
        "guards": [{"metric": name, "direction": "minimize"} for name in guards],
        "holdout": _holdout(objective, metrics),
        "seed": seed,
        "scope": {"files": files, "params": list(groups)},
        "search": {key: span for key in free if (span := around(key, params[key])) is not None},
        "agent": {"kind": "search"},
        "budget": {"runs": 700, "timeout": "1h"},
    }
    lines = []
    for key, value in sections.items():
        comment = f"  # {_COMMENTS[key]}" if key in _COMMENTS else ""
        if value and key == "guards":
            lines += [f"{key}:{comment}", *(f"  - {dump_yaml(item, flow=True)}" for item in value)]
        elif value and key in ("scope", "search"):
            lines += [
                f"{key}:{comment}",
                *(f"  {name}: {dump_yaml(item, flow=True)}" for name, item in value.items()),
            ]
        elif value:
            lines.append(f"{key}: {dump_yaml(value, flow=True)}{comment}")
        elif key == "search" and to_move:
            lines.append(f"{key}:{comment}")
        lines += to_move if key == "search" else []
    return "---\n" + "\n".join(lines) + "\n---\n" + _PROSE


def _group(key: str) -> str:
    file, _, name = key.rpartition(":")
    top = name.split(".")[0]
    return f"{file}:{top}" if file else top
