"""A world as a DVC project, searched by `ar run` itself: git, DVC, workers and all."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from search_ours import FIRST_SEED, Result
from search_worlds import World

STAGE = """\
import json, sys
sys.path.insert(0, {here!r})
import yaml
from search_worlds import world
params = yaml.safe_load(open("params.yaml"))
seed = params.pop("seed")
found = world({kind!r}, {number}, {sigma!r}, {correlation!r}, {smooth!r}).run(params, seed)
if found is None:
    sys.exit("crashed")
json.dump({{"loss": found[0], "cost": found[1]}}, open("metrics.json", "w"))
"""
AR = Path(sys.executable).with_name("ar")


def played(world: World, budget: int) -> Result:
    """What `ar run` makes of a world within a budget of runs; `seconds` are of wall time, per run."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(world, budget, root)
        started = time.perf_counter()
        _run(root, str(AR), "run", "--plain")
        seconds = time.perf_counter() - started
        shown = json.loads(_run(root, str(AR), "show", "--json"))
        branch = yaml.safe_load((root / "params.yaml").read_text())
        branch.pop("seed")
        steps = [
            world.true(_params(root, rev))
            for rev in _run(root, "git", "rev-list", "--first-parent", "HEAD").split()
        ]
        false = sum(new is None or old is None or new >= old for new, old in itertools.pairwise(steps))
        promoted = sum(item["outcome"] == "promoted" for item in shown["attempts"])
        return Result(world.share(branch), promoted, false, seconds / budget)


def make(world: World, budget: int, root: Path) -> None:
    """Write the project, measure it once and commit it."""
    stage: dict[str, Any] = {
        "cmd": f"{sys.executable} stage.py",
        "deps": ["stage.py"],
        "params": ["seed", *world.default],
        "metrics": [{"metrics.json": {"cache": False}}],
    }
    program: dict[str, Any] = {
        "objective": {"metric": "metrics.json:loss", "direction": "minimize"},
        "seed": "seed",
        "scope": {"params": list(world.default)},
        "search": {name: _range(within) for name, within in world.space.items()},
        "budget": {"runs": budget, "timeout": "1m"},
        "sandbox": "off",
    }
    if world.has_guard:
        program["guards"] = [{"metric": "metrics.json:cost", "direction": "minimize"}]
    names = {"here": str(Path(__file__).parent), "kind": world.kind, "number": world.number}
    noise = {"sigma": world.sigma, "correlation": world.correlation, "smooth": world.smooth}
    texts = {
        "stage.py": STAGE.format(**names, **noise),
        "params.yaml": yaml.safe_dump({"seed": FIRST_SEED, **world.default}, sort_keys=False),
        "dvc.yaml": yaml.safe_dump({"stages": {"train": stage}}, sort_keys=False),
        "program.md": f"---\n{yaml.safe_dump(program, sort_keys=False)}---\nLower the loss.\n",
    }
    for name, text in texts.items():
        (root / name).write_text(text)
    for command in (
        "git init -q -b main",
        "dvc init -q",
        "dvc repro -q",
        "git add -A",
        "git commit -qm Start",
        f"{AR} allow",
    ):
        _run(root, *command.split())


def _range(within: Any) -> Any:
    if within.choices:
        return list(within.choices)
    return {"low": within.low, "high": within.high} | ({"log": True} if within.log else {})


def _params(root: Path, rev: str) -> dict[str, Any]:
    params: dict[str, Any] = yaml.safe_load(_run(root, "git", "show", f"{rev}:params.yaml"))
    params.pop("seed")
    return params


def _run(root: Path, *command: str) -> str:
    people = {
        f"GIT_{role}_{what}": "benchmark" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    path = f"{AR.parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **people, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(command, cwd=root, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
