"""The A/A check: the unchanged branch as if it were a change."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
from helpers import Ar, allow, commit, edit
from histories import GUARD, OBJECTIVE, PROGRAM

from ar.campaign.aa import RUNS, lacking
from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine
from ar.campaign.ladder import Ladder
from ar.campaign.search import Search
from ar.history.messages import BASELINE_AGENT
from ar.history.records import Attempt, Experiment, History, Note, Outcome, Status
from ar.judge import aa
from ar.judge.aa import AACheck, FlawKind
from ar.judge.ledger import ledger
from ar.judge.noise import noise_of
from ar.project.project import Project
from ar.views.lines import PlainView

LUCK = (0.0, 0.013, -0.011, 0.017, -0.019, 0.01, -0.012, 0.003)  # of each seed
HOUR = 3600.0


def measured(
    values: list[float],
    seeds: list[int | None],
    seconds: list[float] | None = None,
    hosts: str = "",
    failed: int = 0,
) -> History:
    """A branch whose runs gave these values, one an hour; those from the third on are the check's.

    Args:
        hosts: a letter a run.
        failed: so many more runs of the check crashed.
    """
    seconds = seconds or [27.0] * len(values)
    runs = [
        Experiment(
            name=f"r{place}",
            rev="b",
            baseline="b",
            title="A/A",
            status=Status.SUCCEEDED if place < len(values) else Status.CRASHED,
            agent=BASELINE_AGENT,
            candidate="base",
            seed=seed,
            aa=place > 1,
            created=place * HOUR,
            metrics={str(OBJECTIVE): values[place], str(GUARD): seconds[place]}
            if place < len(values)
            else {},
            note=Note(
                Status.SUCCEEDED, finished=place * HOUR, worker=f"{(hosts or 'a' * 99)[place]}:{place}"
            ),
        )
        for place, seed in enumerate([*seeds, *[seeds[-1]] * failed])
    ]
    attempt = Attempt(
        "base", "base", BASELINE_AGENT, "b", "base", tuple(runs), None, None, {}, Outcome.BASELINE
    )
    return History("b", "base", (attempt,))


def checked(history: History) -> AACheck:
    found = aa.last(PROGRAM, history)
    assert found is not None
    assert AACheck.from_json(json.loads(json.dumps(found.to_json()))) == found
    return found


SEEDS: list[int | None] = [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]


def values(noise: float = 0.0, drift: float = 0.0, salt: int = 1) -> list[float]:
    """A value for each of `SEEDS`: the seed's, with noise beyond it, and what each run adds to the last."""
    luck = random.Random(salt)
    return [2.3 + LUCK[seed or 0] + luck.gauss(0, noise) + drift * place for place, seed in enumerate(SEEDS)]


def test_a_metric_that_a_seed_decides_is_deterministic_and_steady() -> None:
    found = checked(measured(values(), SEEDS))
    assert (found.runs, found.measured, found.seeds) == (8, 10, 4)
    assert found.compared == 7
    assert found.promoted == 0
    assert found.flaws == []
    loss = found.metrics[0]
    assert loss.is_deterministic
    assert loss.repeats == 6
    assert loss.sigma is not None
    assert 0.005 < loss.sigma < 0.03
    assert loss.drift is not None
    assert loss.drift.size == 0.0


def test_a_metric_that_varies_beyond_its_seed_is_told() -> None:
    found = checked(measured(values(noise=0.004), SEEDS))
    loss = found.metrics[0]
    assert not loss.is_deterministic
    assert loss.same_seed == pytest.approx(0.004, rel=0.6)
    assert found.flaws == []


@pytest.mark.parametrize("noise", [0.0, 0.0004])
def test_a_metric_that_drifts_is_told_whatever_its_seeds_do(noise: float) -> None:
    found = checked(measured(values(noise, drift=0.002), SEEDS))
    assert [(flaw.kind, flaw.metric) for flaw in found.flaws] == [(FlawKind.DRIFTS, str(OBJECTIVE))]
    loss = found.metrics[0]
    assert loss.drift is not None
    assert loss.drift.size == pytest.approx(9 * 0.002, rel=0.1)
    assert loss.drift.z > found.bar


def test_a_guard_that_drifts_is_told_by_its_name() -> None:
    seconds = [27.0 + 0.5 * place + 0.1 * (place % 3) for place in range(10)]
    found = checked(measured(values(), SEEDS, seconds))
    assert [(flaw.kind, flaw.metric) for flaw in found.flaws] == [(FlawKind.DRIFTS, str(GUARD))]


def test_without_a_drift_hardly_any_check_finds_one() -> None:
    """One in a hundred checks may, by the level; and nothing is promoted."""
    checks = []
    for salt in range(200):
        luck = random.Random(salt)
        seconds = [27.0 + luck.gauss(0, 1.0) for _ in SEEDS]
        checks.append(checked(measured(values(0.004, salt=salt), SEEDS, seconds)))
    assert sum(bool(found.flaws) for found in checks) <= 8
    assert sum(found.promoted for found in checks) <= 0.02 * sum(found.compared for found in checks)


def test_a_machine_that_gives_other_numbers_is_named() -> None:
    hosts = "aabababbab"
    shifted = [
        value + (0.01 if host == "b" else 0.0) + 0.0001 * (place % 3)
        for place, (value, host) in enumerate(zip(values(), hosts, strict=True))
    ]
    found = checked(measured(shifted, SEEDS, hosts=hosts))
    assert [(flaw.kind, flaw.host) for flaw in found.flaws] == [(FlawKind.MACHINE, "b")]
    assert found.metrics[0].machines["b"].size == pytest.approx(0.01, rel=0.1)


def test_without_seeds_every_run_stands_for_itself() -> None:
    luck = random.Random(3)
    runs = [2.3 + luck.gauss(0, 0.01) for _ in range(16)]
    found = checked(measured(runs, [None] * 16))
    assert found.seeds == 0
    assert found.metrics[0].same_seed is None
    assert found.compared == 28
    assert found.promoted == 0


def test_a_failed_run_is_a_flaw() -> None:
    found = checked(measured(values(), SEEDS, failed=2))
    assert (found.runs, found.failed) == (10, 2)
    assert [flaw.kind for flaw in found.flaws] == [FlawKind.FAILS]


def test_repeats_of_a_seed_change_nothing_of_what_the_judge_knows() -> None:
    """The first run of a seed is the incumbent's; the same seed again is no evidence about changes."""
    whole = measured(values(noise=0.004), SEEDS)
    first = measured(values(noise=0.004)[:4], SEEDS[:4])
    before, after = ledger(PROGRAM, first), ledger(PROGRAM, whole)
    assert after.base == before.base
    assert noise_of(after).sigma == noise_of(before).sigma
    assert after.closed == ()
    assert whole.tried == []
    assert whole.now is not None
    assert [run.seed for run in whole.now.distinct] == [1, 2, 3, 4]


def test_seeds_come_in_turns_and_what_was_measured_counts() -> None:
    before = measured(values()[:2], SEEDS[:2])
    assert lacking(before, ledger(PROGRAM, before), 8) == [3, 4, 1, 2, 3, 4, 1, 2]
    assert lacking(before, ledger(PROGRAM, before), RUNS) == [1, 2, 1, 2]
    done = measured(values(), SEEDS)
    assert lacking(done, ledger(PROGRAM, done), 8) == []


# -- as a command ------------------------------------------------------------------------------------------

CLOCK = 'srand(); printf("{\\"val_loss\\": %.6f}\\n", loss + srand()) > "m.json"'  # the time, in s


def of(project: Path) -> AACheck:
    found = aa.last(Project.open(project).program, Campaign(Project.open(project)).history())
    assert found is not None
    return found


def test_the_same_seed_really_runs_again_and_no_run_is_wasted(measured: Path, ar: Ar) -> None:
    out = ar(measured, "baseline", "--aa", "4", "--plain").stdout
    history = Campaign(Project.open(measured)).history()
    runs = [run for run in history.experiments if run.aa]
    assert sorted(run.seed or 0 for run in runs) == [1, 1, 2, 2]
    assert all(run.note and run.note.seconds for run in runs)  # a stage was started for each
    assert len({run.note.finished for run in runs if run.note}) == 4
    found = of(measured)
    assert (found.runs, found.measured, found.promoted) == (4, 6, 0)
    assert found.metrics[0].is_deterministic
    assert "to the last digit" in out
    # Nothing is tried again, and nobody takes it for an attempt.
    again = ar(measured, "baseline", "--aa", "4", "--plain").stdout
    assert "aa-s" not in again
    assert history.tried == []
    assert len(Campaign(Project.open(measured)).history().experiments) == 6
    shown = json.loads(ar(measured, "show", "--json").stdout)
    assert shown["aa"]["runs"] == 4
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["baseline"]
    assert "A/A check" in ar(measured, "show").stdout
    assert "✓ A/A" in ar(measured, "doctor").stdout


def test_a_metric_that_moves_with_the_time_is_warned_of(project: Path, ar: Ar) -> None:
    text = (project / "fit.awk").read_text()
    line = next(line for line in text.splitlines() if '> "m.json"' in line)
    edit(project / "fit.awk", line, f"  {CLOCK}")
    commit(project, "Let it grow with the clock")
    out = ar(project, "baseline", "--aa", "8", "--plain").stdout
    found = of(project)
    assert [(flaw.kind, flaw.metric) for flaw in found.flaws] == [(FlawKind.DRIFTS, "m.json:val_loss")]
    assert not found.metrics[0].is_deterministic
    assert "warning" in out
    assert "! A/A" in ar(project, "doctor").stdout


def test_a_check_that_the_budget_has_no_room_for_is_refused(measured: Path, ar: Ar) -> None:
    done = ar(measured, "baseline", "--aa", "999", check=False)
    assert done.returncode == 2
    assert "budget.runs" in done.stderr


@pytest.mark.parametrize(
    ("runs", "experiments", "hours", "checks"),
    [
        (300, None, None, True),
        (200, None, None, False),  # it would cost 2 % of them
        (300, 20, None, False),
        (300, 150, None, True),
        (300, None, 0.001, False),
        (300, None, 10.0, True),
        (300, 0, None, False),
    ],
)
def test_a_campaign_begins_with_a_check_where_that_is_cheap(
    measured: Path, runs: int, experiments: int | None, hours: float | None, checks: bool
) -> None:
    edit(measured / "program.md", "runs: 200", f"runs: {runs}")
    campaign = Campaign(Project.open(measured))
    policy = Search(Ladder(campaign), experiments)
    policy.step(Engine(campaign, policy, PlainView(io.StringIO()), hours=hours), campaign.history(), 5)
    campaign.pipeline.close()
    queued = [run for run in campaign.history().experiments if not run.status.ended]
    assert [run.aa for run in queued].count(True) == (RUNS if checks else 0)
    assert len(queued) == (0 if experiments == 0 else 5)


def test_a_campaign_tells_what_its_check_came_to(measured: Path) -> None:
    edit(measured / "program.md", "runs: 200", "runs: 300")
    events = io.StringIO()
    campaign = Campaign(Project.open(measured))

    def stop() -> int:
        return int(sum(run.status.ended for run in campaign.history().experiments) > 6)

    allow(measured)
    with PlainView(events) as view:
        Engine(campaign, Search(Ladder(campaign)), view, stop).run()
    assert of(measured).runs == RUNS
    assert events.getvalue().count("A/A check:") == 1
