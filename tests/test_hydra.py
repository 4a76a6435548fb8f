"""A change of a parameter that Hydra composes is one of the files that Hydra reads, too."""

from __future__ import annotations

from pathlib import Path

import foreign
import pytest
import yaml
from helpers import commit, edit, git, run

from ar.changes import composition, integrity, own
from ar.changes.proposal import Change, prepare
from ar.errors import BadProposal
from ar.git.repo import Repo
from ar.history import reader
from ar.history.ideas import Edit, Proposal
from ar.history.records import Experiment, Status
from ar.project.hydra import Hydra
from ar.project.project import Project
from ar.project.values import Scalar

PROGRAM = """\
---
objective: "metrics.json:val.loss"
seed: trainer.seed
scope: {files: [train.py], params: [model, trainer]}
---
"""


@pytest.fixture
def composed(tmp_path: Path) -> Path:
    """A project whose `params.yaml` Hydra composes, which never ran."""
    from dvc.utils.hydra import compose_and_dump

    root = tmp_path / "project"
    root.mkdir()
    run(root, "git", "init", "-q")
    files = {**foreign.HYDRA, "program.md": PROGRAM, ".dvc/config": "[hydra]\n    enabled = True\n"}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    compose_and_dump(str(root / "params.yaml"), str(root / "conf"), None, "config", "", [])
    commit(root, "Start")
    return root


def proposed(root: Path, proposal: Proposal) -> Change:
    project = Project.open(root)
    return prepare(project, proposal, reader.read(project))


def set_to(root: Path, values: dict[str, Scalar]) -> tuple[dict[str, str], dict[str, object]]:
    """The lines that each file gains, and what DVC would compose of the result."""
    change = proposed(root, Proposal("Set", params=values))
    gained = {}
    for path in Repo.open(root).changed("HEAD", change.tree):
        lines = git(root, "diff", "-U0", "HEAD", change.tree, "--", path).splitlines()
        gained[path] = "\n".join(line[1:] for line in lines if line[0] == "+" and line[:3] != "+++")
    return gained, recomposed(root, change.tree)


def recomposed(root: Path, tree: str) -> dict[str, object]:
    from dvc.utils.hydra import compose_and_dump

    other = root.parent / "other"
    run(root, "git", "worktree", "add", "-q", "--detach", str(other), "HEAD")
    run(other, "git", "checkout", "-q", tree, "--", ".")
    before = yaml.safe_load((other / "params.yaml").read_text())
    compose_and_dump(str(other / "params.yaml"), str(other / "conf"), None, "config", "", [])
    after = yaml.safe_load((other / "params.yaml").read_text())
    assert before == after, "the next composition would undo the change"
    return after  # type: ignore[no-any-return]


def test_values_go_where_hydra_reads_them(composed: Path) -> None:
    files, now = set_to(composed, {"trainer.lr": 3e-4, "model.layers": "[4, 4]", "model.width": 8})
    assert files["conf/config.yaml"] == "  lr: 0.0003  # as papers write it"
    assert files["conf/model/small.yaml"] == "width: 8\nlayers: [4, 4]"
    assert now["trainer"] == {"lr": 3e-4, "warmup_lr": 3e-4, "seed": 7}
    assert now["model"] == {"width": 8, "layers": [4, 4]}


def test_one_of_a_list_is_addressed_as_dvc_does(composed: Path) -> None:
    files, now = set_to(composed, {"model.layers.1": 6})
    assert files["conf/model/small.yaml"] == "layers: [2, 6]"
    assert now["model"] == {"width": 4, "layers": [2, 6]}
    assert own.from_values(Project.open(composed), {"model.layers.1": 6}, "").title == "model.layers.1 2 → 6"
    for key, says in (
        ("model.layers.2", "has no key"),
        ("model.layers.x", "has no key"),
        ("model", "no key"),
    ):
        with pytest.raises(BadProposal, match=says):
            set_to(composed, {key: 6})
    with pytest.raises(BadProposal, match="is int in params"):
        set_to(composed, {"model.layers.0": "six"})


def test_what_interpolates_may_become_a_value(composed: Path) -> None:
    files, now = set_to(composed, {"trainer.warmup_lr": 0.5})
    assert files["conf/config.yaml"] == "  warmup_lr: 0.5"
    assert now["trainer"] == {"lr": 1e-4, "warmup_lr": 0.5, "seed": 7}


def test_an_edit_of_hydras_files_reaches_the_parameters(composed: Path) -> None:
    edit(composed / "conf/config.yaml", "model: small", "model: large")
    edit(composed / "conf/model/large.yaml", "width: 64", "width: 32")
    proposal, left_out = own.from_checkout(Project.open(composed), {}, "")
    assert not left_out
    change = proposed(composed, proposal)
    assert recomposed(composed, change.tree)["model"] == {"width": 32, "layers": [8, 8]}


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("conf/config.yaml", "rows: 400", "rows: 800", "data.rows lies outside"),
        ("conf/config.yaml", "seed: 7", "seed: 8", "is the seed"),
        ("conf/model/large.yaml", "width: 64", "width: 32", "lies outside the scope"),
        ("conf/config.yaml", "rows: 400", "rows: ${oc.env:SECRET}", "data.rows"),
        ("conf/config.yaml", "data:", "hydra: {searchpath: ['file:///']}\ndata:", "search path"),
        ("conf/config.yaml", "model: small", "model: huge", "does not compose"),
    ],
)
def test_hydras_files_are_held_to_the_scope(
    composed: Path, file: str, old: str, new: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "12345")
    edit(composed / file, old, new)
    with pytest.raises(BadProposal) as caught:
        proposed(composed, own.from_checkout(Project.open(composed), {}, "")[0])
    assert says in str(caught.value)
    assert "12345" not in str(caught.value)


def test_a_result_that_composes_something_else_may_not_count(composed: Path) -> None:
    project = Project.open(composed)
    repo, head = project.repo, project.repo.head()
    tree = proposed(composed, Proposal("Set", params={"trainer.lr": 0.1})).tree

    def flaw(changes: dict[str, bytes]) -> str:
        rev = repo.commit_tree(repo.write_tree(tree, changes), [head], "result")
        result = Experiment("", name="one", rev=rev, baseline=head, status=Status.SUCCEEDED)
        return integrity.changed(project, result, head)

    config = repo.read(tree, "conf/config.yaml") or b""
    values = repo.read(tree, "params.yaml") or b""
    assert flaw({}) == ""
    assert flaw({"params.yaml": values.replace(b"seed: 7", b"seed: 9")}) == ""
    assert "trainer.lr" in flaw({"conf/config.yaml": config.replace(b"lr: 0.1", b"lr: 0.2")})
    assert "conf/model/large.yaml differs" in flaw({"conf/model/large.yaml": b"width: 1\n"})


def test_without_hydra_nothing_follows(composed: Path) -> None:
    (composed / ".dvc/config").write_text("[hydra]\n    enabled = False\n")
    commit(composed, "Compose no more")
    repo = Repo.open(composed)
    assert Hydra.of(repo, "HEAD") is None
    tree = repo.write_tree("HEAD", {"params.yaml": b"a: 1\n"})
    assert composition.settled(repo, repo.head(), tree) == tree
    with pytest.raises(BadProposal, match="outside the scope"):
        proposed(composed, Proposal("Edit", edits=(Edit("conf/config.yaml", "rows: 400", "rows: 8"),)))
