"""The campaign as a folder for commands: what is in it, and that it is only added to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from helpers import commit, edit
from synthetic import DISCARDED, Made, write

from ar.agents import Briefing
from ar.agents.archive import Archive
from ar.git.repo import Repo
from ar.history import notebook, reader
from ar.history.notebook import Entry
from ar.project.program_file import load
from ar.project.project import Project


def archive(root: Path) -> Archive:
    repo, program = Repo.open(root), load(root)
    history = reader.read(Project(repo, program))
    return Archive(Project(repo, program), Briefing(program, history, notebook=notebook.read(repo)))


def stamps(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }


def test_each_experiment_is_laid_out_once(project: Path) -> None:
    reason = "n=1 z=-3.1; c.yaml:cost 7.25"
    edit(project / "program.md", "guards:\n", 'holdout: "m.json:test_loss"\nguards:\n')
    commit(project, "Hold something out")
    runs = [
        Made(value=2.2),
        Made(2.5, 1.5, agent="claude", verdict={**DISCARDED, "reason": reason}),
        Made(3.5, agent="claude"),
    ]
    _, first, crashed = write(project, runs)
    repo = Repo.open(project)
    log = "val_loss 1.5\ntest_loss 0.98765\n\x1b[2Jkey sk-ant-api03-" + "Zx9_" * 20
    repo.update_note(_rev(repo, first), lambda note: {**note, "log": log})
    note = notebook.write(repo, archive(project).briefing.history, Entry("claude", "Right is better."))
    folder = archive(project).update()

    place = folder / "experiments" / first
    assert {path.name for path in place.iterdir()} == {"hypothesis.md", "diff", "log", "verdict.json"}
    assert (place / "hypothesis.md").read_text().startswith("# x 1.5 → 2.5\n\nBecause.")
    assert "+x: 2.5" in (place / "diff").read_text()
    assert (place / "log").read_text().splitlines()[:2] == ["val_loss 1.5", "test_loss [holdout]"]
    verdict = json.loads((place / "verdict.json").read_text())
    assert verdict["outcome"] == "discarded" and verdict["verdict"]["reason"] == reason
    assert verdict["runs"][0]["metrics"] == {"m.json:val_loss": 1.5, "c.yaml:cost": 1.0}
    assert note[:8] in (folder / "notebook.md").read_text()
    assert (folder / "experiments" / crashed).is_dir()
    everything = "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert "0.98765" not in everything and "sk-ant" not in everything and "\x1b" not in everything

    before = stamps(folder)
    archive(project).update()
    assert stamps(folder) == before
    repo.update_note(_rev(repo, first), lambda note: {**note, "verdict": {**DISCARDED, "runs": 2}})
    archive(project).update()
    changed = {name for name, when in stamps(folder).items() if when != before[name]}
    assert {str(Path(name).parent) for name in changed} == {f"experiments/{first}"}


def test_another_holdout_lays_everything_out_anew(project: Path) -> None:
    (name,) = write(project, [Made(2.5, 1.5, agent="claude")])
    given = archive(project)
    assert "1.5" in (given.update() / "experiments" / name / "verdict.json").read_text()
    metric = given.project.program.objective
    program = replace(given.project.program, objective=replace(metric, key="other"), holdout=metric)
    other = Archive(Project(given.project.repo, program), replace(given.briefing, program=program))
    told = json.loads((other.update() / "experiments" / name / "verdict.json").read_text())
    assert told["runs"][0]["metrics"] == {"c.yaml:cost": 1.0}


def _rev(repo: Repo, name: str) -> str:
    return next(rev for ref, rev in repo.refs("refs/exps").items() if ref.endswith(f"/{name}"))
