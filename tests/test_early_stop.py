"""A hopeless run is ended while it runs, by a curve that it writes itself."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest
from helpers import Ar, attempts_of, commit, edit, git, run, run_next, swap, wait_for

from ar.campaign.campaign import Campaign
from ar.errors import BadProgram
from ar.history import reader
from ar.history.attempts import find
from ar.history.ideas import Proposal
from ar.history.messages import Message
from ar.history.records import Attempt, Experiment, Status
from ar.judge.rule import Kind
from ar.project.program_file import parse
from ar.project.project import Project
from ar.runs import early_stop
from ar.runs.early_stop import incumbents_curve, read_inside

# A loss that falls to (x - 3)²; where x is 6, the second half would take longer than a run may.
FIT = """\
/^x:/ {x = $2}
/^seed:/ {seed = $2}
END {
  print "tokens,loss" > "loss.csv"
  for (i = 1; i <= 100; i++) {
    loss = (x - 3) ^ 2 + 5 / i + 0.01 * ((i * 7919 + seed) % 11)
    printf("%d,%.4f\\n", i, loss) > "loss.csv"
    fflush("loss.csv")
    if (x == 6 && i == 60) system("sleep SLOW")
  }
  printf("{\\"val_loss\\": %.6f}\\n", loss) > "m.json"
  printf("cost: 1\\n") > "c.yaml"
}
"""
EARLY_STOP = 'early_stop: {curve: "loss.csv:loss", x: tokens}\n'


@pytest.fixture
def curved(project: Path) -> Path:
    """The project with a loss curve, and its baseline measured once."""
    (project / "fit.awk").write_text(swap(FIT, "SLOW", "900"))
    pipeline = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(pipeline + "    plots:\n    - loss.csv: {cache: false}\n")
    edit(project / "program.md", "seed: seed", f"{EARLY_STOP}seed: seed")
    run(project, "dvc", "repro", "-q")
    commit(project, "Write a curve")
    campaign = Campaign(Project.open(project))
    campaign.measure_incumbent(campaign.history(), 1)
    run_next(project)
    return project


def tried(root: Path, x: float) -> tuple[Campaign, Attempt, Experiment]:
    campaign = Campaign(Project.open(root))
    _, name = campaign.submit(campaign.check(Proposal(f"x {x}", "", "optuna", params={"x": x})))
    run_next(root)
    return campaign, *find(campaign.history(), name)


def test_a_hopeless_run_is_cancelled_and_discarded(curved: Path, ar: Ar) -> None:
    campaign, attempt, ended = tried(curved, 6.0)
    assert ended.status is Status.CANCELLED
    words = "hopeless: at 55% of the run its loss had not come to where the incumbent was at 37%"
    assert ended.note and words in ended.note.reason
    action = campaign.step(campaign.history(), attempt)
    assert action.kind is Kind.DISCARD
    assert action.verdict.reason.startswith(f"A run was cancelled: {words}")
    campaign.record(attempt, action.verdict)
    attempts = attempts_of(curved)
    shown = next(one for one in attempts if one["name"] == attempt.name)
    assert (shown["outcome"], shown["value"]) == ("cancelled", None)
    assert "1 cancelled" in ar(curved, "show").stdout
    assert campaign.ledger(campaign.history()).spent == 2


def test_a_run_that_may_still_win_runs_to_its_end(curved: Path) -> None:
    assert tried(curved, 2.5)[2].status is Status.SUCCEEDED


def test_the_incumbent_s_curve_is_found_without_reading_the_history(
    curved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(reader, "read")
    project = Project.open(curved)
    head = project.repo.head()

    def curve(baseline: str, **fields: object) -> list[tuple[float, float]]:
        message = Message(**{"title": "x", "agent": "optuna", "seed": 1} | fields)  # type: ignore[arg-type]
        return incumbents_curve(project, baseline, str(message))

    assert [place for place, _ in curve(head)] == list(range(1, 101))
    assert curve(head, seed=2) == curve(head, rung="d8") == curve(head, agent="baseline") == []
    assert curve(git(curved, "rev-parse", "HEAD~1")) == []


def test_a_commit_that_no_stage_reads_keeps_the_incumbent_s_curve(curved: Path) -> None:
    message = str(Message(title="x", agent="optuna", seed=1))
    before = git(curved, "rev-parse", "HEAD")
    (curved / "README.md").write_text("What this is.\n")
    commit(curved, "Explain it")
    for baseline in (before, git(curved, "rev-parse", "HEAD")):
        assert len(incumbents_curve(Project.open(curved), baseline, message)) == 100


@pytest.mark.slow
def test_without_early_stop_nothing_is_ended(curved: Path) -> None:
    (curved / "fit.awk").write_text(swap(FIT, "SLOW", "4"))
    edit(curved / "program.md", EARLY_STOP, "")
    commit(curved, "Switch it off")
    campaign = Campaign(Project.open(curved))
    campaign.measure_incumbent(campaign.history(), 1)
    run_next(curved)
    assert tried(curved, 6.0)[2].status is Status.SUCCEEDED


def test_only_a_fresh_plain_file_inside_is_read(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    root.mkdir()
    began = time.time_ns() - 10**9
    (tmp_path / "secret").write_text("1,2\n")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    (root / "plain").write_text("1,2\n")
    assert read_inside(root, "plain", began) == b"1,2\n"
    for file in ("link", "folder/secret", "../secret", "pipe", "missing", "."):
        assert read_inside(root, file, began) == b""
    assert read_inside(root, "plain", time.time_ns() + 10**9) == b""


def test_a_curve_that_takes_long_to_read_is_looked_at_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shares the machine with the training that it looks at."""
    program = parse(f"---\nobjective: m.json:loss\n{EARLY_STOP}---\n")
    looks: list[str] = []
    monkeypatch.setattr(early_stop, "INTERVAL", 0.001)
    monkeypatch.setattr(early_stop, "read_inside", lambda root, file, since: looks.append(file) or b"")
    monkeypatch.setattr(time, "thread_time", itertools.count(step=1000).__next__)
    with early_stop.curve_watch(tmp_path, program.early_stop, [(1.0, 1.0)], looks.append):
        wait_for(lambda: looks)
        time.sleep(0.05)
    assert looks == ["loss.csv"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{curve: 'loss.csv:loss'}", "early_stop.x is missing"),
        ("{curve: loss.csv, x: step}", "should name file and key"),
        ("{curve: 'loss.json:loss', x: step}", "not in a .csv or .tsv file"),
        ("{curve: 'loss.csv:loss', x: step, way: up}", "unknown key 'early_stop.way'"),
        ("{curve: 'loss.csv:loss', x: step, direction: up}", "direction"),
        ("{curve: '../loss.csv:loss', x: step}", "inside the project"),
    ],
)
def test_what_program_md_may_not_say(text: str, words: str) -> None:
    with pytest.raises(BadProgram, match=words):
        parse(f"---\nobjective: m.json:loss\nearly_stop: {text}\n---\n")


def test_what_it_may_say() -> None:
    text = "{curve: 'a/loss.tsv:acc', x: step, direction: maximize}"
    found = parse(f"---\nobjective: m.json:loss\nearly_stop: {text}\n---\n").early_stop
    assert found and (str(found.curve), found.curve.direction, found.x) == (
        "a/loss.tsv:acc",
        "maximize",
        "step",
    )
    assert parse("---\nobjective: m.json:loss\n---\n").early_stop is None


def test_the_doctor_looks_for_the_curve(curved: Path, ar: Ar) -> None:
    assert "by loss.csv:loss" in ar(curved, "doctor", check=False).stdout
    edit(curved / "program.md", "loss.csv:loss", "lost.csv:loss")
    assert "no stage declares lost.csv" in ar(curved, "doctor", check=False).stdout
