"""Numbers count only if nothing but the scope differs from the baseline, whoever made the result."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from helpers import Ar, attempts_of, git, run, run_next

from ar.campaign.campaign import Campaign
from ar.changes import integrity
from ar.changes.proposal import prepare
from ar.git import refs
from ar.git.repo import Repo
from ar.history.attempts import find
from ar.history.ideas import Edit, Proposal
from ar.history.messages import Message
from ar.history.records import Label, Outcome, Status
from ar.judge.rule import Kind
from ar.project.params import ParamKey
from ar.project.program import Program
from ar.project.program_file import load
from ar.project.project import Project
from ar.project.scope import Scope

Changes = dict[str, bytes | None]


def measured_rev(root: Path) -> str:
    """A run of the baseline."""
    lines = git(root, "for-each-ref", "refs/exps", "--format=%(objectname) %(refname)").splitlines()
    return next(line.split()[0] for line in lines if "/baseline-s" in line)


def plant(root: Path, changes: Changes, name: str = "planted-000001") -> str:
    """A result as it might arrive from anywhere: that of a baseline's run, with files changed."""
    repo = Repo.open(root)
    rev = measured_rev(root)
    tree = repo.write_tree(rev, changes)
    message = Message(title="planted", agent="optuna", candidate="0123456789abcdef", seed=1)
    commit = repo.commit_tree(tree, [repo.head()], str(message))
    git(root, "update-ref", str(refs.ExperimentRef(repo.head(), name)), commit)
    return name


def flaw(root: Path, name: str, program: Program | None = None) -> str:
    program = program or load(root)
    campaign = Campaign(Project(Repo.open(root), program))
    history = campaign.history()
    return integrity.flaw(Project(campaign.repo, program), history, find(history, name)[0])


def relocked(root: Path, path: str, content: bytes) -> Changes:
    """A file with DVC's lock changed along, as a forger would."""
    rev = measured_rev(root)
    lock = yaml.safe_load(git(root, "show", f"{rev}:dvc.lock"))
    for out in lock["stages"]["fit"]["outs"]:
        if out["path"] == path:
            out["md5"] = hashlib.md5(content).hexdigest()
    return {path: content, "dvc.lock": yaml.safe_dump(lock).encode()}


def test_what_only_the_scope_changed_may_count(measured: Path) -> None:
    edited = (measured / "fit.awk").read_bytes() + b"# better\n"
    assert (
        flaw(measured, plant(measured, {"fit.awk": edited, "params.yaml": b"x: 2\ny: 0.03\nseed: 4\n"})) == ""
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dvc.yaml": b"stages: {}\n"}, "dvc.yaml differs from the baseline"),
        ({".dvc/config": b"[core]\n"}, ".dvc/config differs from the baseline"),
        ({"program.md": b"---\n---\n"}, "program.md differs from the baseline"),
        ({"json.py": b"print()\n"}, "json.py is not as in the baseline"),
        ({".dvcignore": None}, ".dvcignore is not as in the baseline"),
        ({"params.yaml": b"x: 1.5\ny: 0.03\nseed: 1\nz: 1\n"}, "z is 1, not None as in the baseline"),
        ({"params.yaml": b"x: ["}, "params.yaml cannot be read"),
        ({"m.json": b'{"val_loss": 0.0}'}, "m.json is not what the run wrote"),
    ],
)
def test_a_result_that_differs_outside_the_scope_is_refused(
    measured: Path, changes: Changes, reason: str
) -> None:
    assert reason in flaw(measured, plant(measured, changes))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"loss": 1.0}', "m.json has no 'val_loss'"),
        (b'{"val_loss": "0.1"}', "m.json:val_loss is not a finite number"),
    ],
)
def test_metrics_that_lack_something_are_refused(measured: Path, content: bytes, reason: str) -> None:
    assert flaw(measured, plant(measured, relocked(measured, "m.json", content))) == reason


def test_parameters_outside_the_scope_are_named(measured: Path) -> None:
    program = load(measured)
    narrow = replace(program, scope=Scope(("fit.awk",), (ParamKey("params.yaml", "x"),)))
    name = plant(measured, {"params.yaml": b"x: 2\ny: 0.5\nseed: 3\n"})
    assert flaw(measured, name, narrow) == "y is 0.5, not 0.03 as in the baseline"
    assert flaw(measured, name) == ""
    # The baseline's run that it is held against has another seed than the branch.
    repo = Repo.open(measured)
    runs = Campaign(Project(repo, narrow)).history().experiments
    result = next(one for one in runs if one.name == name)
    other = next(one for one in runs if one.seed == 2)
    assert "y is 0.5" in integrity.changed(Project(repo, narrow), result, other.rev)


def test_data_that_git_does_not_hold_are_compared_by_their_hash(measured: Path) -> None:
    def lock(md5: str) -> bytes:
        data = yaml.safe_load(git(measured, "show", f"{measured_rev(measured)}:dvc.lock"))
        data["stages"]["fit"]["deps"].append({"path": "corpus", "md5": md5})
        return yaml.safe_dump(data).encode()

    repo, program = Repo.open(measured), load(measured)
    baseline = repo.commit_tree(repo.write_tree(repo.head(), {"dvc.lock": lock("a" * 32)}), [], "baseline")
    history = Campaign(Project(repo, program)).history()
    some = history.attempts[0].experiments[0]
    for md5, words in (("a", ""), ("b", "corpus is not what the baseline was measured with")):
        tree = repo.write_tree(some.rev, {"dvc.lock": lock(md5 * 32)})
        result = replace(some, rev=repo.commit_tree(tree, [], "result"))
        assert integrity.changed(Project(repo, program), result, baseline) == words


def test_what_the_baselines_own_runs_rewrite_is_no_tampering(measured: Path) -> None:
    repo, program = Repo.open(measured), load(measured)
    some = Campaign(Project(repo, program)).history().attempts[0].experiments[0]

    def result(text: bytes) -> str:
        return repo.commit_tree(repo.write_tree(some.rev, {"report.txt": text}), [], "result")

    assert (
        integrity.changed(Project(repo, program), replace(some, rev=result(b"run 2")), result(b"run 1")) == ""
    )


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"refused": "train: probe failed: causality"}, "train: probe failed: causality"),
        ({"lacking": "m.json has no 'val_loss'"}, "m.json has no 'val_loss'"),
        ({"exit_code": 77}, ""),
        ({"reason": "ended: it changed fit.awk, which it depends on"}, ""),
        ({"reason": "failed to run: train, exited with 77: it left something"}, ""),
        ({"reason": "the run ended, but m.json has no 'val_loss'"}, ""),
    ],
)
def test_only_the_note_s_own_fields_say_what_a_run_was_refused_for(
    measured: Path, fields: dict[str, object], found: str
) -> None:
    name = plant(measured, {"m.json": b'{"crashed": 1}\n'})
    repo = Repo.open(measured)
    rev = find(Campaign(Project(repo, load(measured))).history(), name)[1].rev
    repo.update_note(rev, lambda note: {"status": "crashed", **fields})
    assert flaw(measured, name) == found


def test_what_was_judged_tampered_before_stays_so(measured: Path) -> None:
    """A note of a version that did not write down what a run was refused for."""
    name = plant(measured, {"m.json": b'{"crashed": 1}\n'})
    repo = Repo.open(measured)
    rev = find(Campaign(Project(repo, load(measured))).history(), name)[1].rev
    words = "ended: it changed fit.awk, which it depends on"
    verdict = {"decision": "discard", "reason": f"Refused: {words}.", "label": "tampered"}
    repo.update_note(rev, lambda note: {"status": "crashed", "reason": words, "verdict": verdict})
    assert find(Campaign(Project(repo, load(measured))).history(), name)[0].outcome is Outcome.TAMPERED


def test_a_change_whose_run_rewrites_what_is_fixed_is_tampered(measured: Path, ar: Ar) -> None:
    (measured / "notes.txt").write_text("fixed\n")
    run(measured, "git", "add", "notes.txt")
    run(measured, "git", "commit", "-qm", "Add something fixed")
    campaign = Campaign(Project.open(measured))
    edit = Edit("fit.awk", 'print "loss", loss', 'print "loss", loss - 9 > "notes.txt"')
    proposal = Proposal("Rewrite the notes", "Why not.", "optuna", edits=(edit,))
    _, name = campaign.submit(prepare(campaign.project, proposal, campaign.history()))
    run_next(measured)
    history = campaign.history()
    attempt, experiment = find(history, name)
    assert (experiment.status, bool(experiment.note and experiment.note.refused)) == (Status.CRASHED, True)
    action = campaign.step(history, attempt)
    assert action.kind is Kind.DISCARD
    assert (action.verdict.label, action.verdict.reason) == (
        Label.TAMPERED,
        "Refused: it changed notes.txt, which is none of its outputs.",
    )
    campaign.record(attempt, action.verdict)
    shown = attempts_of(measured)[0]
    assert (shown["outcome"], shown["value"]) == (Label.TAMPERED, None)
    assert "1 tampered" in ar(measured, "show").stdout
    assert "changed notes.txt" in ar(measured, "judge", name).stdout
    assert "changed notes.txt" in ar(measured, "promote", name, check=False).stderr
