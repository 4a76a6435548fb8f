"""The campaign as a folder, for commands to read: each experiment's hypothesis, diff, log, curve and verdict,
and the notebook.

It lies in the git directory, is shared by all questions, and only ever added to: what is as it was is left
alone. Nothing of the holdout is in it.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ar.agents import digest, holdout
from ar.agents.base import Briefing, Channel
from ar.agents.curve_tables import curves
from ar.formats import BadData, load_json
from ar.git import refs
from ar.history.notebook import Standing, by_recency
from ar.history.reader import changed
from ar.history.records import Attempt
from ar.judge.reflection import reflect
from ar.local import locks
from ar.project.pipeline_file import Declared
from ar.project.program import Program
from ar.project.project import Project
from ar.project.values import number
from ar.redaction import redact
from ar.stage.files import write_whole
from ar.text import plain

_FORM = 1  # of the files; another one lays all of them out anew
_POINTS = 500  # rows of a curve
_SAVED = 50  # experiments after which it is noted which are laid out
_MOST_DIFF = 200_000  # characters


@dataclass
class Archive:
    """The folder of one project."""

    project: Project
    briefing: Briefing
    channel: Channel = field(default_factory=Channel)

    @property
    def folder(self) -> Path:
        return self.project.repo.git_dir / "ar" / "archive"

    def update(self) -> Path:
        """Lay out what is new, or was judged anew. Returns the folder.

        Raises:
            BadState: the git directory cannot be written.
            Dropped: nobody wants it any more.
        """
        repo, program = self.project.repo, self.project.program
        with locks.hold(repo, "archive"):
            known = self._read_index()
            stamps = dict(known)
            history = self.briefing.history
            declared = Declared.read(repo, history.head)
            for attempt in history.attempts:
                stamp = _stamp(program, attempt)
                if attempt.is_baseline or attempt.is_hearsay or stamps.get(attempt.name) == stamp:
                    continue
                self.channel.wait(0.0)
                self.channel.say(f"is given {attempt.name}")
                place = self.folder / "experiments" / attempt.name
                for name, text in _files(self.project, declared, attempt).items():
                    _write(place / name, text)
                stamps[attempt.name] = stamp
                if len(stamps) % _SAVED == 0:
                    self._write_index(stamps)
            written = f"{_FORM} {program.holdout} {repo.resolve(refs.NOTEBOOK)}"
            if stamps.get("") != written:  # no experiment's name is empty
                _write(self.folder / "notebook.md", self._notebook())
                stamps[""] = written
            if stamps != known:
                self._write_index(stamps)
        return self.folder

    def _notebook(self) -> str:
        lessons = by_recency(self.briefing.notebook.lessons(), *Standing)
        lines = [digest.line(self.briefing.program, self.briefing.history, lesson) for lesson in lessons]
        told = "\n".join(f"- {line}" for line in lines)
        return f"Lessons, the newest first: name | status | lesson | experiments\n\n{told or 'none'}\n"

    @property
    def _index(self) -> Path:
        return self.folder.with_name("archive.json")

    def _read_index(self) -> Mapping[str, str]:
        """Each experiment that is laid out, with what it was laid out from."""
        with contextlib.suppress(OSError, BadData):
            found = load_json(self._index.read_bytes())
            if isinstance(found, dict) and self.folder.is_dir():
                return {str(name): str(stamp) for name, stamp in found.items()}
        return {}

    def _write_index(self, stamps: Mapping[str, str]) -> None:
        _write(self._index, json.dumps(stamps))


def _stamp(program: Program, attempt: Attempt) -> str:
    """What its files follow from."""
    runs = [(run.rev, run.status) for run in attempt.experiments]
    verdict = attempt.verdict.to_json() if attempt.verdict else None
    known = (_FORM, str(program.objective), str(program.holdout), attempt.outcome, runs, verdict)
    return hashlib.sha256(repr(known).encode()).hexdigest()[:16]


def _files(project: Project, declared: Declared, attempt: Attempt) -> dict[str, str]:
    """The files of one experiment, by their names."""
    program, run = project.program, attempt.first
    hidden = partial(holdout.hidden, program=program, runs=attempt.experiments)
    found = {
        "hypothesis.md": hidden(f"# {run.title}\n\n{run.hypothesis}\n"),
        "diff": changed(project, run.baseline, run.rev)[:_MOST_DIFF],
        "log": hidden(run.note.log if run.note else ""),
        "verdict.json": json.dumps(_verdict(program, attempt), indent=2, ensure_ascii=False),
    }
    tables = [table for _, table in curves(project.repo, declared, program, run, _POINTS)]
    for place, table in enumerate(tables, 1):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(table)
        found["curve.csv" if place == 1 else f"curve-{place}.csv"] = text.getvalue()
    return {name: redact(plain(text)) for name, text in found.items()}


def _verdict(program: Program, attempt: Attempt) -> dict[str, object]:
    """What became of it, as JSON: every metric but the holdout's, by run, and the judge's last word."""
    hidden = partial(holdout.hidden, program=program, runs=attempt.experiments)
    told = attempt.verdict.to_json() if attempt.verdict else None
    if told is not None:
        told["reason"] = hidden(str(told["reason"]))
    reflection = reflect(program, attempt)
    runs = [
        {
            "name": run.name,
            "seed": run.seed,
            "status": run.status,
            "metrics": {
                name: size
                for name in holdout.may_tell(program, [run])
                if (size := number(run.metrics.get(name))) is not None
            },
        }
        for run in attempt.experiments
    ]
    return {
        "name": attempt.name,
        "agent": attempt.agent,
        "outcome": attempt.outcome,
        "expected": hidden(attempt.first.expected),
        "looking_back": reflection.words if reflection else None,
        "verdict": told,
        "runs": runs,
    }


def _write(path: Path, text: str) -> None:
    write_whole(path, text.encode(errors="replace"), mode=0o444)
