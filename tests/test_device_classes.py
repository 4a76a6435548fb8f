"""Evidence of several classes of devices, judged in process: no repository, no run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from histories import GUARD, OBJECTIVE, PROGRAM
from rich.console import Console

from ar.history.attempts import gain, grouped
from ar.history.device import Device
from ar.history.messages import BASELINE_AGENT
from ar.history.records import Attempt, Decision, Experiment, History, Note, Outcome, Status, Verdict
from ar.judge import devices, findings
from ar.judge.ledger import ledger, step, where
from ar.judge.noise import noise_of
from ar.judge.rule import Action, Kind, next_action
from ar.project.params import ParamKey
from ar.project.program import Budget
from ar.surrogate.points import most_measured
from ar.views.table import render
from ar.views.verdict import device_words

OWN, OTHER = "AMD EPYC 7763", "NVIDIA H200"
LUCK = (0.0, 0.01, -0.01, 0.02, -0.02, 0.01, -0.01, 0.0)  # of each seed
LEVEL = {OWN: 0.0, OTHER: -0.3, "": 0.0}  # the other class trains better by more than any change
SECONDS = {OWN: 20.0, OTHER: 5.0, "": 20.0}
ONLY_OTHER = replace(PROGRAM, devices=("NVIDIA *",))


def runs(
    name: str,
    gain: float,
    seeds: Sequence[int],
    device: str = "",
    *,
    crashed: bool = False,
    audit: bool = False,
) -> list[Experiment]:
    """Runs of one change (or of the baseline) on one class of devices."""
    found = Device(gpu=device) if device.startswith("NVIDIA") else Device(cpu=device)
    value = 2.3 + LEVEL[device] - gain
    status = Status.CRASHED if crashed else Status.SUCCEEDED
    return [
        Experiment(
            name=f"{name}-{device}-s{seed}{'-audit' * audit}",
            rev=name,
            baseline="b",
            title=name,
            status=status,
            agent=BASELINE_AGENT if name == "base" else "optuna",
            candidate=name,
            seed=seed,
            audit=audit,
            created=1.0 if name == "base" else 2.0,
            metrics={} if crashed else {
                str(OBJECTIVE): value + LUCK[seed % 8],
                str(GUARD): SECONDS[device] + LUCK[seed % 8],
            },
            note=Note(status, device=found if device else None),
        )
        for seed in seeds
    ]  # fmt: skip


def history(*parts: Sequence[Experiment]) -> History:
    found = grouped([run for part in parts for run in part], PROGRAM, set())
    return History("b", "base", found.attempts, found.sigma)


def test_attempts_are_taken_over_only_where_they_are_as_they_were() -> None:
    before = [
        *runs("base", 0.0, [1, 2], OWN),
        *runs("change", 0.1, [1], OWN),
        *runs("other", 0.1, [1], OTHER),
    ]
    known = grouped(before, PROGRAM, set())
    for after, merged, same in (
        (before, set[str](), {"base", "change", "other"}),
        ([*before, *runs("third", 0.2, [1], OWN)], set[str](), {"base", "change", "other"}),
        ([*before, *runs("base", 0.1, [3], OWN)], set[str](), set[str]()),  # the noise is another
        (before[:-1], set[str](), {"base", "change"}),
        (before, {"change"}, set[str]()),
    ):
        found = grouped(after, PROGRAM, merged, known)
        anew = grouped(after, PROGRAM, merged)
        assert (found.attempts, found.sigma) == (anew.attempts, anew.sigma)
        assert {item.candidate for item in found.attempts if any(item is it for it in known.attempts)} == same


def change(told: History) -> Attempt:
    return next(item for item in told.attempts if item.name.startswith("change"))


def judged(told: History, screening: bool = False) -> Action:
    return step(PROGRAM, told, change(told), screening=screening)


BASE = runs("base", 0.0, range(8), OWN)
# Six changes with two seeds each: what the noise of a class is known by.
KNOWN = {at: [one for k in range(6) for one in runs(f"k{k}", -0.2, range(2), at)] for at in (OWN, OTHER)}


# -- one class ---------------------------------------------------------------------------------------------


def test_runs_of_a_time_when_nobody_noted_it_are_of_the_campaigns_own_class() -> None:
    unknown = history(runs("base", 0.0, range(8)), runs("change", 0.5, range(1, 4)))
    mixed = history(runs("base", 0.0, range(8)), runs("change", 0.5, range(1, 4), OWN))
    assert (unknown.devices, mixed.devices) == (("",), (OWN,))
    before, now = judged(unknown), judged(mixed)
    assert before.kind is now.kind is Kind.PROMOTE
    assert replace(now.verdict, device="") == before.verdict
    assert (before.verdict.device, now.verdict.device) == ("", OWN)
    assert now.only_on == ""  # any machine will do
    assert [item.value for item in unknown.attempts] == [item.value for item in mixed.attempts]
    assert unknown.sigma == mixed.sigma


def test_a_verdict_says_what_it_was_measured_on_and_survives_json() -> None:
    verdict = judged(history(BASE, runs("change", 0.5, range(1, 4), OWN))).verdict
    assert type(verdict).from_json(verdict.to_json()) == verdict
    assert verdict.device == OWN


# -- two classes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [0.5, 0.0, -0.5])
def test_a_change_is_judged_as_if_there_were_its_own_class_alone(gain: float) -> None:
    here = [BASE, KNOWN[OWN], runs("change", gain, range(1, 4), OWN)]
    alone = history(*here)
    both = history(*here, runs("base", 0.0, range(8), OTHER), KNOWN[OTHER])
    assert both.devices == (OWN, OTHER)
    assert judged(both).kind is judged(alone).kind
    assert judged(both).verdict == judged(alone).verdict
    own, other = (ledger(PROGRAM, both, device=device) for device in both.devices)
    assert noise_of(own) == noise_of(ledger(PROGRAM, alone))
    assert own.spent == other.spent == len(both.experiments)  # the budget is one


def test_a_better_level_and_a_shorter_time_elsewhere_are_no_gain() -> None:
    told = history(BASE, KNOWN[OWN], runs("change", 0.0, range(2), OTHER), runs("base", 0.0, range(2), OTHER))
    verdict = judged(told).verdict
    assert verdict.device == OTHER
    assert verdict.effect == pytest.approx(0.0, abs=1e-9)
    slow = history(
        runs("base", 0.0, range(8), OTHER), KNOWN[OTHER], BASE, runs("change", 0.5, range(1, 5), OWN)
    )
    assert judged(slow).kind is Kind.PROMOTE  # four times as slow as the other class, as is the incumbent


@pytest.mark.parametrize(
    ("there", "kind", "seed"),
    [
        ([], Kind.RUN_INCUMBENT, 3),  # the seed that the change has
        ([3], Kind.RUN_INCUMBENT, 0),
        ([3, 0], Kind.RUN_CANDIDATE, 0),  # each class has its own opening
    ],
)
def test_what_was_run_elsewhere_asks_for_the_incumbent_there(there: list[int], kind: Kind, seed: int) -> None:
    told = history(BASE, KNOWN[OWN], runs("change", 0.5, [3], OTHER), runs("base", 0.0, there, OTHER))
    action = judged(told)
    assert (action.kind, action.seed, action.only_on) == (kind, seed, OTHER)


@pytest.mark.parametrize(
    ("own", "other", "device"),
    [
        (range(2), range(4), OTHER),
        (range(4), range(2), OWN),
        (range(3), range(3), OWN),  # equals: the campaign's own
    ],
)
def test_a_change_is_judged_where_its_interval_is_narrowest(own: range, other: range, device: str) -> None:
    told = history(
        BASE, KNOWN[OWN], runs("base", 0.0, range(8), OTHER), KNOWN[OTHER],
        runs("change", 0.5, own, OWN), runs("change", -0.5, other, OTHER),
    )  # fmt: skip
    assert where(PROGRAM, told, change(told)) == device
    assert judged(told).verdict.device == device
    assert judged(told).kind is (Kind.PROMOTE if device == OWN else Kind.DISCARD)


def test_a_crash_on_any_class_discards() -> None:
    told = history(
        BASE, KNOWN[OWN], runs("base", 0.0, range(8), OTHER),
        runs("change", 0.5, range(4), OWN), runs("change", 0.0, [4], OTHER, crashed=True),
    )  # fmt: skip
    action = judged(told)
    assert (action.kind, action.verdict.device) == (Kind.DISCARD, OTHER)


def test_the_value_and_the_gain_of_a_change_are_of_one_class() -> None:
    told = history(
        BASE, runs("base", 0.0, range(2), OTHER),
        runs("change", 0.1, range(4), OTHER), runs("change", 0.1, range(1), OWN),
    )  # fmt: skip
    assert told.now is not None
    assert (told.now.device, change(told).device) == (OWN, OTHER)
    assert told.now.value == pytest.approx(2.3)
    assert gain(told, change(told), PROGRAM) == pytest.approx(-0.1)
    assert told.sigma == history(BASE).sigma


# -- which class the campaign goes by ----------------------------------------------------------------------


def test_what_the_incumbent_lacks_is_told_by_the_campaigns_own_class_while_it_is_measured_there() -> None:
    both = history(BASE[:1], runs("base", 0.0, range(5), OTHER))
    action = next_action(ledger(PROGRAM, both))
    assert (action.kind, action.only_on) == (Kind.RUN_INCUMBENT, OWN)
    moved = replace(both, incumbent="change", attempts=(*both.attempts, *history(
        runs("change", 0.5, range(4), OTHER)).attempts))  # fmt: skip
    assert devices.home(PROGRAM, moved) == OTHER  # nobody need wait for a machine that may be gone
    unmeasured = replace(both, incumbent="nobody has run it")
    assert next_action(ledger(PROGRAM, unmeasured)).only_on == ""


def test_only_the_devices_of_the_programme_count() -> None:
    told = history(BASE, KNOWN[OWN], runs("change", 0.5, range(4), OWN))
    action = step(ONLY_OTHER, told, change(told))
    assert (action.kind, action.only_on) == (Kind.RUN_INCUMBENT, "")  # nothing was measured there yet
    later = history(
        BASE, runs("base", 0.0, range(8), OTHER), KNOWN[OTHER], runs("change", 0.5, range(4), OTHER)
    )
    assert devices.classes(ONLY_OTHER, later) == (OTHER,)
    assert step(ONLY_OTHER, later, change(later)).kind is Kind.PROMOTE
    assert most_measured(ONLY_OTHER, later) == OTHER


def test_the_closing_audit_has_seeds_that_decided_nothing_anywhere() -> None:
    told = history(BASE, runs("base", 0.0, range(3), OTHER), runs("change", 0.5, [11], OTHER))
    seen = ledger(replace(PROGRAM, budget=Budget(runs=14), seed=ParamKey("params.yaml", "seed")), told)
    action = next_action(seen)
    assert (seen.auditing, action.seed, action.only_on) == (True, 12, OWN)


def test_the_total_is_of_one_class() -> None:
    audit = runs("base", 0.1, range(8, 11), OWN, audit=True)
    told = history(BASE, runs("base", 0.0, range(4), OTHER), audit)
    found = findings.total(PROGRAM, told)
    assert found is not None
    assert (found.runs_before, found.runs_after) == (8, 3)
    assert found.change == pytest.approx(-0.1, abs=0.02)


def test_a_case_is_of_the_class_that_the_verdict_is_of() -> None:
    told = history(
        BASE, KNOWN[OWN], runs("base", 0.0, range(3), OTHER), runs("change", 0.5, range(2, 5), OWN),
        runs("change", 0.5, [1], OTHER),
    )  # fmt: skip
    case = findings.case(PROGRAM, told, change(told), judged(told).verdict)
    assert (case.seeds, case.base_seeds) == ((2, 3, 4), tuple(range(8)))
    assert case.outcome is Outcome.OPEN


# -- what people see ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "classes", "words"),
    [
        (OWN, (OWN,), ""),
        ("", (OWN, OTHER), ""),
        (OWN, (OWN, OTHER), f"on {OWN}"),
        (OTHER, (OWN, OTHER), f"on {OTHER}, not the campaign's {OWN}"),
    ],
)
def test_the_devices_of_a_verdict_are_told_where_there_are_several(
    device: str, classes: tuple[str, ...], words: str
) -> None:
    assert device_words(Verdict(Decision.PROMOTE, "Better.", device=device), classes) == words


def test_a_verdict_of_another_class_is_labelled_in_the_table() -> None:
    for device in (OWN, OTHER):
        verdict = Verdict(Decision.DISCARD, "Worse.", -0.1, 0.01, device=device)
        [first, *rest] = runs("change", 0.5, [1], OTHER)
        assert first.note is not None
        told = history(BASE, [replace(first, note=replace(first.note, verdict=verdict)), *rest])
        console = Console(width=200, file=io.StringIO())
        console.print(render(told, PROGRAM, now=3.0))
        assert isinstance(console.file, io.StringIO)
        assert (f"on {OTHER}" in console.file.getvalue()) == (device == OTHER)
