"""Libraries that keep caches and logs find writable places inside the sandbox, and wait for no server."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from helpers import commit, edit, git, run_next

from ar.campaign.campaign import Campaign
from ar.history.attempts import find
from ar.history.records import Experiment, Status
from ar.project.program import Sandbox
from ar.project.project import Project
from ar.runs import sandbox

ENDS = """
import json
json.dump({"val_loss": 1.0}, open("m.json", "w"))
open("c.yaml", "w").write("cost: 1")
"""
# As the libraries themselves choose them.
PLACES = """
import os, pathlib
home = pathlib.Path.home()
for place in (home / ".cache/torch", home / ".cache/huggingface", home / ".config/matplotlib",
              home / ".triton", home / ".local/share/wandb", os.environ["DVC_SITE_CACHE_DIR"]):
    pathlib.Path(place).mkdir(parents=True)
assert os.environ["WANDB_MODE"] == "offline" and os.access(os.environ["WANDB_DIR"], os.W_OK)
assert os.environ["HF_HUB_OFFLINE"] == "1"
"""
DVCLIVE = """
from dvclive import Live
with Live() as live:
    for step in range(2):
        live.log_metric("loss", 1 / (step + 1))
        live.next_step()
"""
PLOT = """
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
plt.plot([1, 2])
plt.savefig("curve.png")
"""


@pytest.fixture(autouse=True)
def needs_bwrap() -> None:
    if why := sandbox.find(Sandbox()).why:
        pytest.skip(f"no sandbox on this machine: {why}")


def measure(project: Path, code: str) -> Experiment:
    (project / "stage.py").write_text(code + ENDS)
    edit(project / "dvc.yaml", "awk -f fit.awk params.yaml", "python stage.py")
    commit(project, "A stage in Python")
    campaign = Campaign(Project.open(project))
    name = campaign.measure_incumbent(campaign.history(), 1)
    run_next(project)
    return find(campaign.history(), name)[1]


@pytest.mark.parametrize(
    ("code", "module"),
    [(PLACES, ""), (DVCLIVE, "dvclive"), (PLOT, "matplotlib")],
    ids=["places", "dvclive", "plot"],
)
def test_what_writes_caches_runs_inside(project: Path, code: str, module: str) -> None:
    if module and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    ended = measure(project, code)
    assert ended.note
    assert ended.status is Status.SUCCEEDED, ended.note.log
    assert git(project, "diff", "HEAD", ended.rev, "--", "dvc.yaml") == ""
