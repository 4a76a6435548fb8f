"""The Python of a stage is the one that `dvc repro` would run, whatever `ar` itself runs in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import allow, commit, edit, run

from ar.campaign.campaign import Campaign
from ar.errors import BadState
from ar.history.attempts import find
from ar.history.records import Experiment, Status
from ar.project.program import Sandbox
from ar.project.project import Project
from ar.runs import interpreter, sandbox

STAGE = """
import json, sys
sys.path.append("x")
import only_here
print("prefix", sys.prefix)
json.dump({"val_loss": 1.0}, open("m.json", "w"))
open("c.yaml", "w").write("cost: 1")
"""


@pytest.fixture
def venv(project: Path) -> Path:
    """An environment in the project, with a module that `ar`'s own does not have; the stage needs it."""
    place = project / ".venv"
    run(project, sys.executable, "-m", "venv", "--without-pip", str(place))
    [packages] = place.glob("lib/python*/site-packages")
    (packages / "only_here.py").write_text("")
    (project / ".gitignore").write_text(".venv/\n")
    (project / "stage.py").write_text(STAGE)
    return place


def measure(project: Path, command: str, env: dict[str, str]) -> Experiment:
    edit(project / "dvc.yaml", "awk -f fit.awk params.yaml", command)
    commit(project, "A stage in Python")
    campaign = Campaign(Project.open(project))
    name = campaign.measure_incumbent(campaign.history(), 1)
    allow(project)
    code = "from ar.git.repo import Repo; from ar.runs.worker import Worker; Worker(Repo.open()).run_next()"
    run(project, sys.executable, "-c", code, env=env)
    return find(campaign.history(), name)[1]


@pytest.mark.parametrize("way", ["activated", "path only", "named", "off"])
def test_the_project_s_environment_is_used(project: Path, venv: Path, way: str) -> None:
    env, command = dict(os.environ), "python stage.py"
    if way == "named":
        command = ".venv/bin/python stage.py"
    else:
        env["PATH"] = f"{venv / 'bin'}{os.pathsep}{env['PATH']}"
    if way == "activated":
        env["VIRTUAL_ENV"] = str(venv)
    if way == "off":
        edit(project / "program.md", "budget:", "sandbox: off\nbudget:")
    ended = measure(project, command, env)
    assert ended.note
    assert ended.status is Status.SUCCEEDED, ended.note.log
    assert ended.note.python.endswith(f" {venv / 'bin' / 'python'}")


def test_what_is_installed_in_place_is_the_experiment_s_own_copy(project: Path, venv: Path) -> None:
    (project / "src").mkdir()
    (project / "src" / "model.py").write_text("print('from', __file__)\n")
    [packages] = venv.glob("lib/python*/site-packages")
    (packages / "editable.pth").write_text(f"{project / 'src'}\n")
    edit(project / "stage.py", "import only_here", "import model")
    ended = measure(project, "python stage.py", {**os.environ, "PATH": f"{venv}/bin:{os.environ['PATH']}"})
    assert ended.note
    assert f"from {project}/.dvc/tmp/ar/exps/{ended.name}/src/model.py" in ended.note.log


def test_a_shim_is_seen_through(project: Path, venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shims = project.parent / "shims"
    shims.mkdir()
    (shims / "python").write_text(f'#!/bin/sh\nexec {venv}/bin/python "$@"\n')
    (shims / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{shims}:{os.environ['PATH']}")
    found = interpreter.find(project, [(".", "python stage.py")])
    assert (found.program, found.shimmed) == (str(venv / "bin" / "python"), True)
    path = interpreter.environment(found, {"PATH": "/x"}, project)["PATH"].split(os.pathsep)
    assert path[:2] == [str(venv / "bin"), "/x"]


def test_an_environment_that_cannot_be_shown_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bwrap = sandbox.find(Sandbox())
    if not bwrap.program:
        pytest.skip(f"no sandbox on this machine: {bwrap.why}")
    run(
        project, sys.executable, "-m", "venv", "--without-pip", "."
    )  # the project's folder is the environment
    monkeypatch.setenv("PATH", f"{project}/bin:{os.environ['PATH']}")
    python = interpreter.find(project, [(".", "python stage.py")])
    assert python.prefix == str(project)
    with pytest.raises(BadState, match="cannot show"):
        sandbox.refuse_hidden(bwrap, Sandbox(), project, python)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("python3.12 -m train", ["python3.12"]),
        ("cd a && env/bin/python x.py | python", ["sub/env/bin/python", "python"]),
        ("awk -f python.awk mypython", []),
        ("uv run python train.py", [".venv/bin/python"]),
    ],
)
def test_which_pythons_a_command_names(line: str, names: list[str]) -> None:
    assert interpreter.named([("sub", line)]) == names


def test_nothing_answers_where_nothing_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert interpreter.find(tmp_path, []).program == ""
    (tmp_path / "python").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    assert subprocess.run([tmp_path / "python"], check=False).returncode == 3
    assert interpreter.find(tmp_path / "elsewhere", []).program == ""


def test_a_program_that_an_experiment_may_have_written_is_not_run_outside(
    project: Path, tmp_path: Path
) -> None:
    (project / "tools").mkdir()
    (project / "tools" / "python").write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    (project / "tools" / "python").chmod(0o755)
    commit(project, "Bring a Python along")
    assert interpreter.find(project, [(".", "tools/python x.py")]).program != str(
        project / "tools" / "python"
    )
    assert not (tmp_path / "was-run").exists()
