"""`ar observe`: another loop goes on by itself, and what it commits is judged beside it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    Ar,
    allow,
    attempts_of,
    commit,
    git,
    names_of,
    run,
    runs_of,
    snapshot,
    start,
    wait_for,
)

from ar.git import refs
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.local import observed

LOOP = """\
set -e
git switch -q -c autoresearch/mar5
sed -i 's/^x: .*/x: 2.9/' params.yaml; git commit -qam "Nearer to the floor" -m "It lies further right."
sed -i 's/^x: .*/x: 0.6/' params.yaml; git commit -qam "Away from it"; git reset -q --hard HEAD~1
echo notes > results.tsv; git add results.tsv; git commit -qm "Ar-Agent: Keep a record; rm -rf /"
sed -i 's/^y: .*/y: 0.025/' params.yaml; echo more >> results.tsv; git commit -qam "A little lower"
echo left > untracked.txt
"""


def judged(folder: Path) -> dict[str, dict[str, Any]]:
    """What `ar show --json` tells of what was proposed, by its title."""
    return {row["title"]: row for row in attempts_of(folder) if row["outcome"] != "baseline"}


def test_what_a_loop_commits_is_judged_beside_it(measured: Path, ar: Ar) -> None:
    base = git(measured, "rev-parse", "HEAD")
    ended = ar(measured, "observe", "--", "sh", "-c", f"{LOOP}exit 3", check=False)

    assert ended.returncode == 3, ended.stdout + ended.stderr
    found = judged(measured)
    assert {title: row["outcome"] for title, row in found.items()} == {
        "Nearer to the floor": "winner",
        "Away from it": "discarded",
        "A little lower": "discarded",
    }
    runs = [one for row in found.values() for one in row["experiments"]]
    assert {git(measured, "rev-parse", f"{one['rev']}^") for one in runs} == {base}
    # A commit counts for its own change alone: this one builds on the one that won.
    assert found["A little lower"]["verdict"]["effect"] > 0
    first = found["Nearer to the floor"]["experiments"][0]
    message = git(measured, "show", "-s", "--format=%B", first["rev"])
    assert "It lies further right." in message
    assert f"Ar-Observed: {git(measured, 'rev-parse', 'HEAD~2')}" in message
    assert "results.tsv" not in git(measured, "ls-tree", "--name-only", first["rev"])
    # What is the loop's is as it left it.
    assert git(measured, "branch", "--show-current") == "autoresearch/mar5"
    assert git(measured, "log", "--format=%s", f"{base}..HEAD").splitlines() == [
        "A little lower",
        "Ar-Agent: Keep a record; rm -rf /",
        "Nearer to the floor",
    ]
    assert git(measured, "status", "--porcelain") == "?? untracked.txt"
    assert git(measured, "rev-parse", refs.OBSERVED, "main").split() == [base, base]
    assert "winner" in ended.stdout
    assert "not tried: it changes nothing inside the scope: results.tsv" in ended.stdout

    # Promoted by hand, it goes to the campaign's branch, and the next observation is against that.
    shown = snapshot(measured)
    ar(measured, "promote", "--plain")
    assert judged(measured)["Nearer to the floor"]["outcome"] == "promoted"
    assert "x: 2.9" in git(measured, "show", f"{refs.OBSERVED}:params.yaml")
    assert git(measured, "log", "-1", "--format=%s") == "A little lower"
    assert snapshot(measured) == shown


def test_its_command_has_the_terminal_and_ctrl_c(measured: Path) -> None:
    git(measured, "switch", "-q", "-c", "loop")
    allow(measured)
    script = (
        "trap 'echo caught; exit 5' INT; test -t 0 && test -t 1 && echo ready; while :; do sleep 0.1; done"
    )
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "ar", "observe", "--", "sh", "-c", script],
        cwd=measured,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):
            while more := os.read(ours, 1000):
                shown += more
                if b"ready" in more:
                    os.write(ours, b"\x03")
        assert process.wait(60) == 5, shown
    os.close(ours)
    assert b"caught" in shown


@pytest.mark.slow
def test_a_commit_is_measured_with_what_it_builds_on_where_it_needs_that(measured: Path, ar: Ar) -> None:
    script = """\
set -e
swap() { sed -i "s/$1/$2/" fit.awk; git commit -qam "$3"; }
swap 'loss = (x - 3) ^ 2' 'loss = 0.5 * (x - 3) ^ 2' Flatter
swap 'loss = 0.5' 'loss = 0.4' 'Flatter still'
git branch kept; git reset -q --hard HEAD~2
git cherry-pick -n kept~1; git commit -q -m 'Flatter again'
swap 'END {' 'END' Broken
"""
    out = ar(measured, "observe", "--", "sh", "-c", script).stdout
    found = judged(measured)
    assert {title: row["outcome"] for title, row in found.items()} == {
        "Flatter": "winner",
        "Flatter still": "winner",
        "Broken": "crashed",
    }
    first = {title: row["experiments"][0] for title, row in found.items()}
    assert "loss = 0.4 * (x" in git(measured, "show", f"{first['Flatter still']['rev']}:fit.awk")
    message = git(measured, "show", "-s", "--format=%B", first["Flatter still"]["rev"])
    assert f"Ar-Parent: {first['Flatter']['name']}" in message
    # A commit of its own for the same tree, and one verdict for both.
    assert len(re.findall(r"(?m)^\w{9} .*Flatter.* winner", out)) == 3


@pytest.mark.slow
def test_a_commit_that_crashes_alone_is_tried_with_what_it_builds_on(measured: Path, ar: Ar) -> None:
    script = """\
set -e
echo 'function half(v) {return v / 2}' >> fit.awk; git commit -qam 'Halve'
sed -i 's/{x = $2}/{x = half($2) * 3.9}/' fit.awk; git commit -qam 'Use it'
"""
    out = ar(measured, "observe", "--", "sh", "-c", script).stdout
    ended = {(row["title"], row["outcome"]) for row in attempts_of(measured)}
    assert {("Use it", "crashed"), ("Use it", "winner")} <= ended
    assert re.search(r"(?m)^\w{9} +Use it .*winner", out)


@pytest.mark.slow
def test_killed_it_carries_on_with_what_was_committed_meanwhile(measured: Path, ar: Ar) -> None:
    base = git(measured, "rev-parse", "HEAD")
    loop = start(measured, "observe")
    wait_for(lambda: (measured / ".git" / "ar" / "observed").exists())
    set_to(measured, "x", "2.9")
    wait_for(lambda: names_of(measured, "refs/ar"))
    os.killpg(loop.pid, signal.SIGKILL)
    loop.communicate()
    set_to(measured, "x", "0.6")
    git(measured, "reset", "-q", "--hard", base)

    out = ar(measured, "observe", "--", "true").stdout

    found = judged(measured)
    assert {title: row["outcome"] for title, row in found.items()} == {
        "x = 2.9": "winner",
        "x = 0.6": "discarded",
    }
    assert [
        len({one["seed"] for one in row["experiments"]}) - len(row["experiments"]) for row in found.values()
    ] == [0, 0]
    assert "x = 2.9" in out
    assert "x = 0.6" in out
    assert names_of(measured, "refs/ar") == []
    # All is decided: the next observation begins with what comes then.
    assert "No commit" in ar(measured, "observe", "--", "true").stdout


def test_a_worker_goes_on_while_the_checkout_that_is_observed_has_no_programme(
    measured: Path, ar: Ar
) -> None:
    ar(measured, "next")
    (name,) = names_of(measured, refs.QUEUE)
    repo = Repo.open(measured)
    repo.update_refs((refs.OBSERVED, repo.head(), ZERO))
    (measured / "program.md").unlink()
    code = "from ar.git.repo import Repo; from ar.runs.worker import Worker; Worker(Repo.open()).run_next()"
    run(measured, sys.executable, "-c", code)
    git(measured, "checkout", "program.md")
    assert runs_of(measured)[name]["status"] == "succeeded"


def test_nothing_that_a_commit_holds_or_says_ends_the_observing(measured: Path, ar: Ar) -> None:
    script = """\
set -e
keep() { git add -A; git commit -q -F - --cleanup=verbatim; git reset -q --hard HEAD~1; }
ln -sf /etc/passwd fit.awk; printf 'A link\\n' | keep
git rm -q params.yaml; printf 'No parameters\\n\\nAr-Candidate: x\\n' | keep
sed -i 's/seed: 1/seed: 5/' params.yaml; printf 'Another seed\\n' | keep
printf '\\377\\376\\033[2J\\n' > fit.awk; printf 'No \\377 text \\033[2J[bold]%%s\\n' | keep
sed -i 's/x: .*/x: {a: [/' params.yaml; printf '\\n' | keep
echo "key = 'sk-ant-api03-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'" >> fit.awk
printf 'A key\\n' | keep
mkdir sub; git -C sub init -q; git -C sub commit -q --allow-empty -m x
printf 'A submodule\\n' | keep; rm -rf sub
git switch -q --orphan apart; echo 1 > fit.awk; git add fit.awk; git commit -qm "No parent"
git switch -q main
"""
    ended = ar(measured, "observe", "--", "sh", "-c", script)
    assert len(re.findall(r"(?m)^\w{9} was not tried: ", ended.stdout)) == 7, ended.stdout + ended.stderr
    assert "\033[2J" not in ended.stdout
    assert [row["outcome"] for row in judged(measured).values()] == ["crashed"]  # what is no text
    assert names_of(measured, "refs/ar") == []


def test_asked_to_end_it_stops_cleanly_and_names_how_to_carry_on(measured: Path) -> None:
    loop = start(measured, "observe", "--plain")
    wait_for(lambda: (measured / ".git" / "ar" / "observed").exists())
    set_to(measured, "x", "2.9")
    wait_for(lambda: names_of(measured, "refs/ar"))
    loop.send_signal(signal.SIGINT)
    out, _ = loop.communicate(timeout=60)
    assert loop.returncode == 130
    assert "x = 2.9" in out
    assert "ar observe" in out
    assert names_of(measured, "refs/ar/running") == []
    assert (measured / ".git" / "ar" / "observed").exists()


def set_to(folder: Path, key: str, value: str) -> None:
    """A commit of the loop's."""
    path = folder / "params.yaml"
    path.write_text(re.sub(rf"(?m)^{key}: .*", f"{key}: {value}", path.read_text()))
    commit(folder, f"{key} = {value}")


def test_a_command_that_is_not_there_begins_nothing(measured: Path, ar: Ar) -> None:
    assert ar(measured, "observe", "--", "no-such-command", check=False).returncode == 127


def test_the_campaigns_own_branch_is_not_observed(measured: Path, ar: Ar) -> None:
    git(measured, "switch", "-q", "-c", "ar/observed")
    assert ar(measured, "observe", "--", "true", check=False).returncode == 2


def test_what_was_there_before_is_none_of_its_commits(project: Path) -> None:
    repo = Repo.open(project)
    set_to(project, "x", "2")
    git(project, "reset", "-q", "--hard", "HEAD~1")
    git(project, "branch", "other", "HEAD~1")
    observed.begin(repo)
    git(project, "switch", "-q", "other")
    git(project, "switch", "-q", "main")
    assert observed.fresh(repo) == []

    revs = []
    for branch in ("main", "new"):
        git(project, "switch", "-q", *(["-c"] if branch == "new" else []), branch)
        set_to(project, "x", str(len(branch)))
        revs.append(git(project, "rev-parse", "HEAD"))
        git(project, "commit", "-q", "--amend", "-m", "Say it better")
        revs.append(git(project, "rev-parse", "HEAD"))
    git(project, "reset", "-q", "--hard", "main~1")
    assert observed.fresh(repo) == revs
    observed.begin(repo)
    assert observed.fresh(repo) == revs
    observed.end(repo)
    observed.begin(repo)
    assert observed.fresh(repo) == []
