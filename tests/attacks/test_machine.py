"""A stage after the machine, and after whoever reads what it wrote; then every view of what came of it."""

from __future__ import annotations

import json
import re
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import table
from helpers import Ar, git, run
from night import Night, make

from ar.project.program import Sandbox
from ar.runs import sandbox

PIPELINE = """\
stages:
  fit:
    cmd: python stage.py
    deps: [stage.py]
    params: [attempt, seed]
    outs: [out, model.txt: {cache: false}]
    metrics: [m.json: {cache: false}, c.yaml: {cache: false}]
    plots: [loss.csv: {cache: false}]
"""
PROGRAM = """\
---
objective: {metric: "m.json:val_loss", direction: minimize}
guards: [{metric: "c.yaml:cost", direction: minimize}]
curve: {file: loss.csv, value: loss, against: [step]}
seed: seed
scope: {params: [attempt]}
search: {attempt: [honest, machine]}
budget: {runs: 200, timeout: 60s}
sandbox: {disk: 200MB}
---
"""
RESULTS, MACHINE = table.of("results"), table.of("machine")
pytestmark = pytest.mark.xdist_group("attacks on the machine")  # one night is enough


@pytest.fixture(scope="module")
def night(isolated_home: Path) -> Iterator[Night]:
    if not sandbox.find(Sandbox()).program:
        pytest.skip("no sandbox on this machine")
    stage = Path(__file__).with_name("stage.py").read_text()
    # Not under /tmp: of that, the sandbox has one of its own.
    with tempfile.TemporaryDirectory(prefix="ar-tests-", dir="/var/tmp") as name:
        root = Path(name, "project")
        make(root, {
            "dvc.yaml": PIPELINE, "params.yaml": "attempt: honest\nseed: 1\n", "program.md": PROGRAM,
            "stage.py": stage,
        })  # fmt: skip
        run(
            root, "dvc", "remote", "add", "--local", "--default", "planted", "ssh://nobody:planted@localhost/"
        )
        queued = {it: {"params.yaml": f"attempt: {it}\nseed: 1\n"} for it in ("honest", "machine", *RESULTS)}
        with closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind("\0ar-attacks-test")
            server.listen()
            yield Night(root, queued)


def test_an_honest_run_is_as_ever(night: Night) -> None:
    assert night.verdict("honest") == "contained", night.said("honest")


@pytest.mark.parametrize("name", RESULTS)
def test_whatever_a_run_left_is_its_own_failure(night: Night, name: str) -> None:
    assert night.verdict(name) == RESULTS[name], night.said(name)


def test_each_attack_on_the_machine_is_in_the_table(night: Night) -> None:
    tried = re.findall(r"^(?:held|ESCAPED) try_(\w+)", night.notes["machine"]["log"], re.MULTILINE)
    assert sorted([*tried, "plant_in_shared_places"]) == sorted(MACHINE)


@pytest.mark.parametrize("name", MACHINE)
def test_the_machine_is_out_of_reach(night: Night, name: str) -> None:
    assert f"ESCAPED try_{name}\n" not in night.notes["machine"]["log"] + "\n"
    assert night.runs["machine"]["status"] == "succeeded", night.said("machine")


def test_nothing_is_left_outside(night: Night) -> None:
    assert not [place for place in ("/tmp", "/dev/shm") if Path(place, "ar-attacks-planted").exists()]
    marked = [path for path in night.root.rglob("*") if not path.is_symlink() and path.is_file()]
    assert not [path for path in marked if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)]
    assert git(night.root, "status", "--porcelain") == ""
    assert git(night.root, "for-each-ref", "refs/ar") == ""


@pytest.mark.parametrize(
    "command",
    [("show",), ("show", "--csv", "--seeds"), ("show", "--time-to"), ("doctor",), ("report", "-o", "r.html")],
)
def test_every_view_stands_it(night: Night, ar: Ar, command: tuple[str, ...]) -> None:
    done = ar(night.root, *command, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode in (0, 1, 2)
    (night.root / "r.html").unlink(missing_ok=True)


def test_what_is_shown_is_what_was_measured(night: Night, ar: Ar) -> None:
    shown = json.loads(ar(night.root, "show", "--json").stdout)
    values = {one["value"] for one in shown["attempts"] if one["outcome"] != "crashed"}
    assert values <= {None, 1.0}
