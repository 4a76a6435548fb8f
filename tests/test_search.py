"""The search as a whole: what the model proposes, which changes it lets wait, and how a campaign ends."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import Ar, attempts_of, commit, edit, git, names_of, run, run_next, start, wait_for
from synthetic import Made, write

from ar.agents import Briefing, make
from ar.campaign.campaign import Campaign
from ar.campaign.engine import Engine
from ar.campaign.ladder import Ladder
from ar.campaign.search import Search
from ar.errors import Exhausted
from ar.history import reader
from ar.history.ideas import Proposal
from ar.history.records import Attempt, Decision, Verdict
from ar.project.program import AgentSpec
from ar.project.project import Project
from ar.views.lines import PlainView

pytestmark = pytest.mark.xdist_group("search")  # the campaign that several look at is run once

WAITS = {"decision": "open", "reason": "It waits.", "effect": 0.0, "standard_error": 0.01, "runs": 1}
STARTS = ((2.0, 0.03), (1.0, 0.05), (2.6, 0.02), (1.2, 0.02), (1.8, 0.2), (2.3, 0.06))


def loss(x: float, y: float, seed: int) -> float:
    """What the project's stage measures."""
    noise = ((seed * 7919) % 101) / 101 - 0.5
    return (x - 3) ** 2 + (math.log(y) - math.log(0.1)) ** 2 + 0.01 * noise


def made(x: float, y: float, seed: int = 1, agent: str = "search", waits: bool = False) -> Made:
    decided = {**WAITS, "decision": "discard", "reason": "Worse."}
    return Made(x, loss(x, y, seed), y, seed, agent, WAITS if waits else decided)


def opened() -> list[Made]:
    """A campaign whose first changes have two runs each, none of them better than the branch."""
    base = [Made(1.5, loss(1.5, 0.03, seed), seed=seed) for seed in (1, 2)]
    return base + [made(x, y, seed) for x, y in STARTS for seed in (1, 2)]


def briefing(root: Path, *refused: str) -> Briefing:
    campaign = Campaign(Project.open(root))
    history, params = campaign.history(), reader.baseline_params(campaign.project)
    return Briefing(campaign.program, history, params, refused, surface=campaign.model.surface(history))


def proposal(root: Path, *refused: str) -> Proposal:
    told = briefing(root, *refused)
    return make(AgentSpec("search"), Campaign(Project.open(root)).repo).propose(told)


def place(root: Path, *refused: str) -> tuple[float, float]:
    params = {"x": 1.5, "y": 0.03, **proposal(root, *refused).params}
    return float(params["x"]), float(params["y"])


# -- the agent --------------------------------------------------------------------------------------------


def test_refused_again_and_again_it_offers_something_else_each_time(project: Path) -> None:
    write(project, opened())
    places = [place(project, *["taken"] * refused) for refused in range(4)]
    assert len(set(places)) == 4
    assert not set(places) & {(1.5, 0.03), *STARTS}


def test_a_small_space_is_tried_to_its_end_and_no_further(project: Path) -> None:
    edit(project / "program.md", "{low: 0.5, high: 6.0}", "[0.5, 1.5, 3.0]")
    edit(project / "program.md", "{low: 0.01, high: 1.0, log: true}", "[0.03, 0.1, 0.3]")
    commit(project, "Search a few values")
    everywhere = {(x, y) for x in (0.5, 1.5, 3.0) for y in (0.03, 0.1, 0.3)} - {(1.5, 0.03)}
    base = [Made(1.5, loss(1.5, 0.03, seed), seed=seed) for seed in (1, 2)]
    first = place(project)
    assert first in everywhere
    write(project, [*base, *(made(x, y) for x, y in sorted(everywhere - {first}))])
    assert place(project) == first
    with pytest.raises(Exhausted):
        proposal(project, "taken")


def test_a_whole_number_stays_one_where_its_range_is_a_continuum(project: Path) -> None:
    edit(project / "params.yaml", "x: 1.5", "x: 2")
    run(project, "dvc", "repro", "-q")
    commit(project, "Begin at a whole number")
    campaign = Campaign(Project.open(project))
    offered = [proposal(project, *["taken"] * refused) for refused in range(4)]
    assert {type(one.params.get("x", 2)) for one in offered} == {int}
    assert all(campaign.check(one).candidate for one in offered)


def test_it_keeps_off_where_runs_crash(project: Path) -> None:
    crashed = [
        Made(x, None, y, agent="search", verdict=WAITS | {"decision": "discard"})
        for x in (3.2, 3.6, 4.0, 5.0, 5.8)
        for y in (0.03, 0.1, 0.4)
    ]
    write(project, [*opened(), *crashed])
    assert place(project)[0] < 3.2


def test_it_knows_what_others_found(project: Path) -> None:
    others = [made(x, 0.1, agent="claude") for x in (2.8, 3.1, 3.4)]
    write(project, opened() + others)
    edit(project / "program.md", "runs: 200", f"runs: {len(opened() + others) + 10}")
    known = briefing(project).surface
    assert known is not None
    assert len(known.measured) == len(opened() + others)
    x, y = place(project)  # so near the end, where the model expects most
    assert loss(x, y, 1) < 0.3


# -- what waits -------------------------------------------------------------------------------------------


def step(root: Path, room: int = 1) -> dict[str, Attempt]:
    """The search's next step with room for so many runs, and the attempts afterwards, by title."""
    campaign = Campaign(Project.open(root))
    policy = Search(Ladder(campaign))
    policy.step(Engine(campaign, policy, PlainView(sys.stdout)), campaign.history(), room)
    campaign.pipeline.close()
    return {item.title: item for item in campaign.history().attempts}


def under_way(found: dict[str, Attempt]) -> list[tuple[str, int | None]]:
    return [
        (item.title, one.seed) for item in found.values() for one in item.experiments if not one.status.ended
    ]


def test_what_is_clearly_out_is_discarded_and_the_best_runs_again(project: Path) -> None:
    write(project, [*opened(), made(0.7, 0.02, waits=True), made(2.9, 0.09, waits=True)])
    found = step(project)
    out, best = found["x 1.5 → 0.7"], found["x 1.5 → 2.9"]
    assert out.verdict is not None and out.verdict.decision is Decision.DISCARD
    assert len(out.own) == 1
    assert best.verdict is not None and best.verdict.decision is Decision.OPEN
    assert under_way(step(project)) == [("x 1.5 → 2.9", 2)]


def test_the_first_runs_of_later_changes_take_three_seeds_in_turn(project: Path) -> None:
    write(project, opened())
    seeds = [seed for _, seed in under_way(step(project, room=6))]
    assert sorted(seeds) == [1, 1, 2, 2, 3, 3]


def test_a_change_that_may_take_all_that_is_left_has_it_to_itself(project: Path) -> None:
    known = [*opened(), made(2.9, 0.09, waits=True)]
    known = [replace(one, value=one.value + math.sin(41 * k)) for k, one in enumerate(known)]  # noise of runs
    edit(project / "program.md", "runs: 200", f"runs: {len(known) + 7}")
    commit(project, "Allow fewer runs")
    write(project, known)
    for _ in range(2):
        running = under_way(step(project, room=4))
        assert {"x 1.5 → 2.9"} <= {title for title, _ in running} <= {"x 1.5 → 2.9", "baseline"}
    edit(project / "program.md", f"runs: {len(known) + 7}", "runs: 200")
    commit(project, "Allow more runs")
    assert len(under_way(step(project, room=2))) == len(running) + 2


def test_killed_before_its_second_run_was_queued_a_first_change_still_gets_it(measured: Path) -> None:
    campaign = Campaign(Project.open(measured))
    change, name = campaign.queue_next()
    run_next(measured)
    attempt = next(item for item in campaign.history().attempts if item.name == name)
    campaign.record(attempt, Verdict(Decision.OPEN, "It is worth another seed.", runs=1))
    campaign.pipeline.close()
    assert under_way(step(measured)) == [(change.proposal.title, 2)]


# -- whole campaigns --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(measured_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign that asked for three changes, was killed in the next ones, and then ran to its end."""
    root = tmp_path_factory.mktemp("searched") / "project"
    shutil.copytree(measured_template, root, symlinks=True)
    edit(root / "program.md", "runs: 200", "runs: 40")
    commit(root, "Allow fewer runs")
    ar = (sys.executable, "-m", "ar")
    run(root, *ar, "run", "-n", "3", "--plain")
    assert not names_of(root, "refs/ar")
    before = len(names_of(root, "refs/exps"))
    loop = start(root, "run", "--plain", "--jobs", "2")
    wait_for(lambda: len(names_of(root, "refs/exps")) > before + 5)
    os.kill(loop.pid, signal.SIGKILL)
    loop.communicate(timeout=60)
    run(root, *ar, "run", "--plain", "--jobs", "2")
    return root


def _moved(root: Path, attempt: dict[str, object]) -> int:
    rev = attempt["experiments"][0]["rev"]  # type: ignore[index]
    lines = git(root, "diff", "--unified=0", f"{rev}^", rev, "--", "params.yaml").splitlines()
    return sum(line.startswith(("+x", "+y")) for line in lines)


def test_a_campaign_promotes_a_joint_move_and_says_what_was_expected(searched: Path, ar: Ar) -> None:
    promoted = [item for item in attempts_of(searched) if item["outcome"] == "promoted"]
    assert any(_moved(searched, item) == 2 for item in promoted)
    messages = [
        git(searched, "show", "-s", "--format=%B", item["experiments"][0]["rev"]) for item in promoted
    ]
    assert any("\nAr-Expected: " in message for message in messages)
    values = json.loads(ar(searched, "show", "--json").stdout)["total"]
    assert values["after"] < 0.5
    assert git(searched, "status", "--porcelain") == ""


def test_a_campaign_ends_with_its_audit_and_nothing_open(searched: Path) -> None:
    attempts = attempts_of(searched)
    runs = [one for item in attempts for one in item["experiments"]]
    assert len(runs) == 40
    assert len({one["name"] for one in runs}) == 40
    assert sum(one["name"].startswith("audit") for one in runs) >= 2
    assert not [item for item in attempts if item["outcome"] == "open"]
    assert not names_of(searched, "refs/ar")


def test_most_later_changes_have_one_run(searched: Path) -> None:
    later = [item for item in reversed(attempts_of(searched)) if item["agent"] == "search"][6:]
    single = [item for item in later if len(item["experiments"]) == 1]
    assert len(single) > len(later) / 2


def test_with_every_value_tried_all_changes_have_their_verdict(project: Path, ar: Ar) -> None:
    edit(project / "program.md", "{low: 0.5, high: 6.0}", "[1.45, 1.5, 3.0]")
    edit(project / "program.md", "  y: {low: 0.01, high: 1.0, log: true}\n", "")
    commit(project, "Search a few values")
    done = ar(project, "run", "--plain")
    assert "every value that the search ranges offer has been tried" in done.stdout
    attempts = {item["title"]: item["outcome"] for item in attempts_of(project) if item["agent"] == "search"}
    assert sorted(attempts.values()) == ["discarded", "promoted"]
    again = ar(project, "run", "--plain", check=False)
    assert again.returncode == 2 and "widen search" in again.stderr


def _alone(root: Path, ar: Ar, lines: Sequence[str]) -> list[dict[str, object]]:
    """A campaign of a script that edits a file, and no ranges: the attempts, the change first."""
    script = root.parent / "agent.sh"
    script.write_text("#!/bin/sh\nsed -i 's/0.01 \\* noise/0.5 + 0.01 * noise/' fit.awk\necho Subtract\n")
    script.write_text(script.read_text().replace("0.5 + 0.01", "-0.5 + 0.01"))
    script.chmod(0o755)
    text = (root / "program.md").read_text()
    ranges = text[text.index("search:") : text.index("budget:")]
    agent = f"agent: {{kind: command, command: [{script}], timeout: 20}}\n"
    edit(root / "program.md", ranges, agent)
    for old, new in zip(lines[::2], lines[1::2], strict=True):
        edit(root / "program.md", old, new)
    commit(root, "Ask a script")
    ar(root, "run", "-n", "1", "--plain")
    return attempts_of(root)


def test_without_ranges_the_judge_decides_alone(project: Path, ar: Ar) -> None:
    change, baseline = _alone(project, ar, [])
    assert len(baseline["experiments"]) < 8  # type: ignore[arg-type]
    assert change["outcome"] == "promoted"
    assert "-0.5 + 0.01" in (project / "fit.awk").read_text()


@pytest.mark.slow
def test_without_seeds_eight_runs_of_the_branch_come_first(project: Path, ar: Ar) -> None:
    noise = 'END { "od -An -N2 -tu2 /dev/urandom" | getline seed'
    edit(project / "fit.awk", "END {", noise)
    change, baseline = _alone(project, ar, ["seed: seed\n", ""])
    assert len(baseline["experiments"]) == 8  # type: ignore[arg-type]
    assert change["outcome"] == "promoted"
