"""Workers, trainings and heads of a remote's campaign are killed or stand still, and the remote vanishes for
a while: every experiment has one end, and nothing stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import Ar, allow, clone_of, share
from storms import Machine, check, storm


def over_workers(
    root: Path,
    ar: Ar,
    count: int,
    workers: int,
    jobs: int,
    strikes: int,
    away: float,
    pause: tuple[float, float],
) -> None:
    bare = share(root)
    clones = [clone_of(root, f"node{number}") for number in range(workers)]
    for clone in clones:
        allow(clone)

    def others() -> list[Machine]:
        return [Machine(clone, "worker") for clone in clones]

    names = storm(root, ar, count, ("--jobs", str(jobs)), others, strikes, away, pause)
    check(bare, [root, *clones], names, ar)


def test_a_storm_over_a_remotes_campaign_loses_nothing(
    slow_project: Path, ar: Ar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAY", "0.5")
    monkeypatch.setenv("AR_LEASE_SECONDS", "1.5")
    over_workers(slow_project, ar, count=7, workers=2, jobs=0, strikes=5, away=2, pause=(0.3, 1.2))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sixty_experiments_of_a_remotes_campaign_under_fire(
    slow_project: Path, ar: Ar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAY", "1.0")
    monkeypatch.setenv("AR_LEASE_SECONDS", "3")
    over_workers(slow_project, ar, count=60, workers=3, jobs=1, strikes=120, away=10, pause=(0.5, 3.0))
