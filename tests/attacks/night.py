"""A project and a night on it: one worker runs all attempts, and what became of each is read."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers import allow, commit, git, run, runs_of

WORK = """
import json, sys
from pathlib import Path
from ar.campaign.campaign import Campaign
from ar.git.repo import Repo
from ar.history.messages import Message
from ar.project.project import Project
from ar.runs import queue
from ar.runs.worker import Worker

root, queued = Path(sys.argv[1]), json.loads(sys.argv[2])
repo = Repo.open(root)
campaign = Campaign(Project.open(root))
worker = Worker(repo)
for number, (name, files) in enumerate(queued.items()):
    tree = repo.write_tree("HEAD", {path: text.encode() for path, text in files.items()})
    message = Message(name, agent="human", candidate=f"{number:016x}", seed=1)
    run = f"{name.replace('_', '-')}-{number}"
    queue.put(campaign.project, campaign.pipeline, tree, repo.head(), message, run)
    worker.run_next()
"""


def make(root: Path, files: Mapping[str, str]) -> None:
    """A DVC project of these files, run once and committed."""
    root.mkdir(parents=True)
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    run(root, "dvc", "repro", "-q", env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
    commit(root, "Start")
    allow(root)


class Night:
    """What became of attempts, each a run of the project's tree with other parameters."""

    def __init__(self, root: Path, queued: Mapping[str, Mapping[str, str]]) -> None:
        self.root = root
        run(root, sys.executable, "-c", WORK, str(root), json.dumps(queued))
        self.runs: dict[str, dict[str, Any]] = {
            name.rpartition("-")[0].replace("-", "_"): one for name, one in runs_of(root).items()
        }
        notes = {name: git(root, "notes", "--ref=ar", "show", one["rev"]) for name, one in self.runs.items()}
        self.notes = {name: json.loads(text) for name, text in notes.items()}

    def verdict(self, name: str, honest: float = 1.0) -> str:
        """`contained` where a run gave what an honest one gives, `refused` where it gave nothing."""
        one, note = self.runs[name], self.notes[name]
        if "ESCAPED" in note.get("log", ""):
            return "got through"
        if one["status"] != "succeeded":
            return "refused"
        return "contained" if one["metrics"].get("m.json:val_loss") == honest else "got through"

    def said(self, name: str) -> tuple[str, str]:
        """How a run ended and the end of what it printed, for a failure's message."""
        return str(self.runs[name]["reason"]), str(self.notes[name].get("log", ""))[-500:]
