"""Whatever experiments are called and say, each output shows it, and does no more."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers import Ar, git, run

from ar.campaign.campaign import Campaign
from ar.git import refs
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.history import exchange
from ar.project.project import Project
from ar.views import report

# Clears the screen, sets the window's title, writes from right to left, breaks lines for some readers.
EVIL = "\x1b[2J\x1b]0;owned\x07\u202e\u2066\u2028\x9b31m\x08"
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"
WON = {
    "decision": "promote",
    "reason": f"{EVIL}Better {SCRIPT}",
    "failed_guard": f"{EVIL}@guard",
    "effect": -1.0,
    "standard_error": 0.1,
    "runs": 2,
    "base_runs": 2,
    "z": 9.0,
}


def plant(repo: Repo, name: str, figures: Mapping[str, float] | None = None, log: str = "") -> None:
    """A winner and each of its texts as bad as it can be, its change and figures too; with more of both."""
    head = repo.head()
    params = (repo.read(head, "params.yaml") or b"").replace(b"x: 1.5", b"x: 2.5")
    fit = (repo.read(head, "fit.awk") or b"") + f"# {EVIL} {SCRIPT}\n".encode()
    metrics = json.loads(repo.read(head, "m.json") or b"{}") | {
        f"=1+1{EVIL}": f"@SUM(A1){EVIL}",
        "﹢": "＝cmd",
        **(figures or {}),
    }
    files = {"params.yaml": params, "fit.awk": fit, "m.json": json.dumps(metrics).encode()}
    text = (
        f"=cmd|' /C calc'!A0{EVIL}{SCRIPT}\n\nBecause {EVIL}{SCRIPT} [x](javascript:alert(1))\n\n"
        f"Ar-Agent: @agent{EVIL}\nAr-Candidate: +c{EVIL}\nAr-Seed: 1\nAr-Expected: -1{EVIL}\n"
    )
    rev = repo.commit_tree(repo.write_tree(repo.tree(head), files), [head], text)
    note = {
        "status": "succeeded",
        "verdict": WON,
        "log": f"{EVIL}\rlog{log}",
        "worker": EVIL,
        "slot": f"gpu{EVIL}",
    }
    repo.update_note(
        rev, lambda _: {**note, "reason": f"{EVIL}why", "python": f"{EVIL}/python", "mend": EVIL}
    )
    repo.update_refs((str(refs.ExperimentRef(head, name)), rev, ZERO))


@pytest.fixture
def hostile(measured: Path) -> Path:
    plant(Repo.open(measured), "bad")
    return measured


def test_the_terminal_obeys_none_of_it(hostile: Path, ar: Ar) -> None:
    commands = [
        *(("show", *args) for args in ((), ("--seeds",), ("--csv",), ("--json",))),
        *(("log", "bad"), ("diff", "bad"), ("judge", "bad"), ("judge", "bad", "--json")),
        ("promote", "bad", "--dry-run", "--force"),
        ("stack", "bad", "--dry-run"),
        ("log", f"nobody{EVIL}"),
        ("push", f"nowhere{EVIL}"),
        ("trust", f"no key{EVIL}"),
        ("--debug", "climb", f"bad{EVIL}"),
    ]
    for command in commands:
        done = ar(hostile, *command, check=False)
        assert done.stdout + done.stderr
        assert not OBEYED.search(done.stdout + done.stderr), command


def test_no_spreadsheet_takes_it_for_a_formula(hostile: Path, ar: Ar) -> None:
    rows = list(csv.reader(io.StringIO(ar(hostile, "show", "--csv").stdout)))
    cells = [cell for row in rows for cell in row]
    assert any("cmd|" in cell for cell in cells) and any("SUM" in cell for cell in cells)
    assert not [cell for cell in cells if re.match(r"[=+@＝＋－＠\t]|-(?![0-9.])", cell)]
    assert not [cell for cell in cells if OBEYED.search(cell) or "\n" in cell]


@pytest.mark.parametrize("ending", ["html", "md"])
def test_no_report_runs_or_hides_it(hostile: Path, tmp_path: Path, ending: str) -> None:
    bare = tmp_path / "remote.git"
    run(tmp_path, "git", "init", "-q", "--bare", str(bare))
    git(hostile, "push", "-q", str(bare), "main")
    run(tmp_path, "git", "clone", "-q", str(bare), "evil")
    evil = Repo.open(tmp_path / "evil")
    plant(evil, "theirs")
    git(evil.root, "push", "-q", str(bare), "refs/exps/*:refs/exps/*", "refs/notes/ar:refs/notes/ar")
    git(hostile, "remote", "add", "origin", str(bare))
    exchange.pull(Repo.open(hostile), "origin")
    path = tmp_path / f"report.{ending}"
    report.write(Campaign(Project.open(hostile)), path)
    text = path.read_text()
    assert "calc" in text and "theirs" in text
    assert not OBEYED.search(text)
    assert "<script" not in text and "<img src=x" not in text
    assert "](javascript:" not in text and 'href="javascript:' not in text


def test_no_chart_runs_it(hostile: Path, tmp_path: Path, ar: Ar) -> None:
    for name in ("chart.svg", "chart.html"):
        ar(hostile, "plot", "-o", str(tmp_path / name))
        text = (tmp_path / name).read_text()
        assert "calc" in text
        # A page's own script holds them as text, which must not end it; a picture has no script.
        assert "</script><img" not in text and ("<script" not in text or name.endswith(".html"))
        assert not re.search("[\x1b\x9b\u202e\u2066]", text)
