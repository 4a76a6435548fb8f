"""The documents agree with the code."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import git, run

from ar.cli.main import cli
from ar.git import refs
from ar.history.messages import Message
from ar.history.records import Note, Verdict
from ar.history.spend import Spend
from ar.project.program_file import load

ROOT = Path(__file__).parents[1]
CONCEPTS = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")


def test_the_documents_show_the_code_as_it_is() -> None:
    """The commands' help, and the packages with their imports."""
    assert run(ROOT, sys.executable, "scripts/docs.py", "--check").returncode == 0


def test_the_house_names_modules_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+/[a-z_/]+(?:\.py)?)`", page)) - {"refs/exps"}
    assert len(named) > 20
    assert [
        name for name in sorted(named) if not any((at / name).exists() for at in (ROOT / "src" / "ar", ROOT))
    ] == []


def test_the_command_reference_has_all_commands() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^### ar (\S+)$", page, re.MULTILINE)) == sorted(cli.commands)


def test_the_help_and_the_command_reference_have_the_same_sections() -> None:
    """Each command stands in one of them, in the help and in the page below the same heading."""
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    parts = {
        part.splitlines()[0]: re.findall(r"^### ar (\S+)$", part, re.MULTILINE)
        for part in re.split(r"^## ", page, flags=re.MULTILINE)[2:]
    }
    printed = CliRunner().invoke(cli, ["--help"], terminal_width=100).stdout
    shown = dict.fromkeys(re.findall(r"^(\w[\w ]*):$", printed, re.MULTILINE))
    listed = {
        heading: re.findall(
            r"^  ([\w-]+) ", printed.partition(f"\n{heading}:\n")[2].partition("\n\n")[0], re.MULTILINE
        )
        for heading in shown
        if heading != "Options"
    }
    assert listed == parts
    assert sum(map(len, parts.values())) == len(cli.commands)


def test_every_trailer_of_an_experiment_is_explained() -> None:
    everything = Message(
        *("title", "body", "claude", "abc", 1),
        parent="parent",
        rung="d8",
        expected="-0.1",
        simplification=True,
        spend=Spend(1, 0, 1),
        audit=True,
        aa=True,
        stack=("a", "b"),
        reverts="c",
        observed="0" * 40,
        imported="aide",
    )
    written = re.findall(r"^(Ar-[A-Za-z]+):", str(everything), re.MULTILINE)
    assert len(written) >= 10
    assert [name for name in written if f"| `{name}` |" not in CONCEPTS] == []


@pytest.mark.parametrize(
    "name", [refs.NOTES, refs.NOTEBOOK, refs.SPEND, refs.PROMOTING, refs.QUEUE, refs.RUNNING, refs.EXPS]
)
def test_every_ref_is_explained(name: str) -> None:
    assert f"`{name}" in CONCEPTS


def test_every_key_of_a_note_is_explained() -> None:
    keys = [
        *Note.__dataclass_fields__,
        *(set(Verdict.__dataclass_fields__) - {"sigma", "df", "paired", "needed"}),
    ]
    assert [key for key in keys if f"`{key}`" not in CONCEPTS] == []


def test_the_rungs_that_are_named_are_the_lab_s() -> None:
    pages = [page.read_text(encoding="utf-8") for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))]
    named = {rung for page in pages for rung in re.findall(r"ar climb [^`\n]*--to (\w+)", page)}
    assert {"d4", "d6"} <= named <= {rung.name for rung in load(ROOT).ladder}


def test_a_second_clone_is_set_up_as_told(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever git calls a first branch."""
    for key, value in (("COUNT", "1"), ("KEY_0", "init.defaultBranch"), ("VALUE_0", "trunk")):
        monkeypatch.setenv(f"GIT_CONFIG_{key}", value)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    section = CONCEPTS.split("## Several clones")[1]
    block = section.split("```console")[1].split("```")[0].replace("/somewhere", str(tmp_path))
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    measured.rename(here)
    for folder, line in zip((here, here, there), block.strip().splitlines(), strict=True):
        run(folder, "sh", "-c", line.removeprefix("$ "))
    assert (
        git(there / "campaign", "for-each-ref", "refs/exps") == git(here, "for-each-ref", "refs/exps") != ""
    )


def test_nobody_is_told_to_install_what_no_index_has() -> None:
    """The distribution is installed from a clone."""
    told = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("src/**/*.py")]
    assert [path for path in told if "dvc-ar[" in path.read_text(encoding="utf-8")] == []
