"""`ar init`: a `program.md` from what the project declares."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ar.errors import ArError, BadParams, nearest
from ar.git.repo import Repo
from ar.project import naming
from ar.project.cache import Cache
from ar.project.literals import Literal, of_stages
from ar.project.naming import Role
from ar.project.params import PARAMS_FILE, ParamKey
from ar.project.pipeline_file import PIPELINE_FILE, Declared, Use, within
from ar.project.program import CPU_SECONDS
from ar.project.ranges import around
from ar.project.values import Scalar, dump_yaml, flat, number
from ar.text import one_line

_CODE = """
    .py .sh .awk .r .jl .js .ts .c .h .cc .cpp .hpp .rs .go .java .pl .rb .sql .cu .cuh .f90 .lua .kt .scala
    .swift .zig .cs .m .ml .hs
"""
_MOST_LITERALS = 20
_COMMENTS = {
    "objective": "what to improve",
    "guards": "a change must not be worse here, beyond noise",
    "holdout": "looked at only when promoting, never shown to an agent",
    "seed": "the key that re-seeds a run",
    "scope": "what a proposal may change; everything else is refused",
    "search": "how far to search each parameter",
    "budget": "runs in all; time limit of one run",
    "sandbox": "what runs are shown besides the project",
}
_GUESS = "a guess: its name does not say which way is better"
_OFFER = f'#guards: [{{metric: "{CPU_SECONDS}"}}]  # the processor time of a run, as ar measures it'
_OUT_OF_REACH = (
    "  Numbers in scripts that no stage depends on. To search one: add its script to deps: of its stage in",
    "  dvc.yaml, FILE:NAME to scope.params above, and take the # away.",
)
PROSE = """\
What we look for, what is known, what not to try: write it here, in plain words. Agents read it whole.
"""


@dataclass(frozen=True)
class Objective:
    """What is to be improved.

    Args:
        direction: `minimize` or `maximize`; empty where its name does not say which.
        rivals: other metrics that are as likely.
    """

    metric: str
    direction: str = ""
    rivals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What a project shows of itself.

    Args:
        files: paths of all that is in git.
        metrics: values by `file:key`; of a project that never ran they may be any number.
        params: values by key, those of the parameters files and numbers at the top of scripts.
        literals: those numbers at the top of scripts that are out of the search's reach.
        reads: paths of this machine that the stages are to be shown.
    """

    declared: Declared
    files: tuple[str, ...]
    metrics: Mapping[str, float]
    params: Mapping[str, Scalar]
    literals: tuple[Literal, ...] = ()
    reads: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        declared: Declared,
        files: Iterable[str],
        read: Callable[[str], bytes | None],
        metrics: Mapping[str, float],
    ) -> Facts:
        """What files tell.

        Args:
            read: a file by its path; None where there is none.
        """
        params = _params(declared, read)
        reached: list[Literal] = []
        beyond: list[Literal] = []
        for item in of_stages(declared, read):
            if item.is_setting and not {item.name.lower(), f"{item.file}:{item.name}"} & params.keys():
                is_reached = any(within(item.file, use.deps) for use in declared.uses)
                (reached if is_reached else beyond).append(item)
        params |= {f"{item.file}:{item.name}": item.value for item in reached}
        return cls(declared, tuple(files), metrics, params, tuple(beyond))

    @classmethod
    def read(cls, repo: Repo) -> Facts:
        """What the head of a repository tells."""
        head = repo.head()
        declared, files = Declared.read(repo, head), repo.files(head)

        def read(path: str) -> bytes | None:
            return repo.read(head, path) if path in files and files[path].is_file else None

        return cls.of(declared, files, read, _metrics(repo, declared))


def objective(facts: Facts, name: str = "") -> Objective:
    """The likeliest objective, or the one of that name.

    Args:
        name: `val_loss`, or with its file: `metrics.json:val_loss`; empty where nobody says.

    Raises:
        ArError: the project declares no stage, or no metric (of that name) with a value that could be an
            objective.
    """
    declared = facts.declared
    if not declared.stages:
        raise ArError(f"{PIPELINE_FILE} at HEAD declares no stage", "run: dvc stage add …, then git commit")
    if not declared.metrics:
        mend = "add one to a stage: dvc stage add -M metrics.json …"
        raise ArError(f"{PIPELINE_FILE} declares no metrics file", mend)
    if not facts.metrics:
        mend = "run: dvc repro && git add -A && git commit, then: ar init"
        raise ArError(f"{', '.join(declared.metrics)} holds no number yet", mend)
    if name:
        return chosen(_named(facts.metrics, name))
    best, *rivals = naming.likeliest(facts.metrics)
    return Objective(best, naming.direction(best) or "", tuple(rivals))


def _named(metrics: Iterable[str], name: str) -> str:
    """The metric that a user means.

    Raises:
        ArError: none, or several.
    """
    known = list(metrics)
    forms: list[Callable[[str], str]] = [str, _key, lambda metric: _key(metric).rpartition(".")[2]]
    found = next(filter(None, ([it for it in known if form(it) == name] for form in forms)), [])
    if len(found) > 1:
        raise ArError(f"{name} could be any of {', '.join(found[:8])}", "give it with its file")
    if not found:
        near = nearest(name, map(_key, known))
        mend = f"{near} If a stage only prints it, begin its command with: ar capture -m {name} --"
        raise ArError(f"no metrics file of {PIPELINE_FILE} holds {name}", mend)
    return found[0]


def _key(metric: str) -> str:
    return metric.rpartition(":")[2]


def chosen(metric: str) -> Objective:
    """A metric that somebody chose as what to improve."""
    return Objective(metric, naming.direction(metric) or "")


def draft(facts: Facts, goal: Objective | None = None, prose: str = PROSE) -> str:
    """A programme for a project.

    Args:
        goal: what to improve; None for the likeliest.
        prose: what it says to agents.

    Raises:
        ArError: as `objective`.
    """
    goal = goal or objective(facts)
    return _text(facts, goal, _Parts(facts.declared, goal.metric)) + prose


def _metrics(repo: Repo, declared: Declared) -> dict[str, float]:
    """Numbers of the metrics files: as committed, as the last `dvc repro` left them, or as DVC keeps them."""
    metrics: dict[str, float] = {}
    for path in declared.metrics:
        content = repo.read("HEAD", path)
        if content is None:
            with contextlib.suppress(OSError):
                content = (repo.root / path).read_bytes()
        content = Cache.of(repo.root).output(declared, path) if content is None else content
        with contextlib.suppress(BadParams):
            sizes = {f"{path}:{key}": number(value) for key, value in flat(content or b"", path).items()}
            metrics |= {key: size for key, size in sizes.items() if size is not None}
    return metrics


def _params(declared: Declared, read: Callable[[str], bytes | None]) -> dict[str, Scalar]:
    """Values of the parameters files; of a script only those that a stage declares."""
    params: dict[str, Scalar] = {}
    beside = [posixpath.join(posixpath.dirname(place), PARAMS_FILE) for place in declared.pipelines]
    for path in dict.fromkeys([PARAMS_FILE, *declared.params, *beside]):
        content = read(path)
        if content is None or declared.is_output(path):
            continue
        found = {ParamKey(path, key): value for key, value in flat(content, path).items()}
        names = [name for use in declared.uses for name in use.params]
        params |= {
            str(key): value
            for key, value in found.items()
            if not path.endswith(".py") or any(_names(*name, key) for name in names)
        }
    return params


class _Parts:
    """What of the project is the work, and what its data and its evaluation, which no proposal may change."""

    def __init__(self, declared: Declared, objective: str) -> None:
        self.declared = declared
        self.file = objective.rpartition(":")[0]
        roles = [(use, self._role(use)) for use in declared.uses]
        works = any(role is Role.WORK for _, role in roles)
        self.roles = roles if works else [(use, Role.WORK) for use in declared.uses]

    def _role(self, use: Use) -> Role:
        """What a stage is for, by its name; the one that measures what others made is the evaluation."""
        role = naming.role([use.name])
        others = {path for other in self.declared.uses if other.name != use.name for path in other.outs}
        follows = any(within(path, others) for path in use.deps)
        named = any(part in naming.words(use.name) for part in ("train", "fit", "model"))
        if within(self.file, use.outs) and follows and not named:
            return Role.EVALUATION
        return role

    def code(self, files: Iterable[str]) -> list[str]:
        """Code files that stages of the work depend on, as globs: a folder of them for what it holds."""
        code = [path for path in files if PurePosixPath(path).suffix.lower() in _CODE.split()]
        globs: dict[str, None] = {}
        for dep in (path.rstrip("/") for path in self.declared.inputs):
            held = [path for path in code if within(path, [dep])]
            if self.declared.is_output(dep) or dep.startswith(".dvc"):
                continue
            free = [path for path in held if self._is_work(path)]
            if free == held and dep not in code and held:
                free = [f"{dep}/**"]
            globs |= dict.fromkeys(free)
        return list(globs) or [path for path in code if path in self.declared.inputs and self._is_run(path)]

    def _is_run(self, path: str) -> bool:
        """Whether a command names it: of a project with a single file that is the work, whatever its name."""
        return any(PurePosixPath(path).name in line for _, line in self.declared.commands)

    def _is_work(self, path: str) -> bool:
        roles = {role for use, role in self.roles if within(path, use.deps)}
        return Role.WORK in roles and _says_work(path)

    def is_free(self, key: str) -> bool:
        """Whether a parameter is neither a seed nor one of the data's or the evaluation's."""
        if naming.is_seed(key) or naming.is_of_data(key):
            return False
        if roles := self._roles_of(key):
            return Role.WORK in roles
        file = ParamKey.parse(key).file
        return not file.endswith(".py") or _says_work(file) or self._is_run(file)

    def seed(self, params: Mapping[str, Scalar]) -> str | None:
        """The key that re-seeds the work: no seed of the data, or of how it is split."""
        seeds = {
            key: roles
            for key, value in params.items()
            if type(value) is int and naming.is_seed(key) and not naming.is_of_data(key)
            if not (roles := self._roles_of(key)) or Role.WORK in roles
        }
        return min(seeds, key=lambda key: Role.DATA in seeds[key], default=None)

    def _roles_of(self, key: str) -> set[Role]:
        param = ParamKey.parse(key)
        return {role for use, role in self.roles if any(_names(*name, param) for name in use.params)}


def _says_work(path: str) -> bool:
    """Whether a file's name, or else that of a folder above it, is one of the work."""
    parents = PurePosixPath(path).parents
    names = [PurePosixPath(path).stem, *(parent.name for parent in parents if parent.name)]
    return naming.role(names) is Role.WORK


def _names(file: str, name: str, param: ParamKey) -> bool:
    """Whether what a stage declares holds a parameter."""
    return file == param.file and (not name or param.is_under(ParamKey(file, name)))


def _holdout(objective: str, metrics: Mapping[str, float]) -> str | None:
    file, _, key = objective.rpartition(":")
    words = [word for word in naming.VALIDATION if word in naming.words(key)]
    others = (f"{file}:{key.replace(word, 'test')}" for word in words)
    return next((other for other in others if other != objective and other in metrics), None)


def _out_of_reach(literals: Sequence[Literal]) -> list[str]:
    """A comment on numbers in scripts that could be searched: each with a range, and how to make it so."""
    found = [(item, around(item.name, item.value)) for item in literals]
    searchable = [(item, span) for item, span in found if span is not None]
    if not searchable:
        return []
    lines = []
    for item, span in searchable[:_MOST_LITERALS]:
        now = f"{item.value} at line {item.line}"
        lines.append(f"  {one_line(item.file)}:{item.name}: {dump_yaml(span, flow=True)}  # {now}")
    left_out = len(searchable) - len(lines)
    more = [f"  … {left_out} more"] if left_out else []
    return [f"#{line}" for line in (*_OUT_OF_REACH, *lines, *more)]


def _guards(goal: str, metrics: Mapping[str, float], search: Iterable[str]) -> list[dict[str, str]]:
    """What a run costs; its processor time where nothing else would keep a search from buying with time."""
    found = [
        {"metric": name, "direction": "minimize"}
        for name in metrics
        if naming.is_spend(name) and name != goal
    ]
    timed = naming.is_time(goal) or any(naming.is_time(guard["metric"]) for guard in found)
    if not timed and any(naming.costs_time(key) for key in search):
        found.append({"metric": CPU_SECONDS, "direction": "minimize"})
    return found


def _text(facts: Facts, goal: Objective, parts: _Parts) -> str:
    params, out_of_reach = facts.params, _out_of_reach(facts.literals)
    seed = parts.seed(params)
    free = [key for key in params if parts.is_free(key)]
    search = {key: span for key in free if (span := around(key, params[key])) is not None}
    guards = _guards(goal.metric, facts.metrics, search)
    sections: dict[str, Any] = {
        "objective": {"metric": goal.metric, "direction": goal.direction or "minimize"},
        "guards": guards,
        "holdout": _holdout(goal.metric, facts.metrics),
        "seed": seed,
        "scope": {"files": parts.code(facts.files), "params": _groups(params, free, seed)},
        "search": search,
        "agent": {"kind": "search"},
        "budget": {"runs": 700, "timeout": "1h"},
        "sandbox": {"read": list(facts.reads)} if facts.reads else None,
    }
    lines = []
    for key, value in sections.items():
        said = _COMMENTS.get(key, "") if key != "objective" or goal.direction else _GUESS
        comment = f"  # {said}" if said else ""
        if value and key == "guards":
            lines += [f"{key}:{comment}", *(f"  - {dump_yaml(item, flow=True)}" for item in value)]
        elif value and key in ("scope", "search"):
            items = (f"  {name}: {dump_yaml(item, flow=True)}" for name, item in value.items())
            lines += [f"{key}:{comment}", *items]
        elif value:
            lines.append(f"{key}: {dump_yaml(value, flow=True)}{comment}")
        elif key == "search" and out_of_reach:
            lines.append(f"{key}:{comment}")
        elif key == "guards" and not naming.is_time(goal.metric):
            lines.append(_OFFER)
        lines += out_of_reach if key == "search" else []
    return "---\n" + "\n".join(lines) + "\n---\n"


def _groups(params: Mapping[str, Scalar], free: list[str], seed: str | None) -> list[str]:
    """The keys that may be set; as a group where all of it may, but for the seed, which nobody may set."""
    found: dict[str, None] = {}
    for key in free:
        group = _group(key)
        whole = all(other in free or other == seed for other in params if _group(other) == group)
        found[group if whole else key] = None
    return list(found)


def _group(key: str) -> str:
    file, _, name = key.rpartition(":")
    top = name.split(".")[0]
    return f"{file}:{top}" if file else top
