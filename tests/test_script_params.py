"""Parameters that are constants of a script: their values are parameters, the rest of the file is code."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import commit, edit

from ar.changes import integrity, merging
from ar.changes.proposal import prepare
from ar.errors import BadProposal
from ar.history import reader
from ar.history.ideas import Proposal
from ar.history.records import Experiment, Status
from ar.project.identity import identity, is_edited
from ar.project.project import Project

SETTINGS = b"LR = 0.1\nWIDE = 4\nSEED = 1\n\n\ndef f(x):\n    return x + 1\n"


@pytest.fixture(params=["settings.py", "fit.py"])
def scripted(request: pytest.FixtureRequest, project: Path) -> Project:
    """`settings.py` is outside `scope.files`, `fit.py` within."""
    name = request.param
    (project / name).write_bytes(SETTINGS)
    edit(project / "dvc.yaml", "params: [x, y, seed]", f"params: [x, y, seed, {{{name}: [LR, SEED]}}]")
    text = (project / "program.md").read_text()
    front = text.split("---\n")[1]
    lines = [line for line in front.splitlines() if not line.startswith(("scope:", "seed:", "search:", " "))]
    lines += [
        f"seed: {name}:SEED",
        f"scope: {{files: [fit.awk, fit.py], params: [x, y, '{name}:LR']}}",
        f"search: {{x: {{low: 0, high: 9}}, '{name}:LR': {{low: 0.01, high: 1}}}}",
    ]
    guards = ["guards: [{metric: 'c.yaml:cost', direction: minimize}]"] if "guards:" in front else []
    lines = [line for line in lines if not line.startswith("guards:")] + guards
    (project / "program.md").write_text("---\n" + "\n".join(lines) + "\n---\n")
    commit(project, "Constants")
    return Project.open(project)


def tree(project: Project, content: bytes) -> str:
    name = project.program.seed.file if project.program.seed else ""
    return project.repo.write_tree(project.repo.head(), {name: content})


def refused(project: Project, content: bytes) -> bool:
    """By both checks: before anything is queued, and of a result."""
    repo = project.repo
    after = tree(project, content)
    history = reader.read(project)
    try:
        prepare(project, Proposal("t", "h", "human", tree=after), history)
        early = False
    except BadProposal:
        early = True
    rev = repo.commit_tree(after, [repo.head()], "x")
    run = Experiment(title="t", name="one", rev=rev, baseline=repo.head(), status=Status.SUCCEEDED)
    late = bool(integrity.changed(project, run, repo.head()))
    assert early == late
    return early


def test_values_are_parameters_and_the_rest_is_code(scripted: Project) -> None:
    name = scripted.program.seed.file if scripted.program.seed else ""
    free = name == "fit.py"
    head = scripted.repo.head()
    for old, new, is_code in (
        (b"LR = 0.1", b"LR = 0.2", False),
        (b"x + 1", b"x + 2", True),
        (b"LR = 0.1", b"LR = open('m.json', 'w')", True),
        (b"WIDE = 4", b"WIDE = 4\nMORE = 3", True),
    ):
        content = SETTINGS.replace(old, new)
        assert refused(scripted, content) == (is_code and not free)
        assert is_edited(scripted, head, tree(scripted, content)) == is_code
        assert identity(scripted, tree(scripted, content)) != identity(scripted, head)
    assert refused(scripted, SETTINGS.replace(b"x + 1", b"x + 2").replace(b"0.1", b"0.2")) != free


def test_the_seed_is_nobodys_to_set(scripted: Project) -> None:
    head = scripted.repo.head()
    other = tree(scripted, SETTINGS.replace(b"SEED = 1", b"SEED = 7"))
    assert identity(scripted, other) == identity(scripted, head)
    with pytest.raises(BadProposal):
        prepare(scripted, Proposal("t", "h", "human", tree=other), reader.read(scripted))


def test_code_is_merged_with_values(scripted: Project) -> None:
    repo, head = scripted.repo, scripted.repo.head()
    ours = tree(scripted, SETTINGS.replace(b"LR = 0.1", b"LR = 0.2"))
    other = tree(scripted, SETTINGS.replace(b"x + 1", b"x + 2"))
    merged = merging.merge(scripted, head, ours, other, "theirs")
    name = scripted.program.seed.file if scripted.program.seed else ""
    assert merged.clashes == ()
    assert repo.read(merged.tree, name) == SETTINGS.replace(b"0.1", b"0.2").replace(b"x + 1", b"x + 2")
