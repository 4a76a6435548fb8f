"""What failed by something outside git is tried again, and a machine's fault never ends a campaign."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from helpers import Ar, attempts_of, commit, edit, git, run_next, runs_of, start
from histories import PROGRAM, attempt

from ar.campaign.campaign import Campaign
from ar.history.attempts import find
from ar.history.ideas import Proposal
from ar.history.messages import BASELINE_AGENT, Message
from ar.history.records import History, Outcome, Status
from ar.judge.evidence import guard_means
from ar.judge.ledger import ledger, measurements
from ar.project.project import Project
from ar.runs import faults
from ar.views.charts.progress import progress
from ar.views.summary import summary


def before(root: Path, command: str, sandbox: str = "off") -> None:
    """Put a command in front of the stage's own."""
    edit(root / "program.md", "budget:", f"sandbox: {sandbox}\nbudget:")
    edit(root / "dvc.yaml", "cmd: awk", f"cmd: {command} && awk")
    commit(root, "Another command")


def history_of(root: Path) -> History:
    return Campaign(Project.open(root)).history()


def test_a_mended_baseline_is_measured(project: Path, tmp_path: Path, ar: Ar) -> None:
    data = tmp_path / "data"
    before(project, f"test -e {data}")
    done = ar(project, "run", "-n", "0", "--plain", check=False)
    assert done.returncode == 2
    assert "the baseline itself does not run" in done.stderr
    data.touch()
    ar(project, "baseline", "--plain")
    now = history_of(project).now
    assert now
    seeds = [one.seed for one in measurements(Project.open(project).program, now.base) if one.measured]
    assert {1, 2} <= set(seeds)


DYING = """
from ar.runs import faults, worker
faults.pause = lambda message, tries: 0.0
made = worker.launcher_script
def script(repo):
    found = made(repo)
    text = found.read_text()
    assert text.count({old!r}) == 1
    dying = found.with_name("dying")
    dying.write_text(text.replace({old!r}, {new!r}))
    dying.chmod(0o700)
    return dying
worker.launcher_script = script
"""


@pytest.mark.parametrize(
    "victim", ["training", "launcher", "launcher at once", "launcher at its end", "launcher by itself"]
)
def test_a_baseline_that_is_killed_again_and_again_is_measured(
    project: Path, tmp_path: Path, victim: str
) -> None:
    count = tmp_path / "count"
    pid = "$PPID; sleep 9" if victim == "launcher" else "$$"
    kill = f'if test "$(cat {count} 2>/dev/null | wc -l)" -lt 4; then echo x >> {count}; kill -9 {pid}; fi'
    first = "from ar.runs import faults; faults.pause = lambda message, tries: 0.0"
    tries = f'(open("{count}", "a").write("x"), len(open("{count}").read()))[1]'
    if victim == "launcher at once":
        first = DYING.format(old="#!/bin/sh\n", new=f"#!/bin/sh\n{kill}\n")
    elif victim == "launcher at its end":
        last = f"{tries} > 4 or os.kill(os.getpid(), 9); os._exit(code)"
        first = DYING.format(old="os._exit(code)", new=last)
    elif victim == "launcher by itself":
        trips = (
            f"; take = it.snapshot.take; it.snapshot.take = lambda it: take(it) if {tries} > 4 else it[0/0]"
        )
        first = DYING.format(old="launcher as it", new=f"launcher as it{trips}")
    else:
        before(project, kill)
    campaign = Campaign(Project.open(project))
    name = campaign.measure_incumbent(campaign.history(), 1)
    run_next(project, first)
    ended = find(campaign.history(), name)[1]
    assert ended.status is Status.SUCCEEDED
    assert ended.note and ended.note.retried
    assert campaign.ledger(campaign.history()).spent == 1


def test_the_pauses_grow_and_a_change_has_one_second_try_only() -> None:
    change, baseline = str(Message("A change", agent="optuna")), str(Message("", agent=BASELINE_AGENT))
    assert [faults.pause(change, tries) for tries in (1, 2)] == [0.0, None]
    pauses = [faults.pause(baseline, tries) for tries in (1, 2, 3, 4, 100, 5000)]
    assert pauses == [0.0, 1.0, 2.0, 4.0, 20.0, 20.0]


def test_a_killed_baseline_can_be_stopped_between_two_tries(project: Path, ar: Ar) -> None:
    before(project, "kill -9 $$")
    loop = start(project, "run", "-n", "0", "--plain")
    assert loop.stdout
    for line in loop.stdout:
        if "tried again" in line:
            break
    loop.send_signal(signal.SIGINT)
    assert loop.wait(30) == 130
    assert {one["status"] for one in runs_of(project).values()} == {"queued"}


def test_a_change_that_timed_out_is_tried_again_on_demand(project: Path, ar: Ar) -> None:
    edit(project / "program.md", "scope: {files: [fit.awk], params: [x, y]}", "scope: {params: [x, y]}")
    before(project, "sleep 0.6")
    edit(project / "program.md", "timeout: 60s", "timeout: 0.2s")
    campaign = Campaign(Project.open(project))
    _, name = campaign.submit(campaign.check(Proposal("Try x", "", "optuna", params={"x": 2.0})))
    run_next(project)
    history = campaign.history()
    attempt = find(history, name)[0]
    campaign.record(attempt, campaign.step(history, attempt).verdict)
    assert history_of(project).attempts[0].outcome is Outcome.TIMED_OUT
    edit(project / "program.md", "timeout: 0.2s", "timeout: 60s")
    ar(project, "retry", name)
    assert history_of(project).attempts[0].outcome is Outcome.QUEUED
    run_next(project)
    [attempt] = history_of(project).attempts
    assert (attempt.outcome, attempt.value is not None) == (Outcome.OPEN, True)
    assert [one.status for one in attempt.experiments] == [Status.TIMED_OUT, Status.SUCCEEDED]
    again = ar(project, "retry", name, check=False)
    assert again.returncode == 2 and "no run" in again.stderr


@pytest.mark.slow
def test_kills_every_few_seconds_never_end_a_campaign(project: Path, ar: Ar) -> None:
    before(project, "sleep 6.5", sandbox="auto")
    loop = start(project, "run", "-n", "0", "--plain")
    until, kills = time.monotonic() + 60, 0
    while time.monotonic() < until:
        time.sleep(random.uniform(1, 5))
        assert loop.poll() is None
        for process in psutil.Process(loop.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "sleep 6.5" in " ".join(process.cmdline()):
                    process.kill()
                    kills += 1
    assert loop.wait(120) == 0
    ends = [one["status"] for one in runs_of(project).values()]
    assert ends and set(ends) == {"succeeded"} and kills
    assert git(project, "for-each-ref", "refs/ar") == "" and attempts_of(project)


def test_a_first_baseline_that_crashed_is_left_out_of_what_the_campaign_gained() -> None:
    crashed = replace(attempt(0, None, "baseline"), baseline="c" * 40)
    measured = attempt(1, 2.2, "baseline", runs=4)
    won = attempt(2, 2.1, "promoted", runs=4)
    history = History(head="a" * 40, incumbent=won.candidate, attempts=(crashed, measured, won), sigma=0.014)
    assert history.first is measured
    before = ledger(PROGRAM, history).first_guards
    assert before == guard_means(measurements(PROGRAM, measured.experiments)) != ()
    words = summary(history, PROGRAM, None)
    assert "2.2" in str(words) and "2.1" in str(words)
    drawn = json.dumps(progress(history, PROGRAM))
    assert crashed.name not in drawn and won.name in drawn
    assert replace(history, attempts=(crashed,)).first is crashed
