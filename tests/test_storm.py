"""Workers, trainings and heads of a remote's campaign are killed or stand still, and the remote vanishes for
a while: every experiment has one end, and nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from helpers import Ar, allow, clone_of, commit, edit, git, names_of, run, runs_of, share
from victims import KINDS, check_nothing_left, processes_of

from ar.git.repo import Repo
from ar.history import exchange

LEFT = ("refs/ar/queue", "refs/ar/running", "refs/ar/leases", "refs/ar/finished")
MAY_END = (0, 2, 130, -signal.SIGKILL)  # 2: the remote was away when it started


class Machine:
    """One clone, and the `ar` that is at work in it, started again whenever it is gone."""

    def __init__(self, root: Path, *command: str) -> None:
        self.root = root
        self.command = command
        self.log = root.parent / f"{root.name}.log"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "ar", *self.command, "--remote", "origin", "--plain"]
            return subprocess.Popen(command, cwd=self.root, stdout=log, stderr=log, start_new_session=True)

    def find(self, kind: str) -> list[psutil.Process]:
        return list(processes_of(self.root, kind, self.process.pid))

    def look_after(self) -> None:
        """Start it again if it is gone."""
        code = self.process.poll()
        if code is not None:
            assert code in MAY_END, self.log.read_text()
            self.process = self._start()

    def end(self) -> None:
        """Twice, so that nothing new is begun and nothing waited for."""
        for _ in range(2):
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            time.sleep(0.2)
        self.process.wait(60)
        assert self.process.returncode in (*MAY_END, -signal.SIGTERM), self.log.read_text()


class Storm:
    """What happens to the machines.

    Args:
        lease: seconds that a lease stands for.
        hard: the random numbers; a seed makes the same storm only as far as the machine keeps the same time.
    """

    def __init__(self, machines: list[Machine], bare: Path, lease: float, seed: int) -> None:
        self.machines = machines
        self.bare = bare
        self.lease = lease
        self.chance = random.Random(seed)
        self.done = Counter[str]()
        self._stopped: list[tuple[float, psutil.Process]] = []
        self._outage: threading.Timer | None = None

    def strike(self) -> None:
        """Kill one process, or all of one machine, or let it stand still past its lease."""
        machine, kind = self.chance.choice(self.machines), self.chance.choice((*KINDS, "machine"))
        found = [one for it in KINDS for one in machine.find(it)] if kind == "machine" else machine.find(kind)
        if not found:
            return
        hit = found if kind == "machine" else [self.chance.choice(found)]
        stops = self.chance.random() < 0.3
        until = time.monotonic() + self.chance.uniform(1.5, 3) * self.lease
        for process in hit:
            with contextlib.suppress(psutil.Error):
                if stops:
                    process.suspend()
                    self._stopped.append((until, process))
                else:
                    process.kill()
        self.done[f"{'stopped' if stops else 'killed'} {kind}"] += 1

    def cut(self, seconds: float) -> None:
        """Let the remote vanish for a while."""
        away = self.bare.with_name("away.git")
        self.bare.rename(away)

        def come_back() -> None:
            for lock in (away / "refs").rglob("*.lock"):  # as whoever keeps a server that went down clears it
                lock.unlink()
            away.rename(self.bare)

        self._outage = threading.Timer(seconds, come_back)
        self._outage.start()
        self.done["remote away"] += 1

    def look_after(self, every: bool = False) -> None:
        """Let go on what stood still for long enough, and start again what is gone."""
        due = [it for it in self._stopped if every or it[0] < time.monotonic()]
        for one in due:
            with contextlib.suppress(psutil.Error):
                one[1].resume()
            self._stopped.remove(one)
        for machine in self.machines:
            machine.look_after()

    def __enter__(self) -> Storm:
        return self

    def __exit__(self, *_: object) -> None:
        """Let nothing outlive a test that fails."""
        for machine in self.machines:
            for process in [one for kind in KINDS for one in machine.find(kind)]:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            machine.process.wait()

    def clear_up(self) -> None:
        if self._outage is not None:
            self._outage.join()
        self.look_after(every=True)


def storm(
    root: Path, ar: Ar, count: int, workers: int, strikes: int, away: float, pause: tuple[float, float]
) -> None:
    seed = int(os.environ.get("AR_TEST_SEED") or random.randrange(10**6))
    print(f"AR_TEST_SEED={seed}")
    lease = float(os.environ["AR_LEASE_SECONDS"])
    bare = share(root)
    exchange.push(Repo.open(root), "origin")
    before = names_of(bare, "refs/exps")
    ar(root, "next", "-n", str(count))
    queued = names_of(root, "refs/ar/queue")
    assert len(queued) == count
    clones = [clone_of(root, f"node{number}") for number in range(workers)]
    for clone in clones:
        allow(clone)
    head = Machine(root, "run", "-n", "0", "--jobs", "1" if count > 20 else "0")
    machines = [head, *(Machine(clone, "worker") for clone in clones)]
    with Storm(machines, bare, lease, seed) as at:

        def has_ended() -> bool:
            """Whether all have, and nothing waits or runs."""
            with contextlib.suppress(AssertionError, OSError):  # while the remote is away
                done = set(queued) <= set(names_of(bare, "refs/exps"))
                left = git(bare, "for-each-ref", "refs/ar/queue", "refs/ar/running")
                return done and not left
            return False

        cut_at = at.chance.randrange(strikes // 3, 2 * strikes // 3)
        while not has_ended() and sum(at.done.values()) < strikes:
            time.sleep(at.chance.uniform(*pause))
            at.look_after()
            at.strike()
            if sum(at.done.values()) >= cut_at and not at.done["remote away"]:
                at.cut(away)
        if not at.done["remote away"]:
            at.cut(away)
        at.clear_up()
        print(dict(at.done))
        deadline = time.monotonic() + 40 + 15 * count
        while not (has_ended() and head.process.poll() == 0):
            assert time.monotonic() < deadline, [it.log.read_text()[-3000:] for it in machines]
            at.look_after()
            time.sleep(0.3)
        for machine in machines[1:]:
            machine.end()
        assert sum(at.done.values()) > 1
    check(bare, [root, *clones], before + queued, ar)


def check(bare: Path, clones: list[Path], names: list[str], ar: Ar) -> None:
    """Each has one end and one note, which all clones agree on, and nothing is left anywhere."""
    ended = names_of(bare, "refs/exps")
    assert set(names) <= set(ended)
    assert len(ended) == len(set(ended))
    assert git(bare, "for-each-ref", "refs/ar/queue", "refs/ar/running") == ""
    noted = Counter(
        line
        for ref in git(bare, "for-each-ref", "refs/ar/notes", "--format=%(refname)").split()
        for line in git(bare, "log", "--format=%b", ref).splitlines()
        if line.startswith("refs/exps/")
    )
    assert set(noted.values()) == {1}, noted
    told = []
    for clone in clones:
        ar(clone, "doctor", check=False)
        exchange.pull(Repo.open(clone), "origin")
        told.append({name: one["status"] for name, one in runs_of(clone).items()})
        assert git(clone, "for-each-ref", *LEFT) == ""
        check_nothing_left(clone)
        assert git(clone, "status", "--porcelain") == ""
    for clone in (bare, *clones):
        run(clone, "git", "fsck", "--connectivity-only", "--no-dangling")
    assert not list((bare / "refs").rglob("*.lock"))
    assert all(one == told[0] for one in told)
    assert set(told[0]) == set(ended)
    # Cancelled: what lost its holders thrice is given up.
    assert set(told[0].values()) <= {"succeeded", "crashed", "cancelled"}


@pytest.fixture
def slow_project(project: Path, ar: Ar) -> Path:
    """Runs that last as long as DELAY says, every change for the worse, and the baseline measured."""
    edit(
        project / "fit.awk",
        "(x - 3) ^ 2 + (log(y) - log(0.1)) ^ 2",
        "4 * (x - 1.5) ^ 2 + 4 * log(y / 0.03) ^ 2",
    )
    edit(project / "dvc.yaml", "awk -f", 'sleep "$DELAY" && awk -f')
    edit(project / "program.md", "budget:", "sandbox: {env: [DELAY]}\nbudget:")
    commit(project, "Take time")
    ar(project, "run", "-n", "0", "--plain", env={**os.environ, "DELAY": "0"})
    return project


def test_a_storm_over_a_remotes_campaign_loses_nothing(
    slow_project: Path, ar: Ar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAY", "0.5")
    monkeypatch.setenv("AR_LEASE_SECONDS", "1.5")
    storm(slow_project, ar, count=7, workers=2, strikes=5, away=2, pause=(0.3, 1.2))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sixty_experiments_of_a_remotes_campaign_under_fire(
    slow_project: Path, ar: Ar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAY", "1.0")
    monkeypatch.setenv("AR_LEASE_SECONDS", "3")
    storm(slow_project, ar, count=60, workers=3, strikes=120, away=10, pause=(0.5, 3.0))
