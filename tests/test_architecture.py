"""The house's order, read from the source: who may import whom, and what must stay out of start-up."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
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


def found_in(modules: Iterable[str], look: Callable[[str], object]) -> dict[str, object]:
    """What is wrong in modules, by their names. One test for all of them: a test each takes seconds."""
    return {module: wrong for module in modules if (wrong := look(module))}


def test_every_module_lies_in_a_known_package() -> None:
    lost = found_in(FILES, lambda module: package(module) not in RANK)
    assert not lost, f"{', '.join(lost)}: put it in one of {', '.join(PACKAGES)}, or give its own a rank"


def test_imports_go_to_earlier_packages_only() -> None:
    def later(module: str) -> set[str]:
        """What it imports that does not come before it."""
        here = package(module)
        allowed = {name for name, rank in RANK.items() if rank < RANK[here]} | {here}
        return {name for name in own_imports(module) if package(name) not in allowed}

    assert found_in(FILES, later) == {}


def test_no_circles_not_even_by_late_imports() -> None:
    graph = {module: own_imports(module) for module in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")


def test_the_page_shows_the_packages_as_they_are() -> None:
    page = (SOURCE.parent / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()
    graph = package_graph()

    def differs(module: str) -> bool:
        row = next((line for line in page if line.startswith(f"| `{module}` |")), "")
        return not row.endswith(f"| {', '.join(graph[module])} |")

    old = found_in(PACKAGES, differs)
    assert not old, f"docs/architecture.md is out of date in {', '.join(old)}; run: python scripts/docs.py"


def test_the_judge_does_no_input_or_output() -> None:
    doing = {"os", "pathlib", "subprocess", "time", "random"}
    judge = [module for module in FILES if package(module) == "judge"]
    assert judge and found_in(judge, lambda module: {item.top for item in IMPORTS[module]} & doing) == {}


def test_one_seam_per_third_party() -> None:
    def beside_the_seam(module: str) -> dict[str, str]:
        """Third parties that it imports, and the module that alone may."""
        tops = {item.top for item in IMPORTS[module]} & SEAMS.keys()
        return {top: SEAMS[top] for top in tops if not f"{module}.".startswith(f"{SEAMS[top]}.")}

    assert found_in(FILES, beside_the_seam) == {}


def test_the_lab_is_never_imported() -> None:
    assert found_in(FILES, lambda module: {item.top for item in IMPORTS[module]} & NEVER) == {}


def test_heavy_imports_are_inside_functions() -> None:
    def eager(module: str) -> set[str]:
        # The model is numbers through and through: who imports it imports them.
        inside = package(module) == "surrogate"
        heavy = HEAVY - ({"numpy", "scipy"} if inside else set())
        found = [item for item in IMPORTS[module] if item.eager]
        model = set() if inside else {item.name for item in found if "ar.surrogate" in item.name}
        return {item.top for item in found} & heavy | model

    assert found_in(FILES, eager) == {}


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


def test_functions_and_classes_are_short() -> None:
    def long(module: str) -> list[str]:
        return [words for name, words in too_long(TREES[module]) if name not in LONG]

    assert found_in(FILES, long) == {}


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
