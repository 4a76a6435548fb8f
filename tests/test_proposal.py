"""What a proposal may do, and what it is told when it may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import commit, edit, git

from ar.changes import proposal
from ar.changes.proposal import Change, prepare
from ar.changes.seeding import seeded_tree
from ar.errors import BadParams, BadProposal
from ar.git.repo import Repo
from ar.history import reader
from ar.history.ideas import Edit, Proposal
from ar.project.identity import identity
from ar.project.program import Program
from ar.project.program_file import load
from ar.project.project import Project


@pytest.fixture
def repo(project: Path) -> Repo:
    (project / "src").mkdir()
    (project / "src" / "a.py").write_text("x = 1\ny = 2\nx2 = 1\n")
    (project / "link.awk").symlink_to("fit.awk")
    edit(project / "program.md", "files: [fit.awk]", 'files: [fit.awk, "src/**", link.awk, m.json]')
    commit(project, "Add source")
    return Repo.open(project)


def _prepare(repo: Repo, **what: object) -> Change:
    program: Program = load(repo.root)
    tried = Proposal(title="Try", hypothesis="Why not", agent="human", **what)  # type: ignore[arg-type]
    return prepare(Project(repo, program), tried, reader.read(Project(repo, program)))


def test_parameters_and_edits_together(repo: Repo) -> None:
    change = _prepare(
        repo,
        params={"x": 2.5},
        edits=(Edit("src/a.py", "y = 2\n", "y = 3\n"), Edit("src/new.py", "", "z = 1\n")),
    )
    assert repo.read(change.tree, "src/a.py") == b"x = 1\ny = 3\nx2 = 1\n"
    assert repo.read(change.tree, "src/new.py") == b"z = 1\n"
    assert b"x: 2.5" in (repo.read(change.tree, "params.yaml") or b"")
    assert git(repo.root, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({}, "changes nothing"),
        ({"params": {"z": 1}}, "outside scope.params"),
        ({"params": {"seed": 4}}, "is the seed"),
        ({"params": {"x": "fast"}}, "is float in params.yaml, not str"),
        ({"params": {"x": True}}, "not bool"),
        ({"params": {"x": 1.5}}, "leaves the baseline as it is"),
        ({"edits": (Edit("dvc.yaml", "fit", "fat"),)}, "outside the scope"),
        ({"edits": (Edit(".dvc/config", "", "x"),)}, "outside the scope"),
        ({"edits": (Edit(".git/hooks/post-commit", "", "x"),)}, "outside the scope"),
        ({"edits": (Edit("src/../dvc.yaml", "fit", "fat"),)}, "no path inside"),
        ({"edits": (Edit("/etc/passwd", "", "x"),)}, "no path inside"),
        ({"edits": (Edit("src/a\n.py", "", "x"),)}, "no path inside"),
        ({"edits": (Edit("link.awk", "x", "y"),)}, "link"),
        ({"edits": (Edit("m.json", "val", "lav"),)}, "written by the pipeline"),
        ({"edits": (Edit("src/a.py", "w = 1", "w = 2"),)}, "is not in src/a.py"),
        ({"edits": (Edit("src/a.py", "= 1", "= 5"),)}, "is 2 times in"),
        ({"edits": (Edit("src/a.py", "", "x = 3\n"),)}, "exists already"),
        ({"edits": (Edit("src/a.py", "y = 2", "y = ("),)}, "does not compile: line"),
        ({"edits": (Edit("src/b.py", "", "#" * 1_000_001),)}, "grows beyond"),
        ({"edits": (Edit("src/b.py", "", f"k = 'sk-ant-{'x1' * 20}'"),)}, "src/b.py would hold a secret"),
    ],
)
def test_refusals_say_what_would_do(repo: Repo, what: dict[str, object], says: str) -> None:
    with pytest.raises((BadProposal, BadParams)) as caught:
        _prepare(repo, **what)
    assert says in str(caught.value)


def test_the_same_change_is_refused_by_the_name_of_the_first(repo: Repo) -> None:
    from ar.campaign.campaign import Campaign

    campaign = Campaign(Project.open(repo.root))
    _, name = campaign.submit(_prepare(repo, params={"x": 2.5}))
    campaign.pipeline.close()
    with pytest.raises(BadProposal, match=name):
        _prepare(repo, params={"x": 2.5})


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("src/a.py", True),
        ("src/deep/er.py", True),
        ("srcs/a.py", False),
        ("fit.awk", True),
        ("fitXawk", False),
        ("a/fit.awk", False),
    ],
)
def test_globs(repo: Repo, path: str, inside: bool) -> None:
    assert load(repo.root).scope.covers(path) is inside


def test_identity_ignores_seed_outputs_layout_and_documents_but_nothing_else(repo: Repo) -> None:
    program = load(repo.root)
    base = identity(Project(repo, program), "HEAD")

    def of(path: str, content: bytes) -> str:
        return identity(Project(repo, program), repo.write_tree("HEAD", {path: content}))

    assert of("params.yaml", b"y:   0.03\nx: 1.5\nseed: 99\n") == base
    assert of("m.json", b"{}") == base
    assert of("program.md", b"other") == base
    assert of(".gitignore", b"/x\n") == base
    assert of("params.yaml", b"y: 0.03\nx: 1.6\nseed: 1\n") != base
    assert of("fit.awk", b"{}") != base
    assert of("helper.awk", b"{}") != base
    assert of("README", b"more") == base


def test_stages_that_measure_are_unlocked(repo: Repo) -> None:
    program = load(repo.root)
    tree = seeded_tree(Project(repo, program), "HEAD", 5)
    assert b"fit" not in (repo.read(tree, "dvc.lock") or b"")
    assert b"seed: 5" in (repo.read(tree, "params.yaml") or b"")


@pytest.mark.parametrize("error", [RecursionError("too deep"), MemoryError(), KeyError("x"), OSError("gone")])
def test_what_nobody_foresaw_is_a_refusal(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def breaks(*_: object) -> None:
        raise error

    monkeypatch.setattr(proposal, "_refuse_names", breaks)
    with pytest.raises(BadProposal, match=type(error).__name__):
        _prepare(repo, params={"x": 2.5})
