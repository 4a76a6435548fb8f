"""What a branch kept, measured again: which keeps were real, and a branch of those that are."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, commit, edit, git, names_of, run, snapshot, start, wait_for

from ar.campaign.audit import audit
from ar.campaign.campaign import Campaign
from ar.git import refs
from ar.history import reader
from ar.history.records import Finding
from ar.judge import keeps as judge
from ar.judge.evidence import Candidate, Run
from ar.judge.keeps import Evidence
from ar.judge.noise import Noise
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


@pytest.fixture
def greedy(bare: Path, ar: Ar) -> Path:
    """A branch of four keeps, of which each was claimed to help; the programme came after it."""
    for name in ("c.yaml", "m.json", "dvc.lock"):
        (bare / name).unlink()
    (bare / "dvc.yaml").unlink()
    (bare / "fit.awk").write_text(STAGE)
    (bare / "params.yaml").write_text("a: 0\nb: 0\nc: 0\nd: 0\nseed: 1\n")
    (bare / ".gitignore").write_text("/results.tsv\n")
    commit(bare, "Where the loop began")
    rows = [("keep", 10.0, "baseline")]
    heads = [git(bare, "rev-parse", "--short", "HEAD")]
    for key, value in zip("abcd", (9.6, 9.5, 9.4, 9.1), strict=True):
        edit(bare / "params.yaml", f"{key}: 0", f"{key}: 1")
        commit(bare, f"Set {key}")
        heads.append(git(bare, "rev-parse", "--short", "HEAD"))
        rows.append(("keep", value, f"Set {key}"))
    lines = [f"{rev}\t{value}\t44.0\t{status}\t{title}" for rev, (status, value, title) in zip(heads, rows, strict=True)]
    (bare / "results.tsv").write_text("\n".join(["commit\tval_loss\tmemory_gb\tstatus\tdescription", *lines]) + "\n")
    stage = "stages:\n  fit:\n    cmd: awk -f fit.awk params.yaml\n    deps: [fit.awk]\n    params: [a, b, c, d, seed]\n"
    (bare / "dvc.yaml").write_text(f"{stage}    metrics:\n    - m.json: {{cache: false}}\n")
    (bare / "program.md").write_text(PROGRAM)
    run(bare, "dvc", "repro", "-q")
    commit(bare, "Declare the stage, and what is looked for")
    ar(bare, "import", "results.tsv")
    return bare


def _report(root: Path, ar: Ar) -> dict[str, Any]:
    return json.loads(ar(root, "audit", "--keeps", "--json").stdout)  # type: ignore[no-any-return]


def _findings(report: dict[str, Any]) -> dict[str, str]:
    return {keep["title"].removeprefix("Set "): keep["finding"] for keep in report["keeps"]}


def test_an_audit_tells_real_keeps_from_others(greedy: Path, ar: Ar) -> None:
    before = snapshot(greedy)
    out = ar(greedy, "audit", "--keeps", "--plain").stdout
    print(out)
    report = _report(greedy, ar)
    assert _findings(report) == TRUTH
    assert snapshot(greedy) == before
