"""Watches the curve of a run under way, and has the run ended once it is hopeless.

The curve is the experiment's own writing: it is read as numbers, from a plain file inside the workspace, and
of a bounded size.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ar.git import refs
from ar.history import reader
from ar.history.curves import read_rows
from ar.history.messages import BASELINE_AGENT, Message
from ar.history.records import Status
from ar.judge import early
from ar.judge.early import Point
from ar.local import pulled
from ar.project.identity import identity
from ar.project.program import EarlyStop
from ar.project.project import Project

INTERVAL = 1.0  # seconds between two looks, at least
_SHARE = 0.02  # of one core, which trains meanwhile, that looking may take
MOST_BYTES = 16_000_000


@contextlib.contextmanager
def curve_watch(
    root: Path, what: EarlyStop | None, incumbent: Sequence[Point], end: Callable[[str], object]
) -> Iterator[None]:
    """Look at one run's curve in a thread, for the length of a `with` block.

    Args:
        root: the workspace, outside of which nothing is read.
        incumbent: the incumbent's curve at the same seed; with none there is nothing to look at.
        end: called once with the reason in words, when the run is hopeless.
    """
    began, done = time.time_ns(), threading.Event()

    def look(what: EarlyStop) -> None:
        pause = INTERVAL
        while not done.wait(pause):
            looked = time.thread_time()
            share = early.hopeless(points(read_inside(root, what.curve.file, began), what), incumbent)
            if share is not None:
                end(
                    f"hopeless: at {share:.0%} of the run its {what.curve.key} had not come to where the"
                    f" incumbent was at {early.LAG * share:.0%}, with the same seed"
                )
                return
            pause = max(INTERVAL, (time.thread_time() - looked) / _SHARE)

    thread = threading.Thread(target=look, args=(what,), daemon=True)
    if what is not None and incumbent:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.is_alive():
            thread.join()


def points(content: bytes, what: EarlyStop) -> list[Point]:
    """A curve's points in order of `x`, oriented (lower is better)."""
    rows = read_rows(content.decode(errors="replace"), (what.x, what.curve.key), growing=True)
    return sorted((place, what.curve.orient(value)) for place, value in rows)


def incumbents_curve(project: Project, baseline: str, text: str) -> list[Point]:
    """The curve that a run with this commit message is held against; empty where there is none: the run is
    the incumbent's own, or at another scale."""
    what, message = project.program.early_stop, Message.parse(text)
    if what is None or message.agent == BASELINE_AGENT or message.rung:
        return []
    incumbent, head = identity(project, baseline), project.repo.head()
    if head != baseline and identity(project, head) != incumbent:
        return []
    found = project.repo.commits(refs.EXPS)
    others = pulled.foreign(project.repo, {ref: commit.rev for ref, commit in found.items()})
    for ref, commit in found.items():
        if incumbent in commit.message and ref not in others:
            ran = Message.parse(commit.message)
            same = (ran.candidate, ran.seed, ran.rung) == (incumbent, message.seed, "")
            if same and project.repo.note(commit.rev).get("status") == Status.SUCCEEDED:
                return points(reader.read_output(project.repo, commit.rev, what.curve.file) or b"", what)
    return []


def read_inside(root: Path, file: str, since: int) -> bytes:
    """A file written after `since` (ns); empty if it is missing, too large, or not plainly inside."""
    path = root / file
    with contextlib.suppress(OSError):
        if not path.resolve().is_relative_to(root.resolve()):
            return b""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            facts = os.fstat(descriptor)
            # Before its stage begins, the workspace holds the curve of an earlier run.
            if stat.S_ISREG(facts.st_mode) and since <= facts.st_mtime_ns and facts.st_size <= MOST_BYTES:
                return stream.read(MOST_BYTES)
    return b""
