"""The house's order, read from the source: who may import whom, and what must stay out of start-up."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import pytest
from imports import (
    FILES,
    IMPORTS,
    PACKAGES,
    RANK,
    SOURCE,
    TREES,
    imports,
    own_imports,
    package,
    package_graph,
)

# One seam per third party: nothing but this module may import it.
SEAMS = {
    "git": "git",
    "pygit2": "git",
    "dvc": "runs.pipeline",
    "dvc_data": "runs.pipeline",
    "dvc_objects": "runs.pipeline",
    "dvc_task": "runs.pipeline",
    "diskcache": "runs.pipeline",
    "scmrepo": "runs.pipeline",
    "celery": "runs.pipeline",
    "vl_convert": "views.charts.files",
    "optuna": "agents.optuna",
    "anthropic": "agents.api",
    "httpx2": "agents.api",
    "click": "cli",
    "mcp": "serve.server",
    "pydantic": "serve",
    "starlette": "page.app",
    "uvicorn": "page.app",
    "jinja2": "page.render",
    "markupsafe": "page.render",
    "pynvml": "runs.gpu_meter",
    "ray": "cluster.connection",
    "numpy": "surrogate",
    "scipy": "surrogate",
}
NEVER = {"torch", "model", "data"}  # the lab's: it meets us in dvc.yaml, params.yaml and the metrics files
HEAVY = {"dvc", "optuna", "vl_convert", "anthropic", "pandas", "numpy", "ray", "scipy", "torch"}
LONGEST = {ast.FunctionDef: 60, ast.AsyncFunctionDef: 60, ast.ClassDef: 300}  # lines, the docstring's too
# What is longer all the same, and why. The list may only shrink: what fits has to leave it.
LONG = {}
# Modules besides ar.git that start git, and why; it may only shrink, too.
STARTS_GIT = {
    "campaign.doctor": "asks for git's version before there is a repository",
}
NOT_FOR_HELP = HEAVY | {"git", "mcp", "pydantic", "starlette", "uvicorn", "jinja2"}


@pytest.mark.parametrize("module", FILES)
def test_every_module_lies_in_a_known_package(module: str) -> None:
    assert package(module) in RANK, (
        f"{module}: put it in one of {', '.join(PACKAGES)}, or give its own a rank"
    )


@pytest.mark.parametrize("module", FILES)
def test_imports_go_to_earlier_packages_only(module: str) -> None:
    here = package(module)
    allowed = {name for name, rank in RANK.items() if rank < RANK[here]} | {here}
    wrong = {name for name in own_imports(module) if package(name) not in allowed}
    assert not wrong, f"{module} imports {', '.join(sorted(wrong))}, which does not come before '{here}'"


def test_no_circles_not_even_by_late_imports() -> None:
    graph = {module: own_imports(module) for module in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("module", PACKAGES)
def test_the_page_shows_the_packages_as_they_are(module: str) -> None:
    page = (SOURCE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    row = next((line for line in page.splitlines() if line.startswith(f"| `{module}` |")), "")
    used = ", ".join(package_graph()[module])
    assert row.endswith(f"| {used} |"), "docs/architecture.md is out of date; run: python scripts/docs.py"


@pytest.mark.parametrize("module", [name for name in FILES if package(name) == "judge"])
def test_the_judge_does_no_input_or_output(module: str) -> None:
    assert not {item.top for item in IMPORTS[module]} & {"os", "pathlib", "subprocess", "time", "random"}


@pytest.mark.parametrize("module", FILES)
def test_one_seam_per_third_party(module: str) -> None:
    def may(seam: str) -> bool:
        return module == seam or module.startswith(f"{seam}.")

    wrong = {item.top for item in IMPORTS[module] if item.top in SEAMS and not may(SEAMS[item.top])}
    assert not wrong, f"only {', '.join(SEAMS[name] for name in wrong)} may import {', '.join(wrong)}"


@pytest.mark.parametrize("module", FILES)
def test_the_lab_is_never_imported(module: str) -> None:
    assert not {item.top for item in IMPORTS[module]} & NEVER


@pytest.mark.parametrize("module", FILES)
def test_heavy_imports_are_inside_functions(module: str) -> None:
    # The model is numbers through and through: who imports it imports them.
    inside = package(module) == "surrogate"
    heavy = {"numpy", "scipy"} if inside else set()
    eager = {item.top for item in IMPORTS[module] if item.eager} & HEAVY - heavy
    if not inside:
        eager |= {item.name for item in IMPORTS[module] if item.eager and "ar.surrogate" in item.name}
    assert not eager, f"{module}: import {', '.join(eager)} where it is needed"


def too_long(tree: ast.AST, where: str = "") -> Iterator[tuple[str, str]]:
    """Functions and classes over their limit: qualified name, and how long it is."""
    for node in ast.iter_child_nodes(tree):
        here = where
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            here = f"{where}.{node.name}".lstrip(".")
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > LONGEST[type(node)]:
                yield here, f"{here} has {lines} lines; at most {LONGEST[type(node)]}: split it"
        yield from too_long(node, here)


def starts_git(tree: ast.AST) -> bool:
    """Whether it has a command line of git: a list or tuple that begins with "git"."""
    return any(
        isinstance(node, ast.List | ast.Tuple)
        and bool(node.elts)
        and isinstance(node.elts[0], ast.Constant)
        and node.elts[0].value == "git"
        and isinstance(node.ctx, ast.Load)
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize("module", FILES)
def test_functions_and_classes_are_short(module: str) -> None:
    wrong = [words for name, words in too_long(TREES[module]) if name not in LONG]
    assert not wrong, f"{module}: {'; '.join(wrong)}"


def test_what_is_known_to_be_long_still_is() -> None:
    found = {name for tree in TREES.values() for name, _ in too_long(tree)}
    assert LONG.keys() <= found, (
        f"short by now, so take it off LONG: {', '.join(sorted(LONG.keys() - found))}"
    )


def test_nothing_but_the_seam_starts_git() -> None:
    found = {name for name, tree in TREES.items() if package(name) != "git" and starts_git(tree)}
    wrong, gone = found - STARTS_GIT.keys(), STARTS_GIT.keys() - found
    assert not wrong, f"{', '.join(sorted(wrong))}: start git through ar.git"
    assert not gone, f"starts no git by now, so take it off STARTS_GIT: {', '.join(sorted(gone))}"


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
    assert {item.name for item in found if item.eager} == {"a.b", "c", "i", "j"}
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
