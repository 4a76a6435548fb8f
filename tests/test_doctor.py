"""`ar doctor` finds before the first run what would go wrong in it."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import commit, edit, run
from histories import attempt
from rich.console import Console

from ar.campaign import doctor
from ar.campaign.check import Check
from ar.history.records import History
from ar.views.checks import checks_view

CODE = """
import dataclasses, json
from pathlib import Path
from ar.campaign.doctor import examine
print(json.dumps([dataclasses.asdict(check) for check in examine(Path.cwd())]))
"""


def examined(root: Path, env: dict[str, str] | None = None) -> dict[str, Check]:
    """The checks by their names; of several with one name the last that is not ok."""
    checks = [Check(**one) for one in json.loads(run(root, sys.executable, "-c", CODE, env=env).stdout)]
    return {check.name: check for check in sorted(checks, key=lambda check: not check.ok)}


def test_a_project_that_is_ready(project: Path) -> None:
    found = examined(project)
    assert all(check.ok for check in found.values())
    assert "to its end" in found["rehearsal"].detail
    assert sys.executable.rpartition("/")[0] in found["python"].detail


def test_missing_data(project: Path) -> None:
    (project / "data.csv").write_text("1\n")
    run(project, "dvc", "add", "-q", "data.csv")
    edit(project / "dvc.yaml", "deps: [fit.awk]", "deps: [fit.awk, data.csv]")
    commit(project, "Add data")
    shutil.rmtree(project / ".dvc" / "cache")
    (project / "data.csv").unlink()
    found = examined(project)["rehearsal"]
    assert not found.ok and found.required and "data.csv" in found.detail
    assert found.mend and "dvc pull" in found.mend


def test_the_wrong_interpreter(project: Path, tmp_path: Path) -> None:
    run(tmp_path, sys.executable, "-m", "venv", "--without-pip", "other")
    edit(project / "dvc.yaml", "cmd: awk", "cmd: python -c 'import pygit2' && awk")
    commit(project, "Ask for a package")
    found = examined(project, {**os.environ, "PATH": f"{tmp_path}/other/bin:{os.environ['PATH']}"})
    assert f"{tmp_path}/other/bin/python" in found["python"].detail
    assert not found["rehearsal"].ok and "pygit2" in found["rehearsal"].detail


def test_a_stage_that_fails_in_the_sandbox(project: Path, isolated_home: Path) -> None:
    (isolated_home / "set.csv").touch()
    edit(project / "dvc.yaml", "cmd: awk", f"cmd: cat {isolated_home}/set.csv && awk")
    commit(project, "Read a file of the home")
    found = examined(project)
    if "bubblewrap" not in found["sandbox"].detail:
        pytest.skip("no sandbox on this machine")
    assert not found["rehearsal"].ok
    assert found["rehearsal"].mend and "read: [~/set.csv]" in found["rehearsal"].mend


def test_a_metric_that_no_stage_writes_and_no_seed(project: Path) -> None:
    edit(project / "program.md", "m.json:val_loss", "metrics/m.json:val_loss")
    edit(project / "program.md", "seed: seed\n", "")
    found = examined(project)
    assert not found["metric"].ok and found["metric"].required and "metrics/m.json" in found["metric"].detail
    assert not found["seed"].ok and not found["seed"].required
    assert "rehearsal" not in found  # nothing is run in vain


def test_a_cached_folder_hydra_a_seed_that_nothing_uses_and_a_dirty_checkout(project: Path) -> None:
    edit(project / "dvc.yaml", "params: [x, y, seed]", "params: [x, y]\n    outs: [eval]")
    edit(project / "dvc.yaml", "params.yaml\n", "params.yaml && mkdir -p eval && cp m.json eval/\n")
    edit(project / "program.md", "m.json:val_loss", "eval/m.json:val_loss")
    run(project, "dvc", "config", "hydra.enabled", "True")
    run(project, "dvc", "repro", "-q")
    commit(project, "Keep the metric in the cache")
    (project / "params.yaml").write_text((project / "params.yaml").read_text() + "# mine\n")
    found = examined(project)
    assert not found["seed"].ok and "no stage depends on" in found["seed"].detail
    assert not found["checkout"].ok and "params.yaml" in found["checkout"].detail
    assert found["metric"].ok and found["hydra"].ok and found["rehearsal"].ok


def test_a_finished_campaign_s_branch_was_measured_while_it_was_judged() -> None:
    won = attempt(2, 2.1, "promoted", runs=4)
    history = History(head="a" * 40, incumbent=won.candidate, attempts=(won,))
    assert doctor.baseline(history).detail == "measured 4 times"
    assert "not measured" in doctor.baseline(replace(history, incumbent="other")).detail


@pytest.mark.parametrize("width", [30, 60, 200])
def test_words_are_wrapped_whole_below_where_they_begin(width: int) -> None:
    words = (
        "a stage has no network, sees neither your home nor other processes, /a/long/path/of/forty/letters"
    )
    out = Console(file=io.StringIO(), width=width)
    out.print(checks_view([Check("sandbox", False, words, "to allow it: edit program.md")]), soft_wrap=True)
    lines = str(out.file.getvalue()).splitlines()  # type: ignore[attr-defined]
    assert " ".join(line[11:] for line in lines) == f"{words} to allow it: edit program.md"
    assert all(len(line) <= max(width, 31) or "/a/long" in line for line in lines)
    assert all(line.startswith(" " * 11) for line in lines[1:])
