"""Whatever is killed, nothing is lost, nothing counts twice and nothing stays behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers import Ar, commit, edit, git, names_of, run, runs_of
from victims import KINDS, check_nothing_left, processes_of


class Campaign:
    """A campaign under fire: `ar run` in a project, started again whenever it ends too early."""

    def __init__(self, root: Path, jobs: int) -> None:
        self.root = root
        self.jobs = jobs
        self.kills: list[str] = []
        self.output = ""
        self.loop = self._start()

    def _start(self) -> subprocess.Popen[str]:
        self.log = (self.root.parent / f"loop-{len(self.kills)}-{time.monotonic_ns()}.log").open("w+")
        return subprocess.Popen(
            [sys.executable, "-m", "ar", "run", "-n", "0", "--plain", "--jobs", str(self.jobs)],
            cwd=self.root,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def waiting(self) -> int:
        return len(git(self.root, "for-each-ref", "refs/ar", "--format=%(refname)").split())

    def kill(self, victim: str) -> bool:
        """Kill one process of a kind with SIGKILL. False if there is none."""
        candidates = list(processes_of(self.root, victim, self.loop.pid))
        if not candidates:
            return False
        try:
            random.choice(candidates).kill()
        except psutil.Error:
            return False
        self.kills.append(victim)
        return True

    def look_after(self) -> None:
        """Start the loop again if it is gone and there is work left."""
        code = self.loop.poll()
        if code is not None:
            assert code in (0, -signal.SIGKILL), self.printed()
            if self.waiting():
                self.loop = self._start()

    def printed(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def finish(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.waiting() or self.loop.poll() is None:
            assert time.monotonic() < deadline, f"still at work after {self.kills}: {self.printed()}"
            self.look_after()
            time.sleep(0.2)
        assert self.loop.returncode in (0, -signal.SIGKILL), self.printed()


def prepare(root: Path, ar: Ar) -> None:
    """Runs that last as long as DELAY says, no change better than another, and the baseline measured."""
    edit(root / "fit.awk", "loss = (x - 3) ^ 2 + (log(y) - log(0.1)) ^ 2", "loss = 1")
    edit(root / "dvc.yaml", "awk -f", 'sleep "$DELAY" && awk -f')
    edit(root / "program.md", "budget:", "sandbox: {env: [DELAY]}\nbudget:")
    commit(root, "Take time")
    ar(root, "run", "-n", "0", "--plain", env={**os.environ, "DELAY": "0"})


def check(root: Path, ar: Ar, queued: list[str]) -> None:
    """Every queued experiment has exactly one outcome, and nothing is left."""
    ended = names_of(root, "refs/exps")
    assert len(ended) == len(set(ended))
    assert sorted(set(queued) - set(ended)) == []
    runs = runs_of(root)
    # Cancelled: what had its worker killed twice does not come back.
    assert {item["status"] for item in runs.values()} <= {"succeeded", "crashed", "cancelled"}
    assert set(runs) == set(ended)
    noted = {line.split()[1] for line in git(root, "notes", "--ref=ar", "list").splitlines()}
    assert set(git(root, "for-each-ref", "refs/exps", "--format=%(objectname)").split()) <= noted
    assert git(root, "for-each-ref", "refs/ar") == ""
    check_nothing_left(root)
    fsck = run(root, "git", "fsck", "--strict", "--no-dangling")
    assert "missing" not in fsck.stdout + fsck.stderr
    shown = run(root, "dvc", "exp", "show", "--json").stdout
    assert all(name in shown for name in ended if not name.startswith("baseline"))
    assert "Queued" not in run(root, "dvc", "queue", "status").stdout
    assert git(root, "status", "--porcelain") == ""


def storm(root: Path, ar: Ar, count: int, kills: int, pause: tuple[float, float], seconds: float) -> None:
    seed = int(os.environ.get("AR_TEST_SEED") or random.randrange(10**6))
    print(f"AR_TEST_SEED={seed}")
    random.seed(seed)
    ar(root, "next", "-n", str(count))
    queued = names_of(root, "refs/ar/queue")
    assert len(queued) == count
    campaign = Campaign(root, jobs=2)
    while campaign.waiting() and len(campaign.kills) < kills:
        ended, since = len(names_of(root, "refs/exps")), time.monotonic()
        time.sleep(random.uniform(*pause))
        # On a slow machine nothing would ever end between two kills.
        while len(names_of(root, "refs/exps")) == ended and time.monotonic() - since < 5 * pause[1]:
            campaign.look_after()
            time.sleep(random.uniform(0.1, 0.4))
        for victim in random.sample(KINDS, len(KINDS)):  # not every kind is there at any time
            if campaign.kill(victim):
                break
        campaign.look_after()
    print("killed", campaign.kills)
    campaign.finish(seconds)
    assert campaign.kills
    ar(root, "doctor")
    check(root, ar, queued)


def test_a_few_kills_lose_nothing(project: Path, ar: Ar, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(project, ar)
    monkeypatch.setenv("DELAY", "1.0")
    storm(project, ar, count=6, kills=4, pause=(0.3, 1.0), seconds=100)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_forty_experiments_under_fire(project: Path, ar: Ar, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(project, ar)
    monkeypatch.setenv("DELAY", "1.0")
    storm(project, ar, count=40, kills=200, pause=(1.0, 4.0), seconds=600)
