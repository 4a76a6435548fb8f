"""`make demo`: a real campaign on the lab, in a scratch clone, from baseline to a promoted winner.

The clone has a smaller budget than the lab's, in tokens and in runs, so that a laptop's two cores get
through a few dozen runs in minutes; model, data, harness, ranges and judge are those of the lab. The checkout
that this is started from is only read.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
CLONE = HERE / "demo"
BUDGET = {"tokens": 49_152, "eval_tokens": 8_192}
RUNS = 52
MINUTES = 4.7


def main() -> int:
    began = time.monotonic()
    say("A scratch clone under demo/; this checkout and its branches stay as they are")
    shutil.rmtree(CLONE, ignore_errors=True)
    run("git", "clone", "--quiet", "--no-hardlinks", str(HERE), str(CLONE), at=HERE)
    for key, fallback in (("user.name", "ar demo"), ("user.email", "demo@localhost")):
        if subprocess.run(
            ["git", "config", key], cwd=CLONE, stdout=subprocess.DEVNULL, check=False
        ).returncode:
            run("git", "config", key, fallback)

    say(f"The demo's budget: {BUDGET['tokens']:,} training tokens a run")
    params = CLONE / "params.yaml"
    text = params.read_text()
    for key, value in BUDGET.items():
        line = next(line for line in text.splitlines() if line.startswith(f"  {key}:"))
        text = text.replace(line, f"  {key}: {value}")
    params.write_text(text)
    program = CLONE / "program.md"
    program.write_text(re.sub(r"runs: \d+", f"runs: {RUNS}", program.read_text(), count=1))
    run("git", "commit", "--quiet", "--all", "--message", f"Demo: {BUDGET['tokens']} training tokens a run")

    say("Preparing the data: the Python standard library's source, a tokenizer, token shards")
    run("dvc", "repro", "--quiet", "prepare")
    run("git", "add", "--update")
    run("git", "commit", "--quiet", "--allow-empty", "--message", "Demo: data prepared")
    start = output("git", "rev-parse", "HEAD")

    run("ar", "allow")  # it is this checkout's own: what the demo runs is what `make demo` was asked for
    say("The campaign: baseline, proposals, verdicts. Ctrl-C ends it early and loses nothing")
    jobs = str(min(4, max(1, (os.cpu_count() or 2))))
    run("ar", "run", "--jobs", jobs, "--hours", f"{MINUTES / 60:.4f}")

    say("The history (ar show)")
    run("ar", "show")
    merges = output("git", "rev-list", "--merges", "--first-parent", f"{start}..HEAD").split()
    if not merges:
        print("No change was better beyond noise this time; the branch stays as it was.")
        return 0
    for merge in reversed(merges):
        say(f"Promoted: {output('git', 'show', '-s', '--format=%s', merge)}")
        run("git", "--no-pager", "diff", "--unified=0", f"{merge}^1", merge, "--", "params.yaml", "model")
    run("ar", "plot", "--output", "progress.png")
    run("dvc", "status")
    say(f"Done in {(time.monotonic() - began) / 60:.1f} minutes")
    print(f"Progress chart: {os.path.relpath(CLONE / 'progress.png')}")
    print("Look around: cd demo && git log --oneline --graph && ar show && ar log NAME && ar diff NAME")
    return 0


def say(text: str) -> None:
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def run(*args: str, at: Path = CLONE) -> None:
    done = subprocess.run(args, cwd=at, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(args)} exited with {done.returncode}")


def output(*args: str) -> str:
    return subprocess.run(args, cwd=CLONE, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
