"""A fault of the machine's costs a second try; a crash of the experiment's own costs the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import Ar, commit, edit, git, run_next

from ar.campaign.campaign import Campaign
from ar.changes import integrity
from ar.history.attempts import find
from ar.history.ideas import Proposal
from ar.history.records import Decision, Experiment, Label, Outcome, Status
from ar.project.project import Project
from ar.runs import faults


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("OSError: [Errno 28] No space left on device: 'x'", "the disk was full"),
        ("torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable", "the GPU"),
        ("RuntimeError: No CUDA GPUs are available", "the GPU was not available"),
        ("CUDA error: uncorrectable ECC error encountered", "the GPU was not available"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB", ""),
        ("RuntimeError: CUDA error: device-side assert triggered", ""),
        ("MemoryError", ""),
        ("Killed", ""),
        ("", ""),
        ("No space left on device\n" + "and then it went on\n" * 30, ""),
    ],
)
def test_what_a_log_says_of_the_machine(text: str, fault: str) -> None:
    assert faults.said(text).startswith(fault)
    assert bool(faults.said(text)) is bool(fault)


def run_one(root: Path, command: str, sandbox: str = "off", first: str = "") -> Experiment:
    """One candidate's run, with a command put in front of the stage's."""
    edit(root / "program.md", "budget:", f"sandbox: {{kind: {sandbox}}}\nbudget:")
    edit(root / "dvc.yaml", "cmd: awk", f"cmd: {command} && awk")
    commit(root, "Another command")
    campaign = Campaign(Project.open(root))
    _, name = campaign.submit(campaign.check(Proposal("Try x", "", "optuna", params={"x": 2.0})))
    run_next(root, first)
    return find(campaign.history(), name)[1]


def test_a_run_killed_from_outside_is_tried_once_more(project: Path, tmp_path: Path, ar: Ar) -> None:
    mark = tmp_path / "mark"
    ended = run_one(project, f"if test ! -e {mark}; then touch {mark}; kill -9 $$; fi")
    assert ended.status is Status.SUCCEEDED
    assert ended.note and ended.note.retried == "it was killed from outside (SIGKILL)"
    assert "after a first try in which it was killed" in ar(project, "log", ended.name).stdout
    assert git(project, "for-each-ref", "refs/ar") == ""


def test_a_fault_that_comes_again_is_a_crash(project: Path) -> None:
    ended = run_one(project, "kill -9 $$", sandbox="auto")
    assert ended.status is Status.CRASHED
    assert ended.note and ended.note.retried == "it was killed from outside (SIGKILL)"
    campaign = Campaign(Project.open(project))
    history = campaign.history()
    ledger = campaign.ledger(history, find(history, ended.name)[0])
    assert (ledger.spent, history.sigma) == (1, None)
    assert ledger.candidate and [one.crashed for one in ledger.candidate.runs] == [True]


def test_a_crash_of_its_own_is_not_tried_again(project: Path, tmp_path: Path) -> None:
    count = tmp_path / "count"
    ended = run_one(project, f"echo x >> {count} && exit 3")
    assert ended.status is Status.CRASHED
    assert ended.note and ended.note.retried == ""
    assert count.read_text() == "x\n"


# The launcher on a disk that fills up while the stage runs, whoever fills it.
FULL_DISK = """
from pathlib import Path
import sys
import ar
from ar.runs import worker

script = Path.cwd() / ".git" / "launcher"
script.write_text(f'''#!{sys.executable}
import sys
sys.path.append({str(Path(ar.__file__).parents[1])!r})
from ar.stage import launcher, limits
told = iter([10**9])
limits.free = lambda folder: next(told, 10**6)
sys.exit(launcher.main(sys.argv))
''')
script.chmod(0o700)
worker.launcher_script = lambda repo: script
"""


def test_a_full_disk_is_a_fault_of_the_machine_s_and_no_tampering(project: Path) -> None:
    ended = run_one(project, "sleep 5", first=FULL_DISK)  # it lasts until somebody has looked
    assert ended.status is Status.CRASHED
    assert ended.note and ended.note.retried
    assert ended.note.refused == ""
    campaign = Campaign(Project.open(project))
    history = campaign.history()
    assert integrity.flaw(campaign.project, history, find(history, ended.name)[0]) == ""


def test_what_the_run_s_own_checks_say_is_what_it_is_refused_for(project: Path) -> None:
    ended = run_one(project, "(echo probe failed && exit 77)")
    assert ended.status is Status.CRASHED
    assert ended.note and (ended.note.exit_code, ended.note.refused) == (77, "probe failed")


def test_what_a_finished_run_s_metrics_lack_is_noted(project: Path) -> None:
    edit(project / "fit.awk", "val_loss", "another")
    ended = run_one(project, "true")
    assert ended.status is Status.CRASHED
    assert ended.note and (ended.note.exit_code, ended.note.lacking) == (0, "m.json has no 'val_loss'")


@pytest.mark.parametrize("value", ["NaN", "-nan", "Infinity", '"inf"'])
def test_a_loss_that_is_no_number_has_diverged_and_is_no_tampering(project: Path, value: str) -> None:
    edit(
        project / "fit.awk",
        '\\"val_loss\\": %.6f}\\n", loss',
        f'\\"val_loss\\": %s}}\\n", {json.dumps(value)}',
    )
    ended = run_one(project, "true")
    assert (ended.status, ended.note and ended.note.lacking) == (Status.DIVERGED, "")
    campaign = Campaign(Project.open(project))
    history = campaign.history()
    attempt = find(history, ended.name)[0]
    assert attempt.outcome is Outcome.DIVERGED
    action = campaign.step(history, attempt)
    assert (action.verdict.decision, action.verdict.label) == (Decision.DISCARD, Label.PLAIN)
    assert action.verdict.reason.startswith("A run diverged: m.json:val_loss is")
