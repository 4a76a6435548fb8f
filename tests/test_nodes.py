"""Which machines are set aside, as truth tables; and what that does to evidence, to a worker and to what
`ar doctor` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from histories import GUARD, OBJECTIVE, PROGRAM

from ar.campaign import doctor, newcomers
from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine
from ar.git.repo import Repo
from ar.history.attempts import grouped
from ar.history.device import Device
from ar.history.messages import BASELINE_AGENT
from ar.history.records import Experiment, History, Note, Status
from ar.judge.ledger import ledger
from ar.judge.nodes import Fault, set_aside
from ar.project.project import Project
from ar.runs import devices
from ar.runs.events import Event, EventKind
from ar.runs.worker import Worker

LUCK = (0.0, 0.01, -0.01, 0.02, -0.02, 0.01, -0.01, 0.0)  # of each seed


def runs(
    host: str, seeds: Sequence[int], *, name: str = "base", shift: float = 0.0, work: float = 1.0,
    spread: float = 0.1, cpu: str = "Alpha 1", when: float = 1.0,
) -> list[Experiment]:  # fmt: skip
    """Runs on one machine of the incumbent, or of a change."""
    return [
        Experiment(
            name=f"{name}-{host}-s{seed}-{when}",
            rev=name,
            baseline="b",
            title=name,
            status=Status.SUCCEEDED,
            agent=BASELINE_AGENT if name == "base" else "optuna",
            candidate=name,
            seed=seed,
            created=when,
            metrics={str(OBJECTIVE): 2.3 + shift + LUCK[seed], str(GUARD): 20.0},
            note=Note(Status.SUCCEEDED, finished=when, device=Device(host, cpu, work=work, spread=spread)),
        )
        for seed in seeds
    ]


def history(*parts: Sequence[Experiment]) -> History:
    return History("b", "base", grouped([run for part in parts for run in part], PROGRAM, set()).attempts)


def faults(*parts: Sequence[Experiment], here: Device | None = None) -> dict[str, Fault]:
    return {one.host: one.fault for one in set_aside(PROGRAM, history(*parts), here)}


# What the noise is known by.
KNOWN = [
    one
    for k in range(6)
    for seed in range(2)
    for one in runs("one", [seed], name=f"k{k}", shift=0.1 * k + 0.001 * (k * seed % 4))
]


@pytest.mark.parametrize(
    ("works", "aside"),
    [
        ({"one": 9.0}, {}),  # nothing to hold it against
        ({"one": 1.0, "two": 1.4}, {}),
        ({"one": 1.0, "two": 1.6}, {"two": Fault.SLOW}),
        ({"one": 1.6, "two": 1.0}, {"one": Fault.SLOW}),  # whichever was there first
        ({"one": 1.0, "two": 1.1, "three": 1.8}, {"three": Fault.SLOW}),
        ({"one": 1.0, "two": 0.0}, {}),  # not timed
    ],
)
def test_a_machine_is_slow_by_the_others_of_its_kind(
    works: dict[str, float], aside: dict[str, Fault]
) -> None:
    assert faults(*(runs(host, [1], work=work) for host, work in works.items())) == aside


def test_another_kind_of_machine_is_not_slow() -> None:
    assert not faults(runs("one", [1]), runs("two", [1], work=3.0, cpu="Beta 2"))


@pytest.mark.parametrize(
    ("spreads", "aside"),
    [
        ({"one": 0.1, "two": 0.5}, {}),
        ({"one": 0.1, "two": 0.6}, {"two": Fault.UNSTEADY}),
        ({"one": 0.7, "two": 0.6}, {}),  # all are: so is this kind of machine
        ({"one": 2.0}, {}),
    ],
)
def test_a_machine_is_unsteady_where_the_others_are_not(
    spreads: dict[str, float], aside: dict[str, Fault]
) -> None:
    assert faults(*(runs(host, [1], spread=spread) for host, spread in spreads.items())) == aside


@pytest.mark.parametrize(
    ("shift", "seeds", "aside"),
    [
        (0.0, [0, 1], {}),
        (0.002, [0, 1], {}),
        (0.3, [0, 1], {"two": Fault.DIFFERS}),
        (-0.3, [1], {"two": Fault.DIFFERS}),
        (0.3, [5, 6], {}),  # no seed that another has run
    ],
)
def test_a_machine_differs_by_the_incumbents_runs_of_the_same_seeds(
    shift: float, seeds: list[int], aside: dict[str, Fault]
) -> None:
    assert faults(KNOWN, runs("one", range(4)), runs("two", seeds, shift=shift)) == aside


def test_what_a_machine_differs_by_is_not_told_without_knowing_the_noise() -> None:
    assert not faults(runs("one", [1]), runs("two", [1], shift=0.3))


def test_the_latest_runs_say_how_a_machine_is() -> None:
    mended = [runs("two", [1], shift=0.0, when=10.0 + k) for k in range(5)]
    assert not faults(KNOWN, runs("one", range(4)), runs("two", [0, 1], shift=0.3), *mended)
    fast = [runs("two", [1], when=10.0 + k) for k in range(5)]
    assert not faults(runs("one", [1]), runs("two", [1], work=9.0), *fast)


def test_a_machine_that_begins_is_held_against_what_is_known() -> None:
    here = Device("new", "Alpha 1", work=2.0)
    assert faults(runs("one", [1]), here=here) == {"new": Fault.SLOW}
    assert not faults(runs("one", [1]), here=replace(here, work=1.1))
    assert not faults(here=here)


def test_runs_of_a_machine_that_is_set_aside_are_no_evidence_but_spend_the_budget() -> None:
    told = history(KNOWN, runs("one", range(4)), runs("two", range(2, 8), work=3.0))
    seen = ledger(PROGRAM, told)
    assert sorted(run.seed or 0 for run in seen.base) == [0, 1, 2, 3]
    assert seen.spent == len(told.experiments)
    assert ledger(PROGRAM, history(KNOWN, runs("one", range(4)))).base == seen.base


def test_doctor_names_the_machine() -> None:
    told = history(runs("one", [1]), runs("two", [1], work=3.0))
    (check,) = doctor.machines(PROGRAM, told)
    assert (check.ok, check.required) == (False, False)
    assert "two" in check.detail and "Alpha 1" in check.detail
    assert doctor.machines(PROGRAM, history(runs("one", [1]))) == []


def test_a_worker_of_a_remotes_queue_on_such_a_machine_takes_nothing_but_an_aa_check(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(Project.open(project))
    repo = Repo.open(project)
    here = devices.of_slot("")
    monkeypatch.setattr(devices, "fixed_work", lambda: (9.0, 0.1))
    name = campaign.measure_incumbent(campaign.history(), 1)
    said: list[Event] = []
    worker = Worker(repo, report=said.append)
    worker.queue.remote = "origin"  # as if there were others
    monkeypatch.setattr("ar.history.reader.read", lambda *_: others)
    others = history(runs("another", [1], cpu=here.cpu))
    assert not worker.run_next()
    assert [event.kind for event in said] == [EventKind.PASSED]
    assert "set aside" in said[0].reason
    monkeypatch.undo()
    assert campaign.queue.withdraw(name, repo.refs("refs/ar/queue")[f"refs/ar/queue/{name}"])


CHANGE = runs("two", [0], name="change")
ASKED = [replace(one, only_at="two") for one in runs("three", [1])]


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ([CHANGE], []),  # nothing to hold it against
        ([CHANGE, runs("one", [1, 0])], [("two", 0)]),
        ([CHANGE, runs("one", [1, 0], cpu="Beta 2")], []),  # of another kind
        ([CHANGE, runs("one", [1, 0]), runs("two", [1])], []),
        (
            [CHANGE, runs("one", [1]), [replace(one, only_at="two") for one in runs("three", [1])]],
            [],
        ),  # asked
    ],
)
def test_a_new_machine_is_to_run_the_incumbent(
    parts: list[Sequence[Experiment]], wanted: list[tuple[str, int]]
) -> None:
    assert newcomers.lacking(history(*parts)) == wanted


class FakeEngine:
    """What a policy asks of an engine, and what it had it do."""

    def __init__(self) -> None:
        self.asked: list[tuple[int | None, str]] = []
        self.withdrawn: list[str] = []
        self.waiting: list[Experiment] = []
        self.said: list[str] = []
        self.campaign = self.queue = self
        self.program = PROGRAM

    def measure_incumbent(self, history: History, seed: int | None, *, aa: bool, only_at: str) -> str:
        assert aa
        self.asked.append((seed, only_at))
        return "name"

    def withdraw(self, name: str, rev: str) -> None:
        self.withdrawn.append(name)

    def pending(self, history: History) -> list[Experiment]:
        return self.waiting

    def queued(self, name: str) -> None: ...

    def event(self, words: str) -> None:
        self.said.append(words)


def test_a_new_machine_that_is_gone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    policy, fake, known = newcomers.Newcomers(), FakeEngine(), history(CHANGE, runs("one", [0]))
    engine = cast("Engine", fake)
    assert not policy.check(engine, known, room=0)
    assert policy.check(engine, known, room=1)
    assert fake.asked == [(0, "two")]
    [check] = [replace(one, only_at="two", status=Status.QUEUED) for one in runs("two", [0])]
    fake.waiting = [check, replace(check, only_at="")]
    assert not policy.check(engine, history(CHANGE), room=1)
    fake.waiting = [check]
    assert not policy.check(engine, history(CHANGE), room=1)
    now += 29
    assert not policy.check(engine, history(CHANGE), room=1)
    now += 2
    assert policy.check(engine, history(CHANGE), room=1)
    assert fake.withdrawn == [check.name]
    fake.waiting = []
    assert not policy.check(engine, known, room=1)


def test_a_machine_that_is_set_aside_is_named_once() -> None:
    policy, fake = newcomers.Newcomers(), FakeEngine()
    known = history(runs("one", [1]), runs("two", [1], work=9.0))
    for _ in range(2):
        policy.check(cast("Engine", fake), known, room=0)
    [line] = fake.said
    assert "two" in line


def test_what_is_for_one_machine_no_other_takes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = Campaign(Project.open(project))
    names = {
        campaign.measure_incumbent(campaign.history(), 1, aa=True, only_at=host): host
        for host in ("elsewhere", devices.of_slot("").host)
    }
    worker = Worker(campaign.repo)
    for host in (devices.of_slot("").host, None):
        claimed = worker._claim()
        assert (names[claimed.name] if claimed else None) == host
