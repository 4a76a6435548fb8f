"""The ladder: what helps at the base is run again at a larger scale, beside its baseline, and judged."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, attempts_of, clone_of, commit, edit, git, run, share, start

from ar.campaign import ladder
from ar.errors import BadProgram
from ar.project.program import Program
from ar.project.program_file import load, parse

pytestmark = pytest.mark.xdist_group("ladder")  # the campaign that all copy is run once

# Known effects: `good` gains 0.2 at every size; `small` gains 0.3 at size 1 and loses 0.3 beyond. The noise
# between seeds is 0.03 wide at size 1, and grows with it.
STAGE = """\
/^good:/ {good = $2}
/^small:/ {small = $2}
/^size:/ {size = $2}
/^seed:/ {seed = $2}
END {
  noise = 0.03 * (((seed * 7919) % 101) / 101 - 0.5) * size
  loss = 5 - size - 0.2 * good + (size > 1 ? 0.3 : -0.3) * small + noise
  printf("{\\"loss\\": %.6f}\\n", loss) > "m.json"
}
"""
PIPELINE = """\
stages:
  fit:
    cmd: awk -f fit.awk params.yaml
    deps: [fit.awk]
    params: [good, small, size, seed]
    metrics:
    - m.json: {cache: false}
"""
PROGRAM = """\
---
objective: {metric: "m.json:loss", direction: minimize}
seed: seed
scope: {params: [good, small]}
search:
  small: [0, 1]
  good: [0, 1]
ladder:
  - {name: s1}
  - {name: s2, params: {size: 2}}
  - {name: s3, params: {size: 3}, budget: {runs: 30, timeout: 30s}}
promote: {rung: s2}
budget: {runs: 200, timeout: 60s}
---
Make it better at every size.
"""


def started(root: Path) -> Path:
    """The project, run once, with both ideas queued."""
    root.mkdir()
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    files = {"fit.awk": STAGE, "dvc.yaml": PIPELINE, "program.md": PROGRAM}
    for name, text in (files | {"params.yaml": "good: 0\nsmall: 0\nsize: 1\nseed: 1\n"}).items():
        (root / name).write_text(text)
    run(root, "dvc", "repro", "-q")
    commit(root, "Start")
    for move in ("small=1", "good=1"):
        run(root, sys.executable, "-m", "ar", "next", "--set", move)
    return root


@pytest.fixture(scope="module")
def climbed_template(tmp_path_factory: pytest.TempPathFactory, isolated_home: Path) -> Path:
    """A campaign with a condition on the second rung, run to its end."""
    root = started(tmp_path_factory.mktemp("ladder") / "project")
    ar = (sys.executable, "-m", "ar")
    run(root, *ar, "run", "-n", "0", "--plain", "--jobs", "2", "--no-promote")
    small = next(row["name"] for row in attempts_of(root) if row["title"].startswith("small"))
    # It is decided before the branch moves on: else it would be tried once more on the branch as it is then.
    run(root, *ar, "climb", small, "--to", "s2", "--plain", "--jobs", "2")
    run(root, *ar, "run", "-n", "0", "--plain", "--jobs", "2")
    return root


@pytest.fixture
def climbed(climbed_template: Path, tmp_path: Path) -> Path:
    root = tmp_path / "project"
    shutil.copytree(climbed_template, root, symlinks=True)
    return root


@pytest.mark.slow
def test_machines_that_share_a_campaign_share_its_rungs(tmp_path: Path, ar: Ar) -> None:
    root = started(tmp_path / "project")
    share(root)
    workers = [
        start(clone_of(root, name), "worker", "--remote", "origin", "--plain") for name in ("east", "west")
    ]
    try:
        ar(root, "run", "-n", "0", "--plain", "--remote", "origin", "--jobs", "0")
    finally:
        for worker in workers:
            worker.terminate()
        said = [worker.communicate(timeout=60)[0] for worker in workers]
    assert titled(root, ar, "good")["outcome"] == "promoted"
    assert titled(root, ar, "small")["verdict"]["label"] == "scale-bound"
    assert all("s2" in words for words in said), said


def killed_at(climb: subprocess.Popen[str], words: str) -> list[str]:
    """Kill it once it has printed the words, or has ended. Returns the lines until then."""
    assert climb.stdout is not None
    told = []
    for line in climb.stdout:
        told.append(line)
        if words in line:
            break
    os.kill(climb.pid, signal.SIGKILL)
    climb.stdout.close()
    climb.wait()
    return told


def shown(root: Path, ar: Ar) -> dict[str, Any]:
    return json.loads(ar(root, "show", "--json").stdout)  # type: ignore[no-any-return]


def titled(root: Path, ar: Ar, word: str) -> dict[str, Any]:
    return next(item for item in shown(root, ar)["attempts"] if item["title"].startswith(word))  # type: ignore[no-any-return]


def test_what_hurts_at_the_larger_rung_is_not_merged(climbed: Path, ar: Ar) -> None:
    good, small = titled(climbed, ar, "good"), titled(climbed, ar, "small")
    assert good["outcome"] == "promoted"
    assert small["outcome"] == "discarded"
    assert small["verdict"]["label"] == "scale-bound"
    assert small["verdict"]["effect"] == pytest.approx(-0.3, abs=0.03)
    assert small["rungs"]["s2"]["verdict"]["effect"] == pytest.approx(0.3, abs=0.04)
    assert good["rungs"]["s2"]["verdict"]["effect"] == pytest.approx(-0.2, abs=0.04)
    params = (climbed / "params.yaml").read_text()
    assert "good: 1\nsmall: 0\nsize: 1\n" in params
    assert "up to date" in run(climbed, "dvc", "status").stdout
    assert run(climbed, "git", "fsck", "--strict").returncode == 0

    table = ar(climbed, "show").stdout
    header = table.splitlines()[0].split()
    assert header[header.index("s1") + 1] == "s2"
    assert "s3" not in header  # nothing was measured there
    assert "scale-bound" in table
    assert "At s2, loss 2.99" in table
    told = ar(climbed, "judge", small["name"]).stdout
    assert "scale-bound" in told
    assert "at s2\nverdict  discarded: Worse by" in told
    assert json.loads(ar(climbed, "judge", small["name"], "--json").stdout)["rungs"]["s2"]["effect"] > 0


def test_a_rung_runs_the_change_and_its_baseline_with_the_rungs_parameters_only(
    climbed: Path, ar: Ar
) -> None:
    good = titled(climbed, ar, "good")
    first = good["rungs"]["s2"]["experiments"][0]
    assert "Ar-Rung: s2" in git(climbed, "log", "-1", "--format=%B", first["rev"])
    assert f"Ar-Candidate: {good['candidate']}" in git(climbed, "log", "-1", "--format=%B", first["rev"])
    changed = git(climbed, "diff", f"{first['rev']}^", first["rev"], "--", "params.yaml")
    lines = [line for line in changed.splitlines() if line[0] in "+-" and "params.yaml" not in line]
    assert sorted(lines) == ["+good: 1", "+size: 2", "-good: 0", "-size: 1"]
    base = next(item for item in shown(climbed, ar)["attempts"] if item["outcome"] == "baseline")
    there = base["rungs"]["s2"]["experiments"]
    assert len(there) == 8
    assert {run_["params"]["params.yaml:size"] for run_ in there} == {2}
    assert {run_["params"]["params.yaml:good"] for run_ in there} == {0}
    assert first["name"] in run(climbed, "dvc", "exp", "list", "--all-commits").stdout
    assert ar(climbed, "log", first["name"]).stdout.startswith("good 0 → 1")
    assert "size: 2" in ar(climbed, "diff", first["name"]).stdout


@pytest.mark.slow
def test_runs_of_different_rungs_never_meet(climbed: Path, ar: Ar) -> None:
    edit(climbed / "program.md", "promote: {rung: s2}\n", "")
    edit(climbed / "program.md", "good: [0, 1]", "good: {low: 1, high: 9}")
    before, proposal = shown(climbed, ar), ar(climbed, "next", "--dry-run").stdout
    done = ar(climbed, "climb", "--to", "s3", "--plain", "--jobs", "2")
    after = shown(climbed, ar)
    assert "s3" in done.stdout
    assert before["sigma"] == after["sigma"]
    without = [[{**item, "rungs": 0} for item in data["attempts"]] for data in (before, after)]
    assert without[0] == without[1]
    assert ar(climbed, "next", "--dry-run").stdout == proposal
    good = titled(climbed, ar, "good")
    assert good["rungs"]["s3"]["verdict"]["decision"] == "promote"
    assert good["rungs"]["s3"]["verdict"]["sigma"] == pytest.approx(3 * before["sigma"], rel=0.4)
    runs = [run_ for item in after["attempts"] for run_ in item["experiments"]]
    assert all(run_["params"]["params.yaml:size"] == 1 for run_ in runs)
    assert not any(run_["name"].startswith("s3-good-0-1-s1") for run_ in good["rungs"]["s2"]["experiments"])
    rows = csv.DictReader(ar(climbed, "show", "--csv").stdout.splitlines())
    assert {row["rung"] for row in rows} == {"", "s2", "s3"}
    again = ar(climbed, "climb", good["name"], "--to", "s3", "--plain")
    assert shown(climbed, ar) == after, again.stdout


def test_a_winner_that_has_not_climbed_is_not_promoted(climbed: Path, ar: Ar) -> None:
    small = titled(climbed, ar, "small")
    edit(climbed / "program.md", "{rung: s2}", "{rung: s3}")
    done = ar(climbed, "promote", small["name"], check=False)
    assert done.returncode == 2
    assert "the branch moved on" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "s4"], "known: s2, s3"),
        (["--to", "s1"], "no rung above the base is called 's1'"),
        (["baseline-s1"], "is the baseline"),
        ([], "nothing good is left to climb to s2"),
    ],
)
def test_what_cannot_climb_is_said(climbed: Path, ar: Ar, arguments: list[str], said: str) -> None:
    done = ar(climbed, "climb", *arguments, "--plain", check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_change_of_what_the_rung_sets_cannot_climb(climbed: Path, ar: Ar) -> None:
    edit(climbed / "program.md", "params: {size: 2}", "params: {size: 2, good: 0}")
    edit(climbed / "program.md", "promote", "#")
    good = titled(climbed, ar, "good")
    done = ar(climbed, "climb", good["name"], "--to", "s2", check=False)
    assert "changes nothing at s2" in done.stderr


@pytest.mark.slow
def test_killed_while_it_climbs_it_carries_on(climbed: Path, ar: Ar) -> None:
    climb = start(climbed, "climb", "--to", "s3", "--plain")
    killed_at(climb, "seed 4")
    ar(climbed, "climb", "--to", "s3", "--plain")
    attempts = shown(climbed, ar)["attempts"]
    there = [run_ for item in attempts for run_ in item["rungs"].get("s3", {}).get("experiments", [])]
    seeds = [(run_["params"]["params.yaml:good"], run_["seed"]) for run_ in there]
    assert len(seeds) == len(set(seeds))
    assert titled(climbed, ar, "good")["rungs"]["s3"]["verdict"]["decision"] == "promote"
    assert git(climbed, "for-each-ref", "refs/ar/queue", "refs/ar/running") == ""


@pytest.mark.slow
def test_a_value_that_hurts_is_tried_nearer_to_the_branchs_before_it_is_called_scale_bound(
    climbed: Path, ar: Ar
) -> None:
    """Killed as the first of them runs, it carries on."""
    edit(climbed / "program.md", "promote: {rung: s2}\n", "")
    edit(climbed / "program.md", "small: [0, 1]", "small: {low: 0.0, high: 1.0}")
    ar(climbed, "next", "--set", "small=1")
    ar(climbed, "run", "-n", "0", "--plain", "--jobs", "2", "--no-promote")
    climb = start(climbed, "climb", "--to", "s2", "--plain")
    told = killed_at(climb, "small-0.5")
    assert "small-0.5" in told[-1], told
    ar(climbed, "climb", "--to", "s2", "--plain")
    rows = [item for item in shown(climbed, ar)["attempts"] if item["verdict"]]
    bound = [item["verdict"]["tried"] for item in rows if item["verdict"].get("tried")]
    assert bound == [[0.5, 0.25]]
    assert "scale-bound: tried 0.5, 0.25" in ar(climbed, "show", env={"COLUMNS": "250"}).stdout
    before = git(climbed, "for-each-ref", "refs/exps")
    ar(climbed, "climb", "--to", "s2", "--plain", check=False)
    assert git(climbed, "for-each-ref", "refs/exps") == before


# -- program.md -------------------------------------------------------------------------------------------


def program(ladder_: str, more: str = "") -> Program:
    return parse(f'---\nobjective: "m.json:loss"\nseed: seed\nladder: {ladder_}\n{more}---\n')


def test_a_ladder_has_its_own_limits(climbed: Path) -> None:
    found = load(climbed)
    assert found.rung("s3").runs == 30
    assert found.timeout("s3") == 30
    assert found.timeout("s2") == found.timeout() == 60
    assert [rung.name for rung in ladder.upto(found, None)] == ["s2", "s3"]
    assert ladder.above(found, None).name == "s2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[{name: d2, params: {depth: 2}}]", "the project as it is"),
        ("[{name: d2}, {name: d2, params: {depth: 4}}]", "used twice"),
        ("[{name: d2}, {name: d4}]", "say what is larger there"),
        ("[{name: d2}, {name: D/4, params: {depth: 4}}]", "lower-case letters"),
        ("[{name: d2}, {name: d4, params: {seed: 4}}]", "sets the seed"),
        ("[{name: d2}, {name: d4, parms: {depth: 4}}]", "unknown key 'ladder[1].parms'"),
        ("[{name: d2}, {name: d4, params: {depth: 4}, budget: {hours: 4}}]", "unknown key"),
    ],
)
def test_a_ladder_that_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadProgram) as error:
        program(text)
    assert said in str(error.value)


def test_a_condition_on_an_unknown_rung_is_refused() -> None:
    with pytest.raises(BadProgram, match=r"promote\.rung is no rung above the base: d9"):
        program("[{name: d2}, {name: d8, params: {depth: 8}}]", "promote: {rung: d9}\n")


def test_a_key_that_the_tree_does_not_have_is_named(climbed: Path, ar: Ar) -> None:
    edit(climbed / "program.md", "params: {size: 3}", "params: {sise: 3}")
    good = titled(climbed, ar, "good")
    done = ar(climbed, "climb", good["name"], "--to", "s3", check=False)
    assert "params.yaml has no key 'sise'" in done.stderr


@pytest.mark.slow
def test_killed_while_it_chooses_it_carries_on_and_confirms_at_the_last_rung(climbed: Path, ar: Ar) -> None:
    """Against the branch as it is, which has `good` already: more of it, and what helps at size 1 alone."""
    edit(climbed / "program.md", "promote: {rung: s2}\n", "")
    edit(climbed / "program.md", "good: [0, 1]", "good: [0, 1, 2, 3]")
    for move in ("good=2", "small=1", "good=3"):
        ar(climbed, "next", "--set", move)
    ar(climbed, "run", "-n", "0", "--plain", "--jobs", "2", "--no-promote")
    climb = start(climbed, "climb", "--all", "--eta", "2", "--plain")
    killed_at(climb, "seed 4")
    ar(climbed, "climb", "--all", "--eta", "2", "--plain")
    attempts = shown(climbed, ar)["attempts"]
    for rung in ("s2", "s3"):
        there = [run_ for item in attempts for run_ in item["rungs"].get(rung, {}).get("experiments", [])]
        params = ("params.yaml:good", "params.yaml:small")
        made = [(*(run_["params"][name] for name in params), run_["seed"]) for run_ in there]
        assert len(made) == len(set(made))
    assert (
        len([run_ for item in attempts for run_ in item["rungs"].get("s3", {}).get("experiments", [])]) <= 30
    )
    confirmed = [item for item in attempts if "s3" in item["rungs"] and item["rungs"]["s3"]["verdict"]]
    assert any(item["rungs"]["s3"]["verdict"]["decision"] == "promote" for item in confirmed)
    told = json.loads(ar(climbed, "show", "--ladder", "--json").stdout)
    assert told["target"] == "s3"
    good = next(item for item in told["ideas"] if item["title"].startswith("good 1"))
    assert good["expected"]["effect"] < 0
    assert git(climbed, "for-each-ref", "refs/ar/queue", "refs/ar/running") == ""
