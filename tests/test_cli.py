"""Bad input gets one clear message, what to do next, and exit code 2; never a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ar, commit, edit, git, run
from synthetic import Made, fill, write


def _fails(ar: Ar, folder: Path, *args: str, code: int = 2) -> str:
    done = ar(folder, *args, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(("error: ", "Usage: "))
    return done.stderr


COMMANDS = (["show"], ["next"], ["run", "-n", "1"], ["promote"], ["plot"], ["log", "x"], ["diff", "x"])


@pytest.mark.parametrize("args", COMMANDS, ids=lambda args: args[0])
def test_outside_a_repository(tmp_path: Path, ar: Ar, args: list[str]) -> None:
    assert "git init" in _fails(ar, tmp_path, *args)


def test_in_git_without_dvc(tmp_path: Path, ar: Ar) -> None:
    run(tmp_path, "git", "init", "-q")
    assert "dvc init" in _fails(ar, tmp_path, "show")
    assert "dvc init" in ar(tmp_path, "doctor", check=False).stdout


def test_without_a_programme(bare: Path, ar: Ar) -> None:
    assert "ar init" in _fails(ar, bare, "show")


def test_without_a_stage_or_a_metric(bare: Path, ar: Ar) -> None:
    (bare / "dvc.yaml").write_text("stages: {}\n")
    run(bare, "git", "rm", "-q", "--cached", "dvc.lock")
    run(bare, "git", "commit", "-qam", "No stage")
    assert "declares no stage" in _fails(ar, bare, "init", "--yes")
    (bare / "dvc.yaml").write_text("stages:\n  s:\n    cmd: 'true'\n")
    commit(bare, "No metric")
    assert "declares no metrics file" in _fails(ar, bare, "init", "--yes")


def _edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda root: edit(root / name, old, new)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_edit("program.md", "guards:", "guard:"), "did you mean 'guards'"),
        (_edit("program.md", "seed: seed", "seed: sed"), "names sed, which params.yaml does not hold"),
        (_edit("program.md", "search:\n  x:", "search:\n  xx:"), "outside scope.params"),
        (_edit("program.md", "---\nobjective", "objective"), "does not start with YAML"),
        (_edit("params.yaml", "x: 1.5", "x: [1.5"), "params.yaml does not parse: line"),
    ],
)
def test_broken_settings_are_named_with_file_and_key(
    project: Path, ar: Ar, edit: Callable[[Path], None], says: str
) -> None:
    edit(project)
    commit(project, "Break it")
    assert says in _fails(ar, project, "next")


def test_unknown_metric(project: Path, ar: Ar) -> None:
    _edit("program.md", "m.json:val_loss", "m.json:val_los")(project)
    assert "val_loss" in ar(project, "doctor", check=False).stdout
    assert "has no 'val_los'" in _fails(ar, project, "run", "-n", "1", "--plain")


def test_empty_history(project: Path, ar: Ar) -> None:
    assert "ar run" in ar(project, "show").stdout
    assert json.loads(ar(project, "show", "--json").stdout)["attempts"] == []
    assert "ar run" in _fails(ar, project, "plot")
    assert "ar run" in _fails(ar, project, "promote")
    assert "ar run" in _fails(ar, project, "log", "nothing")


def test_unknown_names_and_endings(measured: Path, ar: Ar) -> None:
    assert "no experiment is called" in _fails(ar, measured, "log", "nonsense")
    assert "no experiment is called" in _fails(ar, measured, "diff", "nonsense")
    assert ".png" in _fails(ar, measured, "plot", "-o", "chart.bmp")
    assert not (measured / "chart.bmp").exists()
    assert "only the baseline" in _fails(ar, measured, "plot")
    assert "did you mean 'optuna'" in _fails(ar, measured, "next", "--agent", "optima")


def test_values_that_yaml_cannot_make_are_refused(project: Path, ar: Ar) -> None:
    assert "does not set a parameter" in _fails(ar, project, "next", "--set", "x=!!int a")
    assert "is float in params.yaml, not str" in _fails(ar, project, "next", "--set", "x=2001-99-99")


def test_the_seed_is_no_part_of_a_change(project: Path, ar: Ar) -> None:
    first, second = write(project, [Made(2.5, 0.3, seed=1), Made(2.5, 0.3, seed=77)])
    for name in (first, second):
        shown = ar(project, "diff", name).stdout
        assert "+x: 2.5" in shown and "+seed" not in shown and "-seed" not in shown
    assert " 2 +-" in ar(project, "diff", "--stat", second).stdout


def test_two_experiments_are_compared(project: Path, ar: Ar) -> None:
    first, second = write(project, [Made(x, value, agent="optuna") for x, value in ((2.5, 0.3), (2.0, 0.5))])
    shown = ar(project, "compare", first, second).stdout
    assert [part for part in (first, second, "val_loss", "+x: 2.0") if part not in shown] == []
    told = json.loads(ar(project, "compare", first, second, "--json").stdout)
    assert (told["a"]["name"], told["b"]["value"]) == (first, 0.5)
    assert told["params"] == [{"key": "params.yaml:x", "a": 2.5, "b": 2.0}]
    assert "no experiment is called" in _fails(ar, project, "compare", first, "nobody")


@pytest.mark.parametrize(
    ("encoding", "command"),
    [("ascii", ["show"]), ("ascii", ["worker", "--plain"]), ("latin-1", ["log"])],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_an_encoding_without_our_signs(project: Path, ar: Ar, encoding: str, command: list[str]) -> None:
    name = fill(project, 12)[-1]
    lacking = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    arguments = [*command, name] if command[0] == "log" else command
    shown = ar(project, *arguments, env=lacking, encoding=encoding).stdout
    assert "?" not in shown.replace("? open", "")
    assert command[0] == "worker" or "x 1.5 -> " in shown


def test_usage_errors(project: Path, ar: Ar) -> None:
    assert "No such option" in _fails(ar, project, "show", "--jsn")
    assert "No such command" in _fails(ar, project, "shwo")


def test_debug_shows_the_traceback(tmp_path: Path, ar: Ar) -> None:
    assert "Traceback" in ar(tmp_path, "--debug", "show", check=False).stderr


def test_init_writes_what_it_finds_and_refuses_to_overwrite(bare: Path, ar: Ar) -> None:
    printed = ar(bare, "init", "--dry-run").stdout
    assert not (bare / "program.md").exists()
    ar(bare, "init", "--yes")
    text = (bare / "program.md").read_text()
    assert text in printed
    assert git(bare, "show", "--name-only", "--format=", "HEAD") == "program.md"
    assert "m.json:val_loss" in text
    assert re.search(r"^seed: seed", text, re.MULTILINE)
    assert "files: [fit.awk]" in text
    assert re.search(r"^  x: \{low: 0.38, high: 6.0, log: true\}", text, re.MULTILINE)
    assert "--force" in _fails(ar, bare, "init", "--yes")
    ar(bare, "init", "--yes", "--force")


def test_init_asks_before_it_writes(bare: Path, ar: Ar) -> None:
    done = ar(bare, "init", check=False, input="n\n")
    assert done.returncode == 130
    assert not (bare / "program.md").exists()
    ar(bare, "init", input="y\n")
    assert (bare / "program.md").exists()


def test_doctor_of_a_ready_project(measured: Path, ar: Ar) -> None:
    out = ar(measured, "doctor").stdout
    assert "measured 2 times" in out
    assert "search over 2 parameters" in out


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_repository(project: Path, ar: Ar) -> None:
    (project / ".git").chmod(0o500)
    try:
        assert "permission" in _fails(ar, project, "next").lower()
    finally:
        (project / ".git").chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_full_disk(measured: Path, ar: Ar, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if run(tmp_path, "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk), check=False).returncode:
        pytest.skip("no mounts here")
    try:
        shutil.copytree(measured, disk / "project", symlinks=True)
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as stream:
            while True:
                stream.write(b"0" * 4096)
                stream.flush()
        head = git(disk / "project", "rev-parse", "HEAD")
        for args in (["next"], ["run", "-n", "1", "--plain"]):
            assert "space" in _fails(ar, disk / "project", *args)
        filler.unlink()
        ar(disk / "project", "run", "-n", "1", "--plain")
        assert git(disk / "project", "rev-list", "--first-parent", "HEAD").splitlines()[-1]
        assert head in git(disk / "project", "rev-list", "HEAD")
        assert run(disk / "project", "git", "fsck").returncode == 0
    finally:
        run(tmp_path, "umount", "-l", str(disk))


def test_show_to_a_pipe_that_closes(measured: Path, ar: Ar) -> None:
    done = run(measured, "sh", "-c", "python -m ar show --json | head -c 10")
    assert "Traceback" not in done.stderr


def test_show_csv_and_limit(measured: Path, ar: Ar) -> None:
    rows = ar(measured, "show", "--csv").stdout.splitlines()
    assert rows[0].startswith("name,")
    assert len(rows) == 3
    assert git(measured, "status", "--porcelain") == ""
