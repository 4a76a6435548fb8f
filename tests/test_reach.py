"""What a proposal or a result may reach: never a file that git, DVC or `ar` obey, and only so many bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers import Ar, commit, edit, git, run
from judged import WIN
from test_integrity import flaw, measured_rev, plant

from ar.campaign.campaign import Campaign
from ar.changes import integrity, own, patches, size
from ar.changes.proposal import prepare
from ar.errors import ArError, BadProposal
from ar.git.repo import Repo
from ar.history import reader
from ar.history.attempts import find
from ar.history.ideas import Edit, Proposal
from ar.history.records import Experiment, Outcome, Status
from ar.project.params import ParamKey
from ar.project.project import Project
from ar.project.scope import Scope, is_obeyed

OBEYED = (
    "model/x.dvc", "model/X.DVC", "model/x.dvc/y.py", "model/dvc.yaml", "model/Dvc.YAML", "model/dvc.lock",
    "model/.dvc/config", "model/.dvcignore", "model/.git", "model/.GIT/config", "model/.gitattributes",
    "model/deep/.gitattributes", "model/.gitmodules", "model/.gitignore", "model/GIT~1/config",
    "model/.g\u200cit/config", "model/.git./config", "model/.git::$INDEX_ALLOCATION/config",
    "model/\uff0egit/config", "model/dvc\uff0eyaml", "model/dvc.yaml ", ".lfsconfig", "model/program.md",
)  # fmt: skip


@pytest.fixture
def project_(project: Path) -> Project:
    """A project whose scope is all there is."""
    (project / "model").mkdir()
    (project / "model" / "a.py").write_text("x = 1\n")
    edit(project / "program.md", "files: [fit.awk]", 'files: ["**", "**/.*", "**/.*/**"]')
    commit(project, "Open the scope wide")
    return Project.open(project)


def _edits(project: Project, path: str) -> Proposal:
    return Proposal("Try", "Why not.", "claude", edits=(Edit(path, "", "x\n"),))


def _patch(project: Project, path: str) -> Proposal:
    tree = project.repo.write_tree("HEAD", {path: b"x\n"})
    diff = patches.between(project.repo, "HEAD", tree)
    return own.from_patch(project, patches.parse(project.repo, diff), {}, "Try")


def _commit(project: Project, path: str) -> Proposal:
    repo = project.repo
    rev = repo.commit_tree(repo.write_tree("HEAD", {path: b"x\n"}), [repo.head()], "Try")
    return own.from_patch(project, patches.of_commit(repo, rev), {}, "")


def _tree(project: Project, path: str) -> Proposal:
    tree = project.repo.write_tree("HEAD", {path: b"x\n"})
    return Proposal("Try", "Why not.", "command", tree=tree)


def _refused(project: Project, make: Callable[[Project, str], Proposal], path: str) -> bool:
    try:
        change = prepare(project, make(project, path), reader.read(project))
    except ArError:
        return True
    return not project.repo.changed("HEAD", change.tree).keys() - {"params.yaml"}


@pytest.mark.parametrize("path", OBEYED)
def test_what_other_programs_obey_is_in_no_scope(path: str) -> None:
    assert is_obeyed(path)
    assert not Scope(("**", path)).may_edit(path)
    assert not Scope(params=(ParamKey(path, ""),)).allows_param(ParamKey(path, "x"))


@pytest.mark.parametrize(
    "path", ["model/gpt.py", "model/dvc_yaml.py", "model/a.dvcx", "model/git/x", "m.yaml"]
)
def test_what_nobody_obeys_may_be_in_scope(path: str) -> None:
    assert not is_obeyed(path)


@pytest.mark.parametrize("make", [_edits, _patch, _commit, _tree])
def test_no_way_to_propose_brings_in_what_is_obeyed(
    project_: Project, make: Callable[[Project, str], Proposal]
) -> None:
    paths = ["model/x.dvc", "model/dvc.yaml", "model/Dvc.Yaml", "model/.gitattributes", "model/.dvcignore"]
    assert [path for path in paths if not _refused(project_, make, path)] == []
    assert not _refused(project_, make, "model/fine.py")


def test_of_a_checkout_what_is_obeyed_is_left_out(project_: Project) -> None:
    root = project_.repo.root
    for name, text in (("x.dvc", "outs: []\n"), (".gitattributes", "*.c text\n"), ("b.py", "y = 2\n")):
        (root / "model" / name).write_text(text)
    proposal, _ = own.from_checkout(project_, {}, "")
    assert list(project_.repo.changed("HEAD", proposal.tree)) == ["model/b.py"]


def test_no_result_reaches_outside_a_project_in_a_folder(tmp_path: Path, project: Path) -> None:
    top = tmp_path / "top"
    shutil.copytree(project, top / "sub", ignore=shutil.ignore_patterns(".git"))
    run(top, "git", "init", "-q")
    commit(top, "Start")
    inside = Project.open(top / "sub")
    head, repo = git(top, "rev-parse", "HEAD"), Repo.open(top / "sub")
    blob = repo.write_blob(b"mine\n")
    tree = run(
        top, "git", "mktree", input=f"{git(top, 'ls-tree', 'HEAD')}\n100644 blob {blob}\tother.py\n"
    ).stdout.strip()
    assert _refused(inside, lambda *_: Proposal("Try", "Why not.", "command", tree=tree), "")
    rev = repo.commit_tree(tree, [head], "result")
    result = Experiment(
        title="t", agent="optuna", candidate="c", name="x-000001", rev=rev, baseline=head,
        status=Status.SUCCEEDED,
    )  # fmt: skip
    assert integrity.changed(inside, result, head) == "../other.py is not as in the baseline"


def test_the_bytes_that_a_proposal_adds_are_bounded_over_all_its_files(project_: Project) -> None:
    def proposed(files: int, each: int) -> Proposal:
        edits = tuple(Edit(f"model/d{n}.txt", "", os.urandom(each // 2).hex()) for n in range(files))
        return Proposal("Carry data", "Why not.", "claude", edits=edits)

    with pytest.raises(BadProposal, match=r"adds \d+ bytes"):
        prepare(project_, proposed(10, size.MAX_ADDED_BYTES // 8), reader.read(project_))
    assert prepare(project_, proposed(10, size.MAX_ADDED_BYTES // 20), reader.read(project_)).tree


def test_what_only_moves_adds_nothing(project_: Project) -> None:
    repo = project_.repo
    lines = b"".join(b"line %d\n" % n for n in range(40_000))
    old = repo.write_tree("HEAD", {"model/long.txt": lines})
    new = repo.write_tree(old, {"model/long.txt": None, "model/same.txt": lines + b"one more\n"})
    assert size.added(repo, old, new, repo.changed(old, new)) == len(b"one more\n") + len("model/same.txt")


@pytest.mark.parametrize(
    "path",
    ["x.dvc", "sub/dvc.yaml", "sub/dvc.lock", "sub/.gitattributes", ".dvc/tmp/repro.dat", ".gitmodules"],
)
def test_a_result_that_brings_what_is_obeyed_counts_for_nothing(measured: Path, path: str) -> None:
    edit(measured / "program.md", "files: [fit.awk]", 'files: ["**", "**/.*", "**/.*/**"]')
    assert path in flaw(measured, plant(measured, {path: b"x: 1\n"}))


def test_a_forged_run_of_the_baseline_excuses_nothing_that_is_obeyed(measured: Path) -> None:
    repo = Repo.open(measured)
    for ref, rev in repo.refs("refs/exps").items():  # every run of the baseline, rewritten by a remote
        forged = repo.write_tree(rev, {"program.md": b"forged\n", "fit.txt": b"1\n"})
        new = repo.commit_tree(forged, [repo.head()], repo.commit(rev).message)
        repo.update_note(new, lambda _, rev=rev: dict(repo.note(rev)))
        git(measured, "update-ref", ref, new)
    assert "program.md" in flaw(measured, plant(measured, {"program.md": b"mine\n"}))


@pytest.mark.parametrize(
    ("lines", "is_fine"),
    [(b"/m.json\n", True), (b"/fit.awk\n", False), (b"*\n", False), (b"!/m.json\n", False)],
)
def test_only_outputs_may_be_ignored_anew(measured: Path, lines: bytes, is_fine: bool) -> None:
    old = Repo.open(measured).read("HEAD", ".gitignore") or b""
    assert (flaw(measured, plant(measured, {".gitignore": old + lines})) == "") is is_fine


def test_a_result_with_a_copy_of_much_data_counts_for_nothing(measured: Path) -> None:
    carried = os.urandom(size.MAX_ADDED_BYTES).hex().encode()
    assert "bytes" in flaw(measured, plant(measured, {"fit.awk": carried}))


def test_another_stage_in_the_lock_is_as_the_baseline_has_it(measured: Path) -> None:
    """So that no promotion checks out data that nobody measured with."""
    pipeline = yaml.safe_load((measured / "dvc.yaml").read_text())
    pipeline["stages"]["fixed"] = {"cmd": "echo data > data.txt", "outs": ["data.txt"]}
    (measured / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    run(measured, "dvc", "repro", "-q")
    commit(measured, "Add a stage that no experiment influences")
    for ref in Repo.open(measured).refs("refs/exps"):
        git(measured, "update-ref", "-d", ref)
    run(measured, "ar", "run", "-n", "0", "--plain")
    lock = yaml.safe_load(git(measured, "show", f"{measured_rev(measured)}:dvc.lock"))
    same = plant(measured, {"dvc.lock": yaml.safe_dump(lock).encode()}, "same-000001")
    assert flaw(measured, same) == ""
    lock["stages"]["fixed"]["outs"][0]["md5"] = "0" * 32
    forged = plant(measured, {"dvc.lock": yaml.safe_dump(lock).encode()})
    assert flaw(measured, forged) == "data.txt is not what the baseline was measured with"


# -- merges -----------------------------------------------------------------------------------------------

FORGED: list[dict[str, bytes | None]] = [
    {"program.md": b"---\nagent: {kind: command, command: touch owned}\n---\n"},
    {"x.dvc": b"outs: []\n", "fit.awk": b"BEGIN {}\n"},
]


def _forged_winner(root: Path, changes: dict[str, bytes | None]) -> str:
    """An attempt as a remote might hand it over, with a verdict in its note."""
    name = plant(root, changes)
    campaign = Campaign(Project.open(root))
    campaign.record(find(campaign.history(), name)[0], WIN)
    return name


@pytest.mark.parametrize("changes", FORGED)
@pytest.mark.parametrize("how", [(), ("--force",), ("--force", "--branch", "aside")])
def test_a_verdict_does_not_merge_what_lies_outside_the_scope(
    measured: Path, ar: Ar, changes: dict[str, bytes | None], how: tuple[str, ...]
) -> None:
    before = git(measured, "for-each-ref", "refs/heads")
    name = _forged_winner(measured, changes)
    assert ar(measured, "promote", name, *how, check=False).returncode == 2
    assert git(measured, "for-each-ref", "refs/heads") == before
    assert git(measured, "status", "--porcelain") == ""


def test_a_night_throws_a_forged_winner_out(measured: Path, ar: Ar) -> None:
    head = git(measured, "rev-parse", "HEAD")
    name = _forged_winner(measured, FORGED[0])
    ar(measured, "run", "-n", "0", "--plain")
    assert git(measured, "rev-parse", "HEAD") == head
    assert find(Campaign(Project.open(measured)).history(), name)[0].outcome is Outcome.TAMPERED


def test_a_merge_keeps_what_no_result_may_change(project: Path) -> None:
    ours = Project.open(project)
    repo = ours.repo
    wanted: dict[str, bytes | None] = {"fit.awk": b"BEGIN {}\n", "m.json": b"{}\n", "dvc.lock": b"{}\n"}
    other: dict[str, bytes | None] = {"r.txt": b"unasked\n", "program.md": None, "sub/.gitattributes": b""}
    tree = integrity.confined(ours, "HEAD", repo.write_tree("HEAD", wanted | other))
    assert repo.changed("HEAD", tree).keys() == wanted.keys()
