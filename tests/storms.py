"""Storms over a campaign that a remote has: what happens to its machines, and what must have come of it."""

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import psutil
from helpers import Ar, git, names_of, run, runs_of
from victims import KINDS, check_nothing_left, processes_of

from ar.git.repo import Repo
from ar.history import exchange

LEFT = ("refs/ar/queue", "refs/ar/running", "refs/ar/leases", "refs/ar/finished")
MAY_END = (0, 2, 130, -signal.SIGKILL)  # 2: the remote was away when it started


class Place(Protocol):
    """Where processes can be struck. `machine` is the kind that stands for all of one machine's."""

    kinds: Sequence[str]

    def find(self, kind: str) -> list[psutil.Process]: ...

    def look_after(self) -> None:
        """Start again what is gone."""

    def end(self) -> None:
        """Begin nothing new, and wait for nothing."""

    def said(self) -> str: ...


class Machine:
    """One clone, and the `ar` that is at work in it, started again whenever it is gone."""

    kinds: Sequence[str] = (*KINDS, "machine")

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
        if kind == "machine":
            return [one for it in KINDS for one in self.find(it)]
        return list(processes_of(self.root, kind, self.process.pid))

    def look_after(self) -> None:
        code = self.process.poll()
        if code is not None:
            assert code in MAY_END, self.said()
            self.process = self._start()

    def end(self) -> None:
        for _ in range(2):
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            time.sleep(0.2)
        self.process.wait(60)
        assert self.process.returncode in (*MAY_END, -signal.SIGTERM), self.said()

    def said(self) -> str:
        return self.log.read_text()


class Storm:
    """What happens to the places.

    Args:
        lease: seconds that a lease stands for.
        seed: of the random numbers; it makes the same storm only as far as the machine keeps the same time.
    """

    def __init__(self, places: Sequence[Place], bare: Path, lease: float, seed: int) -> None:
        self.places = places
        self.bare = bare
        self.lease = lease
        self.chance = random.Random(seed)
        self.done = Counter[str]()
        self._stopped: list[tuple[float, psutil.Process]] = []
        self._outage: threading.Timer | None = None

    def rage(self, over: Callable[[], bool], strikes: int, away: float, pause: tuple[float, float]) -> None:
        """Strike until so many strikes have been made, or all is over; once let the remote vanish.

        Args:
            away: seconds for which it does.
            pause: the least and the most seconds between two strikes.
        """
        cut_at = self.chance.randrange(strikes // 3, 2 * strikes // 3)
        while not over() and self.done.total() < strikes:
            time.sleep(self.chance.uniform(*pause))
            self.look_after()
            self.strike()
            if self.done.total() >= cut_at and not self.done["remote away"]:
                self.cut(away)
        if not self.done["remote away"]:
            self.cut(away)
        if self._outage is not None:
            self._outage.join()
        self.look_after(every=True)
        print(dict(self.done))

    def strike(self) -> None:
        """Kill one process, or all of one machine, or let it stand still past its lease."""
        place = self.chance.choice(self.places)
        kind = self.chance.choice(place.kinds)
        if not (found := place.find(kind)):
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
        for place in self.places:
            place.look_after()

    def await_end(self, over: Callable[[], bool], seconds: float) -> None:
        """Wait for what is to come of it, with everything in order."""
        deadline = time.monotonic() + seconds
        while not over():
            assert time.monotonic() < deadline, [it.said()[-3000:] for it in self.places]
            self.look_after()
            time.sleep(0.3)

    def __enter__(self) -> Storm:
        return self

    def __exit__(self, *_: object) -> None:
        """Let nothing outlive a test that fails."""
        for place in self.places:
            for process in [one for kind in place.kinds for one in place.find(kind)]:
                with contextlib.suppress(psutil.Error):
                    process.kill()


def storm(
    root: Path,
    ar: Ar,
    count: int,
    head: Sequence[str],
    others: Callable[[], Sequence[Place]],
    strikes: int,
    away: float,
    pause: tuple[float, float],
) -> list[str]:
    """Queue experiments on a shared project, and strike those who work on them. Returns the names of all that
    are to be there afterwards.

    Args:
        head: what the `ar run` of the project is told.
        others: has those work who do so beside it.
    """
    seed = int(os.environ.get("AR_TEST_SEED") or random.randrange(10**6))
    print(f"AR_TEST_SEED={seed}")
    bare = Path(git(root, "remote", "get-url", "origin"))
    exchange.push(Repo.open(root), "origin")
    before = names_of(bare, "refs/exps")
    ar(root, "next", "-n", str(count))
    queued = names_of(root, "refs/ar/queue")
    assert len(queued) == count
    leader = Machine(root, "run", "-n", "0", *head)
    with Storm([leader, *others()], bare, float(os.environ["AR_LEASE_SECONDS"]), seed) as at:
        at.rage(lambda: _has_ended(bare, queued), strikes, away, pause)
        at.await_end(lambda: _has_ended(bare, queued) and leader.process.poll() == 0, 40 + 15 * count)
        for place in at.places[1:]:
            place.end()
        assert at.done.total() > 1
    return before + queued


def _has_ended(bare: Path, names: Sequence[str]) -> bool:
    """Whether all have, and nothing waits or runs."""
    with contextlib.suppress(AssertionError, OSError):  # while the remote is away
        left = git(bare, "for-each-ref", "refs/ar/queue", "refs/ar/running")
        return set(names) <= set(names_of(bare, "refs/exps")) and not left
    return False


def check(bare: Path, clones: Sequence[Path], names: Sequence[str], ar: Ar) -> None:
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
