"""The house's order, read from the source: who may import whom, and what must stay out of start-up."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = SOURCE / "ar"

_CHARTS = ("charts", *(f"charts.{name}" for name in ("base", "pareto", "ladder", "stack", "timing", "kinds")))

# A module imports modules of its own rank or lower ones; what it imports at once, never in a circle.
RANKS = {
    0: [
        *("__init__", "errors", "text", "archiver", "redaction"),
        *("watch", "footprint", "output", "processes", "launcher"),
    ],
    1: ["records", "refs", "judge", "early", "params", "messages", "layout"],
    2: ["program", "repo", "pipeline", "patches", "checkouts"],
    3: [
        *("history", "agents", "agents.base", "agents.optuna", "proposal", "queue", "worker", "sandbox"),
        *("claims", "slots", "outcomes", "recovery", "stop"),
        *("crew", "promote", "curves", "spend", "turns", "integrity", "lookout", "faults", "scratch"),
        *("merging", "advance", "share"),
        *(f"agents.{name}" for name in ("prompt", "tools", "unseen", "api", "claude")),
        *(f"agents.{name}" for name in ("human", "command", "transcript")),
        "budget",
    ],
    4: ["campaign", "restack", "asking", "ladder", "climb", "loop", "stack", "view", "hand"],
    5: [*("cli", "show", "timeview", "plots", "report", "init", "doctor", "__main__"), *_CHARTS],
}
RANK = {module: rank for rank, modules in RANKS.items() for module in modules}

# One seam per third party: nothing but this module may import it.
SEAMS = {
    "git": "repo",
    "pygit2": "repo",
    "dvc": "pipeline",
    "dvc_data": "pipeline",
    "dvc_objects": "pipeline",
    "dvc_task": "pipeline",
    "diskcache": "pipeline",
    "scmrepo": "pipeline",
    "celery": "pipeline",
    "altair": "plots",
    "vl_convert": "plots",
    "optuna": "agents.optuna",
    "anthropic": "agents.api",
    "httpx2": "agents.api",
    "click": "cli",
    "pynvml": "slots",
}
NEVER = {"torch", "model", "data"}  # the lab's: it meets us in dvc.yaml, params.yaml and the metrics files
HEAVY = {"dvc", "optuna", "altair", "vl_convert", "anthropic", "pandas", "numpy", "torch"}
NOT_FOR_HELP = {"dvc", "torch", "optuna", "altair", "anthropic", "pandas", "git"}


@dataclass(frozen=True)
class Import:
    """`name` as imported (absolute, dotted); `eager` where it runs when the module is imported."""

    name: str
    eager: bool

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(tree: ast.AST, eager: bool = True) -> Iterator[Import]:
    """Every import of a source file, in functions and for type checkers too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, eager) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield Import(node.module or "", eager)
            # `from ar import refs` imports ar.refs.
            yield from (Import(f"{node.module}.{alias.name}", eager) for alias in node.names)
        else:
            lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
                isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            )
            yield from imports(node, eager and not lazy)


IMPORTS = {name: list(imports(ast.parse(path.read_text(encoding="utf-8")))) for name, path in FILES.items()}


def own_imports(module: str, only_eager: bool = False) -> set[str]:
    """Modules of ours that a module imports."""
    items = [item for item in IMPORTS[module] if item.eager or not only_eager]
    names = {item.name.removeprefix("ar.") for item in items if item.name.startswith("ar.")}
    return (names & FILES.keys()) - {module}


@pytest.mark.parametrize("module", FILES)
def test_every_module_has_a_rank(module: str) -> None:
    assert module in RANK, f"give {module} a rank: in RANKS here and in the table of the design"


@pytest.mark.parametrize("module", [name for name in FILES if name in RANK])
def test_imports_go_down(module: str) -> None:
    up = {name for name in own_imports(module) if RANK.get(name, 0) > RANK[module]}
    assert not up, f"{module} has rank {RANK[module]} and imports {', '.join(sorted(up))} above it"


def test_no_circles() -> None:
    graph = {module: own_imports(module, only_eager=True) for module in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")


def test_the_judge_knows_records_only() -> None:
    assert own_imports("judge") <= {"records"}


@pytest.mark.parametrize("module", FILES)
def test_one_seam_per_third_party(module: str) -> None:
    wrong = {item.top for item in IMPORTS[module] if SEAMS.get(item.top, module) != module}
    assert not wrong, f"only {', '.join(SEAMS[name] for name in wrong)} may import {', '.join(wrong)}"


@pytest.mark.parametrize("module", FILES)
def test_the_lab_is_never_imported(module: str) -> None:
    assert not {item.top for item in IMPORTS[module]} & NEVER


@pytest.mark.parametrize("module", FILES)
def test_heavy_imports_are_inside_functions(module: str) -> None:
    eager = {item.top for item in IMPORTS[module] if item.eager} & HEAVY
    assert not eager, f"{module}: import {', '.join(eager)} where it is needed"


def test_the_reader_of_imports_sees_all_kinds() -> None:
    source = """
import a.b
from c import d
if TYPE_CHECKING:
    import e
def f():
    import g
class H:
    import i
try:
    import j
except ImportError:
    pass
"""
    found = list(imports(ast.parse(source)))
    assert {item.name for item in found if item.eager} == {"a.b", "c", "c.d", "i", "j"}
    assert {item.name for item in found if not item.eager} == {"e", "g"}


def test_help_imports_little() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ar", "--help"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    times = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line]
    imported = {name.partition(".")[0] for name in times}
    assert "click" in imported, "the list of imports was not understood"
    assert not imported & NOT_FOR_HELP
