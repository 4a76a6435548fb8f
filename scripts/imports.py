"""Who imports whom in `src/ar`, read from the source; for the architecture test and `make docs`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = SOURCE / "ar"

# A module imports from its own package and from those before it, and never in a circle.
GROUND = ("errors", "text", "formats", "redaction", "record")
PACKAGES = (
    *("stage", "git", "local", "project", "history", "changes", "importing", "judge"),
    *("surrogate", "runs", "cluster", "agents", "campaign", "views", "serve", "page", "cli"),
)
RANK = {"": 0, **dict.fromkeys(GROUND, 0), **{name: rank for rank, name in enumerate(PACKAGES, 1)}}


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
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def imports(tree: ast.AST, eager: bool = True) -> Iterator[Import]:
    """Every import of a source file, in functions and for type checkers too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, eager) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            # `from ar.git import refs` imports ar.git.refs; any other name is of ar.git itself.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (
                Import(name if name.removeprefix("ar.") in FILES else node.module or "", eager)
                for name in names
            )
        else:
            lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
                isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            )
            yield from imports(node, eager and not lazy)


IMPORTS = {name: list(imports(tree)) for name, tree in TREES.items()}


def own_imports(module: str) -> set[str]:
    """Modules of ours that a module imports, late imports and those for type checkers too."""
    names = {item.name.removeprefix("ar.") for item in IMPORTS[module] if item.name.startswith("ar.")}
    return (names & FILES.keys()) - {module}


def package(module: str) -> str:
    """The package that a module lies in; a module of the ground is one of its own."""
    return "cli" if module == "__main__" else module.partition(".")[0].removeprefix("__init__")


def package_graph() -> dict[str, list[str]]:
    """Package to the packages it imports, both in the house's order; the ground's modules are left out."""
    edges = {(package(module), package(other)) for module in FILES for other in own_imports(module)}
    return {
        here: [there for there in PACKAGES if there != here and (here, there) in edges] for here in PACKAGES
    }
