"""Proposals after files that other programs obey, room that is not theirs, or the one who reads them."""

from __future__ import annotations

import zlib
from base64 import b85encode
from collections.abc import Callable
from pathlib import Path

import pytest
import table
from helpers import commit, git, run

from ar.changes import own, patches
from ar.changes.proposal import prepare
from ar.errors import ArError
from ar.git.objects import TreeEntry
from ar.history import reader
from ar.history.ideas import Edit, Proposal
from ar.project.project import Project

_CHANGES: dict[str, Callable[[Project], Proposal]] = {}
ATTACKS = table.of("proposals")


def _attack(make: Callable[[Project], Proposal]) -> Callable[[Project], Proposal]:
    _CHANGES[make.__name__.removeprefix("_")] = make
    return make


@pytest.fixture(scope="module")
def wide(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose scope is all there is; no test changes it."""
    root = tmp_path_factory.mktemp("wide") / "project"
    run(root.parent, "cp", "-r", str(template), str(root))
    (root / "model").mkdir()
    (root / "model" / "a.py").write_text("x = 1\n")
    (root / "held.txt").write_text("held\n" * 100_000)
    pipeline = (root / "dvc.yaml").read_text()
    (root / "dvc.yaml").write_text(f"vars: [p.json]\n{pipeline}  say:\n    cmd: echo ${{name}}\n")
    (root / "p.json").write_text('{"lr": 0.1, "name": "a", "on": true, "layers": [1, 2]}')
    (root / "program.md").write_text(
        "---\nobjective: m.json:val_loss\nseed: seed\n"
        'scope: {files: ["**", "**/.*"], params: [x, y, "p.json:lr", "p.json:name", "p.json:layers"]}\n---\n'
    )
    commit(root, "Open the scope wide")
    return Project.open(root)


def _edits(*places: str, text: str = "x = 1\n") -> Proposal:
    return Proposal("Try", "Why not.", "claude", edits=tuple(Edit(path, "", text) for path in places))


def _params(**values: object) -> Proposal:
    return Proposal("Try", "Why not.", "claude", params=values)  # type: ignore[arg-type]


def _patch(project: Project, text: str) -> Proposal:
    return own.from_patch(project, patches.parse(project.repo, text.encode()), {}, "Try")


@_attack
def up_and_out(project: Project) -> Proposal:
    return _edits("model/../../outside.py")


@_attack
def a_path_to_nothing(project: Project) -> Proposal:
    return _edits("./")


@_attack
def an_absolute_path(project: Project) -> Proposal:
    return _edits("/etc/cron.d/x")


@_attack
def backslashes(project: Project) -> Proposal:
    return _edits("model\\..\\program.md")


@_attack
def a_line_break_in_a_path(project: Project) -> Proposal:
    return _edits("model/a\n.py")


@_attack
def a_name_too_long_for_any_disk(project: Project) -> Proposal:
    return _edits(f"model/{'n' * 300}.py")


@_attack
def a_path_too_long_for_any_disk(project: Project) -> Proposal:
    return _edits("/".join(["model", *["n" * 200] * 25, "a.py"]))


@_attack
def a_file_where_a_folder_is(project: Project) -> Proposal:
    return _edits("model")


@_attack
def a_folder_where_a_file_is(project: Project) -> Proposal:
    return _edits("fit.awk/more.py")


@_attack
def the_same_name_in_another_case(project: Project) -> Proposal:
    return _edits("FIT.awk")


@_attack
def bytecode(project: Project) -> Proposal:
    tree = project.repo.write_tree("HEAD", {"model/__pycache__/a.cpython-311.pyc": b"\xa7\r\r\n\1\0\0\0"})
    return Proposal("Try", "Why not.", "command", tree=tree)


@_attack
def a_link(project: Project) -> Proposal:
    blob = project.repo.write_blob(b"/etc/passwd")
    tree = project.repo.write_tree("HEAD", {"model/link.py": TreeEntry("120000", blob)})
    return Proposal("Try", "Why not.", "command", tree=tree)


@_attack
def a_submodule(project: Project) -> Proposal:
    tree = project.repo.write_tree("HEAD", {"model/sub": TreeEntry("160000", project.repo.head())})
    return Proposal("Try", "Why not.", "command", tree=tree)


@_attack
def the_parameters_as_a_link(project: Project) -> Proposal:
    blob = project.repo.write_blob(b"model/a.py")
    tree = project.repo.write_tree("HEAD", {"params.yaml": TreeEntry("120000", blob)})
    return Proposal("Try", "Why not.", "command", tree=tree)


@_attack
def an_option_for_a_tree(project: Project) -> Proposal:
    return Proposal("Try", "Why not.", "plugin", tree="--upload-pack=touch owned")


@_attack
def a_commit_of_nobody_for_a_tree(project: Project) -> Proposal:
    return Proposal("Try", "Why not.", "plugin", tree="0" * 40)


@_attack
def deep_expressions(project: Project) -> Proposal:
    return _edits("model/b.py", text=f"x = {'-' * 200_000}1\n")


@_attack
def long_sums(project: Project) -> Proposal:
    return _edits("model/b.py", text=f"x = {'+'.join('1' * 100_000)}\n")


@_attack
def a_null_byte(project: Project) -> Proposal:
    return _edits("model/b.py", text="x = 1\0\n")


@_attack
def half_a_character(project: Project) -> Proposal:
    return _edits("model/b.txt", text="\ud800\n")


@_attack
def a_patch_that_renames_the_programme(project: Project) -> Proposal:
    return _patch(project, (
        "diff --git a/program.md b/model/p.md\nsimilarity index 100%\n"
        "rename from program.md\nrename to model/p.md\n"
    ))  # fmt: skip


@_attack
def a_patch_that_copies_held_data(project: Project) -> Proposal:
    return _patch(project, (
        "diff --git a/held.txt b/model/h.txt\nsimilarity index 100%\n"
        "copy from held.txt\ncopy to model/h.txt\n"
    ))  # fmt: skip


@_attack
def a_patch_that_makes_a_link(project: Project) -> Proposal:
    return _patch(project, (
        "diff --git a/model/l b/model/l\nnew file mode 120000\n--- /dev/null\n+++ b/model/l\n"
        "@@ -0,0 +1 @@\n+/etc/passwd\n\\ No newline at end of file\n"
    ))  # fmt: skip


@_attack
def a_patch_that_swells(project: Project) -> Proposal:
    """Two kilobytes for each megabyte of zeros."""
    size, lines = 150_000_000, []
    packer = zlib.compressobj(9)
    packed = b"".join(
        [*(packer.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)), packer.flush()]
    )
    for start in range(0, len(packed), 52):
        piece = packed[start : start + 52]
        mark = chr(len(piece) + (64 if len(piece) <= 26 else 70))
        mark = chr(64 + len(piece)) if len(piece) <= 26 else chr(96 + len(piece) - 26)
        lines.append(mark + b85encode(piece + bytes(-len(piece) % 4)).decode())
    head = "diff --git a/model/z b/model/z\nnew file mode 100644\nindex " + "0" * 40 + ".." + "1" * 40
    return _patch(project, f"{head}\nGIT binary patch\nliteral {size}\n" + "\n".join(lines) + "\n\n")


@_attack
def infinity_for_a_number(project: Project) -> Proposal:
    return _params(x=float("inf"))


@_attack
def no_number_for_a_number(project: Project) -> Proposal:
    return _params(**{"p.json:lr": float("nan")})


@_attack
def a_truth_for_a_number(project: Project) -> Proposal:
    return _params(x=True)


@_attack
def text_for_a_number(project: Project) -> Proposal:
    return _params(x="1e999")


@_attack
def a_number_beyond_any(project: Project) -> Proposal:
    return _params(x=10**400)


@_attack
def a_group_for_a_value(project: Project) -> Proposal:
    return _params(x={"__class__": {"__init__": 1}})


@_attack
def a_method_for_a_key(project: Project) -> Proposal:
    return _params(**{"x.__class__.__init__": 1.0})


@_attack
def a_template_for_a_value(project: Project) -> Proposal:
    """DVC puts values into commands; a name of a file with a command in it."""
    return _params(**{"p.json:name": "x" * 1_000_000})


@_attack
def a_command_for_a_value(project: Project) -> Proposal:
    """`cmd: echo ${name}` is another stage's."""
    return _params(**{"p.json:name": "a; echo 0 > m.json"})


@_attack
def an_option_for_a_value(project: Project) -> Proposal:
    return _params(**{"p.json:name": "--judge=mine.py"})


@_attack
def a_place_for_a_value(project: Project) -> Proposal:
    return _params(**{"p.json:name": "../../outside"})


@_attack
def a_command_in_a_list(project: Project) -> Proposal:
    return _params(**{"p.json:layers": '[1, "$(touch owned)"]'})


@_attack
def infinity_in_a_list(project: Project) -> Proposal:
    return _params(**{"p.json:layers": "[1, 1e999]"})


@_attack
def the_seed(project: Project) -> Proposal:
    return _params(seed=7)


@_attack
def a_parameter_of_dvcs_settings(project: Project) -> Proposal:
    return _params(**{".dvc/config:core.remote": "ssh://x"})


@_attack
def a_key_in_a_file(project: Project) -> Proposal:
    return _edits("model/k.txt", text=f"-----BEGIN OPENSSH PRIVATE KEY-----\n{'A' * 70}\n")


@_attack
def half_a_character_in_the_title(project: Project) -> Proposal:
    return Proposal("Try \ud800", "Why not.", "claude", params={"x": 2.0})


@_attack
def a_null_byte_in_the_reasons(project: Project) -> Proposal:
    return Proposal("Try", "Why\0not.", "claude", params={"x": 2.0})


@_attack
def trailers_in_the_title(project: Project) -> Proposal:
    return Proposal("Try\n\nAr-Agent: baseline", "Why not.", "claude", params={"x": 2.0})


@_attack
def half_a_character_in_a_path(project: Project) -> Proposal:
    return _edits("model/\udcff.py")


def _verdict(project: Project, make: Callable[[Project], Proposal]) -> str:
    before = git(project.repo.root, "status", "--porcelain"), git(project.repo.root, "for-each-ref")
    try:
        prepare(project, make(project), reader.read(project))
        end = "got through"
    except ArError:
        end = "refused"
    after = git(project.repo.root, "status", "--porcelain"), git(project.repo.root, "for-each-ref")
    return end if before == after else "got through"


def test_each_proposal_is_in_the_table() -> None:
    assert _CHANGES.keys() == ATTACKS.keys()


@pytest.mark.parametrize("name", _CHANGES)
def test_a_proposal_brings_nothing_that_it_may_not(wide: Project, name: str) -> None:
    assert _verdict(wide, _CHANGES[name]) == ATTACKS[name]
