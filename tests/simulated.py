"""A campaign of simulated agents, good ones and bad ones, and what its records say of it afterwards."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import commit, run
from simulated_agent import COSTS

from ar.agents import account
from ar.campaign.campaign import Campaign
from ar.git import refs
from ar.history.records import History
from ar.project.project import Project

STAGE = """\
sleep $1
! grep -qs crash model/*.txt || exit 1
awk -v seed=$(awk '/^seed:/ {print $2}' params.yaml) '
  /^gain/ {gain += $2}
  /^diverge/ {diverged = 1}
  END {
    loss = 10 - gain + 0.05 * (((seed * 7919) % 101) / 101 - 0.5)
    printf("{\\"loss\\": %s}\\n", diverged ? "NaN" : loss) > "m.json"
  }' model/*.txt
"""
PIPELINE = """\
stages:
  fit:
    cmd: sh fit.sh SECONDS
    deps: [fit.sh, model]
    params: [seed]
    metrics: [{m.json: {cache: false}}]
"""
PROGRAM = """\
---
objective: {metric: "m.json:loss", direction: minimize}
seed: seed
scope: {files: ["model/**"], params: [x]}
budget: {runs: RUNS, usd: USD, timeout: 60s}
agents: AGENTS
---
A population of simulated agents.
"""


@dataclass(frozen=True)
class Found:
    """What the records of a campaign say.

    Args:
        busy: part of the time that slots were at work, from the first run's begin to the last answer.
        spent, dearest: US dollars of all calls, and of the dearest one.
    """

    busy: float
    spent: float
    dearest: float


def agents(weight: str, timeout: float = 20, kinds: Sequence[str] = tuple(COSTS)) -> list[dict[str, Any]]:
    """The entries of `agents:`: a command of each kind."""
    script = str(Path(__file__).with_name("simulated_agent.py"))
    prices = {"input": 4, "cached": 0.4, "output": 20}
    share = weight if weight == "learned" else float(weight)
    shared: dict[str, Any] = {"timeout": timeout, "weight": share, "prices": prices}
    return [
        {"kind": "command", "lane": kind, "command": [sys.executable, script, kind], **shared}
        for kind in kinds
    ]


def project(root: Path, seconds: float, specs: list[dict[str, Any]], usd: float, runs: int) -> None:
    """One whose loss falls by what the files of `model/` say, committed with what a run would leave."""
    (root / "model").mkdir(parents=True)
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    settings = {"RUNS": str(runs), "USD": f"{usd:g}", "AGENTS": json.dumps(specs)}
    program = PROGRAM
    for name, value in settings.items():
        program = program.replace(name, value)
    for name, text in {
        "fit.sh": STAGE,
        "dvc.yaml": PIPELINE.replace("SECONDS", f"{seconds:g}"),
        "params.yaml": "x: 0.5\nseed: 1\n",
        "program.md": program,
        "model/start.txt": "start\n",
    }.items():
        (root / name).write_text(text, encoding="utf-8")
    run(root, "dvc", "repro", "-q")
    commit(root, "Start")


def measure(root: Path, jobs: int) -> Found:
    """From the records of a campaign."""
    campaign = Campaign(Project.open(root))
    history = campaign.history()
    spans = _spans(history)
    calls = list(campaign.repo.log(refs.SPEND))
    begin, end = min(began for began, _ in spans), max(commit.time for commit in calls)
    worked = sum(max(0.0, min(ended, end) - began) for began, ended in spans)
    amounts = [json.loads(commit.message.partition("\n\n")[2]) for commit in calls]
    closed = [item["spend"].get("usd") or 0.0 for item in amounts if not item.get("open")]
    spent = account.total(campaign.repo).usd or 0.0
    return Found(worked / (jobs * (end - begin)), spent, max(closed))


def _spans(history: History) -> list[tuple[float, float]]:
    """Unix times at which stages began and ended."""
    notes = [run.note for run in history.everything if run.note]
    return [(note.finished - note.seconds, note.finished) for note in notes if note.finished and note.seconds]
