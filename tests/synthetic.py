"""Histories of any length without running anything: refs, commits and notes as the tool leaves them."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ar.git import refs
from ar.git.repo import Repo
from ar.history.messages import BASELINE_AGENT, Message
from ar.project.identity import identity
from ar.project.program_file import load
from ar.project.project import Project


@dataclass(frozen=True)
class Made:
    """One run of the project's bowl; of the baseline where nobody proposed it.

    Args:
        value: None where it crashed.
        verdict: in the note, as the judge left it there.
    """

    x: float = 1.5
    value: float | None = None
    y: float = 0.03
    seed: int = 1
    agent: str = BASELINE_AGENT
    verdict: Mapping[str, object] | None = None
    expected: str = ""


DISCARDED = {"decision": "discard", "reason": "Worse.", "effect": 0.1, "standard_error": 0.01, "runs": 1}


def fill(root: Path, count: int) -> list[str]:
    """Add `count` ended experiments to a project. Returns their names."""
    randomly = random.Random(1)
    runs = []
    for index in range(count):
        baseline = index < 8
        x = 1.5 if baseline else round(1.5 + randomly.random(), 6)
        value = None if not baseline and index % 50 == 0 else (x - 3) ** 2 + randomly.gauss(0, 0.01)
        if baseline:
            runs.append(Made(x, value, seed=index + 1))
        else:
            runs.append(Made(x, value, agent="optuna", verdict=DISCARDED))
    return write(root, runs)


def write(root: Path, runs: Sequence[Made]) -> list[str]:
    """Add ended runs to a project, by one `git fast-import`. Returns their names.

    Runs of equal parameters are those of one change.
    """
    repo = Repo.open(root)
    head = repo.head()
    incumbent = identity(Project(repo, load(root)), head)
    stream: list[bytes] = []
    notes: list[bytes] = []
    names = []
    changes: dict[tuple[float, float], str] = {}
    for index, made in enumerate(runs):
        baseline = made.agent == BASELINE_AGENT
        name = f"baseline-s{index}-{index:06x}" if baseline else f"x-1.5-{made.x}-{index:06x}"
        change = changes.setdefault((made.x, made.y), f"{index:016x}")
        message = Message(
            title="baseline" if baseline else f"x 1.5 → {made.x}",
            hypothesis="Because.",
            agent=made.agent,
            candidate=incumbent if baseline else change,
            seed=made.seed,
            expected=made.expected,
        )
        metrics: dict[str, float] = (
            {"crashed": 1} if made.value is None else {"val_loss": round(made.value, 6)}
        )
        files = {
            "m.json": json.dumps(metrics) + "\n",
            "params.yaml": f"# where we start\nx: {made.x}\ny: {made.y}\nseed: {made.seed}\n",
        }
        when = 1_700_000_000 + index * 60
        stream.append(_commit(refs.ExperimentRef(head, name), index + 1, head, str(message), files, when))
        status = "crashed" if made.value is None else "succeeded"
        note: dict[str, object] = {"status": status, "log": "loss\n" * 20, "seconds": 1.0}
        notes.append(json.dumps(note | ({"verdict": made.verdict} if made.verdict else {})).encode())
        names.append(name)
    subprocess.run(
        ["git", "fast-import", "--quiet", "--done"],
        cwd=root,
        input=b"".join([*stream, b"done\n"]),
        check=True,
    )
    _write_notes(repo, head, names, notes)
    subprocess.run(["git", "pack-refs", "--all"], cwd=root, check=True)
    return names


def _commit(
    ref: refs.ExperimentRef, mark: int, parent: str, message: str, files: dict[str, str], when: int
) -> bytes:
    text = message.encode()
    lines = [
        f"commit {ref}\nmark :{mark}\ncommitter T <t@example.com> {when} +0000\ndata {len(text)}\n".encode(),
        text,
    ]
    lines.append(f"\nfrom {parent}\n".encode())
    for path, content in files.items():
        blob = content.encode()
        lines.append(f"M 100644 inline {path}\ndata {len(blob)}\n".encode() + blob + b"\n")
    return b"".join([*lines, b"\n"])


def _write_notes(repo: Repo, head: str, names: list[str], notes: list[bytes]) -> None:
    revs = repo.refs(refs.EXPS)
    lines = [b"commit refs/notes/ar\ncommitter T <t@example.com> 1700000000 +0000\ndata 5\nnotes\n"]
    for name, note in zip(names, notes, strict=True):
        rev = revs[str(refs.ExperimentRef(head, name))]
        path = f"{rev[:2]}/{rev[2:]}".encode()
        lines.append(b"M 100644 inline " + path + f"\ndata {len(note)}\n".encode() + note + b"\n")
    subprocess.run(
        ["git", "fast-import", "--quiet", "--done"],
        cwd=repo.root,
        input=b"".join([*lines, b"\ndone\n"]),
        check=True,
    )
