"""What a shell completes, and where a terminal is given a link."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from helpers import run
from synthetic import Made, write

from ar.cli.main import cli
from ar.git import refs
from ar.git.repo import Repo
from ar.views import console


@pytest.fixture
def names(project: Path) -> list[str]:
    """Of two experiments that ended, and of one that waits."""
    made = write(project, [Made(x, 0.3, agent="optuna") for x in (2.5, 2.9)])
    repo = Repo.open(project)
    repo.update_refs((refs.queued("later-abc"), repo.head(), "0" * 40))
    return [*made, "later-abc"]


def _offered(*words: str) -> list[str]:
    """What a shell is offered for the last of the words."""
    shell = BashComplete(cli, {}, "ar", "_AR_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


def test_names_of_experiments_are_completed(
    project: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, waiting = names
    monkeypatch.chdir(project)
    assert _offered("log", "x-") == [first, second]
    assert _offered("compare", first, first[:-1]) == [first]
    assert _offered("show", "--outcome", "re") == ["reverted"]
    monkeypatch.chdir(project.parent)
    assert _offered("stop", "l") == []
    assert _offered("-C", project.name, "stop", "l") == [waiting]


def test_every_argument_that_names_an_experiment_is_completed() -> None:
    known = {"name", "names", "a", "b"}
    arguments = [(command.name, one) for command in cli.commands.values() for one in command.params]
    named = [(command, one) for command, one in arguments if one.name in known]
    assert len(named) >= 10
    assert [command for command, one in named if one._custom_shell_complete is None] == []


def test_completion_loads_little(project: Path) -> None:
    """Somebody waits at a prompt: neither DVC nor rich, nor what reads histories, is loaded."""
    asked = {"COMP_WORDS": "ar log x", "COMP_CWORD": "2", "_AR_COMPLETE": "bash_complete"}
    code = "import sys; from ar.cli.main import main\ntry: main()\nexcept SystemExit: print(*sys.modules)"
    loaded = run(project, "python", "-c", code, env={**os.environ, **asked}).stdout.split()
    assert "ar.git.repo" in loaded
    assert not {"dvc", "rich", "numpy", "scipy", "ar.history.reader"} & set(loaded)


def test_links_are_for_terminals_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a b.png"
    console.wrote(path)
    assert capsys.readouterr().out == f"Wrote {path}\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    console.wrote(path)
    shown = capsys.readouterr().out
    assert re.search(r"\x1b\]8;[^;]*;file://[^\x1b]*/a%20b\.png\x1b\\", shown)
