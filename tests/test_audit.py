"""What a branch kept, measured again: which keeps were real, and a branch of those that are."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, allow, attempts_of, commit, edit, git, names_of, run, snapshot, start, wait_for

from ar.campaign import rebase
from ar.campaign.audit import AuditReport, audit
from ar.campaign.campaign import Campaign
from ar.campaign.rebuild import BRANCH, rebuild
from ar.errors import CannotPromote
from ar.git import refs
from ar.history.records import Audited, Finding, Outcome
from ar.judge import keeps as judge
from ar.judge.evidence import MOST_RUNS, Candidate, Run
from ar.judge.findings import total
from ar.judge.keeps import Evidence
from ar.judge.noise import Noise, noise_of
from ar.project.project import Project

# A loss with known effects: a and d help, b does nothing, c hurts; `luck` is the seed's, `own` the run's.
STAGE = """\
/^[abcd]:/ {v[substr($1, 1, 1)] = $2}
/^seed:/ {seed = $2}
END {
  effect = -0.5 * v["a"] + 0.4 * v["c"] - 0.3 * v["d"]
  luck = ((seed * 7919) % 101) / 101 - 0.5
  own = ((seed * 131 + v["a"] * 17 + v["b"] * 29 + v["c"] * 43 + v["d"] * 71) * 7919 % 97) / 97 - 0.5
  printf("{\\"val_loss\\": %.6f}\\n", 10 + effect + 0.3 * luck + 0.03 * own) > "m.json"
}
"""
PROGRAM = """\
---
objective: {metric: "m.json:val_loss", direction: minimize}
seed: seed
scope: {params: [a, b, c, d]}
budget: {runs: 190, timeout: 60s}
---
"""
TRUTH = {
    "a": Finding.REAL,
    "b": Finding.NOT_CONFIRMED,
    "c": Finding.WORSE,
    "d": Finding.REAL,
}


STAGES = """\
stages:
  fit:
    cmd: awk -f fit.awk params.yaml
    deps: [fit.awk]
    params: [a, b, c, d, seed]
    metrics:
    - m.json: {cache: false}
"""
EFFECTS = {"Set a": -0.5, "Set b": 0.0, "Set c": 0.4, "Set d": -0.3}
CLAIMED = {"a": 9.6, "b": 9.5, "c": 9.4, "d": 9.1}


@pytest.fixture(scope="module")
def imported_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A branch of four keeps, each of which was claimed to help; stage and programme came after them."""
    root = tmp_path_factory.mktemp("greedy") / "project"
    shutil.copytree(template, root, symlinks=True)
    for name in ("c.yaml", "m.json", "dvc.lock", "dvc.yaml"):
        (root / name).unlink()
    (root / "fit.awk").write_text(STAGE)
    (root / "params.yaml").write_text("a: 0\nb: 0\nc: 0\nd: 0\nseed: 1\n")
    (root / ".gitignore").write_text("/results.tsv\n")
    commit(root, "Where the loop began")
    lines = ["commit\tval_loss\tmemory_gb\tstatus\tdescription", f"{_head(root)}\t10.0\t44.0\tkeep\tbaseline"]
    for key, value in CLAIMED.items():
        edit(root / "params.yaml", f"{key}: 0", f"{key}: 1")
        commit(root, f"Set {key}")
        lines.append(f"{_head(root)}\t{value}\t44.0\tkeep\tSet {key}")
        if key == "b":  # a second sitting
            lines.append(f"{_head(root)}\t9.55\t44.0\tkeep\tbaseline")
    (root / "results.tsv").write_text("\n".join([*lines, ""]))
    (root / "dvc.yaml").write_text(STAGES)
    (root / "program.md").write_text(PROGRAM)
    run(root, "dvc", "repro", "-q")
    commit(root, "Declare the stage, and what is looked for")
    allow(root)
    run(root, sys.executable, "-m", "ar", "import", "results.tsv")
    return root


@pytest.fixture(scope="module")
def audited_template(imported_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, audited."""
    root = tmp_path_factory.mktemp("audited") / "project"
    shutil.copytree(imported_template, root, symlinks=True)
    run(root, sys.executable, "-m", "ar", "audit", "--keeps", "--plain")
    return root


@pytest.fixture
def greedy(imported_template: Path, tmp_path: Path) -> Path:
    return _copy(imported_template, tmp_path)


@pytest.fixture
def audited(audited_template: Path, tmp_path: Path) -> Path:
    return _copy(audited_template, tmp_path)


def _copy(template: Path, folder: Path) -> Path:
    shutil.copytree(template, folder / "project", symlinks=True)
    return folder / "project"


def _head(root: Path) -> str:
    return git(root, "rev-parse", "--short", "HEAD")


def _report(root: Path, ar: Ar) -> dict[str, Any]:
    return json.loads(ar(root, "audit", "--keeps", "--json").stdout)  # type: ignore[no-any-return]


def _findings(report: dict[str, Any]) -> dict[str, str]:
    return {keep["title"].removeprefix("Set "): keep["finding"] for keep in report["keeps"]}


def _campaign(root: Path) -> Campaign:
    return Campaign(Project.open(root))


def test_an_audit_tells_real_keeps_from_others(audited: Path, ar: Ar) -> None:
    report = _report(audited, ar)
    assert _findings(report) == TRUTH
    for keep, claimed in zip(report["keeps"], (-0.4, -0.1, -0.15, -0.3), strict=True):
        assert keep["claimed"] == pytest.approx(claimed)
        assert keep["effect"] == pytest.approx(EFFECTS[keep["title"]], abs=4 * keep["standard_error"])
    whole = report["whole"]
    assert whole["claimed"] == pytest.approx(-0.9)
    assert whole["change"] == pytest.approx(-0.4, abs=4 * whole["standard_error"])
    assert whole["pairs"] == MOST_RUNS
    assert AuditReport.from_json(report).to_json() == report


def test_the_whole_is_measured_and_no_sum(audited: Path, ar: Ar) -> None:
    campaign = _campaign(audited)
    found = audit(campaign, campaign.history())
    first, last = (found.evidence.measured(place) for place in found.whole)
    steps = [one.value - other.value for one, other in zip(last, first, strict=True)]
    whole = found.report().whole
    assert whole.change == pytest.approx(sum(steps) / len(steps))
    assert whole.change != pytest.approx(sum(keep.effect or 0.0 for keep in found.report().keeps), abs=1e-6)


def test_what_was_found_is_in_the_notes(audited: Path, ar: Ar) -> None:
    history = _campaign(audited).history()
    found = {item.title: item.audited for item in history.attempts if item.audited}
    assert {title: one.finding for title, one in found.items()} == {
        **{f"Set {key}": finding for key, finding in TRUTH.items() if key != "d"},
        "baseline, seed 1": TRUTH["d"],  # the head's
    }
    for one in found.values():
        assert Audited.from_json(one.to_json()) == one
    shown = ar(audited, "show").stdout
    assert all(f": {finding}" in shown for finding in TRUTH.values())
    listed = [row["audited"]["finding"] for row in attempts_of(audited) if row["audited"]]
    assert sorted(listed) == sorted(TRUTH.values())
    ar(audited, "report", "-o", "report.md")
    lines = (audited / "report.md").read_text().splitlines()
    assert sum(line.startswith("| Set ") for line in lines) == len(TRUTH)


def test_the_campaign_counts_what_was_measured_and_nothing_that_was_claimed(audited: Path) -> None:
    campaign = _campaign(audited)
    history = campaign.history()
    assert len(history.imported) == len(CLAIMED)
    runs = {run.name for run in history.experiments}
    assert not runs & {item.first.name for item in history.imported}
    ledger = campaign.ledger(history)
    assert ledger.spent == len(runs) and len(ledger.base) == MOST_RUNS
    seen = [run.value for item in (ledger.incumbent, *ledger.closed) for run in item.measured]
    assert not set(CLAIMED.values()) & set(seen)
    noise = noise_of(ledger)
    assert noise.residual_sigma < 0.03 < noise.sigma  # told from the earlier commits' runs, too
    assert noise.residual.pool.df >= len(CLAIMED)
    # The campaign begins at its own first baseline, not at the loop's.
    assert history.first is history.now
    assert total(campaign.program, history) is None


def test_an_audit_leaves_the_checkout_alone_and_keeps_to_its_runs(greedy: Path, ar: Ar) -> None:
    before, head = snapshot(greedy), git(greedy, "rev-parse", "HEAD")
    out = ar(greedy, "audit", "--keeps", "-n", "3", "--plain").stdout
    assert snapshot(greedy) == before and git(greedy, "rev-parse", "HEAD") == head
    assert len(names_of(greedy, refs.EXPS)) - len(CLAIMED) == 3
    assert out.count("undecided") >= 3
    ar(greedy, "audit", "-n", "0")
    assert len(names_of(greedy, refs.EXPS)) - len(CLAIMED) == 3


@pytest.mark.slow
def test_a_killed_audit_carries_on(greedy: Path, ar: Ar) -> None:
    edit(greedy / "program.md", "budget: {runs: 190", "budget: {runs: 12")
    for ended in (2, 5):
        process = start(greedy, "audit", "--keeps", "--plain")
        wait_for(lambda ended=ended: len(names_of(greedy, refs.EXPS)) - len(CLAIMED) >= ended)  # type: ignore[misc]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    ar(greedy, "audit", "--keeps", "--plain")
    history = _campaign(greedy).history()
    runs = [(run.candidate, run.seed) for run in history.experiments]
    assert len(runs) == len(set(runs)) == 12
    assert not names_of(greedy, refs.QUEUE) and not names_of(greedy, refs.RUNNING)


def test_without_a_record_the_branchs_own_commits_are_audited(measured: Path, ar: Ar) -> None:
    run(measured, "git", "switch", "-qc", "ideas")
    edit(measured / "params.yaml", "x: 1.5", "x: 2.5")
    commit(measured, "Further out")
    (measured / "NOTES.md").write_text("For people\n")
    commit(measured, "Notes")
    ar(measured, "audit", "--keeps", "-n", "4", "--plain")
    report = json.loads(ar(measured, "audit", "--keeps", "--json").stdout)
    assert [(keep["title"], keep["finding"]) for keep in report["keeps"]] == [("Further out", "real")]
    assert report["left_out"].keys() == {"Notes"}


# -- a branch of those that hold --------------------------------------------------------------------------


def test_a_branch_of_the_real_keeps_appears_once_it_was_measured(audited: Path, ar: Ar) -> None:
    before, head = snapshot(audited), git(audited, "rev-parse", "HEAD")
    dry = ar(audited, "promote", "--audited", "--dry-run").stdout
    assert "1. " in dry and "Set a" in dry and "Set c" not in dry
    assert not git(audited, "branch", "--list", BRANCH)

    ar(audited, "promote", "--audited", "--plain")

    assert snapshot(audited) == before and git(audited, "rev-parse", "HEAD") == head
    assert git(audited, "show", f"{BRANCH}:params.yaml").split("\n")[:4] == ["a: 1", "b: 0", "c: 0", "d: 1"]
    base, experiment = git(audited, "rev-parse", f"{BRANCH}^1", f"{BRANCH}^2").split()
    # Its tree is that of a run, judged against the first commit, from which the branch goes on.
    assert git(audited, "rev-parse", f"{BRANCH}^{{tree}}") == git(
        audited, "rev-parse", f"{experiment}^{{tree}}"
    )
    start_of_it = git(audited, "log", "--format=%H", "--grep", "Where the loop began", "main")
    run(audited, "git", "merge-base", "--is-ancestor", start_of_it, base)
    history = _campaign(audited).history()
    [attempt] = [item for item in history.attempts if item.outcome is Outcome.HOLDS]
    verdict = attempt.verdict
    assert verdict and verdict.effect == pytest.approx(-0.8, abs=0.1) and len(attempt.stack) == 2
    # For the branch that was audited it is no winner that waits.
    assert not history.winners and not rebase.winners_behind(history)


def test_nothing_is_built_before_anything_is_known_to_be_real(greedy: Path, ar: Ar) -> None:
    campaign = _campaign(greedy)
    history = campaign.history()
    with pytest.raises(CannotPromote):
        rebuild(campaign, history, audit(campaign, history))


def test_a_keep_that_needs_one_that_is_not_real_is_left_out(audited: Path) -> None:
    campaign = _campaign(audited)
    history = campaign.history()
    found = audit(campaign, history)
    keeps = list(found.branch.keeps)
    stage = (audited / "fit.awk").read_text()
    # As if the last keep had edited a line that only the one before it had brought.
    brought = campaign.repo.write_tree(keeps[2].after.stand_in, {"fit.awk": f"# one\n{stage}".encode()})
    edited = campaign.repo.write_tree(brought, {"fit.awk": f"# two\n{stage}".encode()})
    before, after = (
        replace(place, stand_in=campaign.repo.commit_tree(tree, [_head(audited)], "x"))
        for place, tree in ((keeps[3].before, brought), (keeps[3].after, edited))
    )
    keeps[3] = replace(keeps[3], before=before, after=after)
    made = rebuild(campaign, history, replace(found, branch=replace(found.branch, keeps=tuple(keeps))))
    assert [keep.title for keep in made.keeps] == ["Set a"]
    assert {title: [clash.path for clash in clashes] for title, clashes in made.clashes.items()} == {
        "Set d": ["fit.awk"]
    }


# -- the order --------------------------------------------------------------------------------------------


def _simulated(
    effects: list[float], runs: int, seed: int, seeded: bool = True
) -> tuple[list[Finding], dict[str, int]]:
    """An audit of so many runs in a world of known effects: seeds vary by 0.02, runs by 0.004."""
    draw = random.Random(seed)
    places = [f"place {k}" for k in range(len(effects) + 1)]
    levels = dict(zip(places, itertools.accumulate(effects, initial=0.0), strict=True))
    luck: dict[int | None, float] = {}
    made: dict[str, tuple[Run, ...]] = dict.fromkeys(places, ())
    steps = list(itertools.pairwise(places))

    def evidence() -> Evidence:
        noise = Noise.of(Candidate(base=ended) for ended in made.values())
        made_of = Evidence(made, noise=noise, first=places[0], first_seed=1 if seeded else None)
        return made_of.with_noise_of(steps)

    for _ in range(runs):
        wanted = judge.next_run(evidence(), steps, (places[0], places[-1]))
        if wanted is None:
            break
        place, at = wanted
        value = levels[place] + luck.setdefault(at, draw.gauss(0, 0.02)) + draw.gauss(0, 0.004)
        made[place] += (Run(at, value),)
    found = [judge.audited(evidence(), step).finding for step in steps]
    return found, {place: len(ended) for place, ended in made.items()}


def test_runs_go_where_verdicts_are_near() -> None:
    effects = [0.0, -0.05, 0.0, 0.0, 0.05, -0.009, 0.0, -0.05]
    found, counts = _simulated(effects, 200, seed=1)
    assert found[1] is found[7] is Finding.REAL and found[4] is Finding.WORSE
    assert Finding.UNDECIDED not in found
    # What is plain is decided by two runs; nobody gets more than the judge gives.
    assert min(counts.values()) == 2 and max(counts.values()) <= MOST_RUNS
    assert sum(counts.values()) < 0.8 * MOST_RUNS * len(counts)


def test_a_step_is_compared_by_what_seeds_do_on_its_two_sides() -> None:
    # What a seed does changes along the branch, and hardly from one commit to the next.
    draw = random.Random(5)
    luck = dict.fromkeys((1, 2), 0.0)
    runs: dict[str, tuple[Run, ...]] = {}
    for place in range(12):
        luck = {seed: value + draw.gauss(0, 0.01) for seed, value in luck.items()}
        runs[f"{place}"] = tuple(Run(seed, value - 0.05 * place) for seed, value in luck.items())
    steps = [(f"{place}", f"{place + 1}") for place in range(11)]
    whole = Noise.of(Candidate(base=ended) for ended in runs.values())
    evidence = Evidence(runs, noise=whole, first="0", first_seed=1)
    near = evidence.with_noise_of(steps).noise
    assert near.residual.pool.df == len(steps)
    assert near.residual_sigma < 0.8 * whole.residual_sigma
    assert near.df == whole.df
    assert evidence.with_noise_of(steps[:3]) is evidence


def test_without_seeds_the_noise_is_learned_first() -> None:
    found, counts = _simulated([-0.2, 0.0, 0.2], 60, seed=2, seeded=False)
    assert found == [Finding.REAL, Finding.NOT_CONFIRMED, Finding.WORSE]
    assert sum(counts.values()) < 60


def test_a_commit_that_does_not_run_ends_its_steps() -> None:
    runs = {name: (Run(1, 0.0), Run(2, 0.1)) for name in "ac"} | {"b": (Run(1, 0.0, crashed=True),) * 2}
    evidence = Evidence(runs, first="a", first_seed=1)
    found = [judge.audited(evidence, step) for step in (("a", "b"), ("b", "c"))]
    assert [one.finding for one in found] == [Finding.NOT_CONFIRMED] * 2
    wanted = judge.next_run(evidence, [("a", "b"), ("b", "c")], ("a", "c"))
    assert wanted is not None and wanted[0] != "b"


def test_few_runs_settle_some_keeps_rather_than_none() -> None:
    found, _ = _simulated([-0.05] * 12, 8, seed=3)
    assert found.count(Finding.REAL) >= 2


def test_null_effects_are_seldom_real() -> None:
    found = [one for seed in range(4) for one in _simulated([0.0] * 12, 50, seed)[0]]
    assert found.count(Finding.REAL) <= 1


def test_the_chance_of_a_verdict_is_that_of_leaving_the_open_region() -> None:
    assert judge.settled(2.0, 7, 1) == 1.0
    assert judge.settled(9.0, 2, 1) == pytest.approx(1.0) == judge.settled(-5.0, 2, 1)
    assert judge.settled(2.2, 3, 1) < judge.settled(2.2, 3, 4)
