"""Histories of any length without running anything: refs, commits and notes as the tool leaves them."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

from ar.git import refs
from ar.git.repo import Repo
from ar.history.messages import Message
from ar.project.identity import identity
from ar.project.program_file import load
from ar.project.project import Project


def fill(root: Path, count: int) -> list[str]:
    """Add `count` ended experiments to a project, by one `git fast-import`. Returns their names."""
    repo = Repo.open(root)
    head = repo.head()
    incumbent = identity(Project(repo, load(root)), head)
    randomly = random.Random(1)
    stream: list[bytes] = []
    notes: list[bytes] = []
    names = []
    for index in range(count):
        baseline = index < 8
        x = round(1.5 + randomly.random(), 4)
        name = f"baseline-s{index}-{index:06x}" if baseline else f"x-1.5-{x}-{index:06x}"
        crashed = not baseline and index % 50 == 0
        message = Message(
            title="baseline" if baseline else f"x 1.5 → {x}",
            hypothesis="Because.",
            agent="baseline" if baseline else "optuna",
            candidate=incumbent if baseline else f"{index:016x}",
            seed=index + 1 if baseline else 1,
        )
        value = (1.5 if baseline else x) - 3
        metrics = {"crashed": 1} if crashed else {"val_loss": round(value**2 + randomly.gauss(0, 0.01), 6)}
        params = (
            f"# where we start\nx: {1.5 if baseline else x}\ny: 0.03\nseed: {index + 1 if baseline else 1}\n"
        )
        when = 1_700_000_000 + index * 60
        files = {"m.json": json.dumps(metrics) + "\n", "params.yaml": params}
        stream.append(_commit(refs.ExperimentRef(head, name), index + 1, head, str(message), files, when))
        status = "crashed" if crashed else "succeeded"
        decision = {
            "decision": "discard",
            "reason": "Worse.",
            "effect": 0.1,
            "standard_error": 0.01,
            "runs": 1,
        }
        note = {"status": status, "log": "loss\n" * 20, "seconds": 1.0} | (
            {} if baseline else {"verdict": decision}
        )
        notes.append(json.dumps(note).encode())
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
