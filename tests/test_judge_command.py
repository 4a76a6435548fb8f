"""`ar judge`: the verdict on an experiment of the repository, and the protocol for other programs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from helpers import Ar


def _rows(root: Path, ar: Ar) -> list[dict[str, Any]]:
    return json.loads(ar(root, "show", "--json").stdout)["attempts"]  # type: ignore[no-any-return]


def test_a_verdict_in_words_and_numbers(measured: Path, ar: Ar) -> None:
    ar(measured, "run", "-n", "2", "--plain")
    for row in (row for row in _rows(measured, ar) if row["outcome"] in ("discarded", "promoted")):
        case = json.loads(ar(measured, "judge", row["name"], "--json").stdout)
        values = [
            run["metrics"]["m.json:val_loss"]
            for run in row["experiments"]
            if not run["name"].startswith("baseline")
        ]
        later = values[1:] or values
        assert case["outcome"] == row["outcome"]
        # The effect is that of the confirming runs, within the noise that pairing takes off.
        assert abs(case["effect"] - (sum(later) / len(later) - 3.699)) < 0.02
        text = ar(measured, "judge", row["name"]).stdout
        assert "σ = " in text
        assert "cost 1 → 1" in text


def test_what_cannot_be_judged(measured: Path, ar: Ar) -> None:
    baseline = _rows(measured, ar)[0]["name"]
    assert "nothing to judge" in ar(measured, "judge", baseline, check=False).stderr
    ar(measured, "next")
    waiting = next(row["name"] for row in _rows(measured, ar) if row["outcome"] == "queued")
    assert "no run that ended" in ar(measured, "judge", waiting, check=False).stderr
    assert ar(measured, "judge", check=False).returncode == 2


def test_the_protocol_answers_line_by_line(tmp_path: Path) -> None:
    judge = subprocess.Popen(
        [sys.executable, "-m", "ar", "judge", "--stdio"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert judge.stdin and judge.stdout

    def ask(**message: Any) -> dict[str, Any]:
        assert judge.stdin and judge.stdout
        judge.stdin.write(json.dumps(message) + "\n")
        judge.stdin.flush()
        return json.loads(judge.stdout.readline())  # type: ignore[no-any-return]

    base = [1.0, 1.2, 0.9, 1.1, 1.0, 0.8, 1.0, 1.0]
    question = {"budget": 100, "spent": 9, "left": 91, "change": 1, "own": [], "promotions": 0}
    assert ask(reset=True, budget=100) == {}
    assert ask(**question, cand=[], base=[])["action"] == "base"
    assert ask(**question, cand=[], base=base)["action"] == "run"
    assert ask(**question, cand=[9.0], base=base)["action"] == "discard"
    answer = ask(**question | {"change": 2}, cand=[0.1, 0.1, 0.1], base=base)
    assert answer["action"] == "promote"
    assert answer["effect"] < -0.8
    out, error = judge.communicate("not json\n", timeout=30)
    assert (out, judge.returncode) == ("", 2)
    assert "docs/judge-reference.md" in error


def test_the_baseline_says_what_can_be_told_from_noise(measured: Path, ar: Ar) -> None:
    before = _rows(measured, ar)
    out = ar(measured, "baseline", "--plain").stdout
    assert _rows(measured, ar) == before  # it is measured well enough already
    values = [run["metrics"]["m.json:val_loss"] for run in before[0]["experiments"]]
    mean = sum(values) / len(values)
    sigma = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    assert f"σ = {sigma:.5g}"[:9] in out
    assert "2 runs" in out
    assert "of a change show an improvement of" in out
