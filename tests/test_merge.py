"""What lies outside the scope has no way into the branch: a winner is looked at again before its merge, and
the merge itself has nothing of it, whoever planned it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, commit, git

from ar.campaign import promotion, rebase
from ar.campaign.campaign import Campaign
from ar.campaign.promotion import Promotion
from ar.errors import Tampered
from ar.git import refs
from ar.git.objects import TreeEntry
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.history.attempts import find
from ar.history.records import Attempt, History, Outcome
from ar.project.project import Project

WON = {"decision": "promote", "reason": "Much better.", "effect": -1.0, "runs": 9, "base_runs": 9, "z": 9.0}
BAD = b"---\nobjective: m.json:val_loss\nsandbox: off\n---\n"


def _forge(repo: Repo, name: str, files: dict[str, Any], trailers: str = "") -> str:
    """A winner of this machine's own, whose commit has these files, too."""
    head = repo.head()
    params = (repo.read(head, "params.yaml") or b"").replace(b"x: 1.5", b"x: 2.5")
    content = {"params.yaml": params, **files}
    text = f"Forged\n\nAr-Agent: search\nAr-Candidate: {name}\nAr-Seed: 1\n{trailers}"
    rev = repo.commit_tree(repo.write_tree(repo.tree(head), content), [head], text)
    repo.update_note(rev, lambda _: {"status": "succeeded", "verdict": WON})
    repo.update_refs((str(refs.ExperimentRef(head, name)), rev, ZERO))
    return rev


@pytest.fixture
def campaign(measured: Path) -> Campaign:
    _forge(Repo.open(measured), "forged", {"program.md": BAD})
    return Campaign(Project.open(measured))


def _winner(campaign: Campaign, name: str = "forged") -> tuple[History, Attempt]:
    history = campaign.history()
    attempt, _ = find(history, name)
    assert attempt.outcome is Outcome.WINNER
    return history, attempt


def _state(repo: Repo) -> tuple[str, str]:
    return git(repo.root, "for-each-ref", "refs/heads", "refs/tags"), git(repo.root, "status", "--porcelain")


@pytest.mark.parametrize("force", [False, True])
def test_a_promotion_looks_at_the_result_again(campaign: Campaign, force: bool) -> None:
    history, attempt = _winner(campaign)
    with pytest.raises(Tampered, match=r"program\.md"):
        promotion.plan(campaign.project, history, attempt, force=force)


def test_the_merge_itself_takes_nothing_outside_the_scope(campaign: Campaign) -> None:
    """Whatever has planned it; also where the branch moved on in what no stage reads."""
    history, attempt = _winner(campaign)
    ready = Promotion(attempt, attempt.first, attempt.first.seed, forced=True)
    merge = promotion.merge(campaign, history, ready, branch="review", tag="v1")
    assert set(campaign.repo.changed(history.head, merge)) == {"params.yaml"}
    merge, _ = promotion.merge_aside(campaign, history, ready)
    assert set(campaign.repo.changed(history.head, merge)) == {"params.yaml"}
    git(campaign.repo.root, "branch", "-D", campaign.repo.ahead().removeprefix("refs/heads/"))
    (campaign.repo.root / "README.md").write_text("Read me.\n")
    git(campaign.repo.root, "add", "README.md")
    commit(campaign.repo.root, "Read me")
    history, attempt = _winner(campaign)
    assert history.head != attempt.baseline
    merge = promotion.merge(campaign, history, replace(ready, attempt=attempt, experiment=attempt.first))
    assert set(campaign.repo.changed(history.head, merge)) == {"params.yaml"}
    assert git(campaign.repo.root, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    "files",
    [
        {"m.json": b'{"val_loss": 0.001}'},  # which is not what dvc.lock has
        {"fit.awk": TreeEntry("120000", "")},
    ],
)
def test_the_merge_itself_refuses_what_no_run_can_have_given(
    campaign: Campaign, files: dict[str, Any]
) -> None:
    link = campaign.repo.write_blob(b"/etc/passwd")
    files = {
        path: TreeEntry("120000", link) if isinstance(it, TreeEntry) else it for path, it in files.items()
    }
    _forge(campaign.repo, "odd", files)
    before = _state(campaign.repo)
    history, attempt = _winner(campaign, "odd")
    ready = Promotion(attempt, attempt.first, attempt.first.seed, forced=True)
    with pytest.raises(Tampered):
        promotion.merge(campaign, history, ready)
    assert _state(campaign.repo) == before


def test_by_hand_with_force_and_by_the_loop_nothing_is_merged(campaign: Campaign, ar: Ar) -> None:
    root, before = campaign.repo.root, _state(campaign.repo)
    for args in (("promote", "forged", "--force"), ("promote", "forged", "--force", "--branch", "review")):
        done = ar(root, *args, check=False)
        assert done.returncode == 2 and "program.md" in done.stderr
    ar(root, "run", "-n", "0", "--plain")
    assert _state(campaign.repo) == before
    assert find(campaign.history(), "forged")[0].outcome is Outcome.TAMPERED


def test_a_stack_does_not_take_it_along(campaign: Campaign) -> None:
    _forge(campaign.repo, "good", {})
    history = campaign.history()
    members = [find(history, name)[0] for name in ("good", "forged")]
    made = rebase.compose(campaign, history, members)
    assert made.change is not None
    assert set(campaign.repo.changed(history.head, made.change.tree)) == {"params.yaml"}


def test_what_was_measured_as_a_stack_is_looked_at_too(campaign: Campaign) -> None:
    _forge(campaign.repo, "stack", {"program.md": BAD}, "Ar-Stack: good other\n")
    history, attempt = _winner(campaign, "stack")
    assert attempt.stack
    with pytest.raises(Tampered, match=r"program\.md"):
        promotion.plan(campaign.project, history, attempt, force=True)
