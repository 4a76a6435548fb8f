"""Record a small campaign that holds an attempt of each kind: `python scripts/record_campaign.py FOLDER`.

Run with the version of `ar` that is to be recorded. It makes a project in FOLDER, whose path the queue entry
will hold, and writes `campaign.bundle` and `campaign.json` beside it, for tests/test_upgrade.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Effects are known: `twin` helps only while `extra` does not, `heavy` breaks the guard.
STAGE = """\
/^[a-z]+:/ {p[$1] = $2}
END {
  if (p["mode:"] == "crash") {print "no such layer" > "/dev/stderr"; exit 3}
  if (p["mode:"] ~ /hang/) system("sleep 300")
  noise = 0.03 * (((p["seed:"] * 7919) % 101) / 101 - 0.5)
  loss = 5 - p["size:"] - 0.2 * p["good:"] - 0.15 * p["extra:"] - 0.15 * p["mild:"] + 0.3 * p["harm:"]
  loss += noise - 0.15 * p["twin:"] * (p["extra:"] == 0) - 0.3 * p["heavy:"]
  printf("{\\"loss\\": %.6f, \\"test\\": %.6f}\\n", loss, loss + 0.1) > "m.json"
  printf("cost: %.3f\\n", 1 + p["heavy:"] + 0.001 * p["seed:"]) > "c.yaml"
  print "loss", loss
}
"""
PIPELINE = """\
stages:
  fit:
    cmd: awk -f fit.awk params.yaml
    deps: [fit.awk]
    params: [good, extra, mild, twin, harm, heavy, mode, size, seed]
    metrics:
    - m.json: {cache: false}
    - c.yaml: {cache: false}
"""
PARAMS = "good: 0\nextra: 0\nmild: 0\ntwin: 0\nharm: 0.0\nheavy: 0\nmode: plain\nsize: 1\nseed: 1\n"
# Another value whenever its briefing is longer; it tells what it cost as `claude -p` does.
AGENT = r"""
sed -i "s/^harm: .*/harm: 0.7$(wc -l)/" params.yaml
printf '%s\n' '{"type": "result", "result": "Add most of the harm\n\nIt may help.\nExpected: -0.1",
  "usage": {"input_tokens": 5300, "cache_read_input_tokens": 4800, "output_tokens": 120}}' | tr '\n' ' '
"""
PROGRAM = """\
---
objective: {metric: "m.json:loss", direction: minimize}
guards:
  - {metric: "c.yaml:cost", direction: minimize}
holdout: "m.json:test"
seed: seed
scope: {files: [fit.awk], params: [good, extra, mild, twin, harm, heavy, mode]}
search:
  harm: {low: 0.1, high: 1.0}
agents:
  - {kind: command, command: sh agent.sh, prices: {input: 1.25, cached: 0.125, output: 10}}
  - {kind: optuna}
ladder:
  - {name: s1}
  - {name: s2, params: {size: 2}}
budget: {runs: 200, tokens: 1_000_000, timeout: 15s}
---
Lower the loss at every size.
"""
FILES = {"fit.awk": STAGE, "dvc.yaml": PIPELINE, "params.yaml": PARAMS, "agent.sh": AGENT} | {
    "program.md": PROGRAM,
    "notes.txt": "fixed\n",
}
ROOT = Path(sys.argv[1]).resolve()
HOME = ROOT.with_name("home")
ENV = {
    **os.environ,
    "HOME": str(HOME),
    "GIT_CONFIG_NOSYSTEM": "1",
    "DVC_NO_ANALYTICS": "1",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def main() -> None:
    make_project()
    ar("baseline")
    propose("good=1")
    ar("run", "-n", "0")  # promoted
    (ROOT / "fit.awk").write_text(STAGE.replace('"loss", loss\n', '"loss", loss - 9 > "notes.txt"\n'))
    ar("next", "--from-worktree", "-m", "Write the result elsewhere.")  # tampered
    run("git", "checkout", "-q", "fit.awk")
    propose("harm=1.0", "heavy=1", "mode=crash", "mode=hang")  # discarded twice, crashed, timed out
    ar("run", "-n", "0")
    cancel_one()
    propose("harm=0.5")
    ar("worker")
    ar("promote", named("→ 1.0"), "--force")  # 0.5 is left behind undecided: superseded
    ar("revert", named("→ 1.0"))
    ar("run", "-n", "0")  # reverted
    propose("extra=1", "mild=1", "twin=1")
    ar("run", "-n", "0", "--no-promote")
    ar("stack", named("extra"), named("mild"), "--no-trim")  # stacked
    ar("climb", named("good"), "--to", "s2")
    ar("run", "-n", "2")  # one by each agent; `twin` lapses
    run("dvc", "exp", "run", "-q", "-S", "harm=0.125", "--name", "of-my-own")
    run("git", "checkout", "-q", ".")
    propose("harm=0.25")  # waits
    write()


def make_project() -> None:
    HOME.mkdir(parents=True)
    (HOME / ".gitconfig").write_text(
        "[user]\n\tname = Tester\n\temail = tester@example.com\n[init]\n\tdefaultBranch = main\n"
    )
    ROOT.mkdir()
    run("git", "init", "-q")
    run("dvc", "init", "-q")
    for name, text in FILES.items():
        (ROOT / name).write_text(text)
    run("dvc", "repro", "-q")
    run("git", "add", "-A")
    run("git", "commit", "-qm", "Start")


def cancel_one() -> None:
    propose("mode=hanging")
    name = named("hanging")
    worker = subprocess.Popen([sys.executable, "-m", "ar", "worker"], cwd=ROOT, env=ENV)
    while next(row for row in shown()["attempts"] if row["name"] == name)["outcome"] != "running":
        time.sleep(0.5)
    ar("stop", name)
    worker.wait()


def write() -> None:
    """The bundle, and what is shown of it without the parameters, which are long."""
    names = run("git", "for-each-ref", "--format=%(refname)").split()
    kept = [name for name in names if not name.startswith("refs/exps/exec/")]
    run("git", "bundle", "create", "-q", str(ROOT.with_name("campaign.bundle")), "HEAD", *kept)
    known = shown()
    for row in known["attempts"]:
        for experiment in (
            *row["experiments"],
            *(e for r in row["rungs"].values() for e in r["experiments"]),
        ):
            del experiment["params"]
    ROOT.with_name("campaign.json").write_text(json.dumps(known, ensure_ascii=False, separators=(",", ":")))


def propose(*settings: str) -> None:
    for setting in settings:
        ar("next", "--set", setting, "-m", f"Try {setting}.")


def named(words: str) -> str:
    return next(str(row["name"]) for row in shown()["attempts"] if words in row["title"])


def shown() -> dict[str, Any]:
    return json.loads(ar("show", "--json"))  # type: ignore[no-any-return]


def ar(*args: str) -> str:
    return run(sys.executable, "-m", "ar", *args)


def run(*args: str) -> str:
    return subprocess.run(args, cwd=ROOT, env=ENV, text=True, stdout=subprocess.PIPE, check=True).stdout


if __name__ == "__main__":
    main()
