"""A population of simulated agents in one real campaign: good, expensive, repetitive, wild and hanging ones
as commands, and one over Claude's client library against a loopback server.

The stage sleeps, so that not this machine's cores decide. Prints, from the campaign's records, how much of
the time its slots were busy from the first run's begin to the last proposal, what was spent against the
budget, and for each agent its proposals, what was confirmed of them, what they cost, and its learned share.

    python benchmarks/population.py --seconds 8 --usd 8 --jobs 2
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers import allow
from messages_api import Reply, Request, Server, proposes
from simulated import agents, measure, project

from ar.agents import bandit, turns
from ar.campaign.campaign import Campaign
from ar.project.project import Project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="for which a stage sleeps")
    parser.add_argument("--usd", type=float, default=8.0, help="the budget of all agents")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fixed", action="store_true", help="weights of 1 each, not learned ones")
    parser.add_argument("--folder", type=Path, help="keep the project there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ar-bench-") as scratch, Server([answer], endless=True) as server:
        root = args.folder or Path(scratch, "project")
        os.environ.update(server.environment)
        specs = agents("1" if args.fixed else "learned")
        specs.append({"kind": "claude", **{key: specs[0][key] for key in ("timeout", "weight", "prices")}})
        project(root, args.seconds, specs, args.usd, args.runs)
        print(run(root, args.jobs))
        found = measure(root, args.jobs)
        print(f"slots busy {found.busy:.1%}; spent {found.spent:.2f} of {args.usd:g} USD", end="")
        print(f" (the dearest answer {found.dearest:.2f})")
        table(root)


def answer(_: Request) -> Reply:
    """Claude's: like the good agent's."""
    words = ["".join(random.choices("bcdfghklmnprst", k=6)) for _ in range(12)]
    text = "\n".join([*words, f"gain {0.3 if random.random() < 0.4 else 0.0}"])
    edit = {"path": f"model/{words[0]}.txt", "old": "", "new": text + "\n"}
    return proposes(" ".join(words[:4]), hypothesis=" ".join(words[4:]), edits=[edit])


def run(root: Path, jobs: int) -> str:
    """The campaign, until its budget ends; what it printed."""
    allow(root)
    argv = [sys.executable, "-m", "ar", "run", "--plain", "--jobs", str(jobs)]
    done = subprocess.run(argv, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout


def table(root: Path) -> None:
    """Each agent, a line."""
    campaign = Campaign(Project.open(root))
    history, paid = campaign.history(), campaign.books.read()
    shares, known = turns.shares(campaign.program.agents, history, paid.agents), bandit.payoffs(history)
    print(f"{'agent':<22}{'proposals':>10}{'gained':>8}{'USD':>7}{'share':>7}")
    for name, share in shares.items():
        made = sum(item.agent == name for item in history.tried if not item.stack)
        gained = sum(payoff.gain for payoff in known if payoff.agent == name)
        usd = paid.agents[name].usd if name in paid.agents else 0.0
        print(f"{name:<22}{made:>10}{gained:>8.2f}{usd or 0.0:>7.2f}{share:>7.0%}")


if __name__ == "__main__":
    main()
