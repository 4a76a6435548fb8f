"""Synthetic campaigns of any size, written at once by `git fast-import`: experiments, their notes and the
promotions between them are as `ar` writes them, packed as git's own maintenance leaves a repository."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

from sleeping import call, project

from ar.git import refs
from ar.git.repo import Repo
from ar.history.messages import BASELINE_AGENT, Message
from ar.history.records import Decision, Note, Status, Verdict
from ar.project.identity import identity
from ar.project.project import Project

_EPOCH = 500  # attempts between two promotions
_START = 1_700_000_000  # unix time of the first run; another begins each minute
_LOG = "step 100, loss 1.53\nstep 200, loss 1.51\nstep 300, loss 1.50\n"


def history(root: Path, count: int) -> Path:
    """A project in which so many experiments have ended."""
    folder = project(root, budget=10 * count + 1000)
    repo = Repo.open(folder)
    git, branch = _Importer(folder), str(repo.branch())
    campaign = _Campaign(git, Project.open(folder))
    while len(campaign.runs) < count:
        campaign.attempt()
    revs = git.done()
    packed = {
        str(refs.ExperimentRef(base if len(base) == 40 else revs[base], name)): revs[mark]
        for name, base, mark in campaign.runs
    }
    packed[branch] = revs.get(campaign.head, campaign.head)
    packed[refs.NOTES] = _noted(folder, {revs[mark]: note for mark, note in campaign.notes.items()})
    _pack(folder / ".git", branch, packed)
    call(folder, "git", "reset", "-q", "--hard")
    call(folder, "git", "gc", "-q")
    return folder


def remote(folder: Path, there: Path) -> None:
    """A bare repository with all that a project's has, and where its campaign stands."""
    call(folder, "git", "init", "-q", "--bare", str(there))
    shutil.copytree(folder / ".git" / "objects", there / "objects", dirs_exist_ok=True)
    shutil.copy(folder / ".git" / "packed-refs", there)
    standing = refs.standing(Repo.open(folder).branch())
    call(there, "git", "update-ref", standing, call(folder, "git", "rev-parse", "HEAD").strip())


class _Importer:
    """Makes commits, and no refs: it would write a file for each of them."""

    def __init__(self, folder: Path) -> None:
        self.marks, self.last = folder / ".git" / "marks", 0
        command = ["git", "fast-import", "--quiet", "--force", f"--export-marks={self.marks}"]
        self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE)

    def commit(self, message: str, when: int, parents: list[str], files: dict[str, str]) -> str:
        """Make a commit: its mark. Parents are ids or marks; files replace those of the first one."""
        self.last += 1
        lines = [
            "commit refs/import",
            f"mark :{self.last}",
            f"committer Bench <bench@example.com> {when} +0000",
        ]
        lines += _data(message)
        lines += [f"{word} {parent}" for word, parent in zip(["from", "merge"], parents, strict=False)]
        for path, content in files.items():
            lines += [f"M 100644 inline {path}", *_data(content)]
        self._write(lines)
        return f":{self.last}"

    def done(self) -> dict[str, str]:
        """Mark to the id of its commit."""
        self._write(["reset refs/import", f"from {'0' * 40}"])
        self.process.communicate()
        if self.process.returncode:
            raise SystemExit("git fast-import failed")
        return dict(line.split() for line in self.marks.read_text().splitlines())

    def _write(self, lines: list[str]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n".join([*lines, ""]).encode())


def _data(text: str) -> list[str]:
    return [f"data {len(text.encode())}", text]


class _Campaign:
    """Attempts one after another, of which every five-hundredth is promoted.

    Args:
        runs: name, baseline (id or mark) and mark of each.
    """

    def __init__(self, git: _Importer, project: Project) -> None:
        self.git, self.project, self.random = git, project, random.Random(1)
        self.start = self.head = project.repo.head()
        self.loss, self.attempts = 1.5, 0
        self.runs: list[tuple[str, str, str]] = []
        self.notes: dict[str, Note] = {}
        self._measure(0.5, identity(project, self.head))

    def attempt(self) -> None:
        """One run; of every eighth attempt, and of what is promoted, two."""
        self.attempts += 1
        wins, x = self.attempts % _EPOCH == 0, round(self.random.random(), 6)
        effect = -0.01 if wins else self.random.gauss(0.004, 0.004)
        candidate = f"{self.random.getrandbits(64):016x}"
        if wins:
            repo = self.project.repo
            candidate = identity(
                self.project, repo.write_tree(self.start, {"params.yaml": _params(x, 1).encode()})
            )
        decision = Decision.PROMOTE if wins else Decision.DISCARD
        runs = 2 if wins or self.attempts % 8 == 0 else 1
        verdict = Verdict(decision, "It is worse.", effect, 0.003, -1.2, 1.6, -0.008, runs, 4, 0.003, 40)
        title, first = f"x 0.5 → {x:.6f}", ""
        for seed in range(1, runs + 1):
            mark = self._run(
                title, "tpe", candidate, seed, x, self.loss + effect, verdict if seed == 1 else None
            )
            first = first or mark
        if wins:
            files = {"params.yaml": _params(x, 1), "m.json": _metrics(self.loss + effect)}
            self.head = self.git.commit(f"Promote {title}", self._now, [self.head, first], files)
            self.loss += effect
            self._measure(x, candidate)

    @property
    def _now(self) -> int:
        return _START + 60 * len(self.runs)

    def _measure(self, x: float, candidate: str) -> None:
        for seed in range(1, 5):
            self._run(f"baseline, seed {seed}", BASELINE_AGENT, candidate, seed, x, self.loss)

    def _run(
        self,
        title: str,
        agent: str,
        candidate: str,
        seed: int,
        x: float,
        loss: float,
        verdict: Verdict | None = None,
    ) -> str:
        words = (
            "Nobody knows whether this helps; the model expects a little of it, and wants to learn more here."
        )
        message = Message(title, words, agent=agent, candidate=candidate, seed=seed)
        files = {"params.yaml": _params(x, seed), "m.json": _metrics(loss + self.random.gauss(0, 0.003))}
        mark = self.git.commit(str(message), self._now, [self.head], files)
        name = f"{'baseline' if agent == BASELINE_AGENT else f'x-0.5-{x:.6f}'}-{len(self.runs):06x}"
        self.notes[mark] = Note(
            Status.SUCCEEDED,
            exit_code=0,
            log=_LOG,
            verdict=verdict,
            seconds=41.3,
            cpu_seconds=39.8,
            peak_memory_mb=812.5,
            slot="1 of 8",
            worker="node-7:41235",
            python="3.11.4 /usr/bin/python3",
            finished=self._now + 45.0,
        )
        self.runs.append((name, self.head, mark))
        return mark


def _params(x: float, seed: int) -> str:
    return f"x: {x}\nseed: {seed}\n"


def _metrics(loss: float) -> str:
    return json.dumps({"loss": loss, "began": 0, "ended": 41}) + "\n"


def _noted(folder: Path, notes: dict[str, Note]) -> str:
    """The commit of all notes, in a folder for each first byte of their commits' ids."""
    git = _Importer(folder)
    files = {
        f"{rev[:2]}/{rev[2:]}": json.dumps(note.to_json(), ensure_ascii=False, indent=1) + "\n"
        for rev, note in notes.items()
    }
    mark = git.commit("Notes", _START, [], files)
    return git.done()[mark]


def _pack(git_dir: Path, branch: str, packed: dict[str, str]) -> None:
    """Write refs as git packs them."""
    for ref in (branch, refs.NOTES, "refs/import"):
        (git_dir / ref).unlink(missing_ok=True)
    rows = [f"{rev} {ref}\n" for ref, rev in sorted(packed.items())]
    (git_dir / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted \n" + "".join(rows))
