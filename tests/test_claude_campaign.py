"""Claude in a real campaign: from a question over a refused proposal to a judged experiment, and no secret
anywhere on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, allow, attempts_of, commit, edit, git, run
from messages_api import KEY, Request, Server, calls, fails, proposes, says

from ar.agents import account, api
from ar.git.repo import Repo
from ar.history.spend import Spend

OTHER = "zq8Xk2Lm9Pv4Rt7Yw1"  # a secret that no environment knows, in a file of the project
GPT = "# The model: one constant.\nSHIFT = 0.0\n"
FIT = """\
/^x:/ {x = $2}
/^seed:/ {seed = $2}
/^SHIFT/ {shift = $3}
END {
  noise = ((seed * 7919) % 101) / 101 - 0.5
  loss = (x + shift - 3) ^ 2 + 0.01 * noise
  printf("{\\"val_loss\\": %.6f, \\"test_loss\\": 0.123457}\\n", loss) > "m.json"
  print "step,loss\\n1,9.5\\n2," x + shift > "loss.csv"
  print "{\\"test_loss\\": 0.123457}"
  print "on the other documents 0.12346"
}
"""
PIPELINE = f"""\
stages:
  fit:
    cmd: >-
      printf 'key %s%s%s\\n' {KEY[:20]} {KEY[20:40]} {KEY[40:]} &&
      echo "leaked $(env | grep -c ANTHROPIC)" &&
      awk -f fit.awk params.yaml model/gpt.py
    deps: [fit.awk, model/gpt.py]
    params: [x, seed]
    metrics:
    - m.json: {{cache: false}}
    plots:
    - loss.csv: {{cache: false}}
"""
PROGRAM = """\
---
objective: {metric: "m.json:val_loss", direction: minimize}
holdout: "m.json:test_loss"
seed: seed
scope: {files: ["model/**"], params: [x]}
search:
  x: {low: 0.5, high: 6.0}
agent: {kind: claude, prices: {input: 4, cached: 0.4, output: 20}}
budget: {runs: 200, timeout: 60s}
---
Find the floor of the bowl.
"""


@pytest.fixture
def bowl(tmp_path: Path) -> Path:
    """A project with code to change, secrets in files and in what a run prints, and a holdout."""
    root = tmp_path / "bowl"
    (root / "model").mkdir(parents=True)
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    for name, text in {
        "fit.awk": FIT,
        "dvc.yaml": PIPELINE,
        "program.md": PROGRAM,
        "params.yaml": "x: 1.5\nseed: 1\n",
        "model/gpt.py": GPT,
        "config.ini": f"[wandb]\napi_key = {OTHER}\n",
        ".gitignore": "keys.txt\n",
        "keys.txt": KEY,
    }.items():
        (root / name).write_text(text)
    run(root, "dvc", "repro", "-q")
    commit(root, "Start")
    return root


def test_from_question_to_verdict_without_a_leak(bowl: Path, ar: Ar) -> None:
    for value in ("1.4", "1.2"):
        ar(bowl, "next", "--set", f"x={value}", "-m", f"Further left may help, says {KEY}.")
    printed = [ar(bowl, "run", "-n", "0", "--plain").stdout]
    names = [item["name"] for item in attempts_of(bowl) if item["outcome"] != "baseline"]
    assert len(names) == 2

    def edit(path: str, old: str, new: str) -> list[dict[str, str]]:
        return [{"path": path, "old": old, "new": new}]

    def look(request: Request) -> Any:
        assert all(name in json.dumps(request["messages"][0]) for name in names)
        files = [
            ("read_file", {"path": path, "start": 1, "lines": 50}) for path in ("model/gpt.py", "config.ini")
        ]
        return calls(*files, ("read_file", {"path": "m.json", "start": 1, "lines": 50}))

    better = edit("model/gpt.py", "SHIFT = 0.0", "SHIFT = 1.25")
    script = [
        look,
        calls(*(("show_experiment", {"name": name}) for name in names)),
        calls(("try_edit", {"params": [], "edits": better})),
        proposes("Shift less", edits=edit("fit.awk", "0.01", "0.0"), evidence=names),
        proposes("Shift the model to the right", edits=better, evidence=names),
    ]
    with Server(script) as server:
        env = {**os.environ, **server.environment}
        printed.append(ar(bowl, "run", "-n", "1", "--plain", env=env).stdout)
        asked = json.dumps(server.requests[-1])
        refusal = json.dumps(server.requests[4]["messages"][-1])
        seen = json.dumps(server.requests[2]["messages"][-1])
        read = json.dumps(server.requests[1]["messages"][-1])
        used = server.usages

    # What it saw: the files and the experiments, marked as data; of the holdout nothing.
    assert "SHIFT = 0.0" in read
    assert "holds values of the holdout" in read
    assert "+x: 1.4" in seen
    assert "Further left may help" in seen
    assert "1 9.5" in seen
    assert '<data of=\\"the end of what it printed\\">' in seen
    assert "leaked 0" in seen
    assert "0.12345" not in asked
    assert "0.12346" not in asked
    assert "fit.awk lies outside the scope" in refusal

    # What became of it: an experiment that was judged, with its price in its note.
    mine = next(item for item in attempts_of(bowl) if item["agent"] == "claude")
    assert mine["title"] == "Shift the model to the right"
    assert mine["outcome"] == "promoted"
    assert "SHIFT = 1.25" in git(bowl, "show", "HEAD:model/gpt.py")
    total = account.total(Repo.open(bowl))
    assert total.tokens == sum(sum(usage.values()) for usage in used)
    first = mine["experiments"][0]["rev"]
    note = Repo.open(bowl).note(first)
    assert Spend.from_json(note["spend"]) == Spend(
        total.input, total.cached, total.output, note["spend"]["usd"]
    )
    assert note["spend"]["usd"] == pytest.approx(total.usd)

    # And the secrets are nowhere: not in git's objects, our files, prompts, or anything printed.
    with Server([lambda request: fails(401, "authentication_error")], endless=True) as server:
        server.message = f"invalid key {KEY}"
        env = {**os.environ, **server.environment}
        failed = ar(bowl, "--debug", "next", check=False, env=env)
        assert failed.returncode == 2
        assert "set ANTHROPIC_API_KEY" in failed.stderr
        asked += json.dumps(server.requests)
    printed += [failed.stdout, failed.stderr, ar(bowl, "show").stdout, ar(bowl, "log", names[0]).stdout]
    assert "key [secret removed]" in printed[-1]
    for text in (asked, *printed):
        assert KEY not in text
    assert OTHER not in asked
    objects = subprocess.run(
        ["git", "cat-file", "--batch", "--batch-all-objects"], cwd=bowl, capture_output=True, check=True
    ).stdout
    assert b"Further left may help, says [secret removed]" in objects
    assert KEY.encode() not in objects
    for path in [*(bowl / ".git").rglob("*"), *(bowl / ".dvc").rglob("*")]:
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def use_claude(root: Path, **settings: object) -> None:
    agent = json.dumps({"kind": "claude", **settings})
    edit(root / "program.md", "budget:", f"agent: {agent}\nbudget:")
    allow(root)


@pytest.mark.slow
def test_trouble_with_the_key_ends_a_run_in_words(measured: Path, ar: Ar) -> None:
    use_claude(measured)
    with Server([fails(401, "authentication_error")], endless=True) as server:
        done = ar(
            measured, "run", "-n", "1", "--plain", check=False, env={**os.environ, **server.environment}
        )
    assert done.returncode == 2
    assert "Claude refused the key (401)" in done.stderr
    assert "set ANTHROPIC_API_KEY" in done.stderr
    assert len(server.requests) == 1


@pytest.mark.slow
def test_the_fallback_keeps_the_slots_busy(measured: Path, ar: Ar) -> None:
    use_claude(measured, fallback="optuna")
    with Server([fails(401, "authentication_error")], endless=True) as server:
        done = ar(measured, "run", "-n", "1", "--plain", env={**os.environ, **server.environment})
    assert "claude is not asked any more: Claude refused the key" in done.stdout
    assert [item["agent"] for item in attempts_of(measured)].count("optuna") == 1


@pytest.mark.slow
def test_the_fallback_proposes_while_the_first_choice_is_tried_again(measured: Path, ar: Ar) -> None:
    use_claude(measured, fallback="optuna")
    with Server([fails(529, "overloaded_error")], endless=True) as server:
        done = ar(measured, "run", "-n", "1", "--plain", env={**os.environ, **server.environment})
    assert "optuna" in [item["agent"] for item in attempts_of(measured)]
    assert len(server.requests) < api.TRIES  # the question had not failed yet
    assert "not asked any more" not in done.stdout


@pytest.mark.slow
def test_all_agents_think_at_once_though_there_is_one_slot(measured: Path, ar: Ar) -> None:
    agents = [{"kind": "claude", "lane": lane} for lane in ("a", "b", "c")]
    edit(measured / "program.md", "budget:", f"agents: {json.dumps(agents)}\nbudget:")
    allow(measured)
    all_three = threading.Barrier(3)
    values = iter((2.0, 2.25, 2.5))

    def think(_: Request) -> Any:
        all_three.wait(120)
        value = next(values)
        return proposes(f"x to {value}", params=[{"key": "x", "value": value}])

    with Server([think, think, think]) as server:
        ar(measured, "run", "-n", "3", "-j", "1", "--plain", env={**os.environ, **server.environment})
    agents_of = [item["agent"] for item in attempts_of(measured)]
    assert {"claude/a", "claude/b", "claude/c"} <= set(agents_of)


@pytest.mark.slow
def test_experiments_run_and_are_promoted_while_claude_thinks(measured: Path, ar: Ar) -> None:
    use_claude(measured)
    ar(measured, "next", "--set", "x=2.0")
    head = Repo.open(measured).head()

    def think(request: Request) -> Any:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and Repo.open(measured).head() == head:
            time.sleep(0.1)
        return proposes(insist="The floor lies beyond what was tried.")

    with Server([think]) as server:
        done = ar(measured, "run", "-n", "1", "--plain", env={**os.environ, **server.environment})
    lines = done.stdout.splitlines()
    promoted = next(
        place for place, line in enumerate(lines) if "promoted x-2.0" in line or "x-1.5-2.0" in line
    )
    queued = next(place for place, line in enumerate(lines) if "queued x-1.5-2.5" in line)
    assert promoted < queued
    mine = next(item for item in attempts_of(measured) if item["agent"] == "claude")
    assert mine["baseline"] != head  # what was paid for is tried on the branch as it is now
    assert mine["outcome"] == "promoted"


@pytest.mark.slow
def test_a_spent_budget_ends_a_run_without_an_error(measured: Path, ar: Ar) -> None:
    use_claude(measured)
    edit(measured / "program.md", "runs: 200", "runs: 200, tokens: 12_000")
    with Server([says("Hm.", output_tokens=500)], endless=True) as server:
        done = ar(measured, "run", "--plain", env={**os.environ, **server.environment})
    assert "budget.tokens is 12,000" in done.stdout
    assert 0 < account.total(Repo.open(measured)).tokens <= 12_000


@pytest.mark.parametrize("how", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_question_cut_off_stays_on_the_account(how: signal.Signals, project: Path, ar: Ar) -> None:
    use_claude(project)
    with Server([replace(proposes(), pause=1.0)], endless=True) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "ar", "next"],
            cwd=project,
            env={**os.environ, **server.environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 60
        while not server.usages and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(how)
        _, said = process.communicate(timeout=30)
    sent = server.usages[0]
    spent = account.total(Repo.open(project))
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert "aborted" in said
        assert spent.output < 1000
    else:
        assert spent.output > 1000  # nobody knows: so what it might have been
    assert spent.input >= sent["input_tokens"] + sent["cache_creation_input_tokens"]
    assert git(project, "for-each-ref", "refs/ar/queue", "refs/exps") == ""
