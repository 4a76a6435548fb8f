"""A smoke run: a change that is about to be proposed, run for a few seconds to see whether it lives."""

from __future__ import annotations

import time

from ar.agents import holdout
from ar.agents.base import Briefing, Channel
from ar.agents.fence import fence
from ar.git.repo import Repo
from ar.history import trials
from ar.history.records import Status
from ar.project.program import Program
from ar.redaction import redact
from ar.runs.rehearsal import Rehearsal, rehearse_apart
from ar.text import one_line, plain

_LOG = 3_000  # characters of what it printed


def told(repo: Repo, briefing: Briefing, tree: str, channel: Channel) -> str:
    """What became of a tree that ran for a few seconds: whether it lived, by what it ended, and the end of
    what it printed. No metric.

    Raises:
        BadState: it could not be run.
        Dropped: nobody wants the answer any more.
    """
    try:
        found = rehearse_apart(repo, tree, channel.dropped.is_set)
    finally:
        channel.wait(0.0)
    if found.seconds:
        trials.record(repo, briefing.agent, found.seconds, time.time(), found.slot)
    log = holdout.unmeasured(found.log, briefing.program, found.measured)[-_LOG:]
    return f"{_outcome(found, briefing.program)}\n{fence(log or 'nothing', 'the end of what it printed')}"


def _outcome(found: Rehearsal, program: Program) -> str:
    """How it ended, in words."""
    if found.status is Status.TIMED_OUT:
        work = f"{found.seconds:.0f} s, {found.cpu_seconds:.0f} s of them at work on the CPUs"
        return f"It lived: it ran for {work}, and was ended then, as every smoke run is."
    if found.status is Status.SUCCEEDED:
        return "It lived: it came to its end, in less time than a smoke run may take."
    if found.status is Status.DIVERGED:
        return "It came to its end, but a metric is no finite number."
    code = "" if found.exit_code is None else f" (exit code {found.exit_code})"
    why = holdout.unmeasured(one_line(redact(plain(found.reason))), program, found.measured)
    return f"It did not live{code}: {fence(why or 'nothing is known', 'why')}"
