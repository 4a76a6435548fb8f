"""A DVC project whose only stage sleeps: what remains of an experiment's time is ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

STAGE = """\
began=$(date +%s.%N)
sleep ${1:-0}
echo "{\\"loss\\": 1.5, \\"began\\": $began, \\"ended\\": $(date +%s.%N)}" > m.json
"""
PIPELINE = """\
stages:
  fit:
    cmd: sh fit.sh SECONDS
    deps: [fit.sh]
    params: [x, seed]
    metrics: [{m.json: {cache: false}}]
"""
PROGRAM = """\
---
objective: {metric: "m.json:loss", direction: minimize}
seed: seed
scope: {params: [x]}
search: {x: {low: 0.0, high: 1.0}}
budget: {runs: BUDGET, timeout: 60s}
---
Nothing to find.
"""


def project(root: Path, seconds: float = 0, budget: int = 1000) -> Path:
    """One whose stage does nothing for so many seconds, committed with what a run would leave."""
    root.mkdir(parents=True)
    call(root, "git", "init", "-q")
    call(root, "git", "config", "user.email", "bench@example.com")
    call(root, "git", "config", "user.name", "Bench")
    call(root, "dvc", "init", "-q")
    (root / "fit.sh").write_text(STAGE)
    (root / "dvc.yaml").write_text(PIPELINE.replace("SECONDS", f"{seconds:g}"))
    (root / "params.yaml").write_text("x: 0.5\nseed: 1\n")
    (root / "program.md").write_text(PROGRAM.replace("BUDGET", str(budget)))
    (root / "m.json").write_text('{"loss": 1.5, "began": 0, "ended": 0}\n')
    call(root, "dvc", "commit", "-fq")
    call(root, "git", "add", "-A")
    call(root, "git", "commit", "-qm", "Start")
    return root


def call(root: Path, *argv: str) -> str:
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{argv} exited with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout
