"""What a program's text tells: the modules that it imports, the files that it names, what it prints.

It is read only, never imported nor run; what cannot be read tells nothing.
"""

from __future__ import annotations

import ast
import contextlib
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from ar.formats import load_json
from ar.project import naming, python_file

MOST_BYTES = 1_000_000  # of a file that is read as a program's text
SEED = "{seed}"  # where the seed goes in a flag

_QUOTED = re.compile(r""""([^"\n\\]{1,200})"|'([^'\n\\]{1,200})'""")
# A text that begins with a name, then what stands for a value: f"loss: {x}", "loss: %f", "loss:", x
_PRINTED = re.compile(
    r"""["'](?:\\n|\s)*(?:METRIC\s+)?([A-Za-z_][\w./%@-]{0,99})\s*[:=]\s*"""
    r"""(?:\{|%[-+ #0]*[\d.*]*l{0,2}[a-zA-Z]|["']\s*(?:,|<<|\+|%|\.format))"""
)
_IN_JSON = re.compile(r"""print\s*\(\s*json\.dumps\s*\(\s*(?:\{|dict\()([^)}]*)""")
_KEY = re.compile(r"""["']([A-Za-z_][\w./%@-]{0,99})["']\s*:|([A-Za-z_]\w{0,99})\s*=""")
_WRITES = re.compile(r"save|dump|write|^to_|export|touch|unlink|remove|rmtree")
_MAKES = ("mkdir", "makedirs")
_MODE = re.compile(r"[wax][bt+]*")
_WRITTEN = re.compile(r"""["']([^"'\n]{1,200})["']\s*,\s*["'][wax]""")
_FLAG = re.compile(r"--\w[\w-]*")


@dataclass(frozen=True)
class Source:
    """A program's text.

    Args:
        imports: paths that may be modules of the project: one list for each import, the likeliest first.
        texts: its strings, those left out that it writes to.
        home: folders and files below the user's home that it names: `~/.cache/x`.
        prints: names of values that it prints on a line of their own.
        seed_flag: how its command line or environment takes a seed; empty where it does not.
        options: of its command line, those whose default is a number: `--lr` and 0.1.
        parameters: of a notebook, the numbers in the cell that papermill writes its parameters below.
    """

    imports: tuple[tuple[str, ...], ...] = ()
    texts: tuple[str, ...] = ()
    home: tuple[str, ...] = ()
    prints: tuple[str, ...] = ()
    seed_flag: str = ""
    options: tuple[tuple[str, int | float], ...] = ()
    parameters: tuple[tuple[str, int | float], ...] = ()


def read(path: str, content: bytes) -> Source:
    """Read a file, as Python or a notebook where its name says so."""
    if len(content) > MOST_BYTES or b"\0" in content:
        return Source()
    text, parameters = content.decode(errors="replace"), ""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".ipynb":
        text, parameters = _cells(text)
    if suffix in (".py", ".ipynb"):
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            return replace(_python(path, text), parameters=tuple(_numbers(parameters)))
    written = set(_WRITTEN.findall(text))
    texts = (match[1] or match[2] for match in _QUOTED.finditer(text))
    return Source(texts=tuple(item for item in texts if item not in written), prints=_printed(text))


def _python(path: str, text: str) -> Source:
    tree = ast.parse(text)
    look = _Look()
    look.visit(tree)
    texts = tuple(item for item in look.texts if item not in look.written)
    imports = tuple(_module_paths(tree, posixpath.dirname(path)))
    return Source(
        imports, texts, tuple(dict.fromkeys(look.home)), _printed(text), look.seed_flag, tuple(look.options)
    )


def _cells(text: str) -> tuple[str, str]:
    """The code of a notebook, without what only IPython understands, and that of its cell of parameters."""
    with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
        cells = [cell for cell in load_json(text)["cells"] if cell["cell_type"] == "code"]
        codes = [_without_magic("".join(cell["source"])) for cell in cells]
        tagged = [cell.get("metadata", {}).get("tags") or () for cell in cells]
        first = next((code for code, tags in zip(codes, tagged, strict=True) if "parameters" in tags), "")
        return "\n".join(codes), first
    return "", ""


def _without_magic(code: str) -> str:
    return "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))


def _numbers(code: str) -> Iterator[tuple[str, int | float]]:
    """What is assigned a number."""
    for name, node in python_file.constants(ast.parse(code).body):
        value = ast.literal_eval(node)
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value


def _printed(text: str) -> tuple[str, ...]:
    keys = (key for match in _IN_JSON.finditer(text) for key in _KEY.findall(match[1]))
    names = [*(match[1] for match in _PRINTED.finditer(text)), *(one or other for one, other in keys)]
    return tuple(dict.fromkeys(names))


@dataclass
class _Look(ast.NodeVisitor):
    """Collects the strings of a Python file, and which of them it writes to."""

    texts: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    home: list[str] = field(default_factory=list)
    seed_flag: str = ""
    options: list[tuple[str, int | float]] = field(default_factory=list)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and 0 < len(node.value) <= 200 and "\n" not in node.value:
            self.texts.append(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Remember which name a string has."""
        held = [item.value for item in ast.walk(node.value) if isinstance(item, ast.Constant)]
        texts = [value for value in held if isinstance(value, str)]
        for target in node.targets:
            if isinstance(target, ast.Name) and len(texts) == 1:
                self.names[target.id] = texts[0]
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if _WRITES.search(name) or name in _MAKES or (name == "open" and _is_for_writing(node)):
            inner = list(ast.walk(node))
            names = [self.names.get(item.id) for item in inner if isinstance(item, ast.Name)]
            texts = [item.value for item in inner if isinstance(item, ast.Constant)]
            found = {text for text in (*names, *texts) if isinstance(text, str)}
            # Who makes a folder for data fills it in another run, or by hand.
            self.written |= {text for text in found if name not in _MAKES or not _is_of_data(text)}
        self._look_at_settings(node, name)
        if path := _below_home(node):
            self.home.append(path)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if path := _below_home(node):
            self.home.append(path)
        else:
            self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        is_read = isinstance(node.ctx, ast.Load)
        if is_read and isinstance(node.value, ast.Attribute) and node.value.attr == "environ":
            self._seed_of_environment(node.slice)
        self.generic_visit(node)

    def _look_at_settings(self, node: ast.Call, name: str) -> None:
        """How the command line and the environment are read."""
        if name == "getenv" or ast.unparse(node.func).endswith("environ.get"):
            self._seed_of_environment(node.args[0] if node.args else None)
            return
        texts = [item.value for item in node.args if isinstance(item, ast.Constant)]
        flag = next((text for text in texts if isinstance(text, str) and _FLAG.fullmatch(text)), "")
        default = next((item.value for item in node.keywords if item.arg == "default"), None)
        number = default.value if isinstance(default, ast.Constant) else None
        if flag and naming.is_seed(flag):
            self.seed_flag = f"{flag} {SEED}"  # rather than a variable of the environment
        if flag and isinstance(number, int | float) and not isinstance(number, bool):
            self.options.append((flag, number))

    def _seed_of_environment(self, node: ast.expr | None) -> None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and naming.is_seed(node.value):
            self.seed_flag = self.seed_flag or f"{node.value}={SEED}"


def _below_home(node: ast.expr) -> str:
    """The path below the user's home that an expression makes; empty where it makes none.

    `os.path.join(os.path.expanduser("~"), ".cache", "x")`, `Path.home() / ".cache" / "x"` and the like.
    """
    path = _path(node)
    return path if path.startswith("~/") else ""


def _path(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    parts: list[ast.expr] = []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        parts = [node.left, node.right]
    elif isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called in ("Path.home", "pathlib.Path.home"):
            return "~"
        if called.endswith((".join", "expanduser", "Path")):
            made = node.func.value if isinstance(node.func, ast.Attribute) else None
            parts = [*([made] if isinstance(made, ast.Call) else []), *node.args]  # Path("~/x").expanduser()
    found = [_path(part) for part in parts]
    return posixpath.join(*found) if found and all(found) else ""


def _is_for_writing(node: ast.Call) -> bool:
    """Whether a call of `open` says so."""
    modes = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
    last = modes[-1] if modes else None
    return isinstance(last, ast.Constant) and _MODE.fullmatch(str(last.value)) is not None


def _is_of_data(path: str) -> bool:
    return naming.role([path]) is naming.Role.DATA


def _module_paths(tree: ast.Module, folder: str) -> Iterator[tuple[str, ...]]:
    """For each import, where its module would be: beside the file, or at the root."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(_places(alias.name, [folder, ""]))
        elif isinstance(node, ast.ImportFrom):
            bases = [folder, ""]
            if node.level:
                bases = [posixpath.normpath(posixpath.join(folder, *[".."] * (node.level - 1)))]
            for alias in node.names:
                inner = ".".join(part for part in (node.module, alias.name) if part)
                yield tuple(_places(inner, bases))
            if node.module:
                yield tuple(_places(node.module, bases))


def _places(module: str, folders: Iterable[str]) -> Iterator[str]:
    stem = module.replace(".", "/")
    for folder in dict.fromkeys(folders):
        path = posixpath.normpath(posixpath.join(folder, stem))
        yield from (f"{path}.py", f"{path}/__init__.py")


def used(scripts: Iterable[str], content: Callable[[str], bytes | None]) -> dict[str, Source]:
    """Programs and the modules of the project that they import, in turn; each path with what its text tells.

    Args:
        content: of a file by its path; None where there is none.
    """
    found: dict[str, Source] = {}
    waiting = list(scripts)
    while waiting:
        path = waiting.pop(0)
        text = content(path) if path not in found else None
        if text is None:
            continue
        found[path] = read(path, text)
        for places in found[path].imports:
            waiting += [place for place in places if place not in found and content(place) is not None][:1]
    return found
