"""People propose too: patches, parameters, what lies uncommitted in a checkout that stays as it is."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from helpers import Ar, commit, edit, git, run, snapshot, swap

from ar.campaign.campaign import Campaign
from ar.changes import own, patches
from ar.changes.proposal import Change
from ar.errors import ArError, BadProposal, NotFound
from ar.git.repo import Repo
from ar.project.project import Project
from ar.project.values import Scalar


@pytest.fixture
def root(project: Path) -> Path:
    """A project with a package in scope and a file that is not."""
    (project / "src").mkdir()
    lines = "".join(f"v{n} = {n}\n" for n in range(1, 31))
    for name, text in (("src/a.py", lines), ("src/old.py", "o = 1\n"), ("src/run.sh", "echo 1\n")):
        (project / name).write_text(text)
    (project / "src" / "run.sh").chmod(0o755)
    (project / "notes.txt").write_text("notes\n")
    edit(project / "program.md", "[fit.awk]", '[fit.awk, "src/**"]')
    commit(project, "Add source")
    return project


@pytest.fixture
def campaign(root: Path) -> Campaign:
    repo = Repo.open(root)
    return Campaign(Project.open(repo.root))


def _diff(root: Path, *args: str) -> bytes:
    """The uncommitted changes as a patch; they are gone afterwards."""
    run(root, "git", "add", "-A")
    text = run(root, "git", "diff", "--cached", *args).stdout
    run(root, "git", "reset", "-q", "--hard")
    return text.encode()


def _patched(campaign: Campaign, content: bytes, message: str = "", **values: Scalar) -> Change:
    patch = patches.parse(campaign.repo, content)
    return campaign.check(own.from_patch(campaign.project, patch, values, message))


def _tree(root: Path, rev: str) -> dict[str, str]:
    lines = git(root, "ls-tree", "-r", rev).splitlines()
    return {line.partition("\t")[2]: line.split()[0] for line in lines}


# -- patches ----------------------------------------------------------------------------------------------


def test_a_patch_may_edit_add_delete_rename_and_change_modes(root: Path, campaign: Campaign) -> None:
    before = _tree(root, "HEAD")
    edit(root / "src/a.py", "v3 = 3", "v3 = 33")
    (root / "src" / "new.sh").write_text("echo 2\n")
    (root / "src" / "new.sh").chmod(0o755)
    (root / "src" / "run.sh").chmod(0o644)
    (root / "src" / "old.py").rename(root / "src" / "renamed.py")
    (root / "fit.awk").unlink()
    change = _patched(campaign, _diff(root, "-M", "--binary"))
    after = _tree(root, change.tree)
    assert {path: mode for path, mode in after.items() if before.get(path) != mode} == {
        "src/new.sh": "100755",
        "src/run.sh": "100644",
        "src/renamed.py": "100644",
    }
    assert before.keys() - after.keys() == {"src/old.py", "fit.awk"}
    assert "+v3 = 33" in campaign.diff(change)


def test_parameters_may_be_in_a_patch_or_come_on_top(root: Path, campaign: Campaign) -> None:
    edit(root / "params.yaml", "x: 1.5", "x: 2.0  # further right")
    edit(root / "src/a.py", "v3 = 3", "v3 = 33")
    change = _patched(campaign, _diff(root), y=0.1)
    assert git(root, "show", f"{change.tree}:params.yaml").splitlines()[1:3] == [
        "x: 2.0  # further right",
        "y: 0.1",
    ]


def test_what_dvc_writes_is_left_out_of_a_patch(root: Path, campaign: Campaign) -> None:
    """A commit of a DVC project carries its results; they are measured anew."""
    edit(root / "params.yaml", "x: 1.5", "x: 2.0")
    run(root, "dvc", "repro", "-q")
    patch = _diff(root)
    assert b"m.json" in patch
    change = _patched(campaign, patch)
    assert git(root, "diff", "--name-only", "HEAD", change.tree) == "params.yaml"


def test_a_patch_that_does_not_apply_is_refused_by_its_hunk(root: Path, campaign: Campaign) -> None:
    edit(root / "src/a.py", "v2 = 2\n", "v2 = 22\n")
    edit(root / "src/a.py", "v28 = 28", "v28 = 0")
    patch = _diff(root)
    edit(root / "src/a.py", "v27 = 27", "v27 = 7")
    commit(root, "Move on")
    with pytest.raises(BadProposal, match=r"hunk 2 of src/a.py \(@@ -25,6 \+25,6 @@"):
        _patched(campaign, patch)


HEADER = "diff --git a/{0} b/{0}\n"
PARAMS = "--- a/params.yaml\n+++ b/params.yaml\n@@ -2,3 +2,3 @@\n{0}\n"
ADDED = HEADER + "new file mode {1}\n--- /dev/null\n+++ b/{0}\n@@ -0,0 +1 @@\n+{2}\n"


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ("hello", "there is no diff in it"),
        (ADDED.format("src/a.py", "100644", "x"), "src/a.py exists at the baseline already"),
        (ADDED.format("src/../../x", "100644", "x"), "invalid path"),
        (ADDED.format(".git/config", "100644", "x"), "invalid path"),
        (ADDED.format(".dvc/config.local", "100644", "x"), "outside the scope"),
        (ADDED.format("src/link", "120000", "/etc/passwd"), "is a link"),
        (ADDED.format("src/b.py", "100644", "x = ("), "does not compile"),
        (ADDED.format("other.txt", "100644", "x"), "other.txt lies outside the scope"),
        (
            "--- a/src/none.py\n+++ b/src/none.py\n@@ -1 +1 @@\n-a\n+b\n",
            "src/none.py does not exist at the baseline",
        ),
        (PARAMS.format(" x: 1.5\n y: 0.03\n-seed: 1\n+seed: 2"), "seed is the seed"),
        (PARAMS.format("-x: 1.5\n+x: fast\n y: 0.03\n seed: 1"), "is float in params.yaml"),
        (PARAMS.format("-x: 1.5\n+x: [\n y: 0.03\n seed: 1"), "params.yaml does not parse"),
        ("--- a/params.yaml\n+++ b/params.yaml\n@@ -4 +4,2 @@\n seed: 1\n+z: 2\n", "z lies outside scope"),
        (
            "--- a/dvc.yaml\n+++ b/dvc.yaml\n@@ -1,2 +1,3 @@\n stages:\n+  x: {}\n   fit:\n",
            "dvc.yaml lies outside",
        ),
        ("--- a/src/a.py\n+++ b/src/a.py\n@@ -1 +1,9 @@\n-v1\n", "corrupt patch"),
    ],
)
def test_what_a_patch_may_not(campaign: Campaign, patch: str, says: str) -> None:
    with pytest.raises(ArError) as caught:
        _patched(campaign, patch.encode())
    assert says in str(caught.value)


def test_messages_of_patches_become_hypotheses(root: Path, campaign: Campaign) -> None:
    edit(root / "src/a.py", "v3 = 3", "v3 = 33")
    commit(root, "Raise v3 – twice\n\nIt was low in baseline-s1.")
    mail = run(root, "git", "format-patch", "-1", "--stdout").stdout.encode()
    shown = run(root, "git", "show", "HEAD").stdout.encode()
    plain = run(root, "git", "diff", "--no-prefix", "HEAD^", "HEAD").stdout.encode()
    run(root, "git", "reset", "-q", "--hard", "HEAD^")
    for patch in (mail, shown):
        proposal = _patched(campaign, patch).proposal
        assert (proposal.title, proposal.hypothesis) == ("Raise v3 – twice", "It was low in baseline-s1.")
    assert _patched(campaign, plain).proposal.title == "edit src/a.py"
    said = _patched(campaign, mail, "My title\n\nMy reasons.").proposal
    assert (said.title, said.hypothesis, said.agent) == ("My title", "My reasons.", "human")


def test_a_change_on_files_follows_the_branch(root: Path, campaign: Campaign) -> None:
    edit(root / "src/a.py", "v3 = 3", "v3 = 33")
    change = _patched(campaign, _diff(root))
    edit(root / "src/a.py", "v28 = 28", "v28 = 0")
    commit(root, "Move on")
    moved, _ = campaign.submit(change)
    campaign.pipeline.close()
    assert moved.baseline == git(root, "rev-parse", "HEAD")
    text = git(root, "show", f"{moved.tree}:src/a.py")
    assert "v3 = 33" in text
    assert "v28 = 0" in text


def test_patches_work_below_the_top_of_the_repository(root: Path, tmp_path: Path) -> None:
    top = tmp_path / "mono"
    top.mkdir()
    run(top, "git", "init", "-q")
    root.rename(top / "sub")
    for name in (".git", ".dvc"):
        shutil.rmtree(top / "sub" / name)
    run(top / "sub", "dvc", "init", "-q", "--subdir")
    commit(top, "Start")
    repo = Repo.open(top / "sub")
    campaign = Campaign(Project.open(repo.root))
    (top / "outside.txt").write_text("x\n")
    outside = _diff(top)
    edit(top / "sub" / "src/a.py", "v3 = 3", "v3 = 33")
    whole = run(top, "git", "diff").stdout.encode()
    relative = run(top / "sub", "git", "diff", "--relative").stdout.encode()
    snap = own.from_checkout(campaign.project, {}, "")[0].tree
    run(top, "git", "reset", "-q", "--hard")
    trees = {_patched(campaign, patch).tree for patch in (whole, relative)}
    assert trees == {snap}
    # A patch that names no file of the project is taken as relative to it.
    with pytest.raises(BadProposal, match=r"outside\.txt lies outside the scope"):
        _patched(campaign, outside)


# -- parameters -------------------------------------------------------------------------------------------


def test_values_are_yaml() -> None:
    texts = ["a=1", "b.c=0.5", "d=1e-4", "e=text", "f=true", "g=a=b"]
    assert own.parse_values(texts) == {"a": 1, "b.c": 0.5, "d": 1e-4, "e": "text", "f": True, "g": "a=b"}
    assert own.parse_values(["l=[1, 2]", "m={a: {b: 1e3}}"]) == {"l": "[1, 2]", "m.a.b": 1000.0}
    for text in ("a", "=1", "a=[", "a=!!int b"):
        with pytest.raises(BadProposal, match="does not set a parameter"):
            own.parse_values([text])


# -- the checkout -----------------------------------------------------------------------------------------


def test_the_checkout_is_proposed_and_stays_as_it_was(root: Path, ar: Ar) -> None:
    edit(root / "src/a.py", "v3 = 3", "v3 = 33")
    edit(root / "src/run.sh", "echo 1", "echo 2")
    run(root, "git", "add", "src/run.sh")
    edit(root / "src/run.sh", "echo 2", "echo 3")
    (root / "src" / "old.py").unlink()
    (root / "src" / "new.py").write_text("n = 1\n")
    (root / "src" / "junk.pyc").write_bytes(b"\0")
    (root / ".git" / "info" / "exclude").write_text("*.pyc\n")
    (root / "notes.txt").write_text("mine\n")
    (root / "untracked.txt").write_text("mine\n")
    edit(root / "params.yaml", "x: 1.5", "x: 2.0")
    os.utime(root / "src" / "a.py", ns=(1_600_000_000_000_000_000,) * 2)
    status = git(root, "status", "--porcelain=v2")
    before = snapshot(root)
    time.sleep(0.02)

    done = ar(root, "next", "--from-worktree", "-m", "All of it\n\nBecause.")

    assert snapshot(root) == before
    assert git(root, "status", "--porcelain=v2") == status
    assert done.stderr.strip() == "Left out, since it lies outside the scope: notes.txt"
    rev = git(root, "for-each-ref", "refs/ar/queue", "--format=%(objectname)")
    changed = git(root, "diff", "--name-status", "HEAD", rev).splitlines()
    assert {line for line in changed if "dvc" not in line} == {
        "M\tparams.yaml",
        "M\tsrc/a.py",
        "A\tsrc/new.py",
        "D\tsrc/old.py",
        "M\tsrc/run.sh",
    }
    assert git(root, "show", f"{rev}:src/run.sh") == "echo 3"
    assert git(root, "show", "-s", "--format=%s", rev) == "All of it"


def test_nothing_to_propose_in_the_checkout(root: Path, campaign: Campaign) -> None:
    (root / "notes.txt").write_text("mine\n")
    with pytest.raises(BadProposal, match=r"outside it: notes.txt"):
        own.from_checkout(campaign.project, {}, "")


def test_links_and_huge_files_in_the_checkout_are_refused(root: Path, campaign: Campaign) -> None:
    (root / "src" / "link.py").symlink_to("/etc/passwd")
    proposal, _ = own.from_checkout(campaign.project, {}, "")
    with pytest.raises(BadProposal, match="is a link"):
        campaign.check(proposal)
    (root / "src" / "link.py").unlink()
    with (root / "src" / "huge.bin").open("wb") as stream:
        stream.truncate(3_000_000_000)
    with pytest.raises(BadProposal, match="is longer than"):
        own.from_checkout(campaign.project, {}, "")


# -- series -----------------------------------------------------------------------------------------------


def test_a_series_queues_what_applies_and_names_the_rest(root: Path, ar: Ar, tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    folder.mkdir()
    for number in range(1, 16):
        edit(root / "src/a.py", f"v{number} = {number}\n", f"v{number} = {number}00\n")
        patch = _diff(root)
        if number in (4, 9):
            patch = swap(patch.decode(), f"-v{number} = {number}\n", "-v = something else\n").encode()
        if number == 12:
            patch = (folder / "02-raise-v2.patch").read_bytes()
        (folder / f"{number:02}-raise-v{number}.patch").write_bytes(patch)
    (folder / "README").write_text("no patch\n")

    tried = ar(root, "next", "--series", str(folder), "--dry-run", check=False)
    assert tried.returncode == 3
    assert "12 of 15 would be queued, 3 refused" in tried.stdout
    assert git(root, "for-each-ref", "refs/ar") == ""
    done = ar(root, "next", "--series", str(folder), check=False)
    assert done.returncode == 3
    refused = [line for line in done.stdout.splitlines() if line.startswith("refused")]
    assert len(refused) == 3
    assert "04-raise-v4.patch: the patch does not apply: hunk 1 of src/a.py" in refused[0]
    assert "09-raise-v9.patch: the patch does not apply: hunk 1 of src/a.py" in refused[1]
    assert "12-raise-v12.patch: raise-v2-" in refused[2]
    assert "tried exactly this (queued)" in refused[2]
    assert done.stdout.splitlines()[-1] == "12 of 15 queued, 3 refused"
    titles = git(root, "for-each-ref", "refs/ar/queue", "--format=%(subject)").splitlines()
    assert len(titles) == 12
    assert "raise v15" in titles


def test_a_range_of_commits_is_a_series_too(root: Path, ar: Ar) -> None:
    run(root, "git", "checkout", "-qb", "ideas")
    for number in (3, 28):
        edit(root / "src/a.py", f"v{number} = {number}\n", f"v{number} = 0\n")
        commit(root, f"Lower v{number}\n\nIdea {number}.")
    run(root, "git", "checkout", "-q", "main")
    done = ar(root, "next", "--series", "main..ideas")
    assert "2 of 2 queued, 0 refused" in done.stdout
    revs = git(root, "for-each-ref", "refs/ar/queue", "--format=%(objectname)").split()
    # Each is a change of its own against the branch, not on top of the one before.
    assert all(len(git(root, "diff", "--name-only", "main", rev, "--", "src").split()) == 1 for rev in revs)
    bodies = {git(root, "show", "-s", "--format=%s|%b", rev).splitlines()[0] for rev in revs}
    assert bodies == {"Lower v3|Idea 3.", "Lower v28|Idea 28."}


@pytest.mark.parametrize("source", ["nope", "main", "main..nope", "--all..x", "main..main"])
def test_what_is_no_series_is_said(campaign: Campaign, source: str) -> None:
    with pytest.raises(NotFound):
        patches.series(campaign.repo, source)


# -- the command line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--set", "x=2", "--agent", "optuna"], "--agent asks an agent"),
        (["--from-worktree", "--idea", "wider"], "--idea asks an agent"),
        (["--series", "p", "--set", "x=2"], "do not go together"),
        (["-m", "why"], "-m goes with a change of your own"),
        (["--diff", "/nowhere.patch"], "No such file"),
        (["--idea", "wider"], "follows no idea"),
        (["--set", "x"], "does not set a parameter"),
    ],
)
def test_options_that_cannot_be_meant(root: Path, ar: Ar, args: list[str], says: str) -> None:
    done = ar(root, "next", *args, check=False)
    assert done.returncode == 2
    assert says in done.stderr
